"""The terminal client `kith-chat`: its commands, and its screen in a terminal of the test's own."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import pty
import re
import secrets
import signal
import struct
import subprocess
import termios
from pathlib import Path

import pyte

from client import PASSWORD
from net import dies_with_us
from node import REPOSITORY, surroundings
from waiting import eventually

KEYS = {
    "enter": "\r", "escape": "\x1b", "tab": "\t", "up": "\x1b[A", "down": "\x1b[B", "page up": "\x1b[5~", "page down": "\x1b[6~",
    "f1": "\x1bOP", "f2": "\x1bOQ", "f3": "\x1bOR", "f4": "\x1bOS", "f5": "\x1b[15~", "ctrl-q": "\x11", "ctrl-c": "\x03", "alt-enter": "\x1b\r",
}

# What a terminal is asked when kith-chat begins, and what terminals of each kind answer: name, picture of one pixel, attributes,
# size of a cell, and that all is well.
QUESTIONS = re.compile(rb"\x1b\[>0q|\x1b_Gi=31,[^\x1b]*\x1b\\|\x1b\[c|\x1b\[16t|\x1b\[5n")
NAME, PIXEL, ATTRIBUTES, CELL, WELL = b"\x1b[>0q", b"\x1b_Gi=31", b"\x1b[c", b"\x1b[16t", b"\x1b[5n"
ANSWERS = {
    "silent": {},
    "plain": {ATTRIBUTES: "\x1b[?1;2c", WELL: "\x1b[0n"},
    "kitty": {NAME: "\x1bP>|kitty(0.35.2)\x1b\\", PIXEL: "\x1b_Gi=31;OK\x1b\\", ATTRIBUTES: "\x1b[?62;c", CELL: "\x1b[6;20;10t", WELL: "\x1b[0n"},
    "iterm": {NAME: "\x1bP>|iTerm2 3.5.4\x1b\\", ATTRIBUTES: "\x1b[?64;1;2;4;6;17;18;21;22c", CELL: "\x1b[6;20;10t", WELL: "\x1b[0n"},
    "sixel": {NAME: "\x1bP>|foot(1.16.2)\x1b\\", ATTRIBUTES: "\x1b[?62;4;22c", CELL: "\x1b[6;20;10t", WELL: "\x1b[0n"},
}


def program() -> Path:
    """The `kith-chat` under test."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target"))
    path = target / "e2e-rust/debug/kith-chat"
    assert path.is_file(), f"{path} is missing: run tests/e2e/clients"
    return path


class Chat:
    """One device of a user, on the host of a node. Its commands; `open` shows its screen."""

    def __init__(self, node, username: str, finds_server: bool = False):
        self.node = node
        self.finds_server = finds_server
        self.username = username
        self.folder = node.folder / f"chat-{username}-{secrets.token_hex(3)}"
        self.downloads = self.folder / "downloads"
        self.downloads.mkdir(parents=True)
        self.errors: list[str] = []
        self.screens: list[Screen] = []
        self.user_id: str = ""
        self.device_id: str = ""

    @classmethod
    async def register(cls, node, username: str) -> Chat:
        """Makes an account."""
        chat = cls(node, username)
        chat._is(await chat.run("register", "--user", username, "--stdin", feed=f"\n{PASSWORD}\n"))
        return chat

    @classmethod
    async def login(cls, node, username: str) -> Chat:
        """A new device of an account."""
        chat = cls(node, username)
        chat._is(await chat.run("login", "--user", username, "--password-stdin", feed=f"{PASSWORD}\n"))
        return chat

    @classmethod
    async def by_link(cls, node, username: str, link: str) -> Chat:
        """A new device that knows nothing but a link with a login token."""
        chat = cls(node, username, finds_server=True)
        chat._is(await chat.run("login", "--token-stdin", feed=f"{link}\n"))
        return chat

    def _is(self, answers: list[dict]) -> None:
        self.user_id, self.device_id = answers[0]["user_id"], answers[0]["device_id"]

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def environment(self) -> dict[str, str]:
        """Its surroundings. Where the server is stands there, unless a link is to tell it."""
        kept = {key: value for key, value in surroundings().items() if key not in ("NO_COLOR", "TMUX", "TERM_PROGRAM")}
        server = {} if self.finds_server else {"KITHCHAT_SERVER": self.node.base_url}
        return {
            **kept, **server, "TERM": "xterm-256color", "TZ": "UTC", "LANG": "C.UTF-8", "HOME": str(self.folder), "RUST_BACKTRACE": "1",
            "XDG_DOWNLOAD_DIR": str(self.downloads), "KITHCHAT_DATA": str(self.data),
        }

    async def call(self, *arguments: str, feed: str | bytes = "", deadline: float = 60) -> subprocess.CompletedProcess:
        """Runs a command, however it ends."""
        feed = feed.encode() if isinstance(feed, str) else feed

        def run():
            return subprocess.run(
                self.node.host.command(program(), *arguments), input=feed, capture_output=True, timeout=deadline,
                env=self.environment(), preexec_fn=dies_with_us,
            )
        return await asyncio.to_thread(run)

    async def run(self, *arguments: str, feed: str | bytes = "", deadline: float = 60) -> list[dict]:
        """Runs a command that succeeds, and returns its JSON lines."""
        done = await self.call("--json", *arguments, feed=feed, deadline=deadline)
        assert done.returncode == 0, f"kith-chat {arguments}: {done.returncode}\n{done.stdout.decode()}\n{done.stderr.decode()}"
        return [json.loads(line) for line in done.stdout.splitlines()]

    async def open(self, columns: int = 80, rows: int = 24, kind: str = "plain", **environment: str) -> Screen:
        """Opens it in a terminal of a kind and waits until it is online."""
        screen = Screen(self, columns, rows, environment, kind)
        self.screens.append(screen)
        await screen.shows("●")
        return screen

    async def close(self) -> None:
        """Ends what is open."""
        for screen in self.screens:
            screen.close()


class Screen:
    """A terminal with kith-chat in it."""

    def __init__(self, chat: Chat, columns: int, rows: int, environment: dict[str, str], kind: str = "plain"):
        self.answers, self.answered = ANSWERS[kind], 0
        self.screen = pyte.Screen(columns, rows)
        self.stream = pyte.ByteStream(self.screen)
        self.raw = bytearray()
        self.end, other_end = pty.openpty()
        os.set_blocking(self.end, False)
        self._size(other_end, columns, rows)

        def in_its_terminal():
            dies_with_us()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        self.process = subprocess.Popen(
            chat.node.host.command(program()), stdin=other_end, stdout=other_end, stderr=other_end,
            env={**chat.environment(), **environment}, start_new_session=True, preexec_fn=in_its_terminal,
        )
        os.close(other_end)

    @staticmethod
    def _size(end: int, columns: int, rows: int) -> None:
        fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def resize(self, columns: int, rows: int) -> None:
        """What a window does when it is drawn larger or smaller."""
        self.read()
        self._size(self.end, columns, rows)
        self.screen.resize(rows, columns)

    def read(self) -> None:
        """Takes in what it has written."""
        with contextlib.suppress(BlockingIOError, OSError):
            while data := os.read(self.end, 1 << 16):
                self.raw += data
                self._answer()
                # pyte does not know the underline colours and the like that are of no interest here.
                self.stream.feed(data)

    def _answer(self) -> None:
        """Answers what was asked since the last time."""
        for question in QUESTIONS.finditer(self.raw, self.answered):
            self.answered = question.end()
            answer = next((answer for begin, answer in self.answers.items() if question[0].startswith(begin)), "")
            os.write(self.end, answer.encode())

    def text(self) -> str:
        """What is on the screen now."""
        self.read()
        # The second cell of a wide character is empty. (pyte's own `display` fails where half of one was overwritten.)
        columns, rows = range(self.screen.columns), range(self.screen.lines)
        return "\n".join("".join(self.screen.buffer[row][column].data for column in columns).rstrip() for row in rows)

    async def shows(self, *words: str, deadline: float = 30) -> str:
        """Waits until all of the words are on the screen."""
        try:
            await eventually(lambda: all(word in self.text() for word in words), deadline, f"shows {words}", every=0.05)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.text()}") from None
        return self.text()

    async def hides(self, word: str, deadline: float = 30) -> None:
        """Waits until a word is not on the screen any more."""
        try:
            await eventually(lambda: word not in self.text(), deadline, f"shows {word!r} no more", every=0.05)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.text()}") from None

    def type(self, text: str) -> None:
        """Types a text."""
        os.write(self.end, text.encode())

    async def press(self, *keys: str) -> None:
        """Presses keys by their names, or characters."""
        for key in keys:
            self.type(KEYS.get(key, key))
            # A lone escape is told from the begin of a sequence by what comes with it.
            await asyncio.sleep(0.1 if key == "escape" else 0.02)

    async def say(self, text: str) -> None:
        """Writes a message in the open conversation."""
        self.type(text)
        await self.press("enter")

    async def ends(self, deadline: float = 20) -> int:
        """Waits until it has ended."""
        def over():
            self.read()
            return self.process.poll() is not None
        await eventually(over, deadline, "kith-chat ends")
        return self.process.returncode

    def close(self) -> None:
        """Closes the terminal, as a connection does that breaks."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait(10)
        with contextlib.suppress(OSError):
            os.close(self.end)
