"""A server that is away for long: how often it is asked for, and what it gets when it is back."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket

import pytest

from federated import LONG, meet
from waiting import eventually

pytestmark = pytest.mark.synapse

FAST_PORT = 8452
# Virtual seconds in each real one.
SPEED = 120


@contextlib.asynccontextmanager
async def hanging_up(host, port: int):
    """Somebody at a port who ends each connection at once. Gives the list of the times at which they came."""
    loop, came = asyncio.get_running_loop(), []
    listening = host.socket()
    listening.setblocking(False)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind(("127.0.0.1", port))
    listening.listen(64)

    async def serve():
        while True:
            connection, _ = await loop.sock_accept(listening)
            came.append(loop.time())
            connection.close()

    task = asyncio.create_task(serve())
    try:
        yield came
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        listening.close()


async def test_a_server_that_is_gone_for_an_hour_is_asked_for_seldom_and_gets_all_when_it_is_back(federation, libfaketime):
    node = federation.kith_node("fast", FAST_PORT, port=8038)
    node.environment = {"LD_PRELOAD": libfaketime, "FAKETIME": f"+0 x{SPEED}", "FAKETIME_TIMER": "1"}
    await federation.run(node, federation.synapse)
    alice, bob = await federation.user(node, "alice"), await federation.user(federation.synapse, "bob-the-absent")
    room_id = await meet(alice, bob)
    await federation.synapse.stop(30)

    def status():
        return json.loads(node.run("status", "--json").stdout)

    async with hanging_up(federation.host, federation.synapse.federation_port) as came:
        begin = status()["now_ms"]
        for number in range(3):
            await alice.send(room_id, f"message {number}")
        await eventually(lambda: status()["now_ms"] > begin + 3_600_000, 90, "an hour passes", every=1)
        queue = next(queue for queue in status()["queues"] if queue["destination"] == federation.synapse.server_name)
        assert queue["rooms"] == 1 and queue["away_since_ms"] >= begin, queue
        # Once at first, then after 1, 2, 4 ... seconds, and every ten minutes in the end; each time may take some connections.
        assert 8 <= len(came) <= 60, len(came)
    await federation.synapse.start(90)
    for number in range(3):
        await bob.wait_for_message(room_id, f"message {number}", LONG)
    await bob.send(room_id, "back again")
    await alice.wait_for_message(room_id, "back again", LONG)
    assert await node.stop(30) == 0
