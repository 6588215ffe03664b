"""A kith node and real Synapse servers: who may enter a room, who is shown the door, and what may be seen."""

from __future__ import annotations

import asyncio
import ssl
import struct
import zlib
from urllib.parse import quote

import pytest

from federated import (
    LONG, Syncs, by_alias, denied, denies_more, in_room, is_out, meet, reads, refused, sees_membership, sees_state, set_state, state, talk,
)
from waiting import eventually

pytestmark = pytest.mark.synapse


async def test_a_public_room_is_found_in_the_list_and_joined_by_its_alias(host_and_guest):
    host, guest = host_and_guest
    name = f"room-of-{host.username}-and-{guest.username}"
    room_id = await host.create_room(
        encrypted=False, preset="public_chat", room_alias_name=name, visibility="public", name=name, topic="for all"
    )
    await host.send(room_id, "said before")
    alias = f"#{name}:{host.server_name}"
    listed = await guest.request(
        "POST", f"/_matrix/client/v3/publicRooms?server={host.server_name}", {"filter": {"generic_search_term": name}}
    )
    assert [(room["room_id"], room["canonical_alias"], room["topic"]) for room in listed["chunk"]] == [(room_id, alias, "for all")]
    directory = await guest.request("GET", f"/_matrix/client/v3/directory/room/{by_alias(alias)}")
    assert directory["room_id"] == room_id and host.server_name in directory["servers"]

    assert await guest.join(alias, LONG) == room_id
    await guest.knows(room_id, encrypted=False, deadline=LONG)
    await reads(guest, room_id, "said before")
    await talk(room_id, host, guest, say="after")


async def test_members_of_a_space_may_join_a_restricted_room_and_others_may_not(host_and_guest):
    host, guest = host_and_guest
    space = await host.create_room(encrypted=False, preset="public_chat", creation_content={"type": "m.space"})
    room_id = await host.create_room(encrypted=False, initial_state=[{
        "type": "m.room.join_rules", "state_key": "",
        "content": {"join_rule": "restricted", "allow": [{"type": "m.room_membership", "room_id": space}]},
    }])
    path = f"/_matrix/client/v3/join/{by_alias(room_id, host.server_name)}"
    await refused(guest.request("POST", path, {}), "M_FORBIDDEN", "M_UNABLE_TO_AUTHORISE_JOIN")

    await guest.request("POST", f"/_matrix/client/v3/join/{by_alias(space, host.server_name)}", {})
    await guest.request("POST", path, {})
    await guest.knows(room_id, encrypted=False, deadline=LONG)
    authorised = {"membership": "join", "join_authorised_via_users_server": host.user_id}
    for one in host_and_guest:
        await sees_state(one, room_id, "m.room.member", authorised, guest.user_id)
    await talk(room_id, host, guest)


async def test_somebody_knocks_and_is_let_in_and_somebody_knocks_and_is_not(host_and_guest):
    host, guest = host_and_guest
    rules = {"type": "m.room.join_rules", "state_key": "", "content": {"join_rule": "knock"}}
    room_id = await host.create_room(encrypted=False, name="a door", initial_state=[rules])
    knock = f"/_matrix/client/v3/knock/{by_alias(room_id, host.server_name)}"
    await refused(
        guest.request("POST", f"/_matrix/client/v3/join/{by_alias(room_id, host.server_name)}", {}), "M_FORBIDDEN"
    )

    await guest.request("POST", knock, {"reason": "it rains"})
    await sees_state(host, room_id, "m.room.member", {"membership": "knock", "reason": "it rains"}, guest.user_id)
    syncs = Syncs(guest)
    waiting = await syncs.until(lambda answer: section(answer, "knock", room_id), "that he knocks")
    told = {event["type"]: event for event in waiting["knock_state"]["events"]}
    assert told["m.room.name"]["content"] == {"name": "a door"} and told["m.room.member"]["content"]["reason"] == "it rains"
    # Refused at first, which Synapse tells nobody outside of the room, and passes over when it is told; and then let in.
    await host.request("POST", in_room(room_id, "kick"), {"user_id": guest.user_id, "reason": "not now"})
    await guest.request("POST", knock, {"reason": "it still rains"})
    await sees_state(host, room_id, "m.room.member", {"membership": "knock", "reason": "it still rains"}, guest.user_id)

    def knocks_again(answer):
        events = (section(answer, "knock", room_id) or {"knock_state": {"events": []}})["knock_state"]["events"]
        return [event for event in events if event["type"] == "m.room.member" and event["content"].get("reason") == "it still rains"]

    await syncs.until(knocks_again, "that he knocks again")
    await host.invite(room_id, guest.user_id, LONG)
    await guest.accept(room_id, LONG, encrypted=False)
    await talk(room_id, host, guest)


async def test_who_knocks_is_told_that_he_is_refused_when_his_server_is_in_the_room(federation, host_and_guest):
    host, member = host_and_guest
    rules = {"type": "m.room.join_rules", "state_key": "", "content": {"join_rule": "knock"}}
    room_id = await meet(host, member, initial_state=[rules])
    guest = await federation.user(member.node, f"knocks-beside-{member.username}")
    await guest.request("POST", f"/_matrix/client/v3/knock/{by_alias(room_id, host.server_name)}", {"reason": "it rains"})
    await sees_state(host, room_id, "m.room.member", {"membership": "knock", "reason": "it rains"}, guest.user_id)
    syncs = Syncs(guest)
    await syncs.until(lambda answer: section(answer, "knock", room_id), "that he knocks")

    await host.request("POST", in_room(room_id, "kick"), {"user_id": guest.user_id, "reason": "not now"})
    await sees_state(member, room_id, "m.room.member", {"membership": "leave", "reason": "not now"}, guest.user_id)
    left = await syncs.until(lambda answer: section(answer, "leave", room_id), "that he is refused")
    events = left["timeline"]["events"] + left.get("state", {}).get("events", [])
    [event] = [event for event in events if event.get("state_key") == guest.user_id]
    assert event["sender"] == host.user_id and event["content"] == {"membership": "leave", "reason": "not now"}
    assert not section(await guest.request("GET", "/_matrix/client/v3/sync"), "knock", room_id)


def section(answer: dict, kind: str, room_id: str) -> dict | None:
    """What a sync tells of a room that is joined, left, invited to or knocked at."""
    return answer.get("rooms", {}).get(kind, {}).get(room_id)


async def test_an_invitation_is_declined_and_another_is_taken_back(host_and_guest):
    host, guest = host_and_guest
    declined = await host.create_room(encrypted=False)
    await host.invite(declined, guest.user_id, LONG)
    await guest.wait_for(lambda: declined in guest.nio.invited_rooms, LONG, "is invited")
    await guest.request("POST", in_room(declined, "leave"), {})
    await sees_membership(host, declined, guest, "leave")

    taken_back = await host.create_room(encrypted=False)
    await host.invite(taken_back, guest.user_id, LONG)
    await guest.wait_for(lambda: taken_back in guest.nio.invited_rooms, LONG, "is invited")
    await host.request("POST", in_room(taken_back, "kick"), {"user_id": guest.user_id})

    async def no_more():
        sync = await guest.request("GET", "/_matrix/client/v3/sync")
        return taken_back not in sync.get("rooms", {}).get("invite", {})

    await eventually(no_more, LONG, "the invitation is gone", every=0.1)


async def test_who_accepts_an_invitation_the_moment_it_comes_is_let_in(pair):
    """Synapse shows an invitation to the other server before it has it in the room itself."""
    guest, host = pair
    for _ in range(5):
        room_id = await host.create_room(encrypted=False)
        join = f"/_matrix/client/v3/join/{quote(room_id)}"

        async def accept():
            invited = {}
            while room_id not in invited:
                invited = (await guest.request("GET", "/_matrix/client/v3/sync?timeout=0")).get("rooms", {}).get("invite", {})
            await guest.request("POST", join, {})

        await asyncio.gather(host.invite(room_id, guest.user_id, LONG), asyncio.wait_for(accept(), LONG))
        await sees_membership(host, room_id, guest, "join")


async def test_who_is_kicked_may_come_again_and_who_is_banned_only_when_unbanned(host_and_guest):
    host, guest = host_and_guest
    room_id = await meet(host, guest, preset="public_chat")
    join = f"/_matrix/client/v3/join/{by_alias(room_id, host.server_name)}"

    await host.request("POST", in_room(room_id, "kick"), {"user_id": guest.user_id, "reason": "cool down"})
    await is_out(guest, room_id)
    await refused(guest.send(room_id, "after the kick"), "M_FORBIDDEN")
    await guest.request("POST", join, {})
    await sees_membership(host, room_id, guest, "join")

    await host.request("POST", in_room(room_id, "ban"), {"user_id": guest.user_id})
    await is_out(guest, room_id)
    await refused(guest.request("POST", join, {}), "M_FORBIDDEN")
    await host.request("POST", in_room(room_id, "unban"), {"user_id": guest.user_id})
    await guest.request("POST", join, {})
    await sees_membership(host, room_id, guest, "join")
    await talk(room_id, host, guest, say="back again")


async def test_power_is_given_used_and_taken_away(host_and_guest):
    host, guest = host_and_guest
    room_id = await meet(host, guest)
    await refused(set_state(guest, room_id, "m.room.topic", {"topic": "not allowed"}), "M_FORBIDDEN")
    levels = await state(host, room_id, "m.room.power_levels")
    await set_state(host, room_id, "m.room.power_levels", {**levels, "users": {**levels["users"], guest.user_id: 50}})
    await sees_state(guest, room_id, "m.room.power_levels", {"users": {**levels["users"], guest.user_id: 50}})
    await set_state(guest, room_id, "m.room.topic", {"topic": "allowed"})
    await sees_state(host, room_id, "m.room.topic", {"topic": "allowed"})
    await refused(
        set_state(guest, room_id, "m.room.power_levels", {**levels, "users": {**levels["users"], guest.user_id: 100}}),
        "M_FORBIDDEN",
    )
    await set_state(host, room_id, "m.room.power_levels", levels)
    await sees_state(guest, room_id, "m.room.power_levels", {"users": levels["users"]})
    await refused(set_state(guest, room_id, "m.room.topic", {"topic": "not any more"}), "M_FORBIDDEN")


@pytest.mark.parametrize("visibility", ["joined", "invited", "shared", "world_readable"])
async def test_who_comes_later_sees_what_the_room_lets_him_see(host_and_guest, visibility):
    host, guest = host_and_guest
    room_id = await host.create_room(encrypted=False, initial_state=[
        {"type": "m.room.history_visibility", "state_key": "", "content": {"history_visibility": visibility}},
    ])
    await host.send(room_id, "before the invitation")
    await host.invite(room_id, guest.user_id, LONG)
    await host.send(room_id, "before the join")
    await guest.accept(room_id, LONG, encrypted=False)
    await host.send(room_id, "after the join")
    await guest.wait_for_message(room_id, "after the join", LONG)
    expected = {
        "joined": ["after the join"],
        "invited": ["before the join", "after the join"],
    }.get(visibility, ["before the invitation", "before the join", "after the join"])

    async def sees():
        read = [message.body for message in await guest.history(room_id) if message.type == "m.room.message"]
        assert read == expected
        return True

    await eventually(sees, LONG, f"{guest.username} reads {expected}", every=0.2)


async def test_a_space_is_walked_through_on_the_other_server(host_and_guest):
    host, guest = host_and_guest
    space = await host.create_room(
        encrypted=False, preset="public_chat", name="the space", creation_content={"type": "m.space"}
    )
    children = {}
    for name, preset in (("open", "public_chat"), ("closed", "private_chat")):
        children[name] = await host.create_room(encrypted=False, name=name, preset=preset)
        await set_state(host, space, "m.space.child", {"via": [host.server_name]}, children[name])
    await guest.request("POST", f"/_matrix/client/v3/join/{by_alias(space, host.server_name)}", {})

    async def walked():
        answer = await guest.request("GET", f"/_matrix/client/v1/rooms/{space}/hierarchy")
        rooms = {room["room_id"]: room for room in answer["rooms"]}
        assert set(rooms) == {space, children["open"]}, list(rooms)
        assert rooms[children["open"]]["name"] == "open"
        assert {child["state_key"] for child in rooms[space]["children_state"]} == set(children.values())
        return True

    await eventually(walked, LONG, "the space and its open room are told", every=0.5)


async def test_a_server_that_the_room_shuts_out_is_not_heard(federation, three):
    alice, bob, carol = three
    room_id = await meet(alice, bob, carol)
    await set_state(alice, room_id, "m.room.server_acl", {"allow": ["*"], "deny": ["127.0.0.1"], "allow_ip_literals": True})
    await sees_state(bob, room_id, "m.room.server_acl", {"deny": ["127.0.0.1"]})
    before = denied(federation.kith)
    await carol.send(room_id, "carol is shut out")
    await denies_more(federation.kith, before)
    await talk(room_id, alice, bob, say="without carol")
    for one in (alice, bob):
        assert "carol is shut out" not in [message.body for message in await one.history(room_id)]
    # And when she is let in again, she catches up.
    await set_state(alice, room_id, "m.room.server_acl", {"allow": ["*"], "deny": [], "allow_ip_literals": True})
    await alice.send(room_id, "carol may come back")
    await carol.wait_for_message(room_id, "carol may come back", LONG)


async def test_names_and_pictures_of_people_are_told(host_and_guest):
    host, guest = host_and_guest
    await guest.request("PUT", f"/_matrix/client/v3/profile/{guest.user_id}/displayname", {"displayname": "The Guest"})
    answer = await host.request("GET", f"/_matrix/client/v3/profile/{guest.user_id}")
    assert answer["displayname"] == "The Guest"
    await guest.request("PUT", f"/_matrix/client/v3/profile/{guest.user_id}/m.tz", {"m.tz": "Europe/Berlin"})
    for field in ("", "/m.tz"):
        assert (await host.request("GET", f"/_matrix/client/v3/profile/{guest.user_id}{field}"))["m.tz"] == "Europe/Berlin"
    await refused(host.request("GET", f"/_matrix/client/v3/profile/@nobody:{guest.server_name}"), "M_NOT_FOUND")
    room_id = await meet(host, guest)
    await sees_state(host, room_id, "m.room.member", {"displayname": "The Guest"}, guest.user_id)
    await guest.request("PUT", f"/_matrix/client/v3/profile/{guest.user_id}/displayname", {"displayname": "Known Now"})
    await sees_state(host, room_id, "m.room.member", {"displayname": "Known Now"}, guest.user_id)


def size_of(picture: bytes) -> tuple[int, int]:
    """The width and height that a PNG's or JPEG's header tells."""
    if picture.startswith(b"\x89PNG\r\n\x1a\n"):
        return struct.unpack(">II", picture[16:24])
    assert picture.startswith(b"\xff\xd8"), picture[:16]
    at = 2
    # From segment to segment up to the frame's (SOF0 or SOF2).
    while picture[at + 1] not in (0xC0, 0xC2):
        at += 2 + struct.unpack(">H", picture[at + 2:at + 4])[0]
    height, width = struct.unpack(">HH", picture[at + 5:at + 9])
    return width, height


def a_png(width: int, height: int) -> bytes:
    """A picture."""
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    row = b"\0" + bytes(value for x in range(width) for value in (x % 256, 80, 160))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(row * height)) + chunk(b"IEND", b"")


async def test_media_and_thumbnails_are_fetched_from_the_other_server(pair):
    photo = a_png(640, 320)
    for here, there in (pair, pair[::-1]):
        upload = await here.request("POST", "/_matrix/media/v3/upload?filename=photo.png", data=photo, content_type="image/png")
        media = upload["content_uri"].removeprefix("mxc://")
        assert await there.request("GET", f"/_matrix/client/v1/media/download/{media}", raw=True) == photo
        # Sizes that the specification has servers make.
        for asked, expected in (("width=32&height=32&method=crop", (32, 32)), ("width=320&height=240&method=scale", (320, 160))):
            thumbnail = await there.request("GET", f"/_matrix/client/v1/media/thumbnail/{media}?{asked}", raw=True)
            assert size_of(thumbnail) == expected, asked
        await refused(there.request("GET", f"/_matrix/client/v1/media/download/{here.server_name}/nothing"), "M_NOT_FOUND")


async def test_an_openid_token_of_either_server_tells_who_its_user_is(federation, pair):
    """What a widget's server asks of a user's server; the other half is asked by no Matrix server."""
    trusted = ssl.create_default_context(cafile=str(federation.certificates / "ca.pem"))
    for person in pair:
        token = await person.request("POST", f"/_matrix/client/v3/user/{person.user_id}/openid/request_token", {})
        assert token["matrix_server_name"] == person.server_name
        url = f"https://{person.server_name}/_matrix/federation/v1/openid/userinfo"
        async with person.nio.client_session.get(url, params={"access_token": token["access_token"]}, ssl=trusted) as response:
            assert await response.json() == {"sub": person.user_id}
        async with person.nio.client_session.get(url, params={"access_token": "nonsense"}, ssl=trusted) as response:
            assert response.status == 401
