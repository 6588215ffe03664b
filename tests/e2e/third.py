"""The server of another make (`third_server.py`) as a process on a host, and telling it what to do."""

from __future__ import annotations

import contextlib
import json
import signal
import ssl
import subprocess
from dataclasses import dataclass

import aiohttp

from federated import HERE, Federation
from net import dies_with_us
from synapse import Synapse


@dataclass
class Third:
    """One that runs. A test may send its process signals."""

    federation: Federation
    name: str
    process: subprocess.Popen | None = None
    policy_key: str = ""
    file: bytes = b""

    def start(self) -> None:
        """Starts it, and waits until it answers. It knows no rooms then."""
        # Isolated, as this folder has a `synapse` of its own.
        self.process = subprocess.Popen(
            self.federation.host.command(Synapse.python(), "-I", HERE / "third_server.py", self.name, self.federation.certificates),
            stdout=subprocess.PIPE, text=True, preexec_fn=dies_with_us,
        )
        said = json.loads(self.process.stdout.readline())
        self.policy_key, self.file = said["policy_key"], bytes.fromhex(said["file"])

    def freeze(self) -> None:
        """From now on it takes connections and says nothing."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """Ends it, however it stands."""
        self.process.kill()
        self.process.wait(10)
        self.process.stdout.close()

    async def tell(self, what: str, **arguments):
        """Has it do something, or tell what it knows."""
        trusted = ssl.create_default_context(cafile=str(self.federation.certificates / "ca.pem"))
        async with aiohttp.ClientSession(connector=self.federation.kith.connector()) as http:
            method = "POST" if arguments else "GET"
            url = f"https://{self.name}/test/{what}"
            async with http.request(method, url, json=arguments or None, ssl=trusted, timeout=aiohttp.ClientTimeout(total=60)) as response:
                assert response.status == 200, await response.text()
                return await response.json()

    @property
    def user_id(self) -> str:
        return f"@third:{self.name}"

    @property
    def policy(self) -> dict:
        """What a room says whose policy server it is."""
        return {"via": self.name, "public_keys": {"ed25519": self.policy_key}}


@contextlib.contextmanager
def third_server(federation: Federation, port: int):
    """One that runs for a test, as `localhost:PORT`."""
    third = Third(federation, f"localhost:{port}")
    third.start()
    try:
        yield third
    finally:
        third.close()
