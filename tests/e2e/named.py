"""Servers with names that have no port, each on a host of its own, and an internet (`internet.py`) in which they are looked for."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import ssl
from dataclasses import dataclass
from pathlib import Path

import certificates
from conftest import Lan
from internet import Internet
from net import Host, Network
from node import Node
from synapse import FederatedSynapse, Synapse
from waiting import eventually

SYNAPSE = "synapse.test"
# Synapse listens on both all the time; kith where it must.
FEDERATION, ELSEWHERE = 8448, 8450


@dataclass(frozen=True)
class Branch:
    """One way from a name to its server: "Resolving server names" of the server-server specification.

    In the zone, `SERVER` stands for the server's name, `HOME` for a name of its host, and `NOWHERE` for one where nobody listens."""

    zone: str
    # What its well-known document says, if there is one.
    delegates: str = ""
    port: int = ELSEWHERE
    # What the certificate must be for.
    proves: str = "SERVER"
    # Whether its SRV records come by TCP only.
    long: bool = False

    def zone_of(self, name: str) -> list[str]:
        return [line for line in self.of(self.zone, name).split("\n") if line.strip()]

    @staticmethod
    def of(text: str, name: str) -> str:
        for placeholder, real in (("SERVER", name), ("HOME", f"home.{name}"), ("NOWHERE", "nowhere.test")):
            text = text.replace(placeholder, real)
        return text


def shown_for(*servers: str) -> dict[str, list[str]]:
    """Certificates, where servers have these names: each for one name."""
    names = [before + server for server in servers for before in ("", "matrix.", "home.", "www.")]
    return {name: [name] for name in names}


class Named(Lan):
    """A Synapse and whoever comes, with the means to say where each is.

    Certificates are given as folder and names; there are some for Synapse and for the addresses. Synapse trusts these roots too."""

    def __init__(self, network: Network, folder: Path, needed: dict[str, list[str]], roots: list[Path] = []):
        super().__init__(network, folder)
        self.made = 0
        here = network.host("internet")
        self.synapse_host, self.kith_host, self.third_host = (network.host(name) for name in ("synapse", "kith", "third"))
        needed = needed | shown_for(SYNAPSE) | {address: [address] for host in network.hosts for address in (host.ipv4, host.ipv6)}
        self.certificates = certificates.make(Synapse.python(), folder / "certificates", needed)
        self.internet = Internet(here, self.certificates)
        self.internet.serves(self.synapse_host, self.kith_host, self.third_host)
        self.synapse = NamedSynapse(self.synapse_host, folder, self.certificates, self.certificates / SYNAPSE, roots=roots)
        self.nodes.append(self.synapse)

    def kith(self, name: str, port: int, shows: str, host: Host | None = None, config: dict | None = None) -> Node:
        """A kith node, not yet started, with the certificate for what it shows itself as."""
        host, config = host or self.kith_host, config or {}
        self.made += 1
        node = self.node_on(host, f"kith-{self.made}", config | {
            "server_name": name,
            "federation": {
                "listen": [f"{host.ipv4}:{port}", f"[{host.ipv6}]:{port}"],
                "tls_certificate": "cert.pem", "tls_private_key": "key.pem", "extra_roots": ["ca.pem"], "allow_private_addresses": True,
            },
            "p2p": {"enabled": False},
        })
        self.show(node, shows)
        return node

    def kith_behind(self, name: str, config: dict) -> Node:
        """A kith node, not yet started, that leaves certificates to a proxy on its host."""
        self.made += 1
        roots = {"extra_roots": [str(self.certificates / SYNAPSE / "ca.pem")], "allow_private_addresses": True}
        return self.node_on(self.kith_host, f"kith-{self.made}", config | {
            "server_name": name, "federation": roots, "p2p": {"enabled": False},
        })

    def show(self, node: Node, name: str) -> None:
        """Gives a kith node the certificate for this name, which it shows from its next start."""
        shutil.copytree(self.certificates / name, node.folder, dirs_exist_ok=True)

    def lead(self, branch: Branch, places: dict[str, Host]) -> None:
        """From now on these names lead to these hosts, and no others to any."""
        self.internet.zone = [f"nowhere.test A {self.internet.host.ipv4}"]
        self.internet.pages, self.internet.long = {}, set()
        for asked in (self.internet.asked, self.internet.asked_by_tcp, self.internet.fetched):
            asked.clear()
        for name, host in places.items():
            for line in branch.zone_of(name):
                for placeholder, real in (("WEB", self.internet.host.ipv4), ("V4", host.ipv4), ("V6", host.ipv6)):
                    line = line.replace(f" {placeholder}", f" {real}")
                self.internet.zone.append(line)
            if branch.delegates:
                # Through a redirect, as many a web site has.
                self.internet.pages[f"{name}/.well-known/matrix/server"] = f"https://www.{name}/server"
                self.internet.zone.append(f"www.{name} A {self.internet.host.ipv4}")
                self.internet.pages[f"www.{name}/server"] = f'{{"m.server": "{branch.of(branch.delegates, name)}"}}'
            if branch.long:
                self.internet.long |= {line.split()[0] for line in branch.zone_of(name) if " SRV " in line}

    async def everybody_leaves(self) -> None:
        """Ends what a test's people do; their servers go on."""
        await asyncio.gather(*(client.close() for client in self.clients), return_exceptions=True)
        self.clients.clear()

    async def only_synapse_stays(self) -> None:
        """Ends a test's people and its kith nodes."""
        await self.everybody_leaves()
        for node in self.nodes[1:]:
            node.close()
        del self.nodes[1:]

    def shut_down(self) -> None:
        for node in self.nodes:
            node.close()
        self.internet.close()


class NamedSynapse(FederatedSynapse):
    """A Synapse whose certificate is changed while it runs."""

    def __init__(self, host: Host, folder: Path, authorities: Path, certificate: Path, **options):
        self.authorities, self.shown = authorities, folder / "synapse-shows"
        shutil.copytree(certificate, self.shown)
        super().__init__(host, folder, self.shown, SYNAPSE, ports=(FEDERATION, ELSEWHERE), **options)

    async def shows(self, name: str) -> None:
        """Has it show the certificate for this name."""
        shutil.copytree(self.authorities / name, self.shown, dirs_exist_ok=True)
        if not self.running:
            return
        self.process.send_signal(signal.SIGHUP)
        expected = ssl.PEM_cert_to_DER_cert((self.shown / "cert.pem").read_text())

        async def there():
            return await certificate_at(self.host, FEDERATION) == expected

        await eventually(there, 60, f"Synapse shows the certificate for {name}", every=0.1)


async def certificate_at(host: Host, port: int) -> bytes:
    """The certificate that somebody shows."""
    plain = host.socket()
    plain.setblocking(False)
    await asyncio.get_running_loop().sock_connect(plain, (host.ipv4, port))
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    _, writer = await asyncio.open_connection(sock=plain, ssl=context, server_hostname="any.test")
    try:
        return writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    finally:
        writer.close()
        with contextlib.suppress(OSError, ssl.SSLError):
            await writer.wait_closed()
