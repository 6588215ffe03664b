"""A real browser (Chromium, without a screen) on a host, driven by its own protocol (Chrome DevTools Protocol)."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path

import aiohttp

from net import Host, dies_with_us
from waiting import eventually

FLAGS = [
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking",
    "--disable-component-update", "--disable-extensions", "--disable-quic", "--disable-sync", "--no-first-run",
    "--remote-debugging-port=0", "--remote-allow-origins=*",
]


KEYS = {"Tab": 9, "Enter": 13, "Escape": 27, "ArrowUp": 38, "ArrowDown": 40}


class Browser:
    """A browser with an empty profile. Use as an async context manager. `names` maps host names to addresses; `flags` are further ones."""

    def __init__(self, host: Host, names: dict[str, str] | None = None, flags: tuple[str, ...] = ()):
        self.host = host
        self.names = names or {}
        self.flags = flags

    async def __aenter__(self) -> Browser:
        program = shutil.which("chromium")
        assert program, "chromium is missing: apt-get install chromium (`.ci/run` does it)"
        self.folder = Path(tempfile.mkdtemp(prefix="kith-browser-"))
        rules = ",".join(f"MAP {name} {address}" for name, address in self.names.items())
        command = self.host.command(
            program, *FLAGS, *self.flags, f"--user-data-dir={self.folder}", *([f"--host-resolver-rules={rules}"] if rules else []), "about:blank"
        )
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env={**os.environ, "HOME": str(self.folder)}, start_new_session=True,
            preexec_fn=dies_with_us,
        )
        try:
            port_file = self.folder / "DevToolsActivePort"
            port = await eventually(lambda: int(port_file.read_text().splitlines()[0]), 30, "the browser is up")
            self.http = aiohttp.ClientSession(
                f"http://127.0.0.1:{port}", connector=aiohttp.TCPConnector(socket_factory=self._socket)
            )
        except BaseException:
            self._end()
            raise
        return self

    async def __aexit__(self, *_) -> None:
        await self.http.close()
        self._end()

    def _socket(self, address) -> socket.socket:
        made = self.host.socket(*address[:3])
        made.setblocking(False)
        return made

    def _end(self) -> None:
        # The browser is several processes, in a group of their own.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)
        shutil.rmtree(self.folder, ignore_errors=True)

    @contextlib.asynccontextmanager
    async def page(self, kind: type[Page] | None = None):
        """A new tab; `kind` is what stands for it."""
        async with self.http.put("/json/new?about:blank") as answer:
            made = await answer.json(content_type=None)
        async with self._driven(made, kind or Page) as page:
            for domain in ("Page", "Runtime", "Log"):
                await page.call(f"{domain}.enable")
            yield page

    @contextlib.asynccontextmanager
    async def service_worker(self):
        """The service worker of the page that is open: scripts run in it as in a page."""
        async def found():
            async with self.http.get("/json/list") as answer:
                return next((each for each in await answer.json(content_type=None) if each["type"] == "service_worker"), None)
        async with self._driven(await eventually(found, 20, "there is a service worker"), Page) as worker:
            yield worker

    @contextlib.asynccontextmanager
    async def _driven(self, target: dict, kind: type[Page]):
        path = re.sub(r"^ws://[^/]+", "", target["webSocketDebuggerUrl"])
        async with self.http.ws_connect(path, max_msg_size=0) as connection:
            driven = kind(connection)
            reader = asyncio.create_task(driven.read())
            try:
                yield driven
            finally:
                reader.cancel()


class Page:
    """A tab."""

    def __init__(self, connection: aiohttp.ClientWebSocketResponse):
        self.connection = connection
        self.numbers = itertools.count(1)
        self.waiting: dict[int, asyncio.Future] = {}
        self.complaints: list[str] = []
        """Exceptions of scripts, and what the browser refused (its policy, for example)."""

    async def read(self) -> None:
        async for message in self.connection:
            event = json.loads(message.data)
            if (future := self.waiting.pop(event.get("id"), None)) and not future.done():
                future.set_result(event)
            else:
                self.hear(event)

    def hear(self, event: dict) -> None:
        """Takes what the browser tells without being asked."""
        if event.get("method") == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(event["params"]["exceptionDetails"]))
        elif event.get("method") == "Log.entryAdded" and event["params"]["entry"]["source"] != "network":
            self.complaints.append(event["params"]["entry"]["text"])

    async def call(self, method: str, **parameters):
        """A command of the protocol."""
        number = next(self.numbers)
        self.waiting[number] = future = asyncio.get_running_loop().create_future()
        await self.connection.send_json({"id": number, "method": method, "params": parameters})
        answer = await asyncio.wait_for(future, 20)
        assert "error" not in answer, (method, answer)
        return answer["result"]

    async def go(self, url: str) -> None:
        """Opens an address, as if typed. A new fragment alone loads nothing anew, so the page is left first."""
        await self.call("Page.navigate", url="about:blank")
        await self.call("Page.navigate", url=url)
        await eventually(
            lambda: self.run("location.href != 'about:blank' && document.readyState == 'complete'"), 10, f"{url} is loaded"
        )

    async def run(self, script: str):
        """The value of an expression, awaited if it is a promise."""
        done = await self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True, userGesture=True)
        assert "exceptionDetails" not in done, done
        return done["result"].get("value")

    async def text(self) -> str:
        """What a person can read on the page."""
        return await self.run("document.body.innerText")

    async def shows(self, text: str, deadline: float = 10) -> None:
        """Waits until the page says so."""
        async def is_there():
            return text in await self.text()
        await eventually(is_there, deadline, f"the page says {text!r}")

    async def type(self, selector: str, text: str) -> None:
        """Replaces what stands in a field, by the keyboard."""
        await self.run(f"document.querySelector({json.dumps(selector)}).select()")
        await self.call("Input.insertText", text=text)

    async def press_enter(self) -> None:
        """The Enter key."""
        await self.press("Enter")

    async def press(self, key: str, shift: bool = False) -> None:
        """A key that is no letter."""
        more = {"text": "\r"} if key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            await self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=KEYS[key], modifiers=8 if shift else 0, **more)

    async def look_as(self, width: int, height: int, scheme: str = "light") -> None:
        """A screen of this size (in CSS pixels) and this colour scheme."""
        await self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        await self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
