"""Long and rough: three devices that write all the time while whatever can happen to devices happens. Only with --soak.

KITH_SOAK_SECONDS says how long (600), KITH_SOAK_SEED repeats a run's order of events.
"""

from __future__ import annotations

import asyncio
import os
import random
import time

import pytest

from traffic import Talker, nothing_lost_nothing_twice

SECONDS = float(os.environ.get("KITH_SOAK_SECONDS", "600"))


@pytest.mark.soak
@pytest.mark.timeout(SECONDS + 900)
async def test_after_hours_of_crashes_and_pulled_cables_all_nodes_hold_the_same_room(lan, measured):
    seed = int(os.environ.get("KITH_SOAK_SEED", random.SystemRandom().randrange(2**32)))
    print(f"KITH_SOAK_SEED={seed}")
    dice = random.Random(seed)
    nodes = [lan.node(name) for name in ("alice", "bob", "carol")]
    await asyncio.gather(*(node.start() for node in nodes))
    people = await asyncio.gather(*(lan.user(node) for node in nodes))
    room_id = await lan.room_of(*people)
    for person in people:
        await person.send(room_id, f"{person.username} before")
        for other in people:
            await other.wait_for_message(room_id, f"{person.username} before")

    talkers = [Talker(person, room_id) for person in people]
    end = time.monotonic() + SECONDS
    happened = 0
    while time.monotonic() < end:
        talker = dice.choice(talkers)
        node = talker.client.node
        # What happens lasts for some messages of somebody whom it does not befall.
        witness = dice.choice([other for other in talkers if other is not talker])
        until = len(witness.acknowledged) + dice.randrange(1, 60)
        match dice.choice(("kill", "stop", "cable", "quiet")):
            case "kill":
                node.kill()
                await witness.after(until)
                await node.start()
            case "stop":
                assert await node.stop() == 0, node.tail()
                await witness.after(until)
                await node.start()
            case "cable":
                node.host.cable_out()
                await witness.after(until)
                node.host.cable_in()
            case "quiet":
                await witness.after(until)
        assert all(other.running and "panicked" not in other.output() for other in nodes)
        happened += 1

    for talker in talkers:
        await talker.finish()
    measured("messages written", sum(len(talker.acknowledged) for talker in talkers), "")
    measured("things that happened to nodes", happened, "")
    await nothing_lost_nothing_twice(talkers, 300)
    for node in nodes:
        measured(f"memory of {node.name} at the end", node.resident_bytes() / 2**20, "MiB")
