"""A group of five people, each on a device of their own."""

from __future__ import annotations

import asyncio

from checks import same_room

NAMES = ["alice", "bob", "carol", "dave", "erin"]


async def test_five_nodes_hold_one_conversation_in_which_everybody_reads_everybody(lan):
    nodes = [lan.node(name) for name in NAMES]
    await asyncio.gather(*(node.start() for node in nodes))
    people = await asyncio.gather(*(lan.user(node) for node in nodes))
    room_id = await lan.room_of(*people)

    async def talk(person):
        for number in range(10):
            await person.send(room_id, f"{person.username} {number}")

    await asyncio.gather(*(talk(person) for person in people))
    await asyncio.gather(*(
        reader.wait_for_message(room_id, f"{name} {number}", 60)
        for reader in people for name in NAMES for number in range(10)
    ))
    for reader in people:
        for name in NAMES:
            own = [m.body for m in reader.seen[room_id] if (m.body or "").startswith(name)]
            assert own == [f"{name} {number}" for number in range(10)], f"{reader.username} reads {name} out of order or twice"
    await same_room(room_id, *people)


async def test_who_is_kicked_reads_nothing_further_and_who_leaves_is_gone_for_all(lan):
    nodes = [lan.node(name) for name in NAMES[:3]]
    await asyncio.gather(*(node.start() for node in nodes))
    alice, bob, carol = people = await asyncio.gather(*(lan.user(node) for node in nodes))
    room_id = await lan.room_of(*people)

    await alice.request("POST", f"/_matrix/client/v3/rooms/{room_id}/kick", {"user_id": bob.user_id, "reason": "test"})
    await carol.wait_for(lambda: bob.user_id not in carol.nio.rooms[room_id].users, 20, "sees bob gone")
    await bob.wait_for(lambda: room_id in bob.left, 20, "sees himself gone")
    await alice.send(room_id, "without bob")
    await carol.wait_for_message(room_id, "without bob")
    assert all(message.body != "without bob" for message in await bob.history(room_id))

    await carol.request("POST", f"/_matrix/client/v3/rooms/{room_id}/leave", {})
    await alice.wait_for(lambda: set(alice.nio.rooms[room_id].users) == {alice.user_id}, 20, "is alone")


async def test_a_topic_set_at_the_same_moment_on_two_nodes_ends_the_same_on_all(lan):
    nodes = [lan.node(name) for name in NAMES[:3]]
    await asyncio.gather(*(node.start() for node in nodes))
    alice, bob, carol = people = await asyncio.gather(*(lan.user(node) for node in nodes))
    room_id = await lan.room_of(*people)
    await alice.request("PUT", f"/_matrix/client/v3/rooms/{room_id}/state/m.room.power_levels/", {
        "users": {bob.user_id: 50}, "state_default": 50, "users_default": 0,
    })
    await bob.wait_for(
        lambda: bob.nio.rooms[room_id].power_levels.get_user_level(bob.user_id) == 50, 20, "sees his power",
    )

    topic = f"/_matrix/client/v3/rooms/{room_id}/state/m.room.topic/"
    for round_number in range(5):
        await asyncio.gather(
            alice.request("PUT", topic, {"topic": f"alice's {round_number}"}),
            bob.request("PUT", topic, {"topic": f"bob's {round_number}"}),
        )
    await same_room(room_id, alice, bob, carol)
