"""A kith node, a real Synapse and a real identity server: invitations by e-mail address."""

from __future__ import annotations

import pytest
import pytest_asyncio

from client import Client
from federated import LONG, agree, in_room, refused, sees_membership, sees_state, set_state, state, talk
from identity_server import IdentityServer, identity_server

pytestmark = pytest.mark.synapse

PORT = 8456


@pytest_asyncio.fixture
async def identity(federation):
    """The identity server."""
    async with identity_server(federation, PORT) as made:
        yield made


async def invite_address(identity: IdentityServer, host: Client, room_id: str, address: str) -> dict:
    """Invites who has an address. Gives what the mail to it says."""
    token = await identity.account(host)
    if host.server_name == identity.federation.synapse.server_name:
        body = {"medium": "email", "address": address, "id_server": identity.name, "id_access_token": token}
        await host.request("POST", in_room(room_id, "invite"), body)
    else:
        # A kith node trusts no identity server: the client speaks with it, and sends what is to be sent into the room.
        body = {"medium": "email", "address": address, "room_id": room_id, "sender": host.user_id}
        stored = await identity.ask(token, "POST", "store-invite", body)
        keys = stored["public_keys"]
        content = {"display_name": stored["display_name"], "public_keys": keys, **keys[0]}
        await set_state(host, room_id, "m.room.third_party_invite", content, stored["token"])
    return await identity.mail(address, room_id)


async def uses_it(host: Client, guest: Client, room_id: str, token: str) -> None:
    """The guest is in the room by this third-party invite, and both sides know it."""
    await guest.knows(room_id, encrypted=False, deadline=LONG)
    for one in (host, guest):
        await sees_membership(one, room_id, guest, "join")
        invite = await state(one, room_id, "m.room.third_party_invite", token)
        assert "@" in invite["display_name"] and "..." in invite["display_name"], invite
    await talk(room_id, host, guest)
    await agree(room_id, host, guest)


async def test_who_binds_an_address_gets_the_invitations_that_were_sent_to_it(identity, host_and_guest):
    host, guest = host_and_guest
    address = f"{guest.username}@example.org"
    room_id = await host.create_room(encrypted=False, name="by mail")
    mail = await invite_address(identity, host, room_id, address)

    await identity.bind(guest, await identity.account(guest), address)
    await guest.wait_for(lambda: room_id in guest.nio.invited_rooms, LONG, "is invited by the binding")
    await sees_membership(host, room_id, guest, "invite")
    invited = await state(host, room_id, "m.room.member", guest.user_id)
    assert invited["third_party_invite"]["signed"]["token"] == mail["token"]
    await guest.accept(room_id, LONG, encrypted=False)
    await uses_it(host, guest, room_id, mail["token"])


async def test_who_has_the_mail_joins_with_what_the_identity_server_signs_and_nobody_else_does(identity, host_and_guest):
    host, guest = host_and_guest
    room_id = await host.create_room(encrypted=False, name="by mail")
    mail = await invite_address(identity, host, room_id, "somebody@example.org")
    await sees_state(host, room_id, "m.room.third_party_invite", {}, mail["token"])

    token = await identity.account(guest)
    join = f"/_matrix/client/v3/join/{room_id}?via={host.server_name}"

    async def show(key: str):
        # The identity server signs with whatever key it is given. The token stands in the room, the right key in the mail alone.
        signed = await identity.ask(token, "POST", "sign-ed25519", {"mxid": guest.user_id, "token": mail["token"], "private_key": key})
        await guest.request("POST", join, {"third_party_signed": signed})

    # Synapse says of any refusal that it could not forward what it was shown.
    await refused(show("A" * 43), "M_FORBIDDEN", "M_UNKNOWN")
    await show(mail["key"])
    await uses_it(host, guest, room_id, mail["token"])
