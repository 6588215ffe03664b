"""People at the terminal client, and conversations that they are in."""

from __future__ import annotations

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


async def open_room(chat, name: str, *shown: str, **size) -> Screen:
    """The screen with the one conversation open."""
    screen = await chat.open(**size)
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
