"""Server names without ports, looked for by real DNS and TLS, by kith and by a real Synapse: each way that the specification has."""

from __future__ import annotations

import asyncio
import itertools

import pytest
import pytest_asyncio

from client import MatrixError
from federated import meet, talk
from named import ELSEWHERE, FEDERATION, SYNAPSE, Branch, Named, shown_for
from net import Network

pytestmark = pytest.mark.synapse

# Each leads nowhere but on its own way: what must not be followed is there, and leads to nobody.
BRANCHES = {
    "delegated to a host and port": Branch(
        delegates="matrix.SERVER:8450", proves="matrix.SERVER", zone="""
SERVER A WEB
matrix.SERVER A V4
_matrix-fed._tcp.SERVER SRV 0 0 9 NOWHERE
_matrix-fed._tcp.matrix.SERVER SRV 0 0 9 NOWHERE"""),
    "delegated to a host with an SRV record": Branch(
        delegates="matrix.SERVER", proves="matrix.SERVER", zone="""
SERVER A WEB
matrix.SERVER A WEB
_matrix-fed._tcp.SERVER SRV 0 0 9 NOWHERE
_matrix-fed._tcp.matrix.SERVER SRV 0 0 8450 HOME
HOME A V4"""),
    "delegated to a host with an old SRV record": Branch(
        delegates="matrix.SERVER", proves="matrix.SERVER", zone="""
SERVER A WEB
matrix.SERVER A WEB
_matrix-fed._tcp.SERVER SRV 0 0 9 NOWHERE
_matrix._tcp.matrix.SERVER SRV 0 0 8450 HOME
HOME A V4"""),
    "delegated to a host": Branch(
        delegates="matrix.SERVER", proves="matrix.SERVER", port=FEDERATION, zone="""
SERVER A WEB
matrix.SERVER CNAME HOME
HOME A V4
_matrix-fed._tcp.SERVER SRV 0 0 9 NOWHERE
_matrix._tcp.SERVER SRV 0 0 9 NOWHERE"""),
    "an SRV record": Branch(zone="""
SERVER A WEB
_matrix-fed._tcp.SERVER SRV 0 0 8450 HOME
HOME A V4"""),
    "an old SRV record": Branch(zone="""
SERVER A WEB
_matrix._tcp.SERVER SRV 0 0 8450 HOME
HOME AAAA V6"""),
    "SRV records of both kinds, too long for UDP": Branch(long=True, zone="""
SERVER A WEB
_matrix-fed._tcp.SERVER SRV 20 0 9 NOWHERE
_matrix-fed._tcp.SERVER SRV 10 0 8450 HOME
_matrix._tcp.SERVER SRV 0 0 9 NOWHERE
HOME A V4"""),
    "nothing but an address": Branch(port=FEDERATION, zone="""
SERVER CNAME HOME
HOME A V4
HOME AAAA V6"""),
}
WRONG = {"SRV record": "an SRV record", "delegation": "delegated to a host and port"}
KITH = {what: f"{letter}.kith.test" for letter, what in zip("abcdefgh", BRANCHES)}
MISTAKEN = {what: f"{letter}.mistaken.test" for letter, what in zip("ab", WRONG)}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with Network() as network:
        made = Named(network, tmp_path_factory.mktemp("discovery"), shown_for(*KITH.values(), *MISTAKEN.values()))
        try:
            yield made
        finally:
            made.shut_down()


@pytest_asyncio.fixture
async def named(world, request):
    """The servers, for one test: its people and its kith nodes go at its end."""
    request.node.lan = world
    try:
        yield world
    finally:
        await world.only_synapse_stays()


_numbers = itertools.count(1)


async def people(named: Named, node) -> tuple:
    """Both servers run; a person on each."""
    await asyncio.gather(*(one.start(90) for one in (node, named.synapse) if not one.running))
    number = next(_numbers)
    return await asyncio.gather(named.user(node, f"alice{number}"), named.user(named.synapse, f"bob{number}"))


@pytest.mark.parametrize("what", BRANCHES)
async def test_a_server_is_found_by_its_name_alone_in_both_directions(named, what):
    branch, name = BRANCHES[what], KITH[what]
    proves = branch.of(branch.proves, name)
    # Where others are sent to another name, requests are addressed to that.
    node = named.kith(name, branch.port, proves)
    named.lead(branch, {name: named.kith_host, SYNAPSE: named.synapse_host})
    await named.synapse.shows(branch.of(branch.proves, SYNAPSE))
    alice, bob = await people(named, node)
    assert (alice.server_name, bob.server_name) == (name, SYNAPSE)
    for host, guest in ((alice, bob), (bob, alice)):
        await talk(await meet(host, guest), host, guest)
    assert "nowhere.test" not in named.internet.asked
    for server in (name, SYNAPSE):
        assert (f"www.{server}/server" in named.internet.fetched) == bool(branch.delegates)
        assert (f"_matrix-fed._tcp.{server}" in named.internet.asked_by_tcp) == branch.long


async def cannot_ask(person, about) -> str:
    """Somebody's server gets no answer from another's. Gives what it says."""
    with pytest.raises(MatrixError) as told:
        await person.request("GET", f"/_matrix/client/v3/profile/{about.user_id}")
    assert told.value.status >= 500 or told.value.code == "M_UNAUTHORIZED", told.value
    return str(told.value)


@pytest.mark.parametrize("what", WRONG)
async def test_a_certificate_for_another_name_than_the_specified_proves_nothing(named, what):
    """With an SRV record it must be for the server's own name, not for the record's; with delegation for the name delegated to."""
    branch, name = BRANCHES[WRONG[what]], MISTAKEN[what]
    wrong = "HOME" if what == "SRV record" else "SERVER"
    right = branch.of(branch.proves, name)
    node = named.kith(name, branch.port, branch.of(wrong, name), config={"client": {"allowed_hosts": [right]}})
    named.lead(branch, {name: named.kith_host, SYNAPSE: named.synapse_host})
    await named.synapse.shows(branch.of(wrong, SYNAPSE))
    alice, bob = await people(named, node)
    assert "certificate not valid for name" in await cannot_ask(alice, bob)
    await cannot_ask(bob, alice)
    assert "no secure connection" in node.output(), "Synapse hung up"

    # Kith believes Synapse now, and Synapse does not yet believe kith.
    await named.synapse.shows(branch.of(branch.proves, SYNAPSE))
    assert "certificate not valid for name" not in await cannot_ask(alice, bob)
    await cannot_ask(bob, alice)

    assert await node.stop(30) == 0
    named.show(node, right)
    await node.start(90)
    for host, guest in ((alice, bob), (bob, alice)):
        await talk(await meet(host, guest), host, guest)


async def test_servers_named_by_their_addresses_are_found_there_and_prove_to_be_there(named):
    """By IPv4 without a port, and by IPv6 with one."""
    four, six = named.kith_host, named.third_host
    first = named.kith(four.ipv4, FEDERATION, four.ipv4)
    second = named.kith(f"[{six.ipv6}]:{ELSEWHERE}", ELSEWHERE, six.ipv6, host=six)
    named.lead(BRANCHES["nothing but an address"], {SYNAPSE: named.synapse_host})
    await named.synapse.shows(SYNAPSE)
    await second.start()
    alice, bob = await people(named, first)
    carol = await named.user(second, "carol")
    for host, *guests in ((alice, bob, carol), (bob, carol, alice)):
        room_id = await meet(host, *guests)
        await talk(room_id, host, *guests)
    assert {alice.server_name, carol.server_name} == {four.ipv4, f"[{six.ipv6}]:8450"}
