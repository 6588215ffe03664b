"""What the terminal client writes to terminals of every kind, whatever strangers send: hostile input, sizes, colours, notifications."""

from __future__ import annotations

import asyncio
import os
import re
import time

import pytest

from big_room import big_room
from terminal_client import KEYS, Chat
from terminal_scene import chat_on, invited, open_room
from waiting import eventually

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
    for sequence in (b"\x1b]52", b"\x1b_Gi=1;", b"\xc2\x9b", "\u202e".encode(), b"\x1b[2J\xe2"):
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


@pytest.mark.parametrize("surroundings, told", [
    ({"KITHCHAT_NOTIFY": "osc777"}, b"\x1b]777;notify;bob;psst"), ({"KITHCHAT_NOTIFY": "osc9"}, b"\x1b]9;bob: psst"),
    ({"KITHCHAT_NOTIFY": "bell"}, b"\x07"), ({"KITHCHAT_NOTIFY": "off"}, None), ({"TERM_PROGRAM": "WezTerm"}, b"\x1b]9;bob: psst"), ({}, b"\x07"),
])
async def test_somebody_who_looks_elsewhere_is_told_of_a_message_and_who_looks_is_not(lan, node, surroundings, told):
    alice, bob = await chat_on(lan, node, "alice"), await lan.user(node, "bob")
    room_id = await invited(bob, alice)
    screen = await open_room(alice, "bob", **surroundings)
    begin = len(screen.raw)
    await bob.send(room_id, "seen at once")
    await screen.shows("seen at once")
    screen.type("\x1b[O")
    await bob.send(room_id, "psst\x1b]0;x\x07;y")
    await screen.shows("psst")
    if told:
        await eventually(lambda: (screen.read(), told in screen.raw[begin:])[1], 20, "a notification")
    # Whatever the first was told by has been told before the second is seen.
    await bob.send(room_id, "and once more")
    await screen.shows("and once more")
    # Nothing of another kind; a bell ends each of the long ones.
    after = bytes(screen.raw[begin:])
    assert set(re.findall(rb"\x1b\][0-9]+", after)) == ({told[:told.index(b";")]} if told and b";" in told else set())
    assert (b"\x07" in after) == bool(told)
    assert b"seen at once\x07" not in after and b"\x1b]0;x" not in after


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
