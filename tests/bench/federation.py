"""Federation over HTTPS, kith beside Synapse: joining a room with 5,000 members, and how long a message is on its way."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import shutil
import statistics
import subprocess
import tempfile
import time
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

from measure import HERE, SENDERS, Figures, Run, machine, quiet, write

import sys  # noqa: E402  (measure puts the folder of the end-to-end tests first)

assert str(HERE.parent / "e2e") in sys.path

import certificates  # noqa: E402
from net import Network  # noqa: E402
from node import Node  # noqa: E402
from synapse import LOG_CONFIG, FederatedSynapse, Synapse  # noqa: E402
from waiting import eventually  # noqa: E402

# What was set out to reach, by how a row begins.
AIMS = [
    ("join of a room with 5,000 members: s from the last byte", "<= 1/10 of Synapse's"),
    ("delivery to a user of another server over HTTPS, 5 messages/s: p50", "p50 <= 1/5 of Synapse's, or the commits on the path + 3 ms"),
    ("events received in transactions", ">= 2,000"),
]
# An application service makes the members: its users need no passwords, whose hashing would take longer than their joins.
REGISTRATION = """
id: "crowd"
url: null
as_token: "crowd-as"
hs_token: "crowd-hs"
sender_localpart: "crowd"
rate_limited: false
namespaces: {users: [{exclusive: true, regex: "@crowd.*"}]}
"""
# When the resident had answered a request of another server, and how long it worked on it, as Synapse's log says.
ANSWERED = re.compile(
    r"^(?P<at>\S+ \S+) .*- \{(?P<from>[^}]+)\} Processed request: (?P<took>[0-9.]+)sec/.*\"(?P<what>(GET|PUT|POST) /_matrix/federation/\S+)"
)
AT_ONCE = 16
# Servers of each kind that join the large room, one after the other.
JOINS = 3


class Resident(FederatedSynapse):
    """A Synapse whose log says what it was asked for, and which lets a script make its crowd."""

    def configure(self, config: dict) -> None:
        super().configure(config)
        (self.folder / "crowd.yaml").write_text(REGISTRATION)
        with self.config_file.open("a") as file:
            file.write(f"app_service_config_files: [{self.folder}/crowd.yaml]\n")
        (self.folder / "log.yaml").write_text(LOG_CONFIG.replace("WARNING", "INFO"))


def kith(host, folder: Path, made: Path, name: str, federation_port: int, port: int) -> Node:
    return Node(host, folder, name=name, port=port, config={
        **quiet(),
        "server_name": f"localhost:{federation_port}",
        "federation": {
            "listen": [f"127.0.0.1:{federation_port}"],
            "tls_certificate": str(made / "cert.pem"), "tls_private_key": str(made / "key.pem"),
            "extra_roots": [str(made / "ca.pem")], "allow_private_addresses": True,
        },
        "p2p": {"enabled": False},
    })


async def crowd(resident: Run, room: str, count: int) -> None:
    """Brings members of the resident's own server into its room."""
    owner, turns, done = resident.users[0], asyncio.Semaphore(AT_ONCE), 0
    headers = {"Authorization": "Bearer crowd-as"}

    async def join(number: int) -> None:
        nonlocal done
        name, base = f"crowd{number}", resident.node.base_url
        body = {"type": "m.login.application_service", "username": name, "inhibit_login": True}
        async with turns, owner.nio.client_session.post(f"{base}/_matrix/client/v3/register", json=body, headers=headers) as made:
            assert made.status in (200, 400), await made.text()
        path = f"{base}/_matrix/client/v3/join/{quote(room)}?user_id={quote(f'@{name}:{resident.node.server_name}')}"
        async with turns, owner.nio.client_session.post(path, json={}, headers=headers) as joined:
            assert joined.status == 200, await joined.text()
        done += 1
        if done % 500 == 0:
            print(f"{done} members", flush=True)

    await asyncio.gather(*(join(number) for number in range(count)))


def worked(resident: Resident, server: str, since: int) -> list[tuple[float, float, str]]:
    """What a server asked the resident, by its log from a place on: when it was answered, for how many seconds it was worked on, and what
    it was."""
    with resident.stderr_file.open(errors="replace") as log:
        log.seek(since)
        answered = [match for match in map(ANSWERED.search, log) if match and match["from"] == server]
    for match in answered:
        print(f"  {match['at']} {match['took']} s for {match['what'][:90]}", flush=True)
    at = lambda match: datetime.strptime(match["at"], "%Y-%m-%d %H:%M:%S,%f").timestamp()  # noqa: E731
    return [(at(match), float(match["took"]), match["what"]) for match in answered]


def peak_memory(node: Node) -> float:
    """The most that the process had in memory, in MiB."""
    status = Path(f"/proc/{node.process.pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1024


async def join(joining: Run, resident: Run, room: str, members: int) -> list[float]:
    """A user of a server that has never heard of the room comes into it. Gives what JOIN says."""
    await joining.people(1)
    person, server = joining.users[0], joining.users[0].server_name
    since, idle, cpu = resident.node.stderr_file.stat().st_size, peak_memory(joining.node), joining.cpu_seconds()
    # The clock of the resident's log.
    begin = time.time()
    path = f"/_matrix/client/v3/join/{quote(room)}?via={resident.node.server_name}"
    await person.request("POST", path, {})
    usable = time.time() - begin
    answer = await person.request("GET", f"/_matrix/client/v3/rooms/{quote(room)}/members?membership=join")
    whole = time.time()
    assert len(answer["chunk"]) >= members, len(answer["chunk"])
    cpu = joining.cpu_seconds() - cpu
    asked = worked(resident.node, server, since)
    [let_in] = [at for at, _, request in asked if "/send_join/" in request]
    after = sum(took for at, took, _ in asked if at > let_in)
    return [whole - let_in - after, after, usable, cpu, peak_memory(joining.node), idle]


# What `join` gives: what it is, and how many decimals are told.
JOIN = [
    ("s from the last byte of `send_join` until the whole state is there, without the resident's share", 2),
    ("the resident's share of that in s", 2),
    ("s from the client's request until the user is in the room, with the resident's share", 2),
    ("CPU of the joining server in s", 2),
    ("peak memory in MiB", 0),
    ("memory before in MiB", 0),
]


async def measure_join(name: str, servers: list[Run], resident: Run, room: str, members: int, figures: Figures) -> None:
    """The medians of several servers that join one after the other."""
    joins = [await join(server, resident, room, members) for server in servers]
    for (what, decimals), values in zip(JOIN, zip(*joins, strict=True), strict=True):
        print(f"  {name}: {what}: {', '.join(f'{value:.{decimals}f}' for value in values)}", flush=True)
        figures.put(name, f"join of a room with {members:,} members: {what}", f"{statistics.median(values):.{decimals}f}")


async def measure_delivery(name: str, here: Run, there: Run, figures: Figures, counts: tuple[int, int, int]) -> None:
    """From the request of a sender to the sync of a user of the other server: at the pace of people, and as fast as one and many can."""
    await here.people(SENDERS)
    await there.people(1)
    created = await here.users[0].request("POST", "/_matrix/client/v3/createRoom", {"preset": "public_chat"})
    room = created["room_id"]
    for user in here.users[1:SENDERS]:
        await user.join(room)
    await there.users[0].request("POST", f"/_matrix/client/v3/join/{quote(room)}?via={here.users[0].server_name}", {})
    # Its reader's sync would be cut while the other server still fetches the room.
    await there.users[0].request("GET", f"/_matrix/client/v3/rooms/{quote(room)}/members")
    await here.result(1, "send", "--room", room, "--count", 5)

    async def arrived() -> bool:
        latest = await there.users[0].request("GET", f"/_matrix/client/v3/rooms/{quote(room)}/messages?dir=b&limit=5")
        return [event["type"] for event in latest["chunk"]] == ["m.room.message"] * 5

    await eventually(arrived, 60, "the first messages are there")
    kinds = (("5 messages/s", 1, 200), ("1 sender", 1, 0), (f"{SENDERS} senders", SENDERS, 0))
    for (what, senders, pace), count in zip(kinds, counts, strict=True):
        if not count:
            continue
        follower, cpu = there.load(1, "follow", "--room", room, "--count", count), there.cpu_seconds()
        assert await asyncio.to_thread(follower.stdout.readline) == "ready\n"
        sent = await here.result(senders, "send", "--room", room, "--senders", senders, "--count", count, "--pace", pace)
        seen = json.loads((await asyncio.to_thread(follower.communicate, None, 600))[0])
        cpu = there.cpu_seconds() - cpu
        figures.put(name, f"delivery to a user of another server over HTTPS, {what}: p50 / p99 in ms", f"{seen['p50']:.2f} / {seen['p99']:.2f}")
        if pace:
            figures.put(name, f"the sender's own server has it on its disk, {what}: p50 / p99 in ms", f"{sent['p50']:.2f} / {sent['p99']:.2f}")
            continue
        figures.put(name, f"delivery to a user of another server over HTTPS, {what}: messages/s", f"{seen['per_second']:,.0f}")
        figures.put(name, f"events received per second of the receiver's CPU, its reader's sync included, {what}", f"{count / cpu:,.0f}")


async def measure_transactions(name: str, here: Run, made: Path, figures: Figures, count: int) -> None:
    """Events of a server of another make, in transactions of 50 one after the other: verified, stored and on the disk when each is answered."""
    await here.people(1)
    created = await here.users[0].request("POST", "/_matrix/client/v3/createRoom", {"preset": "public_chat"})
    peer = subprocess.Popen(
        here.node.host.command(Synapse.python(), HERE / "transactions.py", "localhost:8490", here.users[0].server_name, created["room_id"], made, str(count)),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )
    assert await asyncio.to_thread(peer.stdout.readline) == "ready\n"
    cpu = here.cpu_seconds()
    result = json.loads((await asyncio.to_thread(peer.communicate, "go\n", 600))[0])
    cpu = here.cpu_seconds() - cpu
    assert result["accepted"] == count, result
    figures.put(name, "events received in transactions of 50 over HTTPS, per second of the receiver's CPU", f"{count / cpu:,.0f}")
    figures.put(name, "events received in transactions of 50 over HTTPS, per second", f"{count / result['seconds']:,.0f}")


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--members", type=int, default=5_000, help="members of the room that is joined (5,000)")
    parser.add_argument("--quick", action="store_true", help="a tenth of the load; prints and writes nothing")
    options = parser.parse_args()
    scale = 10 if options.quick else 1
    members = options.members // scale
    os.environ.setdefault("KITH_LOG", "warn")
    figures = Figures(AIMS)
    folder = Path(tempfile.mkdtemp(prefix="kith-bench-", dir=Path(os.environ["KITH_BENCH"]).parent))
    runs: list[Run] = []

    def run(node) -> Run:
        runs.append(Run(node))
        return runs[-1]

    try:
        about = machine(folder)
        with Network() as network:
            host = network.host("federation")
            made = certificates.make(Synapse.python(), folder / "certificates")
            resident = run(Resident(host, folder, made, "localhost:8448", name="resident", port=8018))
            await resident.node.start(90)
            await resident.people(1)
            created = await resident.users[0].request("POST", "/_matrix/client/v3/createRoom", {"preset": "public_chat"})
            await crowd(resident, created["room_id"], members)
            kiths = [run(kith(host, folder, made, f"kith-{port}", port + 442, port)) for port in range(8028, 8028 + JOINS)]
            others = [
                run(FederatedSynapse(host, folder, made, f"localhost:{port + 442}", name=f"synapse-{port}", port=port))
                for port in range(8058, 8058 + JOINS)
            ]
            for joining in (*kiths, *others):
                await joining.node.start(90)
            await measure_join("kith", kiths, resident, created["room_id"], members, figures)
            await measure_join("Synapse", others, resident, created["room_id"], members, figures)
            here, there, other = kiths[0], kiths[1], others[0]
            # They wait for nothing, but each takes memory and a little time.
            for idle in (*kiths[2:], *others[1:]):
                await idle.node.stop(30)
            # Nobody speaks in the large room: it costs nothing from here on.
            await measure_delivery("kith", here, there, figures, (200 // scale, 2_000 // scale, 10_000 // scale))
            await measure_transactions("kith", there, made, figures, 20_000 // scale)
            # Its reader's sync is cut where so many send as fast as they can.
            await measure_delivery("Synapse", resident, other, figures, (200 // scale, 300 // scale, 0))
        table = figures.table(["kith", "Synapse"])
        print(table)
        if not options.quick and options.members == 5_000:
            write("figures of federation", table, about)
    finally:
        for one in runs:
            await one.close()
            one.node.close()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    asyncio.run(main())
