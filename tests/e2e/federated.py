"""Ordinary federation on one host: a kith node with a DNS name, and real Synapse servers, over HTTPS."""

from __future__ import annotations

import asyncio
import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest
import pytest_asyncio

import certificates
from client import Client, MatrixError
from conftest import Lan
from net import Network
from node import Node
from synapse import FederatedSynapse, Synapse
from waiting import eventually

HERE = Path(__file__).resolve().parent
KITH, SYNAPSE, OTHER = 8448, 8449, 8450
# A server that was away is tried again within seconds (synapse.py), and machines of tests are busy.
LONG = 60


class Federation(Lan):
    """The servers. They are made once and run on; a test that stops one need not start it again."""

    def __init__(self, network: Network, folder):
        super().__init__(network, folder)
        self.host = network.host("federation")
        self.certificates = certificates.make(Synapse.python(), folder / "certificates")
        self.kith = self.kith_node("kith", KITH)
        self.synapse = self._add(FederatedSynapse(self.host, folder, self.certificates, f"localhost:{SYNAPSE}"))
        # Known by its address: rooms shut out hosts, whatever their ports.
        other = FederatedSynapse(
            self.host, folder, self.certificates, f"127.0.0.1:{OTHER}", name="other", port=8028, notary=f"localhost:{KITH}"
        )
        self.other = self._add(other)

    def _add(self, node):
        self.nodes.append(node)
        return node

    def kith_node(
        self, name: str, federation_port: int, port: int = 8008, notary: str | None = None, old_verify_keys: list[str] = []
    ) -> Node:
        """A kith node named `localhost:PORT`, not yet started. It believes the notary what keys other servers have."""
        return self._add(Node(self.host, self.folder, name=name, port=port, config={
            "server_name": f"localhost:{federation_port}",
            "federation": {
                "listen": [f"127.0.0.1:{federation_port}"],
                "tls_certificate": str(self.certificates / "cert.pem"),
                "tls_private_key": str(self.certificates / "key.pem"),
                "extra_roots": [str(self.certificates / "ca.pem")],
                "allow_private_addresses": True,
                "trusted_key_servers": [notary] if notary else [],
                "old_verify_keys": old_verify_keys,
            },
            "p2p": {"enabled": False},
        }))

    async def run(self, *nodes: Node) -> None:
        """Starts those that do not run."""
        await asyncio.gather(*(node.start(90) for node in nodes if not node.running))

    async def everybody_leaves(self) -> None:
        """Ends what a test's people do; their servers go on."""
        await asyncio.gather(*(client.close() for client in self.clients), return_exceptions=True)
        self.clients.clear()


@pytest.fixture(scope="session")
def servers(tmp_path_factory):
    with Network() as network:
        made = Federation(network, tmp_path_factory.mktemp("federation"))
        try:
            yield made
        finally:
            for node in made.nodes:
                node.close()


_numbers = itertools.count(1)


@pytest_asyncio.fixture
async def federation(servers, request):
    """The servers, for one test: its people go at its end."""
    request.node.lan = servers
    try:
        yield servers
    finally:
        await servers.everybody_leaves()


async def _person(federation: Federation, name: str, node: Node) -> Client:
    return await federation.user(node, f"{name}{next(_numbers)}")


@pytest_asyncio.fixture
async def pair(federation):
    """Alice on kith, and Bob on Synapse."""
    await federation.run(federation.kith, federation.synapse)
    return await asyncio.gather(_person(federation, "alice", federation.kith), _person(federation, "bob", federation.synapse))


@pytest_asyncio.fixture(params=["kith", "synapse"])
async def host_and_guest(request, pair):
    """Both, first the one whose server makes the room."""
    return pair if request.param == "kith" else pair[::-1]


@pytest_asyncio.fixture
async def three(federation):
    """Alice on kith, Bob on one Synapse and Carol on another."""
    nodes = {"alice": federation.kith, "bob": federation.synapse, "carol": federation.other}
    await federation.run(*nodes.values())
    return await asyncio.gather(*(_person(federation, name, node) for name, node in nodes.items()))


# --- what people do


async def meet(host: Client, *guests: Client, encrypted: bool = False, **options) -> str:
    """A room of one, which the others join by invitation."""
    room_id = await host.create_room(encrypted=encrypted, **options)
    for guest in guests:
        await host.invite(room_id, guest.user_id, LONG)
        await guest.accept(room_id, LONG, encrypted)
    for one in (host, *guests):
        for other in (host, *guests):
            await sees_membership(one, room_id, other, "join")
    return room_id


def in_room(room_id: str, rest: str) -> str:
    """A path of the client API about a room."""
    return f"/_matrix/client/v3/rooms/{quote(room_id)}/{rest}"


def by_alias(alias: str, *servers: str) -> str:
    """What joins and knocks name, with the servers to ask."""
    return quote(alias, safe="") + ("?" + "&".join(f"via={quote(server)}" for server in servers) if servers else "")


async def set_state(person: Client, room_id: str, kind: str, content: dict, key: str = "") -> str:
    """Sends a state event, and gives its ID."""
    answer = await person.request("PUT", in_room(room_id, f"state/{kind}/{quote(key, safe='')}"), content)
    return answer["event_id"]


async def state(person: Client, room_id: str, kind: str, key: str = "") -> dict:
    """The content of a state event, as the person's server has it."""
    return await person.request("GET", in_room(room_id, f"state/{kind}/{quote(key, safe='')}"))


async def sees_state(person: Client, room_id: str, kind: str, expected: dict, key: str = "") -> None:
    """Waits until the content of a state event holds at least these values."""
    async def holds():
        content = await state(person, room_id, kind, key)
        assert expected.items() <= content.items(), content
        return True
    await eventually(holds, LONG, f"{person.user_id} sees {kind} {expected}", every=0.1)


async def sees_membership(person: Client, room_id: str, other: Client, membership: str) -> None:
    """Waits until somebody's membership is this for the person's server."""
    await sees_state(person, room_id, "m.room.member", {"membership": membership}, other.user_id)


async def sees_redacted(person: Client, room_id: str, event_id: str, reason: str) -> None:
    """Waits until an event is without its content for the person's server, for this reason."""
    async def gone():
        event = await person.request("GET", in_room(room_id, f"event/{event_id}"))
        return "body" not in event["content"] and event["unsigned"]["redacted_because"]["content"]["reason"] == reason
    await eventually(gone, LONG, f"{person.user_id} sees that {event_id} is redacted", every=0.1)


async def reads(person: Client, room_id: str, body: str) -> None:
    """Waits until the history that the person's server gives has a message with this body."""
    async def there():
        return body in [message.body for message in await person.history(room_id)]
    await eventually(there, LONG, f"{person.user_id} reads {body!r}", every=0.2)


async def is_out(person: Client, room_id: str) -> None:
    """Waits until the person's own server knows that he or she is not in the room any more."""
    async def out():
        return room_id not in (await person.request("GET", "/_matrix/client/v3/joined_rooms"))["joined_rooms"]
    await eventually(out, LONG, f"{person.user_id} is out", every=0.1)


def denied(kith: Node) -> int:
    """How many events a kith node refused because a room's access list denies the server that sent them."""
    return json.loads(kith.run("status", "--json").stdout)["federation"]["refused"]["denied_server"]


async def denies_more(kith: Node, before: int) -> None:
    """Waits until a kith node has refused further such events."""
    await eventually(lambda: denied(kith) > before, LONG, f"{kith.name} refuses what a denied server sends", every=0.5)


async def is_banned(kith: Node, server: str, event_id: str) -> None:
    """Waits until a kith node was told by a Synapse that it takes an event not, as the room's access list denies the node."""
    line = f"server={server} event={event_id} reason=Server is banned from room"
    await eventually(lambda: line in kith.output(), LONG, f"{server} refuses {event_id} of {kith.name}", every=0.5)


async def refused(attempt, *codes: str) -> MatrixError:
    """Asserts that a request is refused with one of these codes."""
    try:
        answer = await attempt
    except MatrixError as error:
        assert error.code in codes, error
        return error
    raise AssertionError(f"it was allowed: {answer}")


async def agree(room_id: str, *people: Client) -> None:
    """Waits until all see the same state and the same messages, each once.

    Of three servers, what lies before a Synapse's join is not compared: it asks any one of them for it, and is content with that."""
    async def equal():
        states = [await person.state(room_id) for person in people]
        assert all(state == states[0] for state in states), [set(s.items()) ^ set(states[0].items()) for s in states]
        said = [sorted(m.event_id for m in await person.history(room_id) if m.type == "m.room.message") for person in people]
        assert all(len(set(messages)) == len(messages) for messages in said), "a message appears twice"
        assert all(messages == said[0] for messages in said), [len(messages) for messages in said]
        return True
    await eventually(equal, LONG, "state and messages are the same on all servers", every=0.2)


async def talk(room_id: str, *people: Client, say: str = "hello") -> None:
    """Each says something, and all read it."""
    for sender in people:
        text = f"{say} of {sender.username}"
        event_id = await sender.send(room_id, text)
        for reader in people:
            message = await reader.wait_for_message(room_id, text, LONG)
            assert (message.event_id, message.sender) == (event_id, sender.user_id)


@dataclass
class Syncs:
    """The syncs of one person, asked for beside the client's own."""

    person: Client
    since: str | None = None

    async def until(self, found, what: str):
        """Syncs on until `found(answer)` is something true, and gives that."""
        async def look():
            query = {"timeout": "1000", **({"since": self.since} if self.since else {})}
            answer = await self.person.request("GET", "/_matrix/client/v3/sync", query=query)
            self.since = answer["next_batch"]
            return found(answer)
        return await eventually(look, LONG, f"{self.person.user_id} is told {what}", every=0.01)
