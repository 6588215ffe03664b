"""People in the web client: accounts made in browsers, conversations begun, files to send."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from web_client import WebClient, web_client
from web_scene import picture


def photo(folder: Path) -> Path:
    """A picture that is a file of its own, as from a camera."""
    file = folder / "harbour.png"
    file.write_bytes(picture(1500, 1000))
    return file


async def sign_up(page: WebClient, name: str, passphrase: str | None = None) -> None:
    """Makes an account on an open node."""
    await page.click("Make a new account")
    await page.fill("Your name", name)
    if passphrase:
        await page.click("Set a passphrase")
        await page.fill("Passphrase", passphrase)
    await page.click("Begin")
    await page.shows("Good to have you here", 30)


@contextlib.asynccontextmanager
async def person(node, name: str, url: str | None = None, passphrase: str | None = None, **options):
    """A browser in which somebody has just made an account on an open node."""
    async with web_client(node, url, **options) as page:
        await sign_up(page, name, passphrase)
        await page.there("Boolean(localStorage.getItem('kith.session'))")
        yield page


async def user_id(page: WebClient) -> str:
    return json.loads(await page.run("localStorage.getItem('kith.session')"))["user_id"]


async def write_to(one: WebClient, other: WebClient, text: str) -> None:
    """Begins an encrypted conversation: one finds the other by address, who accepts and sees the first message."""
    await one.click("Add a person")
    await one.fill("Address or link", await user_id(other))
    await one.click("Find")
    await one.click("Write", 20)
    await other.click("css:.conversation.invite", 30)
    await other.click("Accept")
    await one.write(text)
    await other.shows_message(text, 30)


def at_peace(*pages: WebClient) -> None:
    for page in pages:
        assert not page.complaints, page.complaints
