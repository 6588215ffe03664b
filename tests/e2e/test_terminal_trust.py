"""The terminal client's verification by emoji, with people and with own devices, and its recovery key."""

from __future__ import annotations

import asyncio
import json

import pytest

from driver import DriverError
from libraries import register
from terminal_client import Chat
from terminal_scene import chat_on, compares, invited, open_room
from waiting import eventually


async def test_two_people_verify_each_other_by_emoji_and_either_may_call_it_off(lan, node):
    alice, bob = await chat_on(lan, node, "alice"), await register(lan, "js", node, "bob")
    await bob.set_up_recovery()
    screen = await alice.open()
    await screen.press(":")
    await screen.say(f"chat {bob.user_id}")
    await screen.shows("Enter send")
    [room] = await alice.run("rooms")
    await bob.accept(room["room_id"])
    await screen.shows("bob joined")
    await bob.sees(room["room_id"], alice)

    # Bob asks; alice sees the emoji and will not.
    strings = asyncio.create_task(bob.request_verification(alice, None, starts=True))
    await compares(screen, strings, answers=True)
    await screen.press("escape")
    await screen.shows("Not verified: cancelled")
    with pytest.raises(DriverError):
        await bob.confirm()
    await screen.press("enter")
    await screen.hides("Verification")

    # Alice asks, and both are content.
    await screen.say(f"/verify {bob.user_id}")
    await screen.shows("Verification", "waiting until the other side accepts")
    await compares(screen, asyncio.create_task(bob.answer_verification(alice, starts=False)), answers=False)
    confirmed = asyncio.create_task(bob.confirm())
    await screen.press("y")
    await screen.shows("Verified.")
    await confirmed

    async def believes():
        return (await bob.device(alice))["owner_verified"]
    await eventually(believes, 20, "bob's library takes alice for verified")


async def test_a_second_terminal_is_verified_by_the_first_and_reads_the_past(lan, node):
    phone, bob = await chat_on(lan, node, "alice"), await lan.user(node, "bob")
    room_id = await invited(bob, phone)
    await bob.send(room_id, "from before")
    await phone.run("read", room_id)
    first = await phone.open()
    laptop = await Chat.login(node, "alice")
    lan.clients.append(laptop)
    second = await laptop.open()
    await second.press(":")
    await second.say("verify")
    await first.shows("another device of yours", "compare emoji")
    await first.press("y")
    signs = []
    for screen in (first, second):
        shown = await screen.shows("Do both sides show these")
        signs.append([line.strip(" │") for line in shown.splitlines() if "   " in line.strip(" │")][-2:])
    assert signs[0] == signs[1]
    for screen in (first, second):
        await screen.press("y")
    for screen in (first, second):
        await screen.shows("Verified.")
        await screen.press("enter")
    await second.hides("not verified")
    await second.shows("bob")
    await second.press("enter")
    await second.shows("from before")


async def test_a_new_device_reads_the_past_with_the_recovery_key_and_no_other_device(lan, node):
    phone, bob = await chat_on(lan, node, "alice"), await lan.user(node, "bob")
    room_id = await invited(bob, phone)
    await bob.send(room_id, "from before")
    await eventually(lambda: read_body(phone, room_id, "from before"), 20, "alice reads it")
    [key] = await phone.run("recovery-key")
    # Until the message's key is in the backup.
    screen = await open_room(phone, "bob", "from before")
    await eventually(lambda: keys_in_backup(bob, phone, 1), 20, "the key is in the backup")
    await screen.press("ctrl-q")
    await screen.ends()

    laptop = await Chat.login(node, "alice")
    lan.clients.append(laptop)
    wrong = await laptop.call("recover", feed="EsTA aaaa\n")
    assert wrong.returncode == 1 and b"does not fit" in wrong.stderr
    await laptop.run("recover", feed=key["recovery_key"] + "\n")
    await eventually(lambda: read_body(laptop, room_id, "from before"), 30, "the new device reads it")


async def read_body(chat, room_id: str, body: str) -> bool:
    return any(message["body"] == body for message in await chat.run("read", room_id))


async def keys_in_backup(asker, chat, count: int) -> bool:
    """Asked with the session that the terminal keeps."""
    session = json.loads((chat.data / "session.json").read_text())
    headers = {"Authorization": f"Bearer {session['account']['access_token']}"}
    async with asker.node.http() as http, http.get("/_matrix/client/v3/room_keys/version", headers=headers) as response:
        return (await response.json())["count"] >= count
