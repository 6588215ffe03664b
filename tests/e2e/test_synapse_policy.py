"""A kith node and real Synapse servers in rooms with a policy server: what it does not sign is not sent, and not shown."""

from __future__ import annotations

import time
import uuid

import pytest

from client import Client
from federated import LONG, agree, in_room, refused, sees_membership, sees_state, set_state, state, talk
from third import Third, third_server
from waiting import eventually

pytestmark = pytest.mark.synapse

GUARD, MALLORY, ABSENT = 8454, 8455, 8458
# How long a policy server may take (15 s), and some more.
BOUND = 25


@pytest.fixture(scope="module")
def guard(servers):
    """The policy server."""
    with third_server(servers, GUARD) as third:
        yield third


@pytest.fixture(scope="module")
def mallory(servers):
    """A server that has nothing signed by policy servers."""
    with third_server(servers, MALLORY) as third:
        yield third


async def guarded(guard: Third, host: Client, guest: Client) -> str:
    """A room of the host that the guard watches over, which the guest enters then."""
    room_id = await host.create_room(encrypted=False, preset="public_chat")
    await guard.tell("join", via=host.server_name, room_id=room_id)
    await set_state(host, room_id, "m.room.policy", guard.policy)
    await host.invite(room_id, guest.user_id, LONG)
    await guest.accept(room_id, LONG, encrypted=False)
    await sees_state(guest, room_id, "m.room.policy", guard.policy)
    await sees_state(guest, room_id, "m.room.member", {"membership": "join"}, guard.user_id)
    await sees_membership(host, room_id, guest, "join")
    return room_id


async def asked(guard: Third, room_id: str, kind: str = "m.room.message") -> list[tuple[str, str]]:
    """Which server asked for which event: its text, or whom it is about."""
    return [
        (one["origin"], one["event"]["content"].get("body", one["event"].get("state_key")))
        for one in await guard.tell("asked")
        if one["event"]["room_id"] == room_id and one["event"]["type"] == kind
    ]


async def received(guard: Third, room_id: str) -> dict[str, dict]:
    """The messages that the servers of the room sent the guard, by their text."""
    events = (await guard.tell("received"))[room_id]
    return {event["content"]["body"]: event for event in events if event["type"] == "m.room.message"}


async def say(person: Client, room_id: str, body: str) -> str:
    """Sends a message, once: what the server answers is what counts."""
    path = in_room(room_id, f"send/m.room.message/{uuid.uuid4()}")
    return (await person.request("PUT", path, {"msgtype": "m.text", "body": body}))["event_id"]


async def read(person: Client, room_id: str) -> list[str]:
    """The texts that a person's server gives of a room."""
    return [message.body for message in await person.history(room_id) if message.type == "m.room.message"]


async def test_what_the_policy_server_signs_is_seen_on_the_other_side_and_spam_goes_nowhere(guard, host_and_guest):
    host, guest = host_and_guest
    room_id = await guarded(guard, host, guest)
    members = await asked(guard, room_id, "m.room.member")
    assert members.count((host.server_name, guest.user_id)) >= 2, f"the invite and the join are signed, too: {members}"

    await talk(room_id, host, guest)
    said = {f"hello of {one.username}": one for one in host_and_guest}
    got = await eventually(lambda: _all(guard, room_id, said), LONG, "the guard has the messages", every=0.1)
    for text in said:
        assert "ed25519:policy_server" in got[text]["signatures"][guard.name], got[text]["signatures"]
    # Who gets a message finds the signature in it, and that it is right: only the sender's server asked.
    assert sorted(await asked(guard, room_id)) == sorted((one.server_name, text) for text, one in said.items())

    for one in host_and_guest:
        error = await refused(say(one, room_id, f"spam of {one.username}"), "M_FORBIDDEN")
        assert error.status in (400, 403) and "this looks like spam" in error.body["error"], error
    await talk(room_id, host, guest, say="afterwards")
    await agree(room_id, host, guest)
    for one in host_and_guest:
        assert not [text for text in await read(one, room_id) if "spam of" in text]
    assert not [text for text in await received(guard, room_id) if "spam of" in text]


async def _all(guard: Third, room_id: str, texts) -> dict[str, dict] | None:
    got = await received(guard, room_id)
    return got if set(texts) <= set(got) else None


async def test_what_a_third_server_sends_unsigned_is_shown_or_hidden_on_both_sides_as_the_policy_server_says(
    guard, mallory, host_and_guest
):
    host, guest = host_and_guest
    room_id = await guarded(guard, host, guest)
    await mallory.tell("join", via=host.server_name, room_id=room_id)
    for one in host_and_guest:
        await sees_state(one, room_id, "m.room.member", {"membership": "join"}, mallory.user_id)
    servers = [one.server_name for one in host_and_guest]
    await mallory.tell("say", room_id=room_id, body="kind words", to=servers)
    for one in host_and_guest:
        await one.wait_for_message(room_id, "kind words", LONG)
    await mallory.tell("say", room_id=room_id, body="spam words", to=servers)

    async def judged():
        return {(server, "spam words") for server in servers} <= set(await asked(guard, room_id))

    await eventually(judged, LONG, "both servers ask for the spam to be signed", every=0.1)
    # What follows the hidden message is shown.
    await mallory.tell("say", room_id=room_id, body="kind words again", to=servers)
    for one in host_and_guest:
        await one.wait_for_message(room_id, "kind words again", LONG)
    await talk(room_id, host, guest)
    await agree(room_id, host, guest)
    for one in host_and_guest:
        assert [text for text in await read(one, room_id) if "words" in text] == ["kind words", "kind words again"]


async def test_what_synapse_sent_before_it_knew_of_the_policy_server_is_judged_by_it_here(federation, guard, pair):
    alice, bob = pair
    room_id = await alice.create_room(encrypted=False, preset="public_chat")
    await guard.tell("join", via=alice.server_name, room_id=room_id)
    await alice.invite(room_id, bob.user_id, LONG)
    await bob.accept(room_id, LONG, encrypted=False)
    await sees_state(bob, room_id, "m.room.member", {"membership": "join"}, guard.user_id)
    # Synapse is away when the policy server is named, and kith when Bob says what it should hear.
    await federation.synapse.stop(30)
    await set_state(alice, room_id, "m.room.policy", guard.policy)
    federation.kith.kill()
    await federation.synapse.start(90)
    for text in ("kind words", "spam words"):
        await say(bob, room_id, text)
    assert await asked(guard, room_id) == [], "Synapse knows of no policy server"
    await federation.kith.start(90)
    await alice.wait_for_message(room_id, "kind words", LONG)

    async def judged():
        return (alice.server_name, "spam words") in await asked(guard, room_id)

    await eventually(judged, LONG, "kith asks for the spam to be signed", every=0.1)
    await sees_state(bob, room_id, "m.room.policy", guard.policy)
    await talk(room_id, alice, bob)
    assert [text for text in await read(alice, room_id) if "words" in text] == ["kind words"]
    assert [text for text in await read(bob, room_id) if "words" in text] == ["kind words", "spam words"]


async def test_a_policy_server_that_is_away_stops_what_needs_it_with_an_error_in_time(federation, pair):
    """Of kith's users; Synapse's wait for more than a minute, and are told then."""
    alice, bob = pair
    with third_server(federation, ABSENT) as guard:
        room_id = await guarded(guard, alice, bob)
        for away in (guard.freeze, guard.close):
            away()
            begin = time.monotonic()
            error = await refused(say(alice, room_id, "nobody signs this"), "M_UNKNOWN")
            assert error.status == 502 and time.monotonic() - begin < BOUND, error
            if away == guard.freeze:
                guard.thaw()
                await talk(room_id, alice, bob, say="it is back")
    # A room gets rid of it without asking it. What comes to Synapse together with that is judged by what was before.
    await set_state(alice, room_id, "m.room.policy", {})

    async def rid_of_it():
        return await state(bob, room_id, "m.room.policy") == {}

    await eventually(rid_of_it, LONG, "the room has no policy server", every=0.1)
    await talk(room_id, alice, bob, say="free")
    for one in pair:
        assert "nobody signs this" not in await read(one, room_id)
