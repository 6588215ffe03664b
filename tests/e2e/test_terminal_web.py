"""The terminal client and the web client in one conversation, encrypted both ways, and as two devices of one person."""

from __future__ import annotations

import pytest

from synapse import Synapse
from terminal_client import Chat
from terminal_scene import chat_on
from waiting import eventually
from web_client import served
from web_people import at_peace, person, photo, user_id

EMOJI = "[...document.querySelectorAll('.emoji-row li')].map((each) => each.innerText.split('\\n')[0].trim())"


async def act(page, text: str, action: str) -> None:
    """Opens the menu of a message on the page and chooses something in it."""
    await page.there(
        f"(() => {{ const open = [...document.querySelectorAll('.message')].find((each) => each.querySelector('.body')?.textContent.includes({text!r}))"
        "?.querySelector('.tools [aria-expanded]'); open?.click(); return open; })()", what=f"the menu of {text!r}"
    )
    await page.click(action)


async def same_emoji(screen, page) -> None:
    """Waits until both show seven emoji, which are the same."""
    shown = await screen.shows("Do both sides show these")
    signs = (await page.there(f"{EMOJI}.length === 7 && {EMOJI}.join(' ')", 30, "seven emoji")).split(" ")
    assert len(signs) == 7 and all(sign.replace("\N{VARIATION SELECTOR-16}", "") in shown for sign in signs), (signs, shown)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("server", ["kith", pytest.param("synapse", marks=pytest.mark.synapse)])
async def test_one_in_the_terminal_and_one_in_the_browser_write_send_photos_react_and_verify_each_other(lan, tmp_path, server):
    node = lan.node("here") if server == "kith" else Synapse(lan.network.host("synapse"), lan.folder, name="synapse")
    if server == "synapse":
        lan.nodes.append(node)
    await node.start(90)
    alice = await chat_on(lan, node, "alice")
    async with person(node, "Bob") as bob:
        await bob.click("Add a person")
        await bob.fill("Address or link", alice.user_id)
        await bob.click("Find")
        await bob.click("Write", 20)
        screen = await alice.open()
        await screen.shows("invited")
        await screen.press("enter", "y")
        await screen.shows("Bob", "Enter send")
        await bob.shows("alice joined", 30)

        await bob.write("from the **browser**: grüße, 你好")
        await screen.shows("from the browser: grüße")
        await screen.say("from the *terminal*")
        await bob.shows_message("from the terminal", 30)
        assert await bob.run("[...document.querySelectorAll('.message .body em')].map((each) => each.textContent)") == ["terminal"]

        await screen.press("escape", "up", "up", "r")
        await screen.shows("reply to Bob: from the")
        await screen.say("an answer out of the terminal")
        await bob.there("document.querySelector('.quote')?.innerText.includes('grüße')", 30, "the answer quotes what it answers")
        await act(bob, "an answer out", "Reply")
        await bob.write("an answer to the answer")
        await screen.shows("an answer to the answer", "┌ alice: an answer")

        await screen.press("escape", "G", "up", "a", "1")
        await bob.there("[...document.querySelectorAll('.reaction')].some((each) => each.innerText.includes('👍'))", 30, "bob sees the reaction")
        await act(bob, "an answer out", "React with 🎉")
        await screen.shows("[🎉")

        sent = photo(tmp_path)
        await bob.choose_files(".composer input[type=file]", sent)
        await screen.shows("[photo] harbour", deadline=60)
        await screen.press("G", "up", "enter")
        await screen.shows("s save", "▀", deadline=60)
        await screen.press("s")
        [saved] = await eventually(lambda: list(alice.downloads.iterdir()), 30, "the photo is saved")
        assert saved.read_bytes()[:4] in (b"\x89PNG", b"\xff\xd8\xff\xe0", b"RIFF")
        await screen.press("escape", "i")
        await screen.say(f"/file {sent}")
        await bob.there("[...document.querySelectorAll('.photo img')].filter((each) => each.naturalWidth > 0).length === 2", 60, "both photos are seen")

        await screen.say(f"/verify {await user_id(bob)}")
        await bob.shows("wants to make sure", 30)
        await bob.click("Begin")
        await same_emoji(screen, bob)
        await screen.press("y")
        await bob.click("They match")
        await screen.shows("Verified.")
        await bob.shows("You can be sure that you write to alice", 30)

        at_peace(bob)
        await screen.press("ctrl-q")
        await screen.ends()
        [room] = await alice.run("rooms")
        read = await alice.run("read", room["room_id"], "--limit", "20")
        # The request to verify each other was the last.
        assert [message["kind"] for message in read if message["encrypted"]] == ["text"] * 4 + ["file"] * 2 + ["other"], read


@pytest.mark.timeout(400)
async def test_the_terminal_becomes_a_second_device_by_the_browser_s_link_is_confirmed_by_emoji_and_reads_the_past(lan, node):
    bob = await lan.user(node, "bob")
    async with served(node) as url, person(node, "Alice", url) as alice:
        room_id = await bob.create_room(True, invite=[await user_id(alice)])
        await alice.click("css:.conversation.invite", 30)
        await alice.click("Accept")
        await bob.sees_member(room_id, await user_id(alice))
        await bob.send(room_id, "from before the terminal")
        await alice.shows_message("from before the terminal", 30)
        await alice.run("location.hash = '#/settings/devices'")
        await alice.click("Show code")
        link = await alice.there("document.querySelector('[data-link]')?.dataset.link", 20)
        await alice.click("Close")

        terminal = await Chat.by_link(node, "alice", link)
        lan.clients.append(terminal)
        assert terminal.user_id == await user_id(alice)
        screen = await terminal.open()
        await screen.shows("not verified")
        await screen.press(":")
        await screen.say("verify")
        await alice.click("Begin", 30)
        await same_emoji(screen, alice)
        await screen.press("y")
        await alice.click("They match")
        await screen.shows("Verified.")
        await alice.shows("The device is confirmed", 30)
        await screen.press("enter")
        await screen.hides("not verified")
        await screen.press("enter")
        await screen.shows("from before the terminal", deadline=60)
        await screen.say("out of the second device")
        await bob.wait_for_message(room_id, "out of the second device")
        at_peace(alice)
