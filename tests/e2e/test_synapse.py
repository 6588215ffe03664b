"""A kith node and a real Synapse: messages, what a room is told, and what happens while one is away."""

from __future__ import annotations

import asyncio

import pytest

from checks import same_room
from client import Client
from federated import LONG, Syncs, agree, by_alias, in_room, meet, refused, sees_redacted, sees_state, set_state, state, talk
from traffic import Talker, nothing_lost_nothing_twice
from waiting import eventually

pytestmark = pytest.mark.synapse


async def test_somebody_is_invited_and_messages_go_both_ways(host_and_guest):
    host, guest = host_and_guest
    room_id = await meet(host, guest)
    await talk(room_id, host, guest)
    await same_room(room_id, host, guest, deadline=LONG)


async def test_a_direct_chat_is_direct_for_who_is_invited(host_and_guest):
    host, guest = host_and_guest
    syncs = Syncs(guest)
    room_id = await host.create_room(encrypted=False, invite=[guest.user_id], is_direct=True, preset="trusted_private_chat")

    def invited(answer):
        room = answer["rooms"].get("invite", {}).get(room_id) if "rooms" in answer else None
        return room and [event for event in room["invite_state"]["events"] if event.get("state_key") == guest.user_id]

    [event] = await syncs.until(invited, "of the invitation")
    assert event["content"]["is_direct"] is True and event["sender"] == host.user_id


async def test_messages_of_three_servers_are_in_one_order_of_causes(three):
    alice, bob, carol = three
    room_id = await meet(alice, bob, carol)
    for turn in range(3):
        await talk(room_id, *three, say=f"turn {turn}")
    await agree(room_id, *three)


async def test_a_redacted_message_is_gone_on_both_sides(host_and_guest):
    host, guest = host_and_guest
    room_id = await meet(host, guest)
    for writer, reader in (host_and_guest, host_and_guest[::-1]):
        event_id = await writer.send(room_id, f"{writer.username} regrets this")
        await reader.wait_for_message(room_id, f"{writer.username} regrets this", LONG)
        await writer.request("PUT", in_room(room_id, f"redact/{event_id}/1"), {"reason": "said too much"})
        await sees_redacted(reader, room_id, event_id, "said too much")


# To read them all once takes a busy machine a minute.
@pytest.mark.timeout(600)
async def test_five_hundred_messages_from_before_one_came_are_scrolled_back_to(host_and_guest):
    host, guest = host_and_guest
    room_id = await host.create_room(encrypted=False)
    sent = [await host.send(room_id, f"message {number}") for number in range(500)]
    await host.invite(room_id, guest.user_id, LONG)
    await guest.accept(room_id, LONG, encrypted=False)

    async def all_of_them():
        read = [message.event_id for message in await guest.history(room_id) if message.type == "m.room.message"]
        assert read == sent, (len(read), len(set(read)))
        return True

    await eventually(all_of_them, 3 * LONG, "all 500 are read, in order", every=0.5)


async def test_typing_receipts_and_presence_are_seen_on_the_other_side(host_and_guest):
    host, guest = host_and_guest
    room_id = await meet(host, guest)
    for here, there in (host_and_guest, host_and_guest[::-1]):
        syncs = Syncs(there)
        await syncs.until(lambda answer: True, "anything")

        def ephemeral(kind):
            def look(answer):
                room = answer.get("rooms", {}).get("join", {}).get(room_id, {})
                return [e["content"] for e in room.get("ephemeral", {}).get("events", []) if e["type"] == kind]
            return look

        await here.request("PUT", in_room(room_id, f"typing/{here.user_id}"), {"typing": True, "timeout": 30_000})
        await syncs.until(
            lambda answer: [c for c in ephemeral("m.typing")(answer) if here.user_id in c["user_ids"]], "who is typing"
        )

        event_id = await there.send(room_id, f"{here.username}, read this")
        await here.wait_for_message(room_id, f"{here.username}, read this", LONG)
        await here.request("POST", in_room(room_id, f"receipt/m.read/{event_id}"), {})
        # A message ends typing; receipts may come together with others'.
        await syncs.until(
            lambda answer: [c for c in ephemeral("m.receipt")(answer) if here.user_id in c.get(event_id, {}).get("m.read", {})],
            "of the receipt",
        )
        await here.request("PUT", f"/_matrix/client/v3/presence/{here.user_id}/status", {"presence": "online", "status_msg": "here"})
        await syncs.until(
            lambda answer: [e for e in answer.get("presence", {}).get("events", [])
                            if e["sender"] == here.user_id and e["content"].get("status_msg") == "here"],
            "of the presence",
        )


@pytest.mark.parametrize("version", ["1", "6", "9", "10", "11", "12"])
async def test_rooms_of_all_ages_work_on_both_sides(host_and_guest, version):
    host, guest = host_and_guest
    room_id = await meet(host, guest, room_version=version)
    create = await state(guest, room_id, "m.room.create")
    assert create.get("room_version", "1") == version
    await talk(room_id, host, guest)
    await set_state(host, room_id, "m.room.topic", {"topic": f"version {version}"})
    await sees_state(guest, room_id, "m.room.topic", {"topic": f"version {version}"})
    await same_room(room_id, host, guest, deadline=LONG)


@pytest.mark.parametrize("version", ["11", "12"])
async def test_a_room_is_upgraded_and_the_guest_follows(host_and_guest, version):
    host, guest = host_and_guest
    old = await meet(host, guest, room_version="10", preset="public_chat")
    await set_state(host, old, "m.room.name", {"name": "the room"})
    answer = await host.request("POST", in_room(old, "upgrade"), {"new_version": version})
    new = answer["replacement_room"]
    assert (":" in new) == (version == "11"), "since version 12 rooms are of no server"
    await sees_state(guest, old, "m.room.tombstone", {"replacement_room": new})
    assert await guest.request("POST", f"/_matrix/client/v3/join/{by_alias(new, host.server_name)}", {}) == {"room_id": new}
    await guest.knows(new, encrypted=False, deadline=LONG)
    await sees_state(guest, new, "m.room.name", {"name": "the room"})
    create = await state(guest, new, "m.room.create")
    assert create["predecessor"]["room_id"] == old and create["room_version"] == version
    await talk(new, host, guest)
    await refused(guest.send(old, "too late"), "M_FORBIDDEN")


# Its waits: 2 starts of 90 s, 2 stops of 30 s, and a dozen things that are seen within 60 s.
@pytest.mark.timeout(1200)
async def test_power_that_two_admins_changed_on_both_sides_of_a_cut_is_the_same_after_it(federation, three):
    alice, bob, carol = three
    room_id = await meet(alice, bob, carol)
    levels = await state(alice, room_id, "m.room.power_levels")
    levels["users"].update({bob.user_id: 100, carol.user_id: 50})
    await set_state(alice, room_id, "m.room.power_levels", levels)
    for one in three:
        await sees_state(one, room_id, "m.room.power_levels", {"users": levels["users"]})

    # Kith is away. Bob names the room, and takes Carol's rights from her.
    federation.kith.kill()
    await set_state(bob, room_id, "m.room.topic", {"topic": "bob's"})
    await set_state(bob, room_id, "m.room.power_levels", {**levels, "users": {**levels["users"], carol.user_id: 0}})
    await set_state(bob, room_id, "m.room.name", {"name": "bob's"})
    # Now it is alone, and Alice does other things.
    for synapse in (federation.synapse, federation.other):
        await synapse.stop(30)
    await federation.kith.start(90)
    await set_state(alice, room_id, "m.room.topic", {"topic": "alice's"})
    await set_state(alice, room_id, "m.room.name", {"name": "alice's"})
    await set_state(alice, room_id, "m.room.power_levels", {**levels, "events_default": 10})

    await federation.run(federation.synapse, federation.other)
    # A server is told with the next event of what it missed.
    for one in (alice, bob):
        await one.send(room_id, f"{one.username} is back")
    for one in three:
        for other in (alice, bob):
            await one.wait_for_message(room_id, f"{other.username} is back", LONG)
    await agree(room_id, *three)


async def test_a_server_that_was_away_gets_what_it_missed(host_and_guest):
    here, away = host_and_guest
    room_id = await meet(here, away)
    away.node.kill()
    for number in range(5):
        await here.send(room_id, f"{number} while {away.username} was away")
    await away.node.start(90)
    for number in range(5):
        await away.wait_for_message(room_id, f"{number} while {away.username} was away", LONG)
    await same_room(room_id, here, away, deadline=LONG)


# Its waits: 3 starts of 90 s, and 7 times 120 s.
@pytest.mark.timeout(1200)
async def test_kith_is_killed_in_the_middle_of_two_hundred_messages_and_nothing_is_lost_or_there_twice(federation, host_and_guest):
    room_id = await meet(*host_and_guest)
    talkers = [Talker(person, room_id, 200) for person in host_and_guest]
    for part in (50, 100, 150):
        await asyncio.gather(*(talker.after(part) for talker in talkers))
        federation.kith.kill()
        await federation.kith.start(90)
    for talker in talkers:
        await talker.finish(120)
        assert len(talker.acknowledged) == 200
    await nothing_lost_nothing_twice(talkers, 120)


async def test_encrypted_messages_and_photos_go_both_ways_and_a_new_device_reads_them(federation, host_and_guest):
    host, guest = host_and_guest
    room_id = await federation.room_of(host, guest)
    for sender, receiver in (host_and_guest, host_and_guest[::-1]):
        await sender.send(room_id, f"secret of {sender.username}")
        await receiver.wait_for_message(room_id, f"secret of {sender.username}", LONG)
        photo = bytes(range(256)) * 1000
        await sender.send_photo(room_id, photo, f"{sender.username}.jpg")
        message = await receiver.wait_for_message(room_id, f"{sender.username}.jpg", LONG)
        assert await receiver.fetch_photo(message) == photo

    laptop = await Client.login(guest.node, guest.username)
    federation.clients.append(laptop)
    devices = lambda: {device.id for device in host.nio.device_store.active_user_devices(guest.user_id)}  # noqa: E731
    await host.wait_for(lambda: laptop.nio.device_id in devices(), LONG, "knows the new device")
    await host.send(room_id, "to all devices")
    await asyncio.gather(*(one.wait_for_message(room_id, "to all devices", LONG) for one in (guest, laptop)))

    await laptop.request("POST", "/_matrix/client/v3/logout", {})
    await host.wait_for(lambda: laptop.nio.device_id not in devices(), LONG, "knows that the device is gone")
