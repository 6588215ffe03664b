"""What must be true of a room on every node that is in it."""

from __future__ import annotations

from waiting import eventually


async def same_room(room_id: str, *clients, deadline: float = 20) -> None:
    """Waits until all see the same state and the same messages.

    The state and the newest messages are asked for until they agree; the whole history, which may be long, only then.
    """
    async def newest(client) -> set[str]:
        return {message.event_id for message in await client.history(room_id, pages=1)}

    async def equal():
        states = [await client.state(room_id) for client in clients]
        assert all(state == states[0] for state in states), [set(s.items()) ^ set(states[0].items()) for s in states]
        latest = [await newest(client) for client in clients]
        # Of pages that are full, the ends may be cut differently.
        missing = [len(one - other) for one in latest for other in latest]
        assert all(count <= 10 for count in missing), f"so many of the newest messages are missing elsewhere: {missing}"
        histories = [sorted(m.event_id for m in await client.history(room_id)) for client in clients]
        assert all(len(set(history)) == len(history) for history in histories), "an event appears twice"
        assert all(history == histories[0] for history in histories), [len(h) for h in histories]
        return True
    await eventually(equal, deadline, "state and history are the same on all nodes", every=0.2)
