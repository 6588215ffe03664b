"""The terminal client's commands for scripts, and signing in."""

from __future__ import annotations

import asyncio
import json
import re
import stat

from client import PASSWORD, MatrixError
from node import REPOSITORY
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


async def test_a_login_token_signs_a_device_in_once_bare_or_in_a_link_by_command_and_at_the_terminal(lan, node):
    bob = await lan.user(node, "bob")

    async def token() -> str:
        """A login token for another device of bob's, for which his password is asked."""
        path = "/_matrix/client/v1/login/get_token"
        try:
            await bob.request("POST", path, {})
        except MatrixError as error:
            session = error.body["session"]
        auth = {"type": "m.login.password", "identifier": {"type": "m.id.user", "user": "bob"}, "password": PASSWORD, "session": session}
        return (await bob.request("POST", path, {"auth": auth}))["login_token"]

    bare, used = Chat(node, "bob"), await token()
    [account] = await bare.run("login", "--token-stdin", feed=f"{used}\n")
    assert account["user_id"] == bob.user_id and account["device_id"] != bob.nio.device_id
    again = await Chat(node, "bob").call("login", "--token-stdin", feed=f"{used}\n")
    assert again.returncode == 1 and b"used up" in again.stderr

    by_link = await Chat.by_link(node, "bob", f"{node.base_url}/#/login/{await token()}")
    assert by_link.user_id == bob.user_id

    asked = Chat(node, "bob", finds_server=True)
    lan.clients.append(asked)
    screen = Screen(asked, 80, 24, {})
    asked.screens.append(screen)
    await screen.shows("1, 2, 3 or q:")
    await screen.say("2")
    await screen.shows("Login token or link")
    secret = await token()
    await screen.say(f"{node.base_url}/#/login/{secret}")
    await screen.shows("@bob:", "Choose a conversation", deadline=60)
    assert secret not in screen.raw.decode()


async def test_every_field_that_scripts_are_told_is_in_the_documentation_and_every_documented_one_is_told(lan, node):
    alice, bob = await chat_on(lan, node, "alice"), await lan.user(node, "bob")
    await bob.create_room(False, invite=[alice.user_id], name="Invited only")
    room_id = await invited(bob, alice, name="The Ship")
    told = {"send": await alice.run("send", room_id, "ahoy"), "rooms": await alice.run("rooms"), "profile": await alice.run("profile")}
    await bob.wait_for_message(room_id, "ahoy")
    reaction = {"m.relates_to": {"rel_type": "m.annotation", "event_id": told["send"][0]["event_id"], "key": "👍"}}
    await bob.nio.room_send(room_id, "m.reaction", reaction, ignore_unverified_devices=True)
    await eventually(lambda: reacted(alice, room_id), 60, "the reaction is read")
    told["read"] = await alice.run("read", room_id)
    told["read"] += [reaction for message in told["read"] for reaction in message["reactions"]]
    told["join"] = await alice.run("join", "Invited only")
    told["recovery-key"] = await alice.run("recovery-key")
    told["login, register"] = await Chat(node, "alice").run("login", "--user", "alice", "--password-stdin", feed=f"{PASSWORD}\n")
    wrong = await alice.call("--json", "read", "nowhere")
    told["what went wrong"] = [json.loads(wrong.stdout)]

    documented = {}
    for line in (REPOSITORY / "docs/terminal-client.md").read_text().split("| answer of |")[1].splitlines()[2:]:
        if not line.startswith("|"):
            break
        command, fields = line.strip("| ").split(" | ", 1)
        documented[command.replace("`", "")] = set(re.findall(r"`(\w+)`", fields))
    # Rooms that were never replaced do not say by which.
    documented["rooms"].remove("replaced_by")
    assert documented == {command: {name for answer in answers for name in answer} for command, answers in told.items()}


async def reacted(chat, room_id: str) -> bool:
    return any(message["reactions"] for message in await chat.run("read", room_id))
