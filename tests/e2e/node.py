"""A real `kith` process on a host: its folder, its configuration, its life and death."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import aiohttp

from net import Host, dies_with_us
from waiting import eventually

REPOSITORY = Path(__file__).resolve().parents[2]
READY_DEADLINE = 20.0


def binary() -> Path:
    """The `kith` under test: KITH_BIN, else the development build."""
    given = os.environ.get("KITH_BIN")
    target = Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target"))
    path = Path(given) if given else target / "debug" / "kith"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: run `cargo build --workspace`, or set KITH_BIN")
    return path


def surroundings() -> dict[str, str]:
    """This process' environment without the tests' own variables: kith refuses KITH_ names that it does not know."""
    return {key: value for key, value in os.environ.items() if not key.startswith("KITH_") or key.startswith("KITH_LOG")}


def toml(table: dict) -> str:
    """Writes the tables, strings, numbers, booleans and lists that a configuration holds. (JSON scalars are TOML's.)"""
    lines = [f"{key} = {json.dumps(value)}" for key, value in table.items() if not isinstance(value, dict)]
    for name, inner in table.items():
        if isinstance(inner, dict):
            lines += ["", f"[{name}]", toml(inner)]
    return "\n".join(lines) + "\n"


class Node:
    """One node. `config` is laid over a configuration for tests: open registration and no rate limits."""

    def __init__(self, host: Host, folder: Path, config: dict | None = None, name: str | None = None, port: int = 8008):
        self.host = host
        self.name = name or host.name
        self.folder = folder / self.name
        self.folder.mkdir(parents=True, exist_ok=True)
        self.data = self.folder / "data"
        self.config_file = self.folder / "kith.toml"
        self.port = port
        self.environment: dict[str, str] = {}
        self.process: subprocess.Popen | None = None
        self.starts = 0
        self.configure(config or {})

    def configure(self, config: dict) -> None:
        """Writes the configuration file; it holds from the next start."""
        whole: dict = {
            "client": {"listen": [f"127.0.0.1:{self.port}"]},
            "registration": {"mode": "open"},
            "limits": {"rate_limits": "off"},
        }
        for key, value in config.items():
            if isinstance(value, dict):
                whole.setdefault(key, {}).update(value)
            else:
                whole[key] = value
        self.config_file.write_text(toml(whole))

    # --- life

    def spawn(self, stdout: int | None = None) -> None:
        """Starts the process and does not wait for it. `stdout` is a descriptor to write to instead of the file."""
        assert self.process is None or self.process.poll() is not None, f"{self.name} runs already"
        self.starts += 1
        environment = {"KITH_LOG": "debug", "RUST_BACKTRACE": "1", **surroundings(), **self.environment}
        with open(self.stdout_file, "ab") as out, open(self.stderr_file, "ab") as err:
            self.process = subprocess.Popen(
                self.host.command(binary(), "serve", "--config", self.config_file, "--data", self.data),
                stdin=subprocess.DEVNULL, stdout=out if stdout is None else stdout, stderr=err, env=environment,
                start_new_session=True,
                preexec_fn=dies_with_us,
            )

    async def start(self, deadline: float = READY_DEADLINE) -> float:
        """Starts the process and waits until it answers a client. Returns the seconds that took."""
        begin = time.monotonic()
        self.spawn()
        await self.ready(deadline)
        return time.monotonic() - begin

    async def ready(self, deadline: float = READY_DEADLINE) -> None:
        """Waits until the node answers `/versions`; fails at once when the process ends instead."""
        async with self.http() as http:
            async def answers():
                if self.process.poll() is not None:
                    return True
                async with http.get("/_matrix/client/versions", timeout=aiohttp.ClientTimeout(total=2)) as response:
                    return response.status == 200
            await eventually(answers, deadline, f"{self.name} answers /_matrix/client/versions")
        assert self.process.poll() is None, f"{self.name} ended with {self.process.returncode}:\n{self.tail()}"

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        """kill -9: nothing is flushed, nothing is said."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    async def stop(self, deadline: float = 10) -> int:
        """Asks the process to end (SIGTERM) and returns its exit code."""
        self.process.send_signal(signal.SIGTERM)
        await eventually(lambda: self.process.poll() is not None, deadline, f"{self.name} stops when asked to")
        return self.process.returncode

    async def exit_code(self, deadline: float = 20) -> int:
        """Waits until the process ends by itself."""
        await eventually(lambda: self.process.poll() is not None, deadline, f"{self.name} ends")
        return self.process.returncode

    def close(self) -> None:
        """Ends the process, however it stands."""
        if self.running:
            self.kill()

    def resident_bytes(self) -> int:
        """Resident memory of the process."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("no VmRSS")

    # --- what it says

    @property
    def stdout_file(self) -> Path:
        return self.folder / "stdout.log"

    @property
    def stderr_file(self) -> Path:
        return self.folder / "stderr.log"

    def output(self) -> str:
        """Everything it wrote so far."""
        return "\n".join(
            file.read_text(errors="replace") for file in (self.stdout_file, self.stderr_file) if file.exists()
        )

    def tail(self, lines: int = 60) -> str:
        """The end of what it wrote."""
        return "\n".join(self.output().splitlines()[-lines:])

    def run(self, *arguments: str, check: bool = True, timeout: float = 30, feed: str = "") -> subprocess.CompletedProcess:
        """Runs another command of the binary on this node's folder."""
        done = subprocess.run(
            self.host.command(binary(), *arguments, "--config", self.config_file, "--data", self.data),
            input=feed, capture_output=True, text=True, timeout=timeout, env={**surroundings(), **self.environment},
            preexec_fn=dies_with_us,
        )
        assert not check or done.returncode == 0, f"kith {arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def identity(self) -> dict:
        """What `kith identity --json` tells: server name, peer id, addresses."""
        return json.loads(self.run("identity", "--json").stdout)

    # --- reaching it

    @property
    def base_url(self) -> str:
        """The client API's address, valid on the node's own host."""
        return f"http://127.0.0.1:{self.port}"

    def connector(self) -> aiohttp.TCPConnector:
        """Connections made on the node's host, from this process."""
        return aiohttp.TCPConnector(socket_factory=self._socket, limit=0)

    def _socket(self, address) -> socket.socket:
        family, kind, protocol, _, _ = address
        made = self.host.socket(family, kind, protocol)
        made.setblocking(False)
        return made

    @contextlib.asynccontextmanager
    async def http(self):
        """An HTTP session whose paths are relative to the client API's address."""
        async with aiohttp.ClientSession(self.base_url, connector=self.connector()) as session:
            yield session

    async def raw(self, data: bytes, deadline: float = 10, half_close: bool = False) -> bytes:
        """Writes bytes to the client listener and returns what comes back until the node closes (or the deadline)."""
        loop = asyncio.get_running_loop()
        connection = self.host.socket()
        connection.setblocking(False)
        await loop.sock_connect(connection, ("127.0.0.1", self.port))
        got = bytearray()

        async def read():
            while chunk := await loop.sock_recv(connection, 65536):
                got.extend(chunk)

        async def write():
            # The node may answer and close before it has read everything; its answer counts all the same.
            with contextlib.suppress(OSError):
                await loop.sock_sendall(connection, data)
                if half_close:
                    connection.shutdown(socket.SHUT_WR)

        with contextlib.suppress(TimeoutError, asyncio.TimeoutError, OSError):
            await asyncio.wait_for(asyncio.gather(read(), write()), deadline)
        connection.close()
        return bytes(got)
