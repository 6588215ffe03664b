"""A kith node and two real Synapse servers: whoever made the room and whoever acts, the third knows and holds to it."""

from __future__ import annotations

import pytest

from client import Client
from federated import (
    LONG, agree, by_alias, denied, denies_more, in_room, is_banned, is_out, meet, refused, sees_membership, sees_redacted, sees_state, set_state,
    state, talk,
)

pytestmark = pytest.mark.synapse


@pytest.fixture(params=[0, 1, 2], ids=["kith-synapse-other", "synapse-other-kith", "other-kith-synapse"])
def roles(request, three):
    """All three, each first, second and third once."""
    return three[request.param:] + three[:request.param]


def join(person: Client, room_id: str, via: Client):
    """Has somebody join by another's server."""
    return person.request("POST", f"/_matrix/client/v3/join/{by_alias(room_id, via.server_name)}", {})


async def test_a_third_server_learns_what_one_does_to_the_other(roles):
    actor, target, third = roles
    room_id = await meet(actor, target, third, preset="public_chat")
    levels = await state(actor, room_id, "m.room.power_levels")
    for users in ({**levels["users"], target.user_id: 50}, levels["users"]):
        await set_state(actor, room_id, "m.room.power_levels", {**levels, "users": users})
        await sees_state(third, room_id, "m.room.power_levels", {"users": users})

    event_id = await target.send(room_id, "something rude")
    for one in (actor, third):
        await one.wait_for_message(room_id, "something rude", LONG)
    await actor.request("PUT", in_room(room_id, f"redact/{event_id}/1"), {"reason": "rude"})
    await sees_redacted(third, room_id, event_id, "rude")

    # The target comes back by the third, which lets nobody in who is banned.
    for deed, membership in (("kick", "leave"), ("ban", "ban")):
        await actor.request("POST", in_room(room_id, deed), {"user_id": target.user_id, "reason": f"a {deed}"})
        await sees_state(third, room_id, "m.room.member", {"membership": membership, "reason": f"a {deed}"}, target.user_id)
        await is_out(target, room_id)
        if deed == "ban":
            await refused(join(target, room_id, third), "M_FORBIDDEN")
            await actor.request("POST", in_room(room_id, "unban"), {"user_id": target.user_id})
            await sees_membership(third, room_id, target, "leave")
        await join(target, room_id, third)
        for one in roles:
            await sees_membership(one, room_id, target, "join")
    await talk(room_id, *roles)
    await agree(room_id, *roles)


RESTRICTED = [("alice", "bob", "carol"), ("bob", "alice", "carol"), ("carol", "bob", "alice")]


# Its waits: a start of 90 s, and 17 things that are done or seen within 60 s.
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("names", RESTRICTED, ids=["made-by-kith", "kith-lets-in", "kith-is-let-in"])
async def test_a_member_of_a_restricted_room_lets_others_in_while_its_makers_server_is_down(federation, three, names):
    """The room's maker is on one server, who lets in on another, who comes on a third."""
    people = dict(zip(("alice", "bob", "carol"), three))
    maker, member, guest = (people[name] for name in names)
    space = await maker.create_room(encrypted=False, preset="public_chat", creation_content={"type": "m.space"})
    room_id = await maker.create_room(encrypted=False, initial_state=[{
        "type": "m.room.join_rules", "state_key": "",
        "content": {"join_rule": "restricted", "allow": [{"type": "m.room_membership", "room_id": space}]},
    }])

    async def enters(person: Client, room: str, via: Client):
        await join(person, room, via)
        await person.knows(room, encrypted=False, deadline=LONG)
        # Both kinds of servers answer when they have all members: before, Synapse may not know whom to send to.
        await person.request("GET", in_room(room, "members"))

    for room in (space, room_id):
        await enters(member, room, maker)
    maker.node.kill()
    await refused(join(guest, room_id, member), "M_FORBIDDEN", "M_UNABLE_TO_AUTHORISE_JOIN")
    for room in (space, room_id):
        await enters(guest, room, member)
    await federation.run(maker.node)
    await talk(room_id, member, guest, maker)
    authorised = {"membership": "join", "join_authorised_via_users_server": member.user_id}
    for one in three:
        await sees_state(one, room_id, "m.room.member", authorised, guest.user_id)
    await agree(room_id, *three)


async def test_a_server_that_a_room_of_synapse_shuts_out_is_not_heard_and_shuts_others_out_itself(federation, three):
    """The list denies the host that is kith's and Bob's Synapse's, whatever their ports."""
    alice, bob, carol = three
    room_id = await meet(carol, alice, bob)
    await set_state(carol, room_id, "m.room.server_acl", {"allow": ["*"], "deny": ["localhost"], "allow_ip_literals": True})
    for one in (alice, bob):
        await sees_state(one, room_id, "m.room.server_acl", {"deny": ["localhost"]})
    before = denied(federation.kith)
    event_id = await alice.send(room_id, f"{alice.username} is shut out")
    for one in (bob, carol):
        await is_banned(federation.kith, one.server_name, event_id)
    await bob.send(room_id, f"{bob.username} is shut out")
    await denies_more(federation.kith, before)
    # They still read what Carol says.
    await talk(room_id, carol, say="without the others")
    for one in (alice, bob):
        await one.wait_for_message(room_id, f"without the others of {carol.username}", LONG)
    for one, other in ((carol, alice), (bob, alice), (alice, bob)):
        assert f"{other.username} is shut out" not in [message.body for message in await one.history(room_id)], one.user_id

    await set_state(carol, room_id, "m.room.server_acl", {"allow": ["*"], "deny": [], "allow_ip_literals": True})
    for one in (alice, bob):
        await sees_state(one, room_id, "m.room.server_acl", {"deny": []})
    await talk(room_id, *three, say="let in again")
    # What was said meanwhile lies before that, and is fetched.
    await agree(room_id, *three)


SPLITS = [
    ("6", "kith", "kith"), ("10", "synapse", "kith"), ("11", "kith", "synapse"),
    ("12", "synapse", "synapse"), ("12", "kith", "kith"), ("12", "synapse", "kith"),
]


# Its waits: 2 starts of 90 s, 2 stops of 30 s, and 15 things that are seen within 60 s.
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("version", "maker", "alone"), SPLITS)
async def test_of_what_was_changed_on_both_sides_of_a_cut_the_admins_counts_and_the_demoted_moderators_does_not(
    federation, three, version, maker, alone
):
    """State resolution takes the change of power first, and judges by it what was done without knowing of it."""
    alice, bob, carol = three
    admin, moderator = (alice, bob) if maker == "kith" else (bob, alice)
    apart, beside = (alice, bob) if alone == "kith" else (bob, alice)
    room_id = await meet(admin, moderator, carol, room_version=version)
    levels = await state(admin, room_id, "m.room.power_levels")
    levels["users"].update({moderator.user_id: 50, carol.user_id: 50})
    demoted = {**levels, "users": {**levels["users"], moderator.user_id: 0}}
    await set_state(admin, room_id, "m.room.power_levels", levels)
    await set_state(admin, room_id, "m.room.topic", {"topic": "before"})
    for one in three:
        await sees_state(one, room_id, "m.room.power_levels", {"users": levels["users"]})
        await sees_state(one, room_id, "m.room.topic", {"topic": "before"})

    async def acts(person: Client):
        if person is admin:
            await set_state(admin, room_id, "m.room.power_levels", demoted)
        else:
            await set_state(moderator, room_id, "m.room.topic", {"topic": "the moderator's"})
        await set_state(person, room_id, "m.room.name", {"name": f"{person.username}'s"})

    # First those act who are not alone, and then the one who is.
    apart.node.kill()
    await acts(beside)
    await sees_state(carol, room_id, "m.room.name", {"name": f"{beside.username}'s"})
    await set_state(carol, room_id, "m.room.avatar", {"url": "mxc://example.org/carols"})
    await sees_state(beside, room_id, "m.room.avatar", {"url": "mxc://example.org/carols"})
    for one in (beside, carol):
        await one.node.stop(30)
    await apart.node.start(90)
    await acts(apart)

    await federation.run(beside.node, carol.node)
    # A server is told with the next event of what it missed.
    for one in (alice, bob):
        await one.send(room_id, f"{one.username} is back")
    for one in three:
        for other in (alice, bob):
            await one.wait_for_message(room_id, f"{other.username} is back", LONG)
    await agree(room_id, *three)
    for one in three:
        assert (await state(one, room_id, "m.room.power_levels"))["users"] == demoted["users"]
        assert await state(one, room_id, "m.room.topic") == {"topic": "before"}
        assert await state(one, room_id, "m.room.name") == {"name": f"{admin.username}'s"}
        assert await state(one, room_id, "m.room.avatar") == {"url": "mxc://example.org/carols"}
