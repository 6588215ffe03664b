"""The web client in real browsers, on two nodes, as people use it."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest

from test_first_start import setup_token, unconfigured
from web_client import web_client
from web_scene import fake_extension, settle, talk


@pytest.fixture
def pictures(tmp_path) -> Path:
    """Where pictures of the client go: KITH_WEB_PICTURES, else a temporary folder."""
    return Path(os.environ.get("KITH_WEB_PICTURES", tmp_path / "pictures"))


def photo(folder, name: str = "harbour.png", width: int = 1600, height: int = 1000):
    """A picture that is a file of its own, as from a camera."""
    import struct
    import zlib
    rows = b"".join(
        b"\0" + b"".join(bytes((x * 255 // width, 120 + y * 100 // height, 200 - x * 120 // width)) for x in range(width)) for y in range(height)
    )
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    file = folder / name
    file.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)) + chunk(b"IDAT", zlib.compress(rows, 1)) + chunk(b"IEND", b"")
    )
    return file


async def test_two_people_get_from_the_first_start_to_an_encrypted_photo_in_a_minute(lan, tmp_path, measured):
    here, there = unconfigured(lan, "alice"), unconfigured(lan, "bob")
    await asyncio.gather(here.start(), there.start())
    begin = time.monotonic()
    links = [f"#/setup/{await setup_token(node)}" for node in (here, there)]
    async with web_client(here, fragment=links[0]) as alice, web_client(there, fragment=links[1]) as bob:
        for page, name in ((alice, "Alice"), (bob, "Bob")):
            await page.shows("What do people call you?")
            await page.fill("Your name", name)
            await page.click("Begin")
            await page.shows("Good to have you here", 30)
        measured("both accounts", time.monotonic() - begin, "s")

        address = f"@bob:{there.identity()['server_name']}"
        await alice.click("Add a person")
        await alice.fill("Address or link", address)
        await alice.click("Find")
        await alice.click("Write")
        await bob.click("css:.conversation", 30)
        await bob.click("Accept")
        await alice.write("Hello **Bob**")
        await bob.shows_message("Hello Bob", 30)
        assert await bob.run("document.querySelector('.message .body strong').textContent") == "Bob"

        await bob.choose_files(".composer input[type=file]", photo(tmp_path))
        await alice.there("document.querySelector('.photo img')?.naturalWidth > 0", 30, "the photo is seen")
        took = time.monotonic() - begin
        measured("first start to an exchanged encrypted photo", took, "s")
        assert took < 60
        assert not alice.complaints and not bob.complaints, (alice.complaints, bob.complaints)


async def test_pictures_of_the_main_states_and_nothing_serious_for_axe(lan, tmp_path, pictures):
    node = lan.node("mira")
    await node.start()
    name = node.identity()["server_name"]
    owner = f"@mira:{name}"
    near = [{"user_id": f"@{user}:{name}", "displayname": shown} for user, shown in (("noor", "Noor"), ("emil", "Emil Sand"), ("tove", "Tove Lind"))]
    problems: dict[str, list[str]] = {}

    async with web_client(node) as page:
        async def shoot(what: str, sizes=((1280, 800), (390, 844)), schemes=("light", "dark")) -> None:
            for width, height in sizes:
                for scheme in schemes:
                    await page.look_as(width, height, scheme)
                    await asyncio.sleep(0.3)
                    await page.screenshot(pictures / f"{what}-{width}-{scheme}.png")
                    assert await page.run("document.documentElement.scrollWidth") <= width, (what, width)
                    if found := await page.serious():
                        problems[f"{what} {width} {scheme}"] = found
            await page.look_as(1280, 800)

        small = ((1280, 800), (390, 844), (320, 640))
        await page.shows("Welcome back")
        await shoot("sign-in", small)
        await page.click("Make a new account")
        await page.fill("Your name", "Mira")
        await shoot("setup", small)
        await page.click("Begin")
        await page.shows("Good to have you here", 30)
        await shoot("empty", small)

        friends, rooms = await settle(lan, node, owner, tmp_path)
        for room_id in rooms.values():
            await page.run(f"location.hash = '#/room/' + encodeURIComponent({room_id!r})")
            await page.shows("Accept")
            await shoot("invitation", ((390, 844),), ("light",)) if room_id == rooms["jonas"] else None
            await page.click("Accept")
            await page.there("document.querySelector('.composer textarea')")
        said = await talk(friends, rooms)
        await fake_extension(page, name, near, {"waiting": [], "delivered": ["all"], "total": 1})
        await page.reload()
        await page.there("document.querySelectorAll('.conversation').length >= 4")
        await page.click("Harbour house")
        await page.shows_message("Yesterday, from the pier")
        await page.there("document.querySelector('.photo img')?.naturalWidth > 0")
        await page.write("Perfect. Save me a seat on the left side ⛵")
        await page.shows_message("Save me a seat")
        await friends["jonas"].request("PUT", f"/_matrix/client/v3/rooms/{rooms['harbour']}/typing/{friends['jonas'].user_id}", {"typing": True, "timeout": 30000})
        await page.there("document.querySelector('.mark.delivered')")
        await shoot("conversation", small)
        await page.run("location.hash = '#/'")
        await shoot("list", small)
        await page.run(f"location.hash = '#/room/' + encodeURIComponent({rooms['harbour']!r})")
        await page.shows_message("Save me a seat")
        await page.run("document.querySelector('.message:not(.mine) .tools button[aria-expanded]').click()")
        await shoot("menu", ((1280, 800), (390, 844)), ("light",))
        await page.run(f"location.hash = '#/room/' + encodeURIComponent({rooms['harbour']!r}) + '/info'")
        await page.shows("Copy the link to this conversation")
        await shoot("details", small)
        for address, heading in (("people", "Their code"), ("group", "Who is in it"), ("settings", "Blocked people"), ("settings/profile", "Your address"), ("settings/devices", "This device"),
                                 ("settings/appearance", "Colours"), ("settings/notifications", "What notifications show"), ("settings/storage", "Used by"), ("settings/node", "Waiting to be sent")):
            await page.run(f"location.hash = '#/{address}'")
            await page.shows(heading)
            await asyncio.sleep(0.3)
            await shoot(address.replace("/", "-"))
        await page.run("location.hash = '#/settings/profile'")
        await page.click("Recovery key")
        await page.shows("I have saved it")
        await shoot("recovery")
        assert not page.complaints, page.complaints
    assert not problems, "\n".join(f"{where}: {each}" for where, found in problems.items() for each in found)
    _ = said
