"""A kith node and a real Synapse vouch for each other's users: keys of a server that is gone are had from one that knew it."""

from __future__ import annotations

import pytest

from federated import LONG, SYNAPSE, by_alias, reads, sees_state
from third import third_server

pytestmark = pytest.mark.synapse

TRUSTING = 8460
# Each is known to nobody but its room.
GONE = {"kith": 8459, "synapse": 8461}


@pytest.mark.parametrize("notary", ["kith", "synapse"])
async def test_what_somebody_said_whose_server_is_gone_is_read_with_a_key_that_another_kept(federation, notary):
    """Who comes last trusts the server on which the room is, and is of the other make."""
    if notary == "kith":
        home, late = federation.kith, federation.other
    else:
        home, late = federation.synapse, federation.kith_node("trusting", TRUSTING, port=8048, notary=f"localhost:{SYNAPSE}")
    await federation.run(home, late)
    host = await federation.user(home, f"host-by-{notary}")
    guest = await federation.user(late, f"late-by-{notary}")
    room_id = await host.create_room(encrypted=False, preset="public_chat")
    with third_server(federation, GONE[notary]) as gone:
        await gone.tell("join", via=host.server_name, room_id=room_id)
        await sees_state(host, room_id, "m.room.member", {"membership": "join"}, gone.user_id)
        await gone.tell("say", room_id=room_id, body="remember me", to=[host.server_name])
        await host.wait_for_message(room_id, "remember me", LONG)
    await guest.request("POST", f"/_matrix/client/v3/join/{by_alias(room_id, host.server_name)}", {})
    await guest.knows(room_id, encrypted=False, deadline=LONG)
    await sees_state(guest, room_id, "m.room.member", {"membership": "join"}, gone.user_id)
    await reads(guest, room_id, "remember me")
