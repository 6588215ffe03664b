"""Pictures in the terminal client: shown by the protocol that the terminal understands, sent without what is nobody's business."""

from __future__ import annotations

import base64
import re

import pytest

from terminal_scene import chat_on, invited, open_room, pixels, png, turned_photo
from waiting import eventually

RED = (248, 0, 0)
KITTY = re.compile(rb"\x1b_Gq=2,(?:i=\d+,a=T,U=1,f=32,t=d,s=(\d+),v=(\d+),)?m=([01]);([^\x1b]*)\x1b\\")
ITERM = re.compile(rb"\x1b\]1337;File=inline=1;size=(\d+);width=\d+px;height=\d+px;doNotMoveCursor=1:([^\x07]*)\x07")
SIXEL = re.compile(rb"\x1bP[^\x1b]*q([^\x1b]*)\x1b\\")
PATTERNS = {"kitty": KITTY, "iterm": ITERM, "sixel": SIXEL}


def by_kitty(raw: bytes) -> set[tuple]:
    """The colours of the picture that was sent by kitty's protocol, whole: in parts, of which the last says so."""
    parts = KITTY.findall(raw)
    assert parts and parts[-1][2] == b"0", parts[:1]
    width, height = int(parts[0][0]), int(parts[0][1])
    data = base64.b64decode(b"".join(part[3] for part in parts))
    assert len(data) == width * height * 4
    return {tuple(data[at:at + 3]) for at in range(0, len(data), 4) if data[at + 3]}


def by_iterm(raw: bytes) -> set[tuple]:
    [(size, encoded)] = ITERM.findall(raw)[-1:]
    data = base64.b64decode(encoded)
    assert len(data) == int(size)
    return {pixel[:3] for row in pixels(data) for pixel in row if pixel[3:] != (0,)}


def by_sixel(raw: bytes) -> set[tuple]:
    """The palette, in hundredths; something is drawn with it."""
    body = SIXEL.findall(raw)[-1]
    assert re.search(rb"#\d+[!\d]*[?-~]", body), body[:80]
    palette = {tuple(round(int(part) * 2.55) for part in colour) for colour in re.findall(rb"#\d+;2;(\d+);(\d+);(\d+)", body)}
    # Black stands in it for what is transparent.
    return palette - {(0, 0, 0)}


@pytest.mark.parametrize("kind, colours", [("kitty", by_kitty), ("iterm", by_iterm), ("sixel", by_sixel)])
async def test_a_terminal_that_says_how_it_shows_pictures_is_sent_them_exactly_so(lan, node, kind, colours):
    alice, bob = await chat_on(lan, node, "alice"), await lan.user(node, "bob")
    room_id = await invited(bob, alice)
    await bob.send_photo(room_id, png(64, 64, lambda *_: RED), "red.png")
    screen = await open_room(alice, "bob", "red.png", kind=kind)
    before = bytes(screen.raw)
    await screen.press("escape", "G", "up", "enter")

    def shown():
        screen.read()
        return colours(bytes(screen.raw))
    found = await eventually(shown, 30, f"the picture comes as {kind} says")
    assert all(abs(one - other) < 8 for colour in found for one, other in zip(colour, RED)), found
    assert not any(pattern.search(before) for pattern in PATTERNS.values())
    assert [name for name, pattern in PATTERNS.items() if pattern.search(screen.raw)] == [kind]
    assert "▀" not in screen.raw.decode(errors="replace") and "▄" not in screen.raw.decode(errors="replace")


@pytest.mark.parametrize("kind, surroundings", [
    ("plain", {}), ("silent", {}), ("kitty", {"TMUX": "/tmp/tmux-0/default,1,0"}), ("kitty", {"KITHCHAT_PICTURES": "blocks"}),
])
async def test_elsewhere_pictures_are_coloured_half_blocks_and_a_terminal_that_answers_nothing_is_not_waited_for_long(lan, node, kind, surroundings):
    alice, bob = await chat_on(lan, node, "alice"), await lan.user(node, "bob")
    room_id = await invited(bob, alice)
    await bob.send_photo(room_id, png(64, 64, lambda *_: RED), "red.png")
    screen = await open_room(alice, "bob", "red.png", kind=kind, **surroundings)
    await screen.press("escape", "G", "up", "enter")
    await screen.shows("s save", "▀")
    assert not any(pattern.search(screen.raw) for pattern in PATTERNS.values())
    # The questions, if it was asked, are not on the screen.
    assert "Gi=31" not in screen.text()


async def test_photos_are_sent_turned_and_without_the_place_from_the_screen_and_from_scripts(lan, node):
    alice, bob = await chat_on(lan, node, "alice"), await lan.user(node, "bob")
    room_id = await invited(bob, alice)
    photo = alice.folder / "camera.png"
    photo.write_bytes(turned_photo())
    assert b"SECRET" in photo.read_bytes()
    screen = await open_room(alice, "bob")
    await screen.say(f"/file {photo}")
    await bob.wait_for_message(room_id, "camera.png")
    await alice.run("send", room_id, "--file", str(photo))
    await bob.wait_for(lambda: len(sent(bob, room_id)) == 2, 20, "both are there")
    for message in sent(bob, room_id):
        data = await bob.fetch_photo(message)
        assert b"SECRET" not in data and b"eXIf" not in data
        rows = pixels(data)
        assert (len(rows), len(rows[0])) == (32, 16) and rows[0][0] == (250, 0, 0) and rows[-1][-1] == (0, 0, 250)
        assert (message.content["info"]["w"], message.content["info"]["h"]) == (16, 32)

    # Of a photo that cannot be cleaned nothing is sent.
    photo.write_bytes(turned_photo()[:100])
    refused = await alice.call("send", room_id, "--file", str(photo))
    assert refused.returncode == 1 and b"damaged" in refused.stderr
    await screen.say(f"/file {photo}")
    await screen.shows("is not sent")
    await bob.send(room_id, "nothing more has come")
    await screen.shows("nothing more has come")
    assert len(sent(bob, room_id)) == 2


def sent(client, room_id: str) -> list:
    return [message for message in client.seen[room_id] if message.body == "camera.png"]


async def test_own_name_and_picture_are_changed_on_the_screen_and_by_scripts_and_others_see_them(lan, node):
    alice, bob = await chat_on(lan, node, "alice"), await lan.user(node, "bob")
    await invited(bob, alice)
    photo = alice.folder / "me.png"
    photo.write_bytes(turned_photo())
    screen = await open_room(alice, "bob")
    await screen.say("/nick Alice \U0001F98A")

    async def seen(name: str, picture: bool):
        profile = await bob.request("GET", f"/_matrix/client/v3/profile/{alice.user_id}")
        return profile.get("displayname") == name and bool(profile.get("avatar_url")) == picture and profile
    await eventually(lambda: seen("Alice \U0001F98A", False), 30, "the name is seen")
    await screen.say(f"/picture {photo}")
    profile = await eventually(lambda: seen("Alice \U0001F98A", True), 30, "the picture is seen")
    server, media = profile["avatar_url"].removeprefix("mxc://").split("/")
    data = await bob.request("GET", f"/_matrix/client/v1/media/download/{server}/{media}", raw=True)
    assert data.startswith(b"\xff\xd8\xff") and b"SECRET" not in data and b"Exif" not in data

    [told] = await alice.run("profile")
    assert told == {"user_id": alice.user_id, "name": "Alice \U0001F98A", "picture": profile["avatar_url"]}
    await screen.say("/picture")
    await eventually(lambda: seen("Alice \U0001F98A", False), 30, "the picture is gone")
    await screen.press("ctrl-q")
    await screen.ends()
    [told] = await alice.run("profile", "--name", "Just Alice", "--picture", str(photo))
    assert told["name"] == "Just Alice" and told["picture"].startswith("mxc://")
    [told] = await alice.run("profile", "--name", "", "--no-picture")
    assert told == {"user_id": alice.user_id, "name": None, "picture": None}
    refused = await alice.call("profile", "--picture", "/dev/null")
    assert refused.returncode == 1, refused
