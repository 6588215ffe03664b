"""The harness itself, against a server that is known to work: what fails here is not kith's fault."""

import os

import pytest

from synapse import Synapse

pytestmark = pytest.mark.synapse


async def test_two_people_on_one_synapse_exchange_encrypted_messages_and_a_photo(lan, tmp_path):
    node = Synapse(lan.network.host("synapse"), tmp_path)
    lan.nodes.append(node)
    await node.start(60)
    alice, bob = await lan.user(node, "alice"), await lan.user(node, "bob")
    room_id = await lan.room_of(alice, bob)

    await alice.send(room_id, "hello")
    await bob.wait_for_message(room_id, "hello")
    photo = os.urandom(5_000_000)
    await bob.send_photo(room_id, photo)
    assert await alice.fetch_photo(await alice.wait_for_message(room_id, "photo.jpg")) == photo

    assert await alice.state(room_id) == await bob.state(room_id)
    assert [m.body for m in await bob.history(room_id) if m.body] == ["hello", "photo.jpg"]

    node.kill()
    await node.start(60)
    await bob.send(room_id, "after a crash")
    await alice.wait_for_message(room_id, "after a crash")
