"""The extension `org.kith.node` on a real network: who is near, links, and how far messages have got."""

from __future__ import annotations

from waiting import eventually

PREFIX = "/_matrix/client/unstable/org.kith"


async def people(client) -> dict[str, dict]:
    """Who a client's node shows, by server name."""
    told = await client.request("GET", f"{PREFIX}/people")
    return {each["server_name"]: each for each in told["people"]}


async def test_who_wants_to_be_found_is_found_on_the_local_network_and_written_to(lan):
    alice, bob = await lan.pair()
    there = await eventually(
        lambda: _near(alice, bob), 20, "the other node is near"
    )
    assert there["users"] == [] and not there["contact"]
    path = f"/_matrix/client/v3/user/{bob.user_id}/account_data/org.kith.introduction"
    await bob.request("PUT", path, {"nearby": True})

    async def found():
        there = (await people(alice)).get(bob.server_name, {})
        return [user["user_id"] for user in there.get("users", [])] == [bob.user_id]

    await eventually(found, 45, "bob is introduced")
    room_id = await lan.room_of(alice, bob)
    there = (await people(alice))[bob.server_name]
    assert there["contact"] and there["nearby"] and there["connected"] and there["direct"]

    sent = await alice.send(room_id, "hello")

    async def reach():
        told = await alice.request("POST", f"{PREFIX}/rooms/{room_id}/delivery", {"events": [sent]})
        return told["events"][sent]

    async def delivered():
        return (await reach())["delivered"] == [bob.server_name]

    await eventually(delivered, 20, "it is delivered")
    assert await bob.node.stop() == 0
    sent = await alice.send(room_id, "are you there?")

    async def waiting():
        [server] = (await reach())["waiting"] or [{}]
        return server.get("server_name") == bob.server_name and server.get("away_since_ms")

    await eventually(waiting, 30, "it waits for a server that is away")
    node = await alice.request("GET", f"{PREFIX}/node")
    assert [queue["server_name"] for queue in node["queues"]] == [bob.server_name]
    await bob.node.start()
    await eventually(delivered, 60, "it is delivered when the server is back")


async def _near(alice, bob):
    there = (await people(alice)).get(bob.server_name)
    return there if there and there["nearby"] else None


async def test_a_link_leads_to_a_node_that_discovery_does_not_find(lan):
    nodes = [lan.node(name, {"p2p": {"mdns": "off"}}) for name in ("alice", "bob")]
    for node in nodes:
        await node.start()
    alice, bob = [await lan.user(node) for node in nodes]
    assert await people(bob) == {}
    link = (await alice.request("GET", f"{PREFIX}/contact"))["link"]
    assert "org.kith.address=/ip" in link, link
    assert await bob.request("POST", f"{PREFIX}/contact", {"link": link}) == {"user_id": alice.user_id}
    room_id = await lan.room_of(bob, alice)
    await bob.send(room_id, "found you")
    await alice.wait_for_message(room_id, "found you")
