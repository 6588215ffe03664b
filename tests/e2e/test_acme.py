"""A certificate that an authority gives by itself."""

from __future__ import annotations

import asyncio
import contextlib
import ssl

import pytest

import certificates
from federated import Synapse
from waiting import eventually

pytestmark = pytest.mark.synapse

AUTHORITY, HTTPS = 14_000, 8453


def authority(federation, valid: int, challenge_port: int = HTTPS):
    return certificates.authority(Synapse.python(), federation.host, federation.certificates, AUTHORITY, challenge_port, valid)


@contextlib.contextmanager
def certified(federation, name: str):
    """A node that gets its certificate by itself, not yet started."""
    node = federation.kith_node(name, HTTPS, port=8058)
    node.configure({
        "server_name": f"localhost:{HTTPS}",
        "federation": {
            "listen": [f"127.0.0.1:{HTTPS}"], "acme": True, "acme_directory": f"https://localhost:{AUTHORITY}/directory",
            "acme_contact": "owner@example.org", "extra_roots": [str(federation.certificates / "ca.pem")],
        },
        "p2p": {"enabled": False},
    })
    try:
        yield node
    finally:
        node.close()


async def shown(node, trust) -> str:
    """The serial number of the certificate that the node's HTTPS listener shows, if it is of this authority and the node answers."""
    plain = node.host.socket()
    plain.setblocking(False)
    await asyncio.get_running_loop().sock_connect(plain, ("127.0.0.1", HTTPS))
    context = ssl.create_default_context(cafile=str(trust))
    reader, writer = await asyncio.open_connection(sock=plain, ssl=context, server_hostname="localhost")
    try:
        serial = writer.get_extra_info("peercert")["serialNumber"]
        writer.write(b"GET /_matrix/key/v2/server HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 200") and f"localhost:{HTTPS}".encode() in answer, answer
        return serial
    finally:
        writer.close()


async def test_an_authority_gives_the_certificate_and_it_outlasts_a_restart_without_the_authority(federation):
    with certified(federation, "certified") as node:
        with authority(federation, 86_400) as trust:
            await node.start()
            first = await eventually(lambda: shown(node, trust), 30, "there is a certificate", every=0.1)
        assert await node.stop(30) == 0
        assert list((node.data / "acme").iterdir()) and node.data.stat().st_mode & 0o077 == 0
        await node.start()
        assert await eventually(lambda: shown(node, trust), 30, "the certificate is there again", every=0.1) == first


async def test_a_certificate_is_renewed_before_it_runs_out_while_the_node_serves(federation):
    with certified(federation, "renewed") as node, authority(federation, 12) as trust:
        await node.start()
        first = await eventually(lambda: shown(node, trust), 30, "there is a certificate", every=0.1)

        async def another():
            assert await shown(node, trust) != first
            return True

        await eventually(another, 30, "there is another certificate", every=0.1)


async def test_without_an_answer_at_its_name_a_node_gets_no_certificate_says_so_and_serves_its_owner(federation):
    with certified(federation, "unreached") as node, authority(federation, 86_400, challenge_port=1) as trust:
        await node.start()
        await eventually(lambda: "gave no TLS certificate" in node.output(), 60, "it says that there is none", every=0.1)
        with pytest.raises(ssl.SSLError):
            await shown(node, trust)
        async with node.http() as http, http.get("/_matrix/client/versions") as response:
            assert response.status == 200
        assert await node.stop(30) == 0
