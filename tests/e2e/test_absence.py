"""A device that sleeps, or whose cable is pulled, comes back to everything it missed."""

from __future__ import annotations

import asyncio
import signal
import time

from checks import same_room
from waiting import eventually

COUNT = 200


async def test_two_hundred_messages_written_while_a_node_is_off_are_all_there_in_order(lan, measured):
    alice, bob = await lan.pair()
    room_id = await lan.room_of(alice, bob)
    await alice.send(room_id, "before")
    await bob.wait_for_message(room_id, "before")

    assert await bob.node.stop() == 0
    sent = [await alice.send(room_id, f"message {number}") for number in range(COUNT)]
    await bob.node.start()
    back = time.monotonic()

    await bob.wait_for_message(room_id, f"message {COUNT - 1}", 30)
    await all_in_order(bob, room_id, sent)
    measured(f"back after {COUNT} missed messages, all readable", time.monotonic() - back, "s")
    await same_room(room_id, alice, bob)


async def test_messages_written_on_both_sides_of_a_pulled_cable_meet_when_it_is_back(lan, measured):
    alice, bob = await lan.pair()
    room_id = await lan.room_of(alice, bob)
    for sender, receiver in ((alice, bob), (bob, alice)):
        await sender.send(room_id, f"{sender.username} before")
        await receiver.wait_for_message(room_id, f"{sender.username} before")

    bob.node.host.cable_out()
    sent = {}
    for person in (alice, bob):
        sent[person.username] = [await person.send(room_id, f"{person.username} {n}") for n in range(20)]
    bob.node.host.cable_in()
    back = time.monotonic()

    await asyncio.gather(
        alice.wait_for_message(room_id, "bob 19", 60), bob.wait_for_message(room_id, "alice 19", 60),
    )
    measured("cable back until both sides have everything", time.monotonic() - back, "s")
    await all_in_order(bob, room_id, sent["alice"])
    await all_in_order(alice, room_id, sent["bob"])
    await same_room(room_id, alice, bob)


async def test_what_both_wrote_while_the_first_node_was_off_and_then_the_second_is_whole(lan):
    alice, bob = await lan.pair()
    room_id = await lan.room_of(alice, bob)
    for sender, receiver in ((alice, bob), (bob, alice)):
        await sender.send(room_id, f"{sender.username} before")
        await receiver.wait_for_message(room_id, f"{sender.username} before")

    await bob.node.stop()
    from_alice = [await alice.send(room_id, f"alice {n}") for n in range(20)]
    await alice.node.stop()
    await bob.node.start()
    from_bob = [await bob.send(room_id, f"bob {n}") for n in range(20)]
    await alice.node.start()

    await asyncio.gather(
        alice.wait_for_message(room_id, "bob 19", 60), bob.wait_for_message(room_id, "alice 19", 60),
    )
    await all_in_order(bob, room_id, from_alice)
    await all_in_order(alice, room_id, from_bob)
    await same_room(room_id, alice, bob)


async def test_a_person_invited_while_their_node_is_off_finds_the_invitation_when_it_is_back(lan):
    alice, bob = await lan.pair()
    room_id = await lan.room_of(alice, bob)
    second = await alice.create_room()
    await bob.node.stop()
    invitation = asyncio.create_task(alice.invite(second, bob.user_id, deadline=60))
    await bob.node.start()
    await invitation
    await bob.accept(second)
    await alice.sees_member(second, bob.user_id)
    await bob.send(second, "here I am")
    await alice.wait_for_message(second, "here I am")
    await same_room(room_id, alice, bob)


async def all_in_order(reader, room_id: str, event_ids: list[str]) -> None:
    """The reader's history holds these events once each, decrypted, in this order."""
    history = await reader.history(room_id)
    wanted = set(event_ids)
    found = [message for message in history if message.event_id in wanted]
    assert [message.event_id for message in found] == event_ids
    assert all(message.type == "m.room.message" for message in found), "some could not be decrypted"


async def test_what_was_written_while_a_device_slept_arrives_on_both_sides_when_it_wakes(lan):
    """Sleep as a lid that is closed: the process stands still, with its connections, and nobody is told."""
    alice, bob = await lan.pair()
    room_id = await lan.room_of(alice, bob)
    for sender, receiver in ((alice, bob), (bob, alice)):
        await sender.send(room_id, f"{sender.username} before")
        await receiver.wait_for_message(room_id, f"{sender.username} before")

    bob.node.process.send_signal(signal.SIGSTOP)
    sent = [await alice.send(room_id, f"message {number}") for number in range(20)]
    # Not a wait for anything: the sleep itself, longer than requests and pings take their time for.
    await asyncio.sleep(5)
    bob.node.process.send_signal(signal.SIGCONT)
    await bob.wait_for_message(room_id, "message 19", 30)
    await all_in_order(bob, room_id, sent)
    await bob.send(room_id, "good morning")
    await alice.wait_for_message(room_id, "good morning", 30)
    await same_room(room_id, alice, bob)


async def test_a_node_that_restarts_at_once_finds_its_quiet_neighbour_again(lan):
    """The neighbour's mDNS leaves out of its answer what it sent within the last second. What was left out was the record that
    says who it is; the rest was known then, was not told again, and the two did not see each other for minutes."""
    here, there = lan.node("alice"), lan.node("bob")
    await asyncio.gather(here.start(), there.start())
    peer_id = there.identity()["peer_id"]

    def sees():
        return peer_id in here.run("peers", "--json").stdout

    await eventually(sees, 10, "the neighbour is seen")
    for round_number in range(5):
        assert await here.stop() == 0
        await here.start()
        await eventually(sees, 15, f"the neighbour is seen again after restart {round_number}")
