"""The terminal client on real nodes: its screen, its commands, encrypted conversations with other libraries, hostile messages."""

from __future__ import annotations

import asyncio
import json
import os
import re
import stat
import time

import pytest
import pytest_asyncio

from big_room import big_room
from client import PASSWORD
from driver import DriverError
from libraries import register
from synapse import Synapse
from terminal_client import KEYS, Chat, Screen
from waiting import eventually


@pytest_asyncio.fixture
async def node(lan):
    """A node that runs."""
    node = lan.node("here")
    await node.start()
    return node


async def chat_on(lan, node, name: str) -> Chat:
    """Somebody with a new account, in the terminal."""
    chat = await Chat.register(node, name)
    lan.clients.append(chat)
    return chat


async def invited(person, chat, encrypted: bool = True, **options) -> str:
    """A room of somebody else's, into which the terminal has come."""
    room_id = await person.create_room(encrypted, invite=[chat.user_id], **options)
    await chat.run("join", room_id)
    if encrypted:
        await person.sees_member(room_id, chat.user_id)
    return room_id


async def open_room(chat, name: str, *shown: str, **size) -> Screen:
    """The screen with the one conversation open."""
    screen = await chat.open(**size)
    await screen.shows(name)
    await screen.press("enter")
    await screen.shows("Enter send", *shown)
    return screen


# --- conversations


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


# --- verification


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


async def compares(screen, strings, answers: bool) -> None:
    """Waits until the screen shows the emoji that the other side has."""
    if answers:
        await screen.shows("Verification", "wants to compare emoji")
        await screen.press("y")
    shown = await screen.shows("Do both sides show these")
    emoji = (await strings)["emoji"]
    assert len(emoji) == 7 and all(sign.replace("\N{VARIATION SELECTOR-16}", "") in shown for sign in emoji), (emoji, shown)


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


# --- hostile input

HOSTILE = [
    "\x1b]0;owned\x07title", "\x1b[2Jclear", "\x9b31mc1", "\x1b]52;c;b3duZWQ=\x07clipboard", "\x1b_Gi=1;AAAA\x1b\\kitty", "\x07bell",
    "photo\u202Egpj.exe", "a\u0301" + "\u0301" * 2000 + "zalgo", "x" * 30_000, "\n" * 3000 + "deep", "<script>alert(1)</script>",
    "\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16") * 3000, "\u2028line\u2029para\x0bvt\x0cff", "**" * 2000,
]


async def test_hostile_messages_names_and_topics_write_nothing_but_text(lan, node):
    alice, bob = await chat_on(lan, node, "alice"), await lan.user(node, "bob")
    evil = "\x1b]0;owned\x07\x1b[2J\u202Eevil"
    room_id = await invited(bob, alice, encrypted=False, name=evil, topic=evil)
    await bob.request("PUT", f"/_matrix/client/v3/profile/{bob.user_id}/displayname", {"displayname": evil})
    for body in HOSTILE:
        await bob.send_content(room_id, {"msgtype": "m.text", "body": body})
    strange = [
        ("org.example.strange\x1b[2J", {"body": "\x1b[2J"}), ("m.room.message", {}), ("m.room.message", {"msgtype": 3, "body": []}),
        ("m.room.message", {"msgtype": "org.example.new\x1b[2J", "body": "of a new kind"}),
        ("m.room.message", {"msgtype": "m.image", "body": evil, "url": "mxc://nowhere/x", "info": {"w": -1, "size": "huge"}}),
        ("m.room.message", {"msgtype": "m.image", "body": evil, "url": "not a url", "filename": evil}),
        ("m.sticker", {"body": evil, "url": "mxc://a/b", "info": {}}),
        ("m.room.encrypted", {"algorithm": "org.example.unknown"}),
        ("m.reaction", {"m.relates_to": {"rel_type": "m.annotation", "event_id": "$none", "key": evil * 100}}),
        ("m.room.message", {"msgtype": "m.text", "body": "looped", "m.relates_to": {"m.in_reply_to": {"event_id": "$none"}}}),
    ]
    for number, (kind, content) in enumerate(strange):
        path = f"/_matrix/client/v3/rooms/{room_id}/send/{kind.replace(chr(27), '%1B').replace('[', '%5B')}/{number}"
        await bob.request("PUT", path, content)
    await bob.send(room_id, "and a last honest one")
    last = bob.seen[room_id][-1] if bob.seen.get(room_id) else None
    reaction = {"m.relates_to": {"rel_type": "m.annotation", "event_id": last and last.event_id or "$x", "key": "\x1b[2J👾"}}
    await bob.request("PUT", f"/_matrix/client/v3/rooms/{room_id}/send/m.reaction/last", reaction)

    screen = await open_room(alice, "evil", "and a last honest one")
    wanted = {"title", "clipboard", "<script>alert(1)</script>", "that this program does not show", "of a new kind"}
    seen = set()

    def all_were_shown():
        # The message above the chosen one shows its end.
        screen.type(KEYS["up"])
        # Long lines are wrapped beside the list of rooms.
        text = " ".join(line.split("│", 1)[-1].strip(" ▌") for line in screen.text().splitlines())
        seen.update(words for words in wanted if words in text)
        return seen == wanted
    await screen.press("escape")
    try:
        await eventually(all_were_shown, 60, "all of it is shown", every=0.15)
    except AssertionError:
        raise AssertionError(f"not shown: {wanted - seen}\n{screen.text()}") from None
    await screen.press("enter", "escape", "m", "escape", "G")
    await screen.shows("and a last honest one")
    # What the program itself writes begins with these alone; nothing of what was sent is among it.
    raw = bytes(screen.raw)
    assert b"owned" not in b"".join(re.findall(rb"\x1b\][^\x07]*", raw))
    for sequence in (b"\x1b]52", b"\x1b_G", b"\xc2\x9b", "\u202e".encode(), b"\x1b[2J\xe2"):
        assert sequence not in raw, sequence
    titles = set(re.findall(rb"\x1b\]0;([^\x07]*)\x07", raw))
    assert titles <= {b"kith"}

    # And so for scripts.
    for arguments in (["read", room_id, "--limit", "100"], ["rooms"], ["--json", "read", room_id, "--limit", "100"], ["--json", "rooms"]):
        done = await alice.call(*arguments)
        assert done.returncode == 0, done.stderr
        text = done.stdout.decode()
        assert not any(ord(sign) < 32 and sign != "\n" or 0x7F <= ord(sign) < 0xA0 or sign == "\u202e" for sign in text), arguments


@pytest.mark.timeout(700)
async def test_a_room_of_ten_thousand_members_is_opened_listed_and_read(lan, node, measured):
    """A server that tells all members at once, lazy loading or not: no such room is made on a real one in the time of a test."""
    async with big_room(node.host, 10_000) as port:
        alice = Chat(node, "alice")
        lan.clients.append(alice)
        begin = time.monotonic()
        login = await alice.call("--server", f"http://127.0.0.1:{port}", "login", "--user", "alice", "--password-stdin", feed="x\n", deadline=400)
        assert login.returncode == 0, login
        measured("sign-in and first sync of a room of 10,000 (build without optimisation)", time.monotonic() - begin, "s")
        screen = await open_room(alice, "Everybody", "hello from member 9999")
        begin = time.monotonic()
        await screen.press("escape", "m")
        await screen.shows("Members (10000)", deadline=150)
        await screen.press("escape", "i")
        screen.type("typed without delay")
        await screen.shows("typed without delay")
        measured("listing its members and typing", time.monotonic() - begin, "s")


# --- terminals


async def test_every_size_of_terminal_shows_what_it_can_and_resizing_breaks_nothing(lan, node):
    alice, bob = await chat_on(lan, node, "alice"), await lan.user(node, "bob")
    room_id = await invited(bob, alice)
    await bob.send(room_id, "seen in every size")
    screen = await open_room(alice, "bob", "seen in every size", columns=80, rows=24)
    assert all(len(line) <= 80 for line in screen.text().splitlines())
    # Too narrow for both: the conversation alone, and the list of rooms alone.
    screen.resize(40, 12)
    await screen.shows("seen in every size")
    await screen.hides("│")
    await screen.press("escape", "escape")
    await screen.hides("seen in every size")
    await screen.shows("bob")
    screen.resize(8, 3)
    await screen.shows("too")
    for columns, rows in ((200, 60), (21, 5), (20, 5), (60, 10), (1, 1), (80, 24)):
        screen.resize(columns, rows)
        await screen.press("f1")
        await asyncio.sleep(0.05)
        await screen.press("escape")
        assert screen.process.poll() is None
    await screen.shows("seen in every size", "bob")


async def test_without_colours_no_colour_is_written_and_with_them_only_the_terminal_s_own(lan, node):
    alice, bob = await chat_on(lan, node, "alice"), await lan.user(node, "bob")
    room_id = await invited(bob, alice)
    await bob.send(room_id, "in `colour`?")
    coloured = re.compile(rb"\x1b\[[0-9;:]*\b(?:3[0-7]|4[0-7]|38|48|9[0-7])(?:[;:][0-9;:]*)?m")
    plain = await open_room(alice, "bob", "in colour?", NO_COLOR="1")
    assert not coloured.search(bytes(plain.raw))
    await plain.press("ctrl-q")
    await plain.ends()
    with_colours = await open_room(alice, "bob", "in colour?")
    assert coloured.search(bytes(with_colours.raw))
    # Neither black nor white nor exact colours, which would vanish on one background or another.
    assert not re.search(rb"\x1b\[(?:38;2|48;2|30m|37m|97m|40m|47m)", bytes(with_colours.raw))


async def test_somebody_who_looks_elsewhere_is_told_of_a_message_and_who_looks_is_not(lan, node):
    alice, bob = await chat_on(lan, node, "alice"), await lan.user(node, "bob")
    room_id = await invited(bob, alice)
    screen = await open_room(alice, "bob", KITHCHAT_NOTIFY="osc777")
    await bob.send(room_id, "seen at once")
    await screen.shows("seen at once")
    screen.type("\x1b[O")
    await bob.send(room_id, "psst\x1b]0;x\x07;y")
    await screen.shows("psst")
    await eventually(lambda: (screen.read(), b"\x1b]777;notify;bob;psst" in screen.raw)[1], 20, "a notification")
    assert b"seen at once\x07" not in screen.raw and b"\x1b]0;x" not in screen.raw


async def test_when_the_connection_to_the_terminal_breaks_it_ends_and_another_begins_where_it_was(lan, node):
    alice = await chat_on(lan, node, "alice")
    screen = await alice.open()
    refused = await alice.call("logout")
    assert refused.returncode == 6 and b"another kith-chat" in refused.stderr
    os.close(screen.end)
    await asyncio.to_thread(screen.process.wait, 20)
    again = await alice.open()
    await again.press("q")
    assert await again.ends() == 0
    # The terminal is as it was before.
    assert b"\x1b[?1049l" in again.raw and b"\x1b[?25h" in again.raw


# --- commands


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


# A PNG of a few red pixels.
RED_DOT = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000080000000808020000004b6d29dc000000114944415478da63f8cfc08015310c2d090028"
    "ff3fc1ce77c84f0000000049454e44ae426082"
)
