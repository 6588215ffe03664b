"""The terminal client on real nodes: encrypted conversations with other libraries, photos, drafts, search, without a connection."""

from __future__ import annotations

import os

import pytest

from libraries import register
from synapse import Synapse
from terminal_client import KEYS, Screen
from terminal_scene import RED_DOT, chat_on, invited, open_room
from waiting import eventually


@pytest.mark.parametrize("server", ["kith", pytest.param("synapse", marks=pytest.mark.synapse)])
async def test_an_encrypted_conversation_goes_both_ways_between_the_terminal_and_a_browser_s_library(lan, server):
    if server == "kith":
        node = lan.node("here")
        await node.start()
    else:
        node = Synapse(lan.network.host("synapse"), lan.folder, name="synapse")
        lan.nodes.append(node)
        await node.start(90)
    alice, bob = await chat_on(lan, node, "alice"), await register(lan, "js", node, "bob")
    room_id = await bob.create_room()
    await bob.invite(room_id, alice.user_id)

    screen = await alice.open()
    await screen.shows("invited")
    await screen.press("enter")
    await screen.shows("Invitation", "accept")
    await screen.press("y")
    await screen.shows("bob", "Enter send")
    await bob.sees(room_id, alice)

    await bob.send(room_id, "from the browser: grüße, 你好")
    await screen.shows("from the browser: grüße", "你")
    await screen.say("from the *terminal*")
    message = await bob.wait_for_message(room_id, "from the *terminal*")
    assert message.sender == alice.user_id
    assert message.content["formatted_body"].strip() == "from the <em>terminal</em>"
    await screen.shows("from the terminal ✓")
    await screen.press("ctrl-q")
    assert await screen.ends() == 0


async def test_messages_are_answered_edited_reacted_to_and_deleted(lan, node):
    alice, bob = await chat_on(lan, node, "alice"), await lan.user(node, "bob")
    room_id = await invited(bob, alice)
    screen = await open_room(alice, "bob")

    await bob.send(room_id, "a question")
    await screen.shows("a question")
    await screen.press("escape", "up", "r")
    await screen.shows("reply to bob: a question")
    await screen.say("an answer with a mistkae")
    answer = await bob.wait_for_message(room_id, "an answer with a mistkae")
    question = next(message for message in bob.seen[room_id] if message.body == "a question")
    assert answer.content["m.relates_to"]["m.in_reply_to"]["event_id"] == question.event_id
    await screen.shows("┌ bob: a question", "✓")

    await screen.press("escape", "up", "e")
    await screen.shows("edit (Esc")
    await screen.press(*["\x7f"] * 3)
    await screen.say("ake")
    await screen.shows("mistake (edited)")
    await eventually(
        lambda: any(message.content.get("m.new_content", {}).get("body") == "an answer with a mistake" for message in bob.seen[room_id]),
        20, "bob sees the edit",
    )

    await screen.press("escape", "up", "up", "a", "1")
    await screen.shows("[👍")
    await bob.wait_for(lambda: any(message.type == "m.reaction" for message in bob.seen[room_id]), 20, "bob sees the reaction")

    await screen.press("G", "x")
    await screen.shows("Delete")
    await screen.press("y")
    await screen.shows("deleted")
    await screen.hides("mistake")


async def test_photos_are_sent_shown_and_saved_over_nothing(lan, node):
    alice, bob = await chat_on(lan, node, "alice"), await lan.user(node, "bob")
    room_id = await invited(bob, alice)
    screen = await open_room(alice, "bob")

    photo = alice.folder / "a photo.png"
    photo.write_bytes(RED_DOT)
    await screen.say(f"/file '{photo}'")
    message = await bob.wait_for_message(room_id, "a photo.png")
    assert message.content["msgtype"] == "m.image" and await bob.fetch_photo(message) == RED_DOT
    await screen.shows("[photo] a photo.png")

    # One of bob's, whose name leads elsewhere.
    await bob.send_photo(room_id, RED_DOT, "../../evil.png")
    await screen.shows("evil.png")
    await screen.press("escape", "G", "up", "enter")
    # Of coloured half blocks.
    await screen.shows("s save", "▀")
    for number in range(2):
        await screen.press("s")
        name = "_.._evil.png" if number == 0 else "_.._evil (1).png"
        await eventually(lambda: (alice.downloads / name).is_file(), 20, f"{name} is saved")
        assert (alice.downloads / name).read_bytes() == RED_DOT
    assert sorted(os.listdir(alice.downloads)) == ["_.._evil (1).png", "_.._evil.png"]


async def test_what_is_written_without_a_connection_is_sent_when_there_is_one_again(lan, node):
    alice, bob = await chat_on(lan, node, "alice"), await lan.user(node, "bob")
    room_id = await invited(bob, alice)
    screen = await open_room(alice, "bob")
    await screen.say("before")
    await bob.wait_for_message(room_id, "before")
    node.kill()
    await screen.say("written offline")
    await screen.press("escape")
    await screen.shows("offline:", "written offline …", deadline=60)
    await node.start()
    await bob.wait_for_message(room_id, "written offline", deadline=90)
    await screen.shows("●", "written offline ✓", deadline=60)


async def test_a_draft_and_the_messages_are_there_again_after_a_restart_without_a_server(lan, node):
    alice, bob = await chat_on(lan, node, "alice"), await lan.user(node, "bob")
    room_id = await invited(bob, alice)
    await bob.send(room_id, "said long ago")
    screen = await open_room(alice, "bob", "said long ago")
    screen.type("half writ")
    await screen.shows("half writ")
    await screen.press("ctrl-q")
    assert await screen.ends() == 0
    node.kill()

    screen = Screen(alice, 80, 24, {})
    alice.screens.append(screen)
    await screen.shows("offline", "bob", deadline=60)
    await screen.press("enter")
    await screen.shows("said long ago", "half writ")


async def test_rooms_people_and_messages_are_found(lan, node):
    alice, bob = await chat_on(lan, node, "alice"), await lan.user(node, "bob")
    room_id = await invited(bob, alice, name="Expedition")
    await bob.send(room_id, "the needle is in here")
    for number in range(60):
        await bob.send(room_id, f"hay {number}")
    screen = await open_room(alice, "Expedition", "hay 59")
    # Goes back to where it was said, beyond what the first screen holds.
    await eventually(lambda: (screen.type(KEYS["page up"]), "the needle is in here" in screen.text())[1], 30, "the needle", every=0.1)
    await screen.press("G")
    await screen.shows("hay 59")

    await screen.press("f3")
    await screen.say("needle")
    await screen.shows("the needle is in here", "Search")
    await screen.press("enter")
    await screen.shows("▌", "the needle is in here")
    await screen.press("f3")
    await screen.say("expedit")
    await screen.shows("room    Expedition")
