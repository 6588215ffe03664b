"""A lively account for pictures of the web client: people, groups, photos, and a node that tells who is near."""

from __future__ import annotations

import asyncio
import json
import struct
import zlib

# The node's extension (docs of the contract: `org.kith.node`), answered by the page itself.
FAKE = """(() => {
  const answers = %s;
  const real = window.fetch.bind(window);
  const json = (value) => new Response(JSON.stringify(value), { headers: { "Content-Type": "application/json" } });
  window.extension_ = answers;
  window.fetch = async (input, init) => {
    const url = String(input.url ?? input);
    if (url.includes("/_matrix/client/versions")) {
      const said = await (await real(input, init)).json();
      said.unstable_features = { ...said.unstable_features, "org.kith.node": true };
      return json(said);
    }
    if (!url.includes("/unstable/org.kith/")) return real(input, init);
    if (url.endsWith("/people")) return json({ people: answers.people });
    if (url.endsWith("/node")) return json(answers.node);
    if (url.endsWith("/contact")) return json(init?.method === "POST" ? { user_id: "@x:y" } : { link: answers.link });
    const { events } = JSON.parse(init.body);
    return json({ events: Object.fromEntries(events.map((id) => [id, answers.delivery])) });
  };
})()"""


async def fake_extension(page, server_name: str, people=(), delivery=None) -> None:
    """Lets a page believe that its node has the extension. It holds from the next page that is loaded."""
    away = "k7xq2m" + "a" * 42 + "w3pe"
    answers = {
        "people": [
            *({"server_name": each["user_id"].split(":")[1], "nearby": True, "connected": True, "direct": True, "contact": False, "users": [each]} for each in people),
            {"server_name": away, "nearby": False, "connected": False, "direct": False, "contact": True, "last_seen_ms": 1_700_000_000_000, "users": []},
        ],
        "node": {
            "server_name": server_name, "version": "0.1.0", "addresses": ["/ip4/192.168.1.20/udp/4001/quic-v1"], "uptime_ms": 7_200_000,
            "peers": {"connected": 3, "nearby": 2}, "storage": {"database_bytes": 18_400_000, "media_bytes": 96_000_000, "free_bytes": 41_000_000_000},
            "queues": [{"server_name": away, "rooms": 2, "messages": 5, "away_since_ms": 1_700_000_000_000, "dropped": 0}],
        },
        "link": f"matrix:u/mira:{server_name}?action=chat&org.kith.address=%2Fip4%2F192.168.1.20%2Fudp%2F4001%2Fquic-v1",
        "delivery": delivery or {"waiting": [], "delivered": [away], "total": 1},
    }
    await page.call("Page.addScriptToEvaluateOnNewDocument", source=FAKE % json.dumps(answers))


def picture(width: int = 1200, height: int = 800) -> bytes:
    """An evening at the sea, as PNG."""
    rows = []
    for y in range(height):
        row = bytearray(b"\0")
        for x in range(width):
            up = y / height
            if up < 0.58:
                sun = ((x - width * 0.68) ** 2 + (y - height * 0.42) ** 2) ** 0.5 < height * 0.09
                row += bytes((255, 214, 150)) if sun else bytes((int(40 + 210 * up * 1.5), int(60 + 130 * up), int(110 + 30 * up)))
            else:
                glow = max(0.0, 1 - abs(x - width * 0.68) / (width * (0.05 + (up - 0.58) * 0.35))) * (0.6 + 0.4 * ((y // 6) % 2))
                row += bytes((int(20 + 200 * glow), int(58 + 110 * glow), int(84 + 40 * glow)))
        rows.append(bytes(row))
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"".join(rows), 6)) + chunk(b"IEND", b"")


async def settle(lan, node, owner_id: str, tmp_path):
    """Fills the node: friends, a group and conversations that `owner_id` is invited to. Returns the friends and the rooms."""
    names = {"jonas": "Jonas Keller", "amina": "Amina Yusuf", "tove": "Tove Lind", "ravi": "Ravi Menon"}
    friends = {}
    for name, shown in names.items():
        friend = await lan.user(node, name)
        await friend.request("PUT", f"/_matrix/client/v3/profile/{friend.user_id}/displayname", {"displayname": shown})
        friends[name] = friend

    async def room(host, name, *others, direct=False):
        body = {"preset": "private_chat", "invite": [owner_id, *(friends[each].user_id for each in others)], **({"is_direct": True} if direct else {"name": name})}
        room_id = (await friends[host].request("POST", "/_matrix/client/v3/createRoom", body))["room_id"]
        for each in others:
            await friends[each].request("POST", f"/_matrix/client/v3/join/{room_id}", {})
        return room_id

    rooms = {
        "harbour": await room("amina", "Harbour house", "jonas", "tove"),
        "jonas": await room("jonas", "", direct=True),
        "tove": await room("tove", "", direct=True),
        "garden": await room("tove", "Garden plot 14", "amina", "ravi"),
    }
    return friends, rooms


async def talk(friends, rooms) -> dict[str, str]:
    """What the friends say. Returns the event IDs that matter."""
    said = {}
    async def say(who, where, text, **more):
        content = {"msgtype": "m.text", "body": text, **more}
        said[text] = await friends[who].send_content(rooms[where], content)
        return said[text]
    await say("tove", "garden", "The beans are up!")
    await say("ravi", "garden", "Whoever has the key to the shed, please water the left bed tonight 🌱")
    await say("jonas", "jonas", "Train gets in at 18:40")
    await say("jonas", "jonas", "I bring the map")
    await say("tove", "tove", "Did you see the northern lights?")
    await say("amina", "harbour", "The boat leaves at seven. I packed coffee and the good blankets.")
    await say("jonas", "harbour", "Do we need the radio out there?")
    first = await say("amina", "harbour", "No need. The nodes find each other on the boat, no internet necessary.", format="org.matrix.custom.html",
                      formatted_body="No need. The nodes find each other on the boat, <strong>no internet</strong> necessary.")
    await friends["tove"].request("PUT", f"/_matrix/client/v3/rooms/{rooms['harbour']}/send/m.reaction/r1", {"m.relates_to": {"rel_type": "m.annotation", "event_id": first, "key": "🎉"}})
    await friends["jonas"].request("PUT", f"/_matrix/client/v3/rooms/{rooms['harbour']}/send/m.reaction/r2", {"m.relates_to": {"rel_type": "m.annotation", "event_id": first, "key": "🎉"}})
    data = await asyncio.to_thread(picture)
    uri = (await friends["tove"].request("POST", "/_matrix/media/v3/upload", data=data, query={"filename": "evening.png"}))["content_uri"]
    await friends["tove"].send_content(rooms["harbour"], {"msgtype": "m.image", "body": "evening.png", "filename": "evening.png", "url": uri, "info": {"w": 1200, "h": 800, "mimetype": "image/png", "size": len(data)}})
    await say("tove", "harbour", "Yesterday, from the pier")
    return said
