"""Ordinary federation: a kith node with a DNS name and a real Synapse, over HTTPS on one host."""

from __future__ import annotations

import asyncio

import pytest
import pytest_asyncio

import certificates
from checks import same_room
from synapse import FederatedSynapse, Synapse

pytestmark = pytest.mark.synapse

KITH, SYNAPSE = 8448, 8449


@pytest_asyncio.fixture
async def both(lan, tmp_path):
    """A user of a kith node, and one of a Synapse."""
    host = lan.network.host("both")
    made = certificates.make(Synapse.python(), tmp_path / "certificates")
    synapse = FederatedSynapse(host, tmp_path, made, SYNAPSE)
    lan.nodes.append(synapse)
    kith = lan.node_on(host, "kith", {
        "server_name": f"localhost:{KITH}",
        "federation": {
            "listen": [f"127.0.0.1:{KITH}"],
            "tls_certificate": str(made / "cert.pem"),
            "tls_private_key": str(made / "key.pem"),
            "extra_roots": [str(made / "ca.pem")],
            "allow_private_addresses": True,
        },
        "p2p": {"enabled": False},
    })
    await asyncio.gather(kith.start(), synapse.start(90))
    return await lan.user(kith, "alice"), await lan.user(synapse, "bob")


async def test_a_room_of_either_server_is_joined_by_invite_and_messages_go_both_ways(lan, both):
    alice, bob = both
    for host, guest in ((alice, bob), (bob, alice)):
        room_id = await host.create_room(encrypted=False)
        await host.invite(room_id, guest.user_id)
        await guest.accept(room_id, deadline=60, encrypted=False)
        for sender, receiver in ((host, guest), (guest, host)):
            text = f"from {sender.username} in the room of {host.username}"
            event_id = await sender.send(room_id, text)
            message = await receiver.wait_for_message(room_id, text, deadline=60)
            assert (message.event_id, message.sender) == (event_id, sender.user_id)
        await same_room(room_id, alice, bob, deadline=60)


async def test_a_public_room_is_joined_by_its_alias_and_what_was_said_before_is_read(lan, both):
    alice, bob = both
    for host, guest in ((alice, bob), (bob, alice)):
        room_id = await host.create_room(
            encrypted=False, preset="public_chat", room_alias_name=f"room-of-{host.username}"
        )
        await host.send(room_id, "said before")
        assert await guest.join(f"#room-of-{host.username}:{host.server_name}", deadline=60) == room_id
        await guest.knows(room_id, encrypted=False)
        assert "said before" in [message.body for message in await guest.history(room_id)]
        await guest.send(room_id, "said after")
        await host.wait_for_message(room_id, "said after", deadline=60)


async def test_encrypted_messages_are_read_on_both_sides(lan, both):
    alice, bob = both
    room_id = await lan.room_of(alice, bob)
    for sender, receiver in ((alice, bob), (bob, alice)):
        await sender.send(room_id, f"secret of {sender.username}")
        await receiver.wait_for_message(room_id, f"secret of {sender.username}", deadline=60)


async def test_a_server_that_was_away_gets_what_it_missed(lan, both):
    alice, bob = both
    room_id = await alice.create_room(encrypted=False)
    await alice.invite(room_id, bob.user_id)
    await bob.accept(room_id, deadline=60, encrypted=False)
    for away, here in ((bob, alice), (alice, bob)):
        away.node.kill()
        await here.send(room_id, f"while {away.username} was away")
        await away.node.start(90)
        await away.wait_for_message(room_id, f"while {away.username} was away", deadline=90)
    await same_room(room_id, alice, bob, deadline=60)
