"""A server with one huge room, as far as a client needs one to sign in and look."""

from __future__ import annotations

import asyncio
import contextlib

from aiohttp import web


@contextlib.asynccontextmanager
async def big_room(host, members: int):
    """A server, as far as this needs one, with a room of so many; gives its port."""
    room = "!big:test"

    def event(number: int, kind: str, content: dict, sender: str, state_key: str | None = None) -> dict:
        made = {"event_id": f"${kind}-{number}", "type": kind, "sender": sender, "origin_server_ts": 1_700_000_000_000 + number, "content": content}
        return made if state_key is None else {**made, "state_key": state_key}

    def user(number: int) -> str:
        return f"@member{number}:test" if number else "@alice:test"

    state = [
        event(0, "m.room.create", {"room_version": "11"}, user(1), ""), event(0, "m.room.name", {"name": "Everybody"}, user(1), ""),
        *(event(n, "m.room.member", {"membership": "join", "displayname": f"member {n}"}, user(n), user(n)) for n in range(members)),
    ]
    said = event(members, "m.room.message", {"msgtype": "m.text", "body": f"hello from member {members - 1}"}, user(members - 1))

    async def answer(request):
        path = request.path
        if path.endswith("/versions"):
            return web.json_response({"versions": ["v1.11"]})
        if path.endswith("/login"):
            return web.json_response({"user_id": user(0), "device_id": "DEVICE", "access_token": "token"})
        if path.endswith("/sync"):
            if request.query.get("since"):
                await asyncio.sleep(min(5, int(request.query.get("timeout", 0)) / 1000))
                return web.json_response({"next_batch": "2"})
            joined = {"state": {"events": state}, "timeline": {"events": [said], "limited": False, "prev_batch": "0"},
                      "summary": {"m.joined_member_count": members}}
            return web.json_response({"next_batch": "1", "rooms": {"join": {room: joined}}})
        if path.endswith("/members"):
            return web.json_response({"chunk": [one for one in state if one["type"] == "m.room.member"]})
        if path.endswith("/messages"):
            return web.json_response({"chunk": [], "start": "0"})
        if path.endswith("/keys/upload"):
            return web.json_response({"one_time_key_counts": {"signed_curve25519": 50}})
        if path.endswith("/keys/query"):
            return web.json_response({"device_keys": {}})
        if path.endswith("/filter"):
            return web.json_response({"filter_id": "1"})
        if request.method != "GET":
            return web.json_response({})
        return web.json_response({"errcode": "M_NOT_FOUND", "error": "not here"}, status=404)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    listener = host.socket()
    listener.bind(("127.0.0.1", 0))
    await web.SockSite(runner, listener).start()
    try:
        yield listener.getsockname()[1]
    finally:
        await runner.cleanup()
