"""The terminal client's commands for scripts, and signing in."""

from __future__ import annotations

import asyncio
import re
import stat

from client import PASSWORD
from terminal_client import Chat, Screen
from terminal_scene import RED_DOT, chat_on, invited, open_room
from waiting import eventually


async def test_scripts_send_and_read_encrypted_messages_and_learn_how_it_went_from_exit_codes(lan, node):
    alice, bob = await chat_on(lan, node, "alice"), await lan.user(node, "bob")
    room_id = await invited(bob, alice, name="The Ship")
    [sent] = await alice.run("send", "the ship", "**ahoy**")
    message = await bob.wait_for_message(room_id, "**ahoy**")
    assert (message.event_id, sent["room_id"], sent["encrypted"]) == (sent["event_id"], room_id, True)
    assert "<strong>" in message.content["formatted_body"]
    await alice.run("send", room_id, "-", feed="from a pipe\nin two lines\n")
    await bob.wait_for_message(room_id, "from a pipe\nin two lines")
    await alice.run("send", room_id, "--plain", feed="**as it is**")
    assert "formatted_body" not in (await bob.wait_for_message(room_id, "**as it is**")).content
    photo = alice.folder / "dot.png"
    photo.write_bytes(RED_DOT)
    await alice.run("send", room_id, "--file", str(photo))
    assert await bob.fetch_photo(await bob.wait_for_message(room_id, "dot.png")) == RED_DOT
    await bob.send(room_id, "back")
    read = await eventually(lambda: alice.run("read", "The Ship", "--limit", "3"), 20, "reads")
    assert [message["body"] for message in read][-1] == "back" and len(read) == 3 and all(message["encrypted"] for message in read)
    plain = (await alice.call("read", room_id, "--limit", "1")).stdout.decode()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d bob: back\n", plain)
    [room] = await alice.run("rooms")
    assert (room["room_id"], room["name"], room["encrypted"], room["standing"]) == (room_id, "The Ship", True, "joined")

    for arguments, code in [
        (["send", "no such room", "x"], 4), (["read", "!nothing"], 4), (["send", room_id, ""], 1), (["send"], 2), (["nonsense"], 2),
        (["send", room_id, "--file", "/nonexistent"], 1), (["send", room_id, "y" * 50_000], 1), ([], 1),
    ]:
        done = await alice.call(*arguments)
        assert done.returncode == code and done.stderr and not done.stdout, (arguments, done)
    node.kill()
    done = await alice.call("send", room_id, "x")
    assert done.returncode == 5 and b"cannot be reached" in done.stderr
    stranger = Chat(node, "stranger")
    assert (await stranger.call("rooms")).returncode == 3
    assert (await stranger.call("login", "--user", "x", "--password-stdin", feed="x\n")).returncode == 5


async def test_scripts_work_beside_an_open_screen_and_beside_each_other(lan, node):
    alice, bob = await chat_on(lan, node, "alice"), await lan.user(node, "bob")
    room_id = await invited(bob, alice)
    await asyncio.gather(*(alice.run("send", room_id, f"by itself {number}") for number in range(3)))
    screen = await open_room(alice, "bob")
    await asyncio.gather(*(alice.run("send", room_id, f"through the screen {number}") for number in range(3)))
    for number in range(3):
        await bob.wait_for_message(room_id, f"by itself {number}")
        await bob.wait_for_message(room_id, f"through the screen {number}")
        await screen.shows(f"through the screen {number}")
    assert (await alice.call("send", "nowhere", "x")).returncode == 4
    await screen.press("ctrl-q")
    await screen.ends()
    await alice.run("send", room_id, "by itself again")
    await bob.wait_for_message(room_id, "by itself again")


async def test_the_first_account_of_a_node_is_made_with_its_setup_link_at_the_terminal(lan):
    node = lan.node("new", {"registration": {"mode": "setup"}})
    await node.start()
    link = await eventually(lambda: re.search(r"http\S+/#/setup/\S+", node.output()), 10, "the node prints its setup link")
    alice = Chat(node, "alice")
    lan.clients.append(alice)
    screen = Screen(alice, 80, 24, {})
    alice.screens.append(screen)
    await screen.shows("1, 2, 3 or q:")
    await screen.say("3")
    await screen.shows("Setup link")
    # What the server's own configuration calls it may differ; --server was given, so it stays.
    await screen.say(link.group(0))
    await screen.shows("Name of the new account")
    await screen.say("alice")
    for question in ("New password", "The same again"):
        await screen.shows(question)
        await screen.say(PASSWORD)
    await screen.shows("Choose a conversation", "@alice:", deadline=60)
    assert PASSWORD not in screen.raw.decode() and link.group(0)[-20:] not in screen.raw.decode()
    await screen.press("ctrl-q")
    await screen.ends()

    files = [alice.data, *alice.data.iterdir()]
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in files}
    assert modes["data"] == 0o700 and modes["session.json"] == 0o600, modes
    again = await Chat(node, "mallory").call("register", "--user", "mallory", "--stdin", feed=f"{link.group(0)}\n{PASSWORD}\n")
    assert again.returncode == 1, again
    wrong = await Chat(node, "alice").call("login", "--user", "alice", "--password-stdin", feed="wrong\n")
    assert wrong.returncode == 1 and b"wrong" in wrong.stderr
    await alice.run("logout")
    assert not (alice.data / "session.json").exists() and not (alice.data / "store").exists()
    assert (await alice.call("rooms")).returncode == 3
