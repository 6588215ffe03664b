"""Two devices on one LAN, without server, internet or configuration."""

from __future__ import annotations

import asyncio
import os
import time

from checks import same_room
from client import Client


async def test_first_start_to_first_decrypted_message_takes_less_than_five_seconds(lan, measured):
    here, there = lan.node("alice"), lan.node("bob")
    measured("start of the first node", await here.start(), "s")
    alice = await lan.user(here)

    measured("start of the second node", await there.start(), "s")
    up = time.monotonic()
    bob = await lan.user(there)
    room_id = await alice.create_room()
    await alice.invite(room_id, bob.user_id)
    await bob.accept(room_id)
    await alice.sees_member(room_id, bob.user_id)
    await alice.send(room_id, "hello bob")
    message = await bob.wait_for_message(room_id, "hello bob")

    assert message.sender == alice.user_id
    measured("second node up to first decrypted message", message.received - up, "s")
    assert message.received - up < 5


async def test_text_and_a_photo_of_five_megabytes_go_both_ways_encrypted(lan, measured):
    alice, bob = await lan.pair()
    room_id = await lan.room_of(alice, bob)

    for sender, receiver in ((alice, bob), (bob, alice)):
        text = f"from {sender.username}: grüße, 你好, \N{PARTY POPPER}"
        event_id = await sender.send(room_id, text)
        message = await receiver.wait_for_message(room_id, text)
        assert (message.event_id, message.sender) == (event_id, sender.user_id)

        photo = os.urandom(5_000_000)
        name = f"photo of {sender.username}.jpg"
        await sender.send_photo(room_id, photo, name)
        message = await receiver.wait_for_message(room_id, name)
        begin = time.monotonic()
        assert await receiver.fetch_photo(message) == photo
        measured(f"photo of 5 MB fetched by {receiver.username}", time.monotonic() - begin, "s")

        # Nothing of the text is on the wire's other end in the clear.
        event = await receiver.request("GET", f"/_matrix/client/v3/rooms/{room_id}/event/{event_id}")
        assert event["type"] == "m.room.encrypted" and text not in str(event)

    await same_room(room_id, alice, bob)


async def test_names_are_the_servers_own_keys(lan):
    alice, bob = await lan.pair()
    for client in (alice, bob):
        identity = client.node.identity()
        assert identity["server_name"] == client.server_name
        assert len(client.server_name) == 52 and client.server_name == client.server_name.lower()
    assert alice.server_name != bob.server_name


async def test_identity_and_rooms_survive_a_graceful_restart_of_both(lan):
    alice, bob = await lan.pair()
    room_id = await lan.room_of(alice, bob)
    await alice.send(room_id, "before")
    await bob.wait_for_message(room_id, "before")
    names = [client.node.identity()["server_name"] for client in (alice, bob)]

    for client in (alice, bob):
        assert await client.node.stop() == 0, client.node.tail()
    await asyncio.gather(alice.node.start(), bob.node.start())

    assert [client.node.identity()["server_name"] for client in (alice, bob)] == names
    await bob.send(room_id, "after")
    await alice.wait_for_message(room_id, "after")
    await same_room(room_id, alice, bob)


async def test_a_second_device_of_the_same_person_reads_what_is_sent_after_it_logged_in(lan):
    alice, bob = await lan.pair()
    room_id = await lan.room_of(alice, bob)
    laptop = await Client.login(bob.node, bob.username)
    lan.clients.append(laptop)
    await alice.wait_for(
        lambda: laptop.nio.device_id in {d.id for d in alice.nio.device_store.active_user_devices(bob.user_id)},
        20, "knows bob's new device",
    )
    await alice.send(room_id, "to every device of bob")
    await asyncio.gather(*(one.wait_for_message(room_id, "to every device of bob") for one in (bob, laptop)))


async def test_typing_and_receipts_are_seen_on_the_other_device(lan):
    alice, bob = await lan.pair()
    room_id = await lan.room_of(alice, bob)

    await alice.request("PUT", f"/_matrix/client/v3/rooms/{room_id}/typing/{alice.user_id}", {"typing": True, "timeout": 20000})
    await bob.wait_for(lambda: alice.user_id in bob.nio.rooms[room_id].typing_users, 20, "sees alice typing")

    event_id = await alice.send(room_id, "read me")
    await bob.wait_for_message(room_id, "read me")
    await bob.request("POST", f"/_matrix/client/v3/rooms/{room_id}/receipt/m.read/{event_id}", {})
    await alice.wait_for(
        lambda: (r := alice.nio.rooms[room_id].read_receipts.get(bob.user_id)) and r.event_id == event_id,
        20, "sees that bob has read it",
    )
