"""People at the terminal client, and conversations that they are in."""

from __future__ import annotations

import struct
import zlib

import pytest_asyncio

from terminal_client import Chat, Screen


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


async def open_room(chat, name: str, *shown: str, **options) -> Screen:
    """The screen with the one conversation open."""
    screen = await chat.open(**options)
    await screen.shows(name)
    await screen.press("enter")
    await screen.shows("Enter send", *shown)
    return screen


async def compares(screen, strings, answers: bool) -> None:
    """Waits until the screen shows the emoji that the other side has."""
    if answers:
        await screen.shows("Verification", "wants to compare emoji")
        await screen.press("y")
    shown = await screen.shows("Do both sides show these")
    emoji = (await strings)["emoji"]
    assert len(emoji) == 7 and all(sign.replace("\N{VARIATION SELECTOR-16}", "") in shown for sign in emoji), (emoji, shown)


# A PNG of a few red pixels.
RED_DOT = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000080000000808020000004b6d29dc000000114944415478da63f8cfc08015310c2d090028"
    "ff3fc1ce77c84f0000000049454e44ae426082"
)


def png(width: int, height: int, colour, *more: tuple[bytes, bytes]) -> bytes:
    """A PNG whose pixels are `colour(x, y)`, with more chunks (kind and content) behind its header."""
    rows = b"".join(b"\0" + b"".join(bytes(colour(x, y)) for x in range(width)) for y in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), *more, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    parts = (struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def turned_photo() -> bytes:
    """Red beside blue, by a camera that was turned: EXIF tells that the picture is to be turned back (so that red is above), and where it was."""
    exif = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0SECRET PLACE"
    return png(32, 16, lambda x, _: (250, 0, 0) if x < 16 else (0, 0, 250), (b"eXIf", exif), (b"tEXt", b"Comment\0SECRET"))


def pixels(photo: bytes) -> list[list[tuple[int, ...]]]:
    """The rows of a PNG of 8 bits in RGB or RGBA."""
    chunks, at = {}, 8
    while at < len(photo):
        length, kind = struct.unpack(">I4s", photo[at:at + 8])
        chunks[kind] = chunks.get(kind, b"") + photo[at + 8:at + 8 + length]
        at += length + 12
    width, height, _, colours = struct.unpack(">IIBB", chunks[b"IHDR"][:10])
    size = {2: 3, 6: 4}[colours]
    data, before, rows = zlib.decompress(chunks[b"IDAT"]), bytes(width * size), []
    for y in range(height):
        begin = y * (width * size + 1)
        row = bytearray(data[begin + 1:begin + 1 + width * size])
        for x in range(len(row)):
            left, above = (row[x - size] if x >= size else 0), before[x]
            corner = before[x - size] if x >= size else 0
            nearest = min((left, above, corner), key=lambda one: abs(left + above - corner - one))
            row[x] = (row[x] + (0, left, above, (left + above) // 2, nearest)[data[begin]]) % 256
        before = bytes(row)
        rows.append([tuple(row[x:x + size]) for x in range(0, len(row), size)])
    return rows
