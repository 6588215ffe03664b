"""A person's client in another language: a program that is told what to do by lines of JSON, one answer for each.

It runs on the node's host and can do what `client.Client` can, under the same names. What is asked is
`{"id", "command", ...}`, what it answers `{"id", "ok"}` or `{"id", "error"}`; the commands are listed in `js/driver.js`.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import secrets
import subprocess
from pathlib import Path

from client import PASSWORD, Message
from net import dies_with_us
from node import REPOSITORY

HERE = Path(__file__).resolve().parent
LONGEST_ANSWER = 1 << 22


class DriverError(AssertionError):
    """The client could not do what it was told to."""


class Driver:
    """One user's device. Make it with `register` or `login`."""

    library: str

    def __init__(self, node, username: str):
        self.node = node
        self.username = username
        self.folder = node.folder / f"{self.library}-{username}-{secrets.token_hex(3)}"
        self.folder.mkdir()
        self.errors: list[str] = []
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future] = {}
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task | None = None

    @staticmethod
    def program() -> list:
        """What to run."""
        raise NotImplementedError

    # --- account

    @classmethod
    async def register(cls, node, username: str):
        """Makes an account and keeps syncing."""
        return await cls(node, username)._begin("register")

    @classmethod
    async def login(cls, node, username: str):
        """Logs in as a new device of an existing account and keeps syncing."""
        return await cls(node, username)._begin("login")

    async def _begin(self, how: str):
        with open(self.folder / "log", "wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                *map(str, self.node.host.command(*self.program())),
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, limit=LONGEST_ANSWER,
                preexec_fn=dies_with_us, start_new_session=True,
            )
        self._reader = asyncio.create_task(self._read())
        try:
            answer = await self.tell(how, homeserver=self.node.base_url, username=self.username, password=PASSWORD)
        except BaseException:
            await self.close()
            raise
        self.user_id: str = answer["user_id"]
        self.device_id: str = answer["device_id"]
        self.access_token: str = answer["access_token"]
        self.fingerprint: str = answer["fingerprint"]
        return self

    async def close(self) -> None:
        """Ends the program."""
        if self._process and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
        if self._reader:
            await asyncio.gather(self._reader, return_exceptions=True)

    # --- telling it

    async def tell(self, command: str, deadline: float = 60, **options) -> dict:
        """Tells it one thing and returns what it answers."""
        number = next(self._numbers)
        self._waiting[number] = asyncio.get_running_loop().create_future()
        line = json.dumps({"id": number, "command": command, **options})
        self._process.stdin.write(line.encode() + b"\n")
        return await asyncio.wait_for(self._waiting[number], deadline)

    async def _read(self) -> None:
        async for line in self._process.stdout:
            answer = json.loads(line)
            future = self._waiting.pop(answer["id"])
            if future.done():
                continue
            if "ok" in answer:
                future.set_result(answer["ok"])
            else:
                self.errors.append(answer["error"])
                future.set_exception(DriverError(f"{self.library}: {answer['error']}"))
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(DriverError(f"{self.library} ended; the end of its log:\n{self.tail()}"))

    def tail(self, lines: int = 20) -> str:
        """The end of what it wrote beside its answers."""
        return "\n".join((self.folder / "log").read_text(errors="replace").splitlines()[-lines:])

    # --- rooms

    async def create_room(self) -> str:
        """Creates a private, encrypted room."""
        return (await self.tell("create_room"))["room_id"]

    async def invite(self, room_id: str, user_id: str) -> None:
        """Invites someone."""
        await self.tell("invite", room_id=room_id, user_id=user_id)

    async def accept(self, room_id: str, deadline: float = 20) -> None:
        """Waits for an invitation and accepts it."""
        await self.tell("accept", room_id=room_id, seconds=deadline)

    async def sees(self, room_id: str, other, deadline: float = 20) -> None:
        """Waits until it knows that another is in the room, and their device, so that it encrypts for it."""
        await self.tell("sees_member", room_id=room_id, user_id=other.user_id, device_id=other.device_id, seconds=deadline)

    # --- messages

    async def send(self, room_id: str, body: str) -> str:
        """Sends a text and returns its event id."""
        return (await self.tell("send", room_id=room_id, body=body))["event_id"]

    async def send_photo(self, room_id: str, data: bytes, name: str = "photo.jpg") -> str:
        """Encrypts and uploads a photo, and sends it."""
        path = self.folder / "to send"
        path.write_bytes(data)
        return (await self.tell("send_photo", room_id=room_id, path=str(path), name=name))["event_id"]

    async def wait_for_message(self, room_id: str, body: str, deadline: float = 20) -> Message:
        """Waits until a message with this body was received and decrypted."""
        answer = await self.tell("wait_for_message", room_id=room_id, body=body, seconds=deadline)
        return Message(answer["event_id"], answer["sender"], answer["content"], answer["type"])

    async def read(self, room_id: str, event_id: str, deadline: float = 20) -> Message:
        """Fetches an event and decrypts it as soon as its key is there."""
        answer = await self.tell("read", room_id=room_id, event_id=event_id, seconds=deadline)
        return Message(answer["event_id"], answer["sender"], answer["content"], answer["type"])

    async def fetch_photo(self, message: Message) -> bytes:
        """Downloads and decrypts the photo of a message."""
        path = self.folder / "fetched"
        await self.tell("fetch_photo", content=message.content, path=str(path))
        return path.read_bytes()

    # --- trust

    async def set_up_recovery(self) -> str:
        """Makes a cross-signing identity, secret storage and a key backup. Returns the recovery key."""
        return (await self.tell("set_up_recovery"))["recovery_key"]

    async def recover(self, recovery_key: str) -> None:
        """Takes the identity and the message keys from the server, as a new device does."""
        await self.tell("recover", recovery_key=recovery_key)

    async def device(self, other) -> dict:
        """What it holds of another's device: `fingerprint`, `signed_by_owner`, `verified`, `owner_verified`."""
        return await self.tell("device", user_id=other.user_id, device_id=other.device_id)

    async def trust(self, other) -> None:
        """Takes another's device for verified, as a person says who has compared its fingerprint."""
        await self.tell("trust", user_id=other.user_id, device_id=other.device_id)

    async def request_verification(self, other, room_id: str | None, starts: bool) -> dict:
        """Asks another to verify, in a room or from device to device. Returns the short authentication string."""
        return await self.tell(
            "request_verification", user_id=other.user_id, device_id=other.device_id, room_id=room_id, starts=starts
        )

    async def answer_verification(self, other, starts: bool) -> dict:
        """Waits for another's request and takes it. Returns the short authentication string."""
        return await self.tell("answer_verification", user_id=other.user_id, starts=starts, seconds=20)

    async def confirm(self) -> None:
        """Says that the strings are equal and waits until the other has said so."""
        await self.tell("confirm")


class JsClient(Driver):
    """matrix-js-sdk with Rust crypto on Node."""

    library = "js"

    @staticmethod
    def program() -> list:
        assert (HERE / "js/node_modules").is_dir(), "run tests/e2e/clients"
        return ["node", HERE / "js/driver.js"]

    async def send_to_verified(self, room_id: str, body: str) -> str:
        """Sends a text whose keys go to verified devices alone."""
        return (await self.tell("send_to_verified", room_id=room_id, body=body))["event_id"]


class RustClient(Driver):
    """matrix-sdk."""

    library = "rust"

    @staticmethod
    def program() -> list:
        target = Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target"))
        path = target / "e2e-rust/debug/kith-e2e-rust"
        assert path.is_file(), f"{path} is missing: run tests/e2e/clients"
        return [path]
