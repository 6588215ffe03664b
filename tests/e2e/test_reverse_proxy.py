"""kith behind a real nginx and a real Caddy, configured as docs/configuration.md says: for other servers, a real Synapse, and for clients."""

from __future__ import annotations

import asyncio
import itertools
import os
import time

import pytest
import pytest_asyncio

import certificates
from federated import LONG, Synapse, by_alias, meet, talk
from named import SYNAPSE, Branch, Named
from net import Network
from proxies import NAMES, Behind, Caddy, Nginx
from waiting import eventually

pytestmark = pytest.mark.synapse

AUTHORITY, HTTPS = 14_000, 443
PLACES = Branch("SERVER A V4\nmatrix.SERVER A V4")
CLIENT = {"client": {"listen": ["127.0.0.1:8008"], "public_base_url": f"https://{NAMES[1]}"}}
# What a proxy may take for something else when it does not hand on a path as it stands.
HARD = "café/100%+1%2F..//&?"
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("proxies")
    needed = {NAMES[0]: list(NAMES), "authority": ["localhost"]}
    with Network() as network:
        made = Named(network, folder, needed, roots=[folder / "certificates" / "authority" / "acme-ca.pem"])
        made.lead(PLACES, {NAMES[0]: made.kith_host, SYNAPSE: made.synapse_host})
        made.kith_behind(NAMES[0], CLIENT)
        own = made.certificates / "authority"
        try:
            with certificates.authority(Synapse.python(), made.kith_host, own, AUTHORITY, HTTPS, 86_400) as root:
                made.proxies = {
                    "nginx": Nginx(made.kith_host, folder / "nginx", made.certificates / NAMES[0] / "ca.pem"),
                    "caddy": Caddy(made.kith_host, folder / "caddy", root, AUTHORITY, own / "ca.pem"),
                }
                yield made
        finally:
            for proxy in made.proxies.values():
                proxy.close()
            made.shut_down()


@pytest_asyncio.fixture(params=["nginx", "caddy"])
async def front(world, request):
    """A proxy that runs, before a node that runs. Its people go at the end of the test, and it too."""
    request.node.lan = world
    await asyncio.gather(*(node.start(90) for node in world.nodes if not node.running))
    proxy = world.proxies[request.param]
    try:
        await proxy.start()
        yield proxy
    finally:
        await world.everybody_leaves()
        proxy.close()


async def test_servers_and_clients_reach_a_node_through_the_documented_proxy(world, front):
    async with front.http(world.synapse_host, NAMES[0]) as http:
        async with http.get("/.well-known/matrix/server") as response:
            assert await response.json(content_type=None) == {"m.server": f"{NAMES[1]}:443"}
        async with http.get("/.well-known/matrix/client") as response:
            assert (await response.json(content_type=None))["m.homeserver"]["base_url"].rstrip("/") == f"https://{NAMES[1]}"
            assert response.headers["Access-Control-Allow-Origin"] == "*"
    number = next(_numbers)
    alice = await world.user(Behind(world.nodes[1], front, world.third_host), f"alice/{number}")
    bob = await world.user(world.synapse, f"bob/{number}")
    for host, guest in ((alice, bob), (bob, alice)):
        await talk(await meet(host, guest), host, guest)
        room_id = await host.create_room(encrypted=False, preset="public_chat", room_alias_name=f"{HARD}{number}")
        alias = f"#{HARD}{number}:{host.server_name}"
        assert await guest.request("POST", f"/_matrix/client/v3/join/{by_alias(alias)}", {}) == {"room_id": room_id}
        await guest.knows(room_id, encrypted=False, deadline=LONG)
        await talk(room_id, host, guest)
    # Larger than what proxies take that were not told.
    file = os.urandom(8_000_000)
    for sender, receiver in ((alice, bob), (bob, alice)):
        answer = await sender.request("POST", "/_matrix/media/v3/upload", data=file, content_type="application/octet-stream")
        path = answer["content_uri"].removeprefix("mxc://")
        assert await receiver.request("GET", f"/_matrix/client/v1/media/download/{path}", raw=True) == file


async def test_somebody_who_tries_passwords_keeps_nobody_else_from_logging_in(world, front):
    """Limits hold for each client by itself, though all come through the proxy."""
    await world.nodes[1].stop(30)
    node = world.kith_behind(NAMES[0], CLIENT | {"limits": {"rate_limits": "on"}})
    await node.start()
    alice = await world.user(Behind(node, front, world.third_host), "alice", sync=False)

    async def guesses(where) -> str:
        wrong = {"type": "m.login.password", "identifier": {"type": "m.id.user", "user": f"nobody{next(_numbers)}"}, "password": "a"}
        async with front.http(where, NAMES[1]) as http, http.post("/_matrix/client/v3/login", json=wrong) as response:
            return (await response.json())["errcode"]

    try:
        await eventually(lambda: _is(guesses(world.synapse_host), "M_LIMIT_EXCEEDED"), 30, "there is a limit", every=0)
        assert await guesses(world.third_host) == "M_FORBIDDEN"

        async def seen():
            [device] = (await alice.request("GET", "/_matrix/client/v3/devices"))["devices"]
            return device["last_seen_ip"] == world.third_host.ipv4

        await eventually(seen, 30, "where she is seen to be is where she is")
    finally:
        world.nodes.remove(node)
        node.close()


async def _is(attempt, expected) -> bool:
    return await attempt == expected


async def test_nginx_waits_for_as_long_as_a_client_may_wait_for_news(world, libfaketime):
    """Five minutes, in 15 seconds of nginx's clock."""
    node, front = world.nodes[1], world.proxies["nginx"]
    await asyncio.gather(*(one.start(90) for one in (node,) if not one.running))
    try:
        await front.start({"LD_PRELOAD": libfaketime, "FAKETIME": "+0 x20", "FAKETIME_TIMER": "1"})
        patient = await world.user(Behind(node, front, world.third_host), f"patient{next(_numbers)}", sync=False)
        since = (await patient.request("GET", "/_matrix/client/v3/sync"))["next_batch"]
        begin = time.monotonic()
        answer = await patient.request("GET", "/_matrix/client/v3/sync", query={"since": since, "timeout": "15000"})
        assert time.monotonic() > begin + 14 and "rooms" not in answer, answer
    finally:
        await world.everybody_leaves()
        front.close()
