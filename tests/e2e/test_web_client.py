"""The web client in real browsers, on two nodes, as people use it."""

from __future__ import annotations

import asyncio
import time

from test_first_start import setup_token, unconfigured
from waiting import eventually
from web_client import served, web_client


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
    _ = (eventually, served)
