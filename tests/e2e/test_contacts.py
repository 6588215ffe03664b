"""Discovery that shows itself to contacts only (`mdns = "contacts"`)."""

from __future__ import annotations

import asyncio
import json

from checks import same_room
from waiting import eventually


def peers(node) -> dict[str, dict]:
    """Who a node knows, by server name."""
    return {peer["server_name"]: peer for peer in json.loads(node.run("peers", "--json").stdout)}


async def test_contacts_find_each_other_again_after_a_restart_and_strangers_see_neither(lan):
    alice, bob = await lan.pair()
    room_id = await lan.room_of(alice, bob)
    for node in (alice.node, bob.node):
        assert await node.stop() == 0
        node.configure({"p2p": {"mdns": "contacts"}})
    carol = lan.node("carol")
    await carol.start()
    # Both take new ports, so neither finds the other where it was.
    await asyncio.gather(alice.node.start(), bob.node.start())
    for here, there in ((alice, bob), (bob, alice)):
        name = there.node.identity()["server_name"]
        await eventually(lambda: peers(here.node).get(name, {}).get("nearby"), 30, "a contact is found again")

    for sender, receiver in ((alice, bob), (bob, alice)):
        await sender.send(room_id, f"{sender.username} is still here")
        await receiver.wait_for_message(room_id, f"{sender.username} is still here", 30)
    await same_room(room_id, alice, bob)

    # They see carol, who shows herself to everyone, so announcements pass; she does not see them.
    stranger = carol.identity()["server_name"]
    for node in (alice.node, bob.node):
        await eventually(lambda: stranger in peers(node), 20, "a node that shows itself to everyone is seen")
    assert peers(carol) == {}
