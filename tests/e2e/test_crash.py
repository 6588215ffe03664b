"""kill -9 in the middle of traffic: what was acknowledged is there, on both sides, once."""

from __future__ import annotations

import asyncio

import pytest

from traffic import Talker, nothing_lost_nothing_twice
from waiting import eventually

MESSAGES = 60


@pytest.mark.parametrize("victims", [("alice",), ("bob",), ("alice", "bob")], ids="+".join)
async def test_after_kill_nine_in_traffic_nothing_acknowledged_is_lost_and_nothing_is_there_twice(lan, victims):
    alice, bob = await lan.pair()
    room_id = await lan.room_of(alice, bob)
    for sender, receiver in ((alice, bob), (bob, alice)):
        await sender.send(room_id, f"{sender.username} before")
        await receiver.wait_for_message(room_id, f"{sender.username} before")

    talkers = [Talker(alice, room_id, MESSAGES), Talker(bob, room_id, MESSAGES)]
    for quarter in (1, 2, 3):
        await asyncio.gather(*(talker.after(quarter * MESSAGES // 4) for talker in talkers))
        for client in (alice, bob):
            if client.username in victims:
                client.node.kill()
        await asyncio.gather(*(client.node.start() for client in (alice, bob) if client.username in victims))
    for talker in talkers:
        await talker.finish()
        assert len(talker.acknowledged) == MESSAGES
    await nothing_lost_nothing_twice(talkers)


async def test_a_photo_acknowledged_before_kill_nine_is_whole_after_it(lan):
    alice, bob = await lan.pair()
    room_id = await lan.room_of(alice, bob)
    photo = bytes(range(256)) * 4000
    await alice.send_photo(room_id, photo)
    alice.node.kill()
    await alice.node.start()
    message = await bob.wait_for_message(room_id, "photo.jpg", 60)

    async def fetched():
        return await bob.fetch_photo(message)

    # Bob's node may just find out that its connection was to the process that was killed: a person tries again.
    assert await eventually(fetched, 20, "the photo is fetched") == photo


async def test_an_account_and_a_room_acknowledged_before_kill_nine_are_there_after_it(lan):
    node = lan.node("alice")
    await node.start()
    alice = await lan.user(node)
    room_id = await alice.create_room()
    state = await alice.state(room_id)
    node.kill()
    await node.start()
    assert (await alice.request("GET", "/_matrix/client/v3/account/whoami"))["user_id"] == alice.user_id
    assert await alice.state(room_id) == state
