"""Real reverse proxies with what docs/configuration.md tells people to write, before a kith node that has no certificate."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import ssl
import subprocess
from pathlib import Path

import aiohttp
from aiohttp.abc import AbstractResolver

from net import Host, dies_with_us
from node import REPOSITORY, Node
from waiting import eventually

NAMES = ("example.org", "matrix.example.org")
LETS_ENCRYPT = "/etc/letsencrypt/live/example.org"

NGINX = """
daemon off; user root; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
{snippet}
}}
"""
CADDY = """
{{
    acme_ca https://localhost:{authority}/directory
    acme_ca_root {root}
}}
{snippet}
"""


def snippet(language: str) -> str:
    """The code block in that language, which is there once."""
    [found] = re.findall(rf"```{language}\n(.*?)```", (REPOSITORY / "docs" / "configuration.md").read_text(), re.DOTALL)
    return found


def program(package: str, path: str) -> str:
    """A program of a Debian package that was unpacked, or is installed."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target"))
    unpacked = target / "e2e" / "debian" / path
    found = unpacked if unpacked.exists() else shutil.which(package)
    assert found, f"{package} is missing: `.ci/run e2e` unpacks it to {unpacked}"
    return str(found)


class Proxy:
    """One that runs on a host and answers there for `example.org` and `matrix.example.org`."""

    def __init__(self, host: Host, folder: Path, trust: Path):
        self.host, self.folder, self.trust = host, folder, trust
        folder.mkdir()
        self.process: subprocess.Popen | None = None

    def command(self) -> list[str]:
        raise NotImplementedError

    async def start(self, environment: dict[str, str] = {}) -> None:
        """Starts it, and waits until it proves to be both names."""
        with open(self.folder / "output.log", "ab") as output:
            self.process = subprocess.Popen(
                self.host.command(*self.command()), stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=self.folder,
                env={**os.environ, "HOME": str(self.folder), "XDG_DATA_HOME": str(self.folder), **environment}, preexec_fn=dies_with_us,
            )

        async def answers():
            for name in NAMES:
                async with self.http(self.host, name) as http, http.get("/_matrix/client/versions") as response:
                    assert response.status in (200, 502), response
            return True

        try:
            await eventually(answers, 60, "the proxy answers", every=0.1)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{(self.folder / 'output.log').read_text()[-3000:]}") from error

    def close(self) -> None:
        if self.process:
            self.process.terminate()
            self.process.wait(10)

    def connector(self, host: Host) -> aiohttp.TCPConnector:
        """Connections to it from a host, made in this process. Every name leads to it."""
        def made(address):
            family, kind, protocol, _, _ = address
            plain = host.socket(family, kind, protocol)
            plain.setblocking(False)
            return plain

        return aiohttp.TCPConnector(
            socket_factory=made, resolver=Here(self.host.ipv4), ssl=ssl.create_default_context(cafile=str(self.trust)), limit=0
        )

    @contextlib.asynccontextmanager
    async def http(self, host: Host, name: str):
        """An HTTP session whose paths are relative to one of the names."""
        async with aiohttp.ClientSession(f"https://{name}", connector=self.connector(host)) as session:
            yield session


class Nginx(Proxy):
    def command(self) -> list[str]:
        text = snippet("nginx")
        assert LETS_ENCRYPT in text
        text = text.replace(f"{LETS_ENCRYPT}/fullchain.pem", str(self.trust.parent / "cert.pem"))
        text = text.replace(f"{LETS_ENCRYPT}/privkey.pem", str(self.trust.parent / "key.pem"))
        config = self.folder / "nginx.conf"
        config.write_text(NGINX.format(folder=self.folder, snippet=text))
        return [program("nginx", "usr/sbin/nginx"), "-p", str(self.folder), "-c", str(config)]


class Caddy(Proxy):
    """It gets its certificates by ACME from an authority on this port of its host, which it knows by this root."""

    def __init__(self, host: Host, folder: Path, trust: Path, authority: int, root: Path):
        super().__init__(host, folder, trust)
        self.authority, self.root = authority, root

    def command(self) -> list[str]:
        config = self.folder / "Caddyfile"
        config.write_text(CADDY.format(authority=self.authority, root=self.root, snippet=snippet("caddy")))
        return [program("caddy", "usr/bin/caddy"), "run", "--config", str(config), "--adapter", "caddyfile"]


class Here(AbstractResolver):
    """Every name is here."""

    def __init__(self, address: str):
        self.address = address

    async def resolve(self, host, port=0, family=0):
        return [{"hostname": host, "host": self.address, "port": port, "family": 2, "proto": 0, "flags": 0}]

    async def close(self) -> None:
        pass


class Behind:
    """A node as people elsewhere see it: through its proxy. What `Client` needs."""

    def __init__(self, node: Node, proxy: Proxy, where: Host):
        self.node, self.proxy, self.where = node, proxy, where
        self.folder = node.folder
        self.base_url = f"https://{NAMES[1]}"

    def connector(self) -> aiohttp.TCPConnector:
        return self.proxy.connector(self.where)
