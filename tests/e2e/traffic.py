"""People who keep writing whatever happens to their nodes, and the account that is taken afterwards."""

from __future__ import annotations

import asyncio
from collections import Counter

from checks import same_room
from client import MatrixError


class Talker:
    """A person who keeps writing. A message whose answer was lost is sent again under the same transaction id."""

    def __init__(self, client, room_id: str, messages: int | None = None):
        self.client = client
        self.room_id = room_id
        self.messages = messages
        self.acknowledged: dict[str, str] = {}
        self.finishing = False
        self.task = asyncio.create_task(self._talk())

    async def _talk(self) -> None:
        number = 0
        while number != self.messages and not self.finishing:
            body = f"{self.client.username} {number}"
            try:
                event_id = await self.client.send(self.room_id, body, transaction=f"t{number}")
            except MatrixError as error:
                # A node that is being stopped may say so; a client tries again.
                if error.status not in (502, 503, 504):
                    raise
                await asyncio.sleep(0.02)
                continue
            self.acknowledged[event_id] = body
            number += 1

    async def after(self, count: int) -> None:
        """Returns when this many were acknowledged."""
        while len(self.acknowledged) < count:
            if self.task.done():
                self.task.result()
                return
            await asyncio.sleep(0.005)

    async def finish(self, deadline: float = 60) -> None:
        """Lets it end its last message."""
        self.finishing = self.messages is None
        await asyncio.wait_for(self.task, deadline)


async def nothing_lost_nothing_twice(talkers: list[Talker], deadline: float = 60) -> None:
    """Every reader's node holds every acknowledged message once, and all nodes hold the same room."""
    readers = [talker.client for talker in talkers]
    for reader in readers:
        for talker in talkers:
            if talker.acknowledged:
                await reader.wait_for_message(talker.room_id, list(talker.acknowledged.values())[-1], deadline)
    room_id = talkers[0].room_id
    await same_room(room_id, *readers, deadline=deadline)
    for reader in readers:
        history = await reader.history(room_id)
        times = Counter(message.event_id for message in history)
        bodies = Counter(message.body for message in history)
        for talker in talkers:
            for event_id, body in talker.acknowledged.items():
                assert times[event_id] == 1, f"{reader.username} has {body!r} {times[event_id]} times"
                assert bodies[body] == 1, f"{reader.username} reads {body!r} {bodies[body]} times"
