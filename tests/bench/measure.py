"""The benchmarks: starts the servers, lets `kith-bench` load them and writes docs/benchmarks.md."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "e2e"))

from client import Client  # noqa: E402
from net import Network  # noqa: E402
from node import REPOSITORY, Node  # noqa: E402
from synapse import Synapse  # noqa: E402

SENDERS = 32
TICK = os.sysconf("SC_CLK_TCK")
# What was set out to reach, by how a row begins.
AIMS = [
    ("delivery to another node's user over the LAN, 1 sender: p50", "the commits on the path + 3 ms"),
    ("memory of an idle", "<= 30"),
    ("local send, 32 senders: messages", ">= 20 x Synapse"),
    ("local send, 32 senders: p50", "p99 within 3 commits"),
    ("local send, 32 senders: CPU", "<= 0.25"),
    ("local send, 32 senders in 32 rooms: messages", ">= 20 x Synapse"),
    ("local send, 32 senders in 32 rooms: CPU", "<= 0.25"),
    ("send to another local user's sync", "p50 <= 1/5 of Synapse's"),
    (f"rooms created by {SENDERS} users: rooms/s", ">= 750"),
    ("first sync of 200", "<= 15"),
    ("first sync of 1,000", "<= 1/20 of Synapse's"),
    ("sync with nothing new among 1,000 rooms: CPU", "<= 1"),
    ("sliding sync with 1,000 rooms", "<= 1"),
    ("memory of 100 syncs", "<= 5"),
    ("file after compaction", "<= 1.6"),
    ("start after kill -9", "<= 200"),
]


class Run:
    """One server under measurement, with its users."""

    def __init__(self, node: Node):
        self.node = node
        self.users: list[Client] = []

    async def people(self, count: int) -> None:
        """Makes accounts up to this many."""
        while len(self.users) < count:
            self.users.append(await Client.register(self.node, f"user{len(self.users)}", sync=False))

    async def room(self, members: int) -> str:
        """A room in the clear with so many members of this server."""
        await self.people(members)
        created = await self.users[0].request("POST", "/_matrix/client/v3/createRoom", {"preset": "public_chat"})
        for user in self.users[1:members]:
            await user.join(created["room_id"])
        return created["room_id"]

    async def close(self) -> None:
        for user in self.users:
            await user.close()

    def load(self, users: int, *arguments, stdin: int = subprocess.DEVNULL) -> subprocess.Popen:
        """Starts `kith-bench` on the server's host."""
        tokens = [word for user in self.users[:users] for word in ("--token", user.nio.access_token)]
        return subprocess.Popen(
            self.node.host.command(
                os.environ["KITH_BENCH"], "--server", f"127.0.0.1:{self.node.port}", *tokens, *map(str, arguments)
            ),
            stdin=stdin, stdout=subprocess.PIPE, text=True,
        )

    async def result(self, users: int, *arguments) -> dict:
        """Runs `kith-bench` to its end. Adds the milliseconds of the server's CPU time per thing done."""
        before = self.cpu_seconds()
        process = self.load(users, *arguments)
        out = await asyncio.to_thread(process.communicate)
        assert process.returncode == 0, arguments
        figures = json.loads(out[0].splitlines()[-1])
        figures["cpu"] = (self.cpu_seconds() - before) * 1000 / figures["count"]
        return figures

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.node.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICK

    def stored_bytes(self) -> int:
        folder = self.node.data if self.node.data.exists() else self.node.folder
        return sum(
            path.stat().st_blocks * 512 for path in folder.rglob("*")
            if path.is_file() and "client-" not in str(path) and path.suffix != ".log"
        )


class Figures:
    """Rows of the table: what, the unit, and one value per server."""

    def __init__(self, aims: list[tuple[str, str]]):
        self.rows: dict[str, dict[str, str]] = {}
        self.aims = aims

    def put(self, server: str, what: str, value: str) -> None:
        print(f"{server:8} {what}: {value}", flush=True)
        self.rows.setdefault(what, {})[server] = value

    def sends(self, server: str, what: str, figures: dict) -> None:
        self.put(server, f"{what}: messages/s", f"{figures['per_second']:,.0f}")
        self.put(server, f"{what}: p50 / p99 in ms", f"{figures['p50']:.2f} / {figures['p99']:.2f}")
        self.put(server, f"{what}: CPU of the server per message in ms", f"{figures['cpu']:.2f}")

    def table(self, servers: list[str]) -> str:
        lines = ["| what | " + " | ".join(servers) + " | aim |", "| --- |" + " --- |" * (len(servers) + 1)]
        for what, values in self.rows.items():
            aim = next((aim for begin, aim in self.aims if what.startswith(begin)), "")
            lines.append(f"| {what} | " + " | ".join(values.get(server, "") for server in servers) + f" | {aim} |")
        return "\n".join(lines)


async def settled_memory(node: Node) -> int:
    """Resident memory once it no longer moves: the same, within 1 %, for three seconds."""
    last, since = node.resident_bytes(), time.monotonic()
    end = since + 60
    while time.monotonic() - since < 3 and time.monotonic() < end:
        await asyncio.sleep(0.2)
        now = node.resident_bytes()
        if abs(now - last) > last / 100:
            last, since = now, time.monotonic()
    return node.resident_bytes()


SLIDING = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync"
EXTENSIONS = ("to_device", "e2ee", "account_data", "receipts", "typing")


async def measure_sliding(name: str, run: Run, figures: Figures, count: int) -> None:
    """How long after a message is acknowledged it stands in the sliding sync of a user with many rooms, who waits for it."""
    await run.people(2)
    room = await run.room(2)
    reader, writer = run.users[0], run.users[1]
    body = {
        "lists": {"all": {"ranges": [[0, 19]], "timeline_limit": 1, "required_state": [["m.room.name", ""]]}},
        "extensions": {extension: {"enabled": True} for extension in EXTENSIONS},
    }
    position = (await reader.request("POST", SLIDING, body, query={"timeout": "0"}))["pos"]
    later = []
    for number in range(count):
        waits = asyncio.create_task(reader.request("POST", SLIDING, body, query={"timeout": "30000", "pos": position}))
        # It has arrived at the server by then; if not, it only takes longer.
        await asyncio.sleep(0.01)

        async def say(number=number) -> float:
            await writer.request("PUT", f"/_matrix/client/v3/rooms/{room}/send/m.room.message/slide{number}", {"msgtype": "m.text", "body": "x"})
            return time.perf_counter()

        said = asyncio.create_task(say())
        answer = await waits
        seen = time.perf_counter()
        assert room in answer["rooms"], answer
        position = answer["pos"]
        later.append((seen - await said) * 1000)
    later.sort()
    figures.put(name, "sliding sync with 1,000 rooms: ms from the acknowledgement to the reader, p50 / p95", f"{later[count // 2]:.2f} / {later[count * 95 // 100]:.2f}")


async def measure_server(name: str, run: Run, figures: Figures, scale: float, filling: int) -> None:
    """What one server does alone."""
    node = run.node
    megabytes = lambda value: f"{value / 2**20:.0f}"  # noqa: E731
    await node.start(60)
    figures.put(name, "memory of an idle new node in MiB", megabytes(await settled_memory(node)))

    room = await run.room(SENDERS)
    slow = isinstance(node, Synapse)
    alone, many = (int((300 if slow else 3_000) * scale), int((2_000 if slow else 30_000) * scale))
    await run.result(1, "send", "--room", room, "--count", max(20, alone // 10))
    figures.sends(name, "local send, 1 sender", await run.result(1, "send", "--room", room, "--count", alone))
    figures.sends(name, f"local send, {SENDERS} senders", await run.result(
        SENDERS, "send", "--room", room, "--senders", SENDERS, "--count", many
    ))

    follower = run.load(1, "follow", "--room", room, "--count", alone)
    assert await asyncio.to_thread(follower.stdout.readline) == "ready\n"
    await run.result(1, "send", "--room", room, "--count", alone)
    seen = json.loads((await asyncio.to_thread(follower.communicate))[0])
    figures.put(name, "send to another local user's sync: p50 / p99 in ms", f"{seen['p50']:.2f} / {seen['p99']:.2f}")

    count = int(200 * max(scale, 0.1))
    made = await run.result(1, "rooms", "--count", count)
    figures.put(name, "rooms created by one user: rooms/s", f"{made['per_second']:.0f}")
    first = await run.result(1, "sync", "--count", 10)
    figures.put(name, f"first sync of {count} rooms: p50 in ms", f"{first['p50']:.0f}")
    rest = max(int(1_000 * scale) - count, 1)
    await run.result(1, "rooms", "--count", rest)
    first = await run.result(1, "sync", "--count", 5)
    figures.put(name, f"first sync of {count + rest:,} rooms: p50 in ms", f"{first['p50']:.0f}")
    await measure_sliding(name, run, figures, 200)
    nothing = await run.result(1, "nothing", "--count", int(2_000 * scale))
    what = f"sync with nothing new among {count + rest:,} rooms: "
    figures.put(name, what + "p50 / p99 in ms", f"{nothing['p50']:.2f} / {nothing['p99']:.2f}")
    figures.put(name, what + "CPU of the server in ms", f"{nothing['cpu']:.2f}")
    await node.stop(60)
    await node.start(60)
    await run.result(1, "sync", "--count", 1)
    memory = await settled_memory(node)
    figures.put(name, f"memory with {count + rest:,} rooms, after a restart and a sync, in MiB", megabytes(memory))
    waiting = run.load(1, "wait", "--count", 100, stdin=subprocess.PIPE)
    assert await asyncio.to_thread(waiting.stdout.readline) == "ready\n"
    figures.put(name, "memory of 100 syncs that wait in MiB", f"{(await settled_memory(node) - memory) / 2**20:.1f}")
    await asyncio.to_thread(waiting.communicate)
    assert waiting.returncode == 0, "a sync did not wait"

    made = await run.result(SENDERS, "rooms", "--senders", SENDERS, "--count", int((100 if slow else 3_000) * scale))
    figures.put(name, f"rooms created by {SENDERS} users: rooms/s", f"{made['per_second']:.0f}")
    figures.put(name, f"rooms created by {SENDERS} users: CPU of the server per room in ms", f"{made['cpu']:.2f}")
    rooms = [word for _ in range(SENDERS) for word in ("--room", await run.room(SENDERS))]
    figures.sends(name, f"local send, {SENDERS} senders in {SENDERS} rooms", await run.result(
        SENDERS, "send", *rooms, "--senders", SENDERS, "--count", many
    ))

    before = run.stored_bytes()
    await run.result(SENDERS, "send", "--room", room, "--senders", SENDERS, "--count", filling, "--ciphertext", 500)
    await node.stop(60)
    figures.put(name, "stored bytes per message with 500 bytes of ciphertext", f"{(run.stored_bytes() - before) / filling:,.0f}")

    if not slow:
        done = subprocess.run(
            [os.environ["KITH_BENCH"], "compact", str(node.data)], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True,
        )
        sizes = json.loads(done.stdout)
        figures.put(name, f"file after compaction, {sizes['events']:,} events: times their JSON", f"{sizes['file'] / sizes['json']:.2f}")

    total = 2 * many + 2 * alone + filling
    starts = []
    for _ in range(5):
        starts.append(await start_time(node))
        node.kill()
    figures.put(name, f"start after kill -9 to the first answered request, {total:,} messages stored, median in ms",
                f"{sorted(starts)[2] * 1000:.0f}")
    await node.start(60)


async def start_time(node: Node) -> float:
    """Seconds from spawning to the first answer, asking every millisecond."""
    begin = time.monotonic()
    node.spawn()
    while time.monotonic() - begin < 120:
        answer = b""
        try:
            with node.host.socket() as connection:
                connection.settimeout(60)
                connection.connect(("127.0.0.1", node.port))
                connection.sendall(b"GET /_matrix/client/versions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                answer = connection.recv(64)
        except ConnectionError:
            pass
        if answer.startswith(b"HTTP/1.1 200"):
            return time.monotonic() - begin
        await asyncio.sleep(0.001)
    raise AssertionError("did not start")


async def measure_pair(network: Network, folder: Path, figures: Figures, scale: float) -> None:
    """Delivery from one kith node to another over the LAN."""
    runs = [Run(Node(network.host(name), folder, quiet())) for name in ("here", "there")]
    here, there = runs
    try:
        for run in runs:
            await run.node.start()
            await run.people(1)
        room = (await here.users[0].request("POST", "/_matrix/client/v3/createRoom", {"preset": "private_chat"}))["room_id"]
        await here.users[0].invite(room, there.users[0].user_id)
        await there.users[0].join(room)
        for what, senders, count in (("1 sender", 1, int(2_000 * scale)), (f"{SENDERS} senders", SENDERS, int(10_000 * scale))):
            follower = there.load(1, "follow", "--room", room, "--count", count)
            assert await asyncio.to_thread(follower.stdout.readline) == "ready\n"
            await here.result(1, "send", "--room", room, "--senders", senders, "--count", count)
            seen = json.loads((await asyncio.to_thread(follower.communicate, None, 120))[0])
            figures.put("kith", f"delivery to another node's user over the LAN, {what}: messages/s", f"{seen['per_second']:,.0f}")
            figures.put("kith", f"delivery to another node's user over the LAN, {what}: p50 / p99 in ms",
                        f"{seen['p50']:.2f} / {seen['p99']:.2f}")
    finally:
        for run in runs:
            await run.close()
            run.node.close()


def quiet() -> dict:
    """As a user would run it, but for the rate limits."""
    return {"limits": {"rate_limits": "off"}}


def machine(folder: Path) -> str:
    """What the figures depend on."""
    cpu = next((line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                if line.startswith("model name")), platform.machine())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    times = []
    with open(folder / "sync", "wb") as file:
        for _ in range(200):
            begin = time.perf_counter()
            file.write(b"x" * 4096)
            file.flush()
            os.fsync(file.fileno())
            times.append((time.perf_counter() - begin) * 1000)
    times.sort()
    return (f"{os.cpu_count()} cores of {cpu}, {memory:.0f} GiB, Linux {platform.release().split('-')[0]}; "
            f"a write of 4 KiB with fsync takes {times[100]:.2f} ms (p50), {times[198]:.2f} ms (p99)")


def commit() -> str:
    """The measured commit."""
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=REPOSITORY, capture_output=True, text=True)
    return done.stdout.strip()


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the load; prints and writes nothing")
    parser.add_argument("--only", choices=["kith", "synapse", "pair"], help="one part; prints and writes nothing")
    options = parser.parse_args()
    scale = 0.1 if options.quick else 1.0
    os.environ.setdefault("KITH_LOG", "warn")
    figures = Figures(AIMS)
    folder = Path(tempfile.mkdtemp(prefix="kith-bench-", dir=Path(os.environ["KITH_BENCH"]).parent))
    try:
        about = machine(folder)
        with Network() as network:
            if options.only in (None, "pair"):
                await measure_pair(network, folder, figures, scale)
            servers = [("kith", Node, 70_000), ("Synapse", Synapse, 3_000)]
            for name, kind, filling in servers:
                if options.only not in (None, name.lower()):
                    continue
                run = Run(kind(network.host(name.lower()), folder, quiet()))
                try:
                    await measure_server(name, run, figures, scale, int(filling * scale))
                finally:
                    await run.close()
                    run.node.close()
        table = figures.table(["kith", "Synapse"])
        print(table)
        if not (options.quick or options.only):
            write("figures", table, about)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write(what: str, table: str, about: str) -> None:
    """Puts figures between their marks in docs/benchmarks.md."""
    page = REPOSITORY / "docs" / "benchmarks.md"
    text = page.read_text()
    begin, end = f"<!-- {what} -->\n", f"<!-- end of {what} -->\n"
    head, rest = text.split(begin, 1)
    _, tail = rest.split(end, 1)
    day = time.strftime("%Y-%m-%d")
    page.write_text(f"{head}{begin}\n{day}, commit {commit()}: {about}.\n\n{table}\n\n{end}{tail}")


if __name__ == "__main__":
    asyncio.run(main())
