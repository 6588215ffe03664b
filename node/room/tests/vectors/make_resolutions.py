"""Writes resolutions.json: what the state resolution of room version 1 makes of random states, by Synapse's code.

    python3 -m venv v && v/bin/pip install matrix-synapse==1.163.2 && v/bin/python make_resolutions.py > resolutions.json
"""

import asyncio
import json
import random

from synapse import event_auth  # noqa: F401
from synapse.api.room_versions import RoomVersions
from synapse.events import make_event_from_dict
from synapse.state import v1  # after `event_auth`, with which it is entangled

VERSION = RoomVersions.V1
ROOM = "!room:example.org"
SAME = {
    "room_id": ROOM, "origin_server_ts": 1, "prev_events": [], "auth_events": [], "hashes": {}, "signatures": {},
}
USERS = [f"@u{number}:example.org" for number in range(4)]
CASES = 80


class Room:
    def __init__(self, draw):
        self.draw, self.events = draw, {}

    def add(self, kind, key, sender, content, depth=None):
        depth = len(self.events) + 1 if depth is None else depth
        event = {
            "event_id": f"$e{len(self.events)}x{self.draw.randrange(10**6)}:example.org", "type": kind, "state_key": key,
            "sender": sender, "content": content, "depth": depth,
        }
        self.events[event["event_id"]] = event
        return event["event_id"]

    def random_event(self):
        draw, sender = self.draw, self.draw.choice(USERS)
        # Depths are whatever servers say: many are the same.
        depth = draw.randrange(5, 12)
        kind = draw.choice(["m.room.power_levels", "m.room.join_rules", "m.room.member", "m.room.member", "m.room.topic"])
        if kind == "m.room.power_levels":
            levels = {user: draw.choice([0, 50, 100]) for user in USERS[1:]}
            return self.add(kind, "", sender, {"users": {USERS[0]: 100, **levels}}, depth)
        if kind == "m.room.join_rules":
            return self.add(kind, "", sender, {"join_rule": draw.choice(["public", "invite"])}, depth)
        if kind == "m.room.member":
            membership = draw.choice(["join", "leave", "ban", "invite"])
            target = sender if membership == "join" else draw.choice(USERS)
            return self.add(kind, target, sender, {"membership": membership}, depth)
        return self.add(kind, draw.choice(["", "x"]), sender, {"topic": str(draw.randrange(9))}, depth)


async def case(seed):
    draw = random.Random(seed)
    room = Room(draw)
    base = [
        room.add("m.room.create", "", USERS[0], {"creator": USERS[0]}),
        room.add("m.room.member", USERS[0], USERS[0], {"membership": "join"}),
        room.add("m.room.power_levels", "", USERS[0], {"users": {USERS[0]: 100, USERS[1]: 50}}),
        room.add("m.room.join_rules", "", USERS[0], {"join_rule": "public"}),
    ]
    base += [room.add("m.room.member", user, user, {"membership": "join"}) for user in USERS[1:3]]
    extra = [room.random_event() for _ in range(draw.randrange(6, 14))]

    def state(ids):
        return {(room.events[i]["type"], room.events[i]["state_key"]): i for i in ids}

    states = []
    for _ in range(draw.randrange(2, 4)):
        states.append(state(base + draw.sample(extra, draw.randrange(2, len(extra)))))
    made = {i: make_event_from_dict({**event, **SAME}, VERSION) for i, event in room.events.items()}

    async def fetch(ids):
        return {i: made[i] for i in ids if i in made}

    resolved = await v1.resolve_events_with_store(ROOM, VERSION, states, None, fetch)
    return {
        "events": [event for i, event in room.events.items() if any(i in state.values() for state in states)],
        "states": [sorted(state.values()) for state in states],
        "resolved": sorted(resolved.values()),
    }


async def main():
    print("[")
    print(",\n".join([json.dumps(await case(seed), separators=(",", ":")) for seed in range(CASES)]))
    print("]")


asyncio.run(main())
