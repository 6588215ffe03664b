"""What must be true of a room on every node that is in it."""

from __future__ import annotations

from waiting import eventually


async def same_room(room_id: str, *clients) -> None:
    """Waits until all see the same state and the same messages."""
    async def equal():
        states = [await client.state(room_id) for client in clients]
        assert all(state == states[0] for state in states), [set(s.items()) ^ set(states[0].items()) for s in states]
        histories = [sorted(m.event_id for m in await client.history(room_id)) for client in clients]
        assert all(len(set(history)) == len(history) for history in histories), "an event appears twice"
        assert all(history == histories[0] for history in histories), [len(h) for h in histories]
        return True
    await eventually(equal, 20, "state and history are the same on all nodes", every=0.2)
