"""A kith node and a real Synapse: what was said while one of them was away for long, and finding what was said at a time."""

from __future__ import annotations

import pytest

from federated import LONG, in_room, meet, sees_state, set_state, talk
from waiting import eventually

pytestmark = pytest.mark.synapse

# More than either kind of server sends one by one, or fills in by asking once.
MANY = 60


async def test_who_missed_more_than_can_be_filled_in_has_the_rooms_state_and_reads_everything(host_and_guest):
    here, away = host_and_guest
    room_id = await meet(here, away)
    await away.node.stop(30)
    sent = []
    for number in range(MANY):
        sent.append(await here.send(room_id, f"message {number}"))
        if number == 5:
            await set_state(here, room_id, "m.room.topic", {"topic": "changed long ago"})
    await away.node.start(90)
    await here.send(room_id, "are you back?")
    await away.wait_for_message(room_id, "are you back?", LONG)
    await sees_state(away, room_id, "m.room.topic", {"topic": "changed long ago"})

    async def all_of_them():
        read = [message.event_id for message in await away.history(room_id) if message.event_id in sent]
        assert read == sent, (len(read), len(set(read)))
        return True

    await eventually(all_of_them, LONG, "all are read, each once and in order", every=0.5)
    await talk(room_id, here, away)


async def test_what_was_said_at_a_time_is_found_on_the_other_server_by_who_came_later(host_and_guest):
    host, guest = host_and_guest
    room_id = await host.create_room(encrypted=False)
    sent = [await host.send(room_id, f"message {number}") for number in range(30)]
    at = (await host.request("GET", in_room(room_id, f"event/{sent[3]}")))["origin_server_ts"]
    await host.invite(room_id, guest.user_id, LONG)
    await guest.accept(room_id, LONG, encrypted=False)
    path = f"/_matrix/client/v1/rooms/{room_id}/timestamp_to_event?ts={at}"

    async def found():
        # Several may have been sent within one millisecond.
        for direction in ("f", "b"):
            answer = await guest.request("GET", f"{path}&dir={direction}")
            assert answer["origin_server_ts"] == at and answer["event_id"] in sent[:8], answer
        return True

    await eventually(found, LONG, "the message of that time is found", every=0.2)
