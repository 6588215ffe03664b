"""Servers with a new signing key: what they sign with it counts, and what they signed with the old one, until that expired."""

from __future__ import annotations

import json
import ssl
import subprocess
import time

import aiohttp
import pytest

from federated import LONG, Synapse, by_alias, sees_state, talk
from synapse import FederatedSynapse
from third import third_server
from waiting import eventually

pytestmark = pytest.mark.synapse

ROTATING, LATE, MOVED = 8462, 8463, 8464
# Writes a new key to a file, and tells the old one's ID and public half.
SCRIPT = """
import json, sys
from signedjson.key import encode_verify_key_base64, generate_signing_key, read_signing_keys, write_signing_keys
with open(sys.argv[1]) as file:
    [old] = read_signing_keys(file)
with open(sys.argv[1], "w") as file:
    write_signing_keys(file, [generate_signing_key("new")])
print(json.dumps({"id": f"ed25519:{old.version}", "key": encode_verify_key_base64(old.verify_key)}))
"""


async def joins(person, host, room_id: str) -> None:
    await person.request("POST", f"/_matrix/client/v3/join/{by_alias(room_id, host.server_name)}", {})
    await person.knows(room_id, encrypted=False, deadline=LONG)


async def published(federation, name: str) -> dict:
    """The keys that a server publishes."""
    trusted = ssl.create_default_context(cafile=str(federation.certificates / "ca.pem"))
    async with aiohttp.ClientSession(connector=federation.kith.connector()) as http:
        async with http.get(f"https://{name}/_matrix/key/v2/server", ssl=trusted) as response:
            return await response.json()


async def test_a_synapse_has_a_new_key_and_kith_believes_it_and_the_old_one_for_its_time(federation):
    synapse = FederatedSynapse(
        federation.host, federation.folder, federation.certificates, f"localhost:{ROTATING}", name="rotating", port=8068
    )
    late = federation.kith_node("late", LATE, port=8078)
    federation.nodes.append(synapse)
    await federation.run(federation.kith, synapse)
    alice, bob = await federation.user(federation.kith, "alice-before"), await federation.user(synapse, "bob")
    room_id = await bob.create_room(encrypted=False, preset="public_chat")
    await joins(alice, bob, room_id)
    await talk(room_id, alice, bob, say="the old key")
    expired = int(time.time() * 1000)
    await eventually(lambda: time.time() * 1000 > expired + 1, 10, "a moment passes")
    await talk(room_id, bob, say="expired key")

    await synapse.stop(30)
    done = subprocess.run([Synapse.python(), "-c", SCRIPT, synapse.folder / "signing.key"], check=True, capture_output=True, text=True)
    old = json.loads(done.stdout)
    with open(synapse.config_file, "a") as config:
        config.write(f'old_signing_keys: {{"{old["id"]}": {{key: "{old["key"]}", expired_ts: {expired}}}}}\n')
    # It asks a server for keys once a minute at most, and forgets with its end when it last did.
    assert await federation.kith.stop(30) == 0
    await federation.run(federation.kith, synapse, late)
    document = await published(federation, synapse.server_name)
    assert list(document["verify_keys"]) == ["ed25519:new"] and list(document["old_verify_keys"]) == [old["id"]]
    await talk(room_id, alice, bob, say="the new key")

    # Who never saw the old key gets it, and what was said.
    carol = await federation.user(late, "carol")
    await joins(carol, bob, room_id)
    await talk(room_id, alice, bob, carol, say="all of us")

    async def read():
        bodies = [message.body for message in await carol.history(room_id)]
        assert {f"the {age} key of {person.username}" for age in ("old", "new") for person in (alice, bob)} <= set(bodies), bodies
        assert "expired key of bob" not in bodies
        return True

    await eventually(read, LONG, "what was said is read, but for what an expired key signed", every=0.2)


async def test_a_name_moves_to_kith_and_synapse_believes_what_was_signed_with_the_key_that_it_had_before(federation):
    await federation.run(federation.synapse)
    host = await federation.user(federation.synapse, "host-of-moved")
    room_id = await host.create_room(encrypted=False, preset="public_chat")
    with third_server(federation, MOVED) as before:
        await before.tell("join", via=host.server_name, room_id=room_id)
        await sees_state(host, room_id, "m.room.member", {"membership": "join"}, before.user_id)
        await before.tell("say", room_id=room_id, body="from the old server", to=[host.server_name])
        await host.wait_for_message(room_id, "from the old server", LONG)
        [(old, key)] = (await published(federation, before.name))["verify_keys"].items()
    moved = federation.kith_node("moved", MOVED, port=8088, old_verify_keys=[f"{old} {key['key']} {int(time.time() * 1000)}"])
    await federation.run(moved, federation.other)

    # Only the first server has the history: a Synapse asks any one of those in a room for it, and is content with that.
    late = await federation.user(federation.other, "late-to-moved")
    await joins(late, host, room_id)
    await sees_state(late, room_id, "m.room.member", {"membership": "join"}, before.user_id)

    async def read():
        return "from the old server" in [message.body for message in await late.history(room_id)]

    await eventually(read, LONG, "what the server said before is read", every=0.5)

    alice = await federation.user(moved, "alice")
    await joins(alice, host, room_id)
    await talk(room_id, alice, host, late)
