"""People whose clients are made of different libraries: each pair talks, shows photos, verifies and comes back on new devices."""

from __future__ import annotations

import asyncio
import itertools
import os
from urllib.parse import quote

import pytest

from driver import DriverError
from libraries import ABILITIES, able, ask, login, register, room_of
from waiting import eventually

# Who makes the room, who is invited, and whether each has a node of their own.
PAIRS = [
    ("nio", "js", "two nodes"),
    ("js", "rust", "two nodes"),
    ("rust", "nio", "one node"),
    ("mautrix", "js", "one node"),
    ("rust", "mautrix", "two nodes"),
]
CROSS_SIGNING = able("cross-signing")
KEY_BACKUP = able("key backup")


async def two_people(lan, one: str, other: str, nodes: str = "two nodes"):
    """A person on each library, on a node of their own or on the same."""
    here = lan.node("here")
    there = lan.node("there") if nodes == "two nodes" else here
    await asyncio.gather(*(node.start() for node in lan.nodes))
    return await asyncio.gather(register(lan, one, here, "alice"), register(lan, other, there, "bob"))


@pytest.mark.parametrize("one, other, nodes", PAIRS)
async def test_text_and_photos_go_both_ways_between_two_libraries(lan, one, other, nodes):
    alice, bob = await two_people(lan, one, other, nodes)
    room_id = await room_of(alice, bob)

    for sender, receiver in ((alice, bob), (bob, alice)):
        text = f"from {sender.username} with {sender.library}: grüße, 你好, \N{PARTY POPPER}"
        event_id = await sender.send(room_id, text)
        message = await receiver.wait_for_message(room_id, text)
        assert (message.event_id, message.sender) == (event_id, sender.user_id)
        # The node that brought it could not read it.
        event = await ask(receiver, f"/_matrix/client/v3/rooms/{quote(room_id)}/event/{quote(event_id)}")
        assert event["type"] == "m.room.encrypted" and "grüße" not in str(event)

        photo, name = os.urandom(1_000_000), f"photo of {sender.username}.jpg"
        await sender.send_photo(room_id, photo, name)
        message = await receiver.wait_for_message(room_id, name)
        assert await receiver.fetch_photo(message) == photo


# matrix-sdk asks in the direct room of the two, matrix-js-sdk too; both can ask a device as well.
@pytest.mark.parametrize("one, other, way", [("js", "rust", "in the room"), ("rust", "js", "in the room"), ("rust", "js", "device to device")])
async def test_two_people_verify_each_other_by_comparing_short_strings(lan, one, other, way):
    alice, bob = await two_people(lan, one, other)
    await asyncio.gather(alice.set_up_recovery(), bob.set_up_recovery())
    room_id = await room_of(alice, bob)
    for me, you in ((alice, bob), (bob, alice)):
        await sees(me, you, signed_by_owner=True, verified=False, owner_verified=False)

    strings = await asyncio.gather(
        alice.request_verification(bob, room_id if way == "in the room" else None, starts=True),
        bob.answer_verification(alice, starts=False),
    )
    assert strings[0] == strings[1] and len(strings[0]["emoji"]) == 7
    await asyncio.gather(alice.confirm(), bob.confirm())

    for me, you in ((alice, bob), (bob, alice)):
        await sees(me, you, verified=True, owner_verified=True)


@pytest.mark.parametrize("one, other", [("nio", "js"), ("mautrix", "rust"), ("nio", "mautrix")])
async def test_two_people_verify_each_other_by_comparing_fingerprints(lan, one, other):
    alice, bob = await two_people(lan, one, other)
    room_id = await room_of(alice, bob)

    for me, you in ((alice, bob), (bob, alice)):
        await sees(me, you, fingerprint=you.fingerprint)
        if "trusts fingerprints" in ABILITIES[me.library]:
            await sees(me, you, verified=False)
            await me.trust(you)
            await sees(me, you, verified=True)
    for sender, receiver in ((alice, bob), (bob, alice)):
        if "sends to verified devices only" in ABILITIES[sender.library]:
            await sender.send_to_verified(room_id, f"for the verified {receiver.username}")
            await receiver.wait_for_message(room_id, f"for the verified {receiver.username}")


@pytest.mark.parametrize("library", KEY_BACKUP)
async def test_mautrix_gives_its_keys_to_devices_alone_that_their_owners_have_signed(lan, library):
    alice, bob = await two_people(lan, "mautrix", library)
    room_id = await room_of(alice, bob)
    early = await alice.send_to_signed(room_id, "not signed yet")

    await bob.set_up_recovery()
    await sees(alice, bob, signed_by_owner=True)
    await alice.send_to_signed(room_id, "signed by now")

    await bob.wait_for_message(room_id, "signed by now")
    with pytest.raises(DriverError):
        await bob.read(room_id, early, deadline=0)


@pytest.mark.parametrize("first, second", list(itertools.product(KEY_BACKUP, repeat=2)))
async def test_a_new_device_reads_the_past_from_the_key_backup(lan, first, second):
    phone, bob = await two_people(lan, first, "nio")
    recovery_key = await phone.set_up_recovery()
    room_id = await room_of(phone, bob)
    sent = [await phone.send(room_id, "mine"), await bob.send(room_id, "yours")]
    await phone.wait_for_message(room_id, "yours")
    # A session for each of the two who wrote.
    await eventually(lambda: keys_in_backup(phone, 2), 20, "the keys of both are in the backup")
    # Nobody is left who could pass the keys on.
    await phone.close()

    laptop = await login(lan, second, phone.node, "alice")
    await laptop.recover(recovery_key)

    assert [(await laptop.read(room_id, event_id)).body for event_id in sent] == ["mine", "yours"]
    await sees(laptop, laptop, signed_by_owner=True)
    await bob.sees(room_id, laptop)
    await laptop.send(room_id, "from the new device")
    await bob.wait_for_message(room_id, "from the new device")
    await bob.send(room_id, "to the new device")
    await laptop.wait_for_message(room_id, "to the new device")


@pytest.mark.parametrize("first, second", [pair for pair in itertools.product(CROSS_SIGNING, repeat=2) if "mautrix" in pair])
async def test_a_new_device_is_signed_with_the_recovery_key_of_another_library(lan, first, second):
    phone, bob = await two_people(lan, first, "js", "one node")
    recovery_key = await phone.set_up_recovery()
    laptop = await login(lan, second, phone.node, "alice")
    room_id = await room_of(laptop, bob)
    await sees(bob, laptop, signed_by_owner=False)

    await laptop.recover(recovery_key)

    await sees(bob, laptop, signed_by_owner=True)
    await laptop.send(room_id, "signed")
    await bob.wait_for_message(room_id, "signed")


async def sees(me, you, **expected) -> None:
    """Waits until `me` thinks so of the device of `you`."""
    async def so():
        device = await me.device(you)
        assert {key: device[key] for key in expected} == expected
        return True
    await eventually(so, 20, f"{me.user_id} with {me.library} thinks so of {you.device_id}: {expected}", every=0.1)


async def keys_in_backup(person, count: int) -> bool:
    return (await ask(person, "/_matrix/client/v3/room_keys/version"))["count"] >= count
