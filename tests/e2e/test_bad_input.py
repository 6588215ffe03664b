"""Bad input to a real process: a clear message or the specified error, and the node goes on."""

from __future__ import annotations

import asyncio
import json
import os
import random
import socket
import subprocess
from pathlib import Path

import pytest

from node import binary
from waiting import eventually

SEED = 20240607
# The user id of a user who owns nothing.
NOBODY = 65534


# --- starting

async def test_a_port_in_use_is_named_and_the_first_node_goes_on(lan):
    first = lan.node("alice")
    await first.start()
    second = lan.node_on(first.host, "second", port=first.port)
    second.spawn()
    assert await second.exit_code() == 6
    assert "127.0.0.1:8008" in second.output() and "in use" in second.output().lower(), second.output()
    await first.ready()


async def test_a_second_process_on_the_same_folder_is_refused_and_the_first_goes_on(lan):
    first = lan.node("alice")
    await first.start()
    alice = await lan.user(first)
    second = lan.node_on(first.host, "second", port=8009)
    second.data = first.data
    second.spawn()
    assert await second.exit_code() == 5
    assert str(first.data) in second.output(), second.output()
    room_id = await alice.create_room()
    await alice.send(room_id, "still here")


async def test_an_unknown_configuration_key_is_named_with_the_nearest_valid_one(lan):
    node = lan.node("alice", {"p2p": {"mdsn": "off"}})
    node.spawn()
    assert await node.exit_code() == 3
    assert "mdsn" in node.output() and "mdns" in node.output(), node.output()
    assert not node.data.exists() or not list(node.data.iterdir()), "nothing is made before the configuration is understood"


@pytest.mark.parametrize("text", ["[client\nlisten = 3", 'registration = "open"', "[limits]\nrate_limits = 7", "\x00\x01"])
async def test_a_configuration_that_cannot_be_read_is_refused_with_its_file_name(lan, text):
    node = lan.node("alice")
    node.config_file.write_text(text)
    node.spawn()
    assert await node.exit_code() == 3
    assert "kith.toml" in node.output(), node.output()
    assert "panicked" not in node.output()


def as_nobody(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Runs kith on a folder as a user who has nothing. The program is handed over open: its folder may be closed to them."""
    with open(binary(), "rb") as program:
        return subprocess.run(
            [f"/proc/self/fd/{program.fileno()}", *arguments, "--data", folder], pass_fds=[program.fileno()],
            user=NOBODY, group=NOBODY, extra_groups=[], env={"PATH": os.environ["PATH"]}, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=30,
        )


def test_a_configuration_that_may_not_be_read_is_never_taken_for_absent(open_folder):
    """With `gateway_zone` in it, the node would be made under a wrong name, for ever."""
    folder = open_folder / "data"
    folder.mkdir(mode=0o700)
    os.chown(folder, NOBODY, NOBODY)
    (folder / "kith.toml").write_text('gateway_zone = "mesh.example.org"')
    (folder / "kith.toml").chmod(0o600)
    done = as_nobody(folder, "serve")
    assert done.returncode == 3, done.stderr
    assert str(folder / "kith.toml") in done.stderr and "chown" in done.stderr, done.stderr
    assert [path.name for path in folder.iterdir()] == ["kith.toml"]


@pytest.mark.parametrize("name", ["server.key", "kith.lock", "kith.redb"])
async def test_a_file_of_root_s_in_the_data_folder_is_named_with_what_to_do(lan, open_folder, name):
    """As `sudo kith` leaves it on a folder that is somebody's."""
    node = lan.node("alice")
    node.data = open_folder / "data"
    await node.start()
    assert await node.stop() == 0
    for path in [node.data, *node.data.rglob("*")]:
        if path.name != name:
            os.chown(path, NOBODY, NOBODY)
    done = await asyncio.to_thread(as_nobody, node.data, "user", "list")
    assert done.returncode == 4, done
    assert str(node.data / name) in done.stderr and "must belong to the user who runs kith" in done.stderr, done.stderr


@pytest.mark.parametrize("names", [["thesis.docx", "holiday.jpg"], ["kith.redb"], ["server.key"]], ids=" ".join)
async def test_a_folder_that_holds_something_else_is_refused_and_left_as_it_is(lan, names):
    node = lan.node("alice")
    node.data.mkdir()
    strange = {name: random.Random(SEED).randbytes(5000) for name in names}
    for name, data in strange.items():
        (node.data / name).write_bytes(data)
    node.spawn()
    assert await node.exit_code() == 4
    assert str(node.data) in node.output(), node.output()
    assert "panicked" not in node.output()
    for name, data in strange.items():
        assert (node.data / name).read_bytes() == data


@pytest.mark.parametrize("damage", [
    lambda data: random.Random(SEED).randbytes(len(data)),
    # The header, as a disk leaves it that lost its first blocks.
    lambda data: bytes(4096) + data[4096:],
    # What the header points to: redb panics at that.
    lambda data: data[:4096] + bytes(len(data) - 4096),
    lambda data: data[: len(data) // 2],
], ids=["all", "the header", "all but the header", "half is missing"])
async def test_a_damaged_store_is_called_so_left_as_it_is_and_shows_no_panic(lan, damage):
    node = lan.node("alice")
    node.environment = {"KITH_LOG": "info"}
    await node.start()
    await lan.user(node)
    assert await node.stop() == 0
    store = node.data / "kith.redb"
    damaged = damage(store.read_bytes())
    store.write_bytes(damaged)
    found = next(found for found in json.loads(node.run("doctor", "--json", check=False).stdout) if found["check"] == "store")
    # Of a file that is cut short it cannot be told, without mending it, from one that a crash left.
    assert "is damaged" in found["message"] or "cannot be looked into" in found["message"], found
    node.stderr_file.write_text("")
    node.spawn()
    assert await node.exit_code() == 4
    said = node.stderr_file.read_text()
    assert f"{store} is damaged" in said and "put a copy of the data folder back" in said, said
    assert "panicked" not in said and "unreachable" not in said, said
    assert store.read_bytes() == damaged


async def test_a_data_path_that_is_a_file_is_refused(lan):
    node = lan.node("alice")
    node.data.write_text("not a folder")
    node.spawn()
    assert await node.exit_code() == 4
    assert str(node.data) in node.output() and "panicked" not in node.output(), node.output()


async def test_the_key_is_readable_by_its_owner_only(lan):
    node = lan.node("alice")
    os.umask(0)
    try:
        await node.start()
    finally:
        os.umask(0o022)
    assert node.data.stat().st_mode & 0o077 == 0
    for path in node.data.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path


# --- the client listener

async def test_malformed_and_oversized_requests_to_the_client_listener_get_an_error_and_the_node_goes_on(lan):
    node = lan.node("alice")
    await node.start()
    alice = await lan.user(node)
    room_id = await alice.create_room()
    head = f"Host: localhost:8008\r\nAuthorization: Bearer {alice.nio.access_token}\r\n"
    login = b"POST /_matrix/client/v3/login HTTP/1.1\r\nHost: localhost:8008\r\n"
    noise = random.Random(SEED)
    before = node.resident_bytes()

    close = b"Connection: close\r\n"
    cases = [
        (400, noise.randbytes(100_000)),
        (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + noise.randbytes(600)),
        (400, b"GET\r\n\r\n"),
        (400, b"GET / HTTP/9.9\r\n\r\n"),
        (431, b"GET /" + b"a" * 1_000_000 + b" HTTP/1.1\r\n\r\n"),
        (431, b"GET /_matrix/client/versions HTTP/1.1\r\nHost: localhost:8008\r\nX: " + b"a" * 10_000_000 + b"\r\n\r\n"),
        (431, b"GET /_matrix/client/versions HTTP/1.1\r\n" + b"X: y\r\n" * 100_000 + b"\r\n"),
        (404, b"GET /_matrix/client/v3/../../../etc/passwd HTTP/1.1\r\nHost: localhost:8008\r\n" + close + b"\r\n"),
        (400, b"GET /_matrix/client/v3/rooms/%ff%fe/state HTTP/1.1\r\n" + close + head.encode() + b"\r\n"),
        (400, login + b"Content-Length: -1\r\n\r\n{}"),
        (400, login + b"Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFF\r\n"),
        (400, login + close + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ]
    for expected, request in cases:
        # Of the chunk that is announced nothing comes; only its end is to be waited for.
        answer = await node.raw(request, deadline=10, half_close=b"FFFF\r\n" in request)
        assert answer.startswith(f"HTTP/1.1 {expected} ".encode()), (request[:60], answer[:200])
        await node.ready(5)
    assert node.resident_bytes() - before < 64_000_000
    assert "panicked" not in node.output()
    await alice.send(room_id, "still here")


@pytest.mark.parametrize("body, status, code", [
    (b"{", 400, "M_NOT_JSON"),
    (b"\xff\xfe", 400, "M_NOT_JSON"),
    (b"[" * 100_000, 400, "M_NOT_JSON"),
    (b"[]", 400, "M_BAD_JSON"),
    (b'{"user_id": 7}', 400, "M_BAD_JSON"),
    (b"{}", 400, None),
    (b'{"user_id": "' + b"a" * 20_000_000 + b'"}', 413, "M_TOO_LARGE"),
], ids=["cut", "no text", "deep", "array", "wrong type", "missing", "huge"])
async def test_a_body_that_is_not_what_the_endpoint_takes_gets_the_specified_error(lan, body, status, code):
    node = lan.node("alice")
    await node.start()
    alice = await lan.user(node)
    room_id = await alice.create_room()
    async with node.http() as http:
        answer = await http.post(
            f"/_matrix/client/v3/rooms/{room_id}/invite", data=body,
            headers={"Authorization": f"Bearer {alice.nio.access_token}", "Content-Type": "application/json"},
        )
        error = json.loads(await answer.read())
    assert answer.status == status, error
    assert code is None or error["errcode"] == code
    assert isinstance(error["error"], str)
    await node.ready(5)


async def test_unknown_paths_methods_and_tokens_get_the_specified_errors(lan):
    node = lan.node("alice")
    await node.start()
    cases = [
        ("GET", "/_matrix/client/v3/no_such_endpoint", {}, 404, "M_UNRECOGNIZED"),
        ("DELETE", "/_matrix/client/versions", {}, 405, "M_UNRECOGNIZED"),
        ("GET", "/_matrix/client/v3/account/whoami", {}, 401, "M_MISSING_TOKEN"),
        ("GET", "/_matrix/client/v3/account/whoami", {"Authorization": "Bearer nonsense"}, 401, "M_UNKNOWN_TOKEN"),
    ]
    async with node.http() as http:
        for method, path, headers, status, code in cases:
            answer = await http.request(method, path, headers=headers)
            error = json.loads(await answer.read())
            assert (answer.status, error["errcode"]) == (status, code), (method, path)


async def test_connections_that_say_nothing_do_not_keep_others_out(lan):
    node = lan.node("alice")
    await node.start()
    loop = asyncio.get_running_loop()
    silent = []
    try:
        for number in range(500):
            connection = node.host.socket()
            connection.setblocking(False)
            silent.append(connection)
            await asyncio.wait_for(loop.sock_connect(connection, ("127.0.0.1", node.port)), 5)
            await loop.sock_sendall(connection, b"GET /_matrix/client/versions HTTP/1.1\r\nHost: " if number % 2 else b"")
        await node.ready(5)
    finally:
        for connection in silent:
            connection.close()


async def test_whoever_is_silent_or_trickles_is_cut_off(lan):
    node = lan.node("alice")
    await node.start()
    post = b"POST /_matrix/client/v3/login HTTP/1.1\r\nHost: localhost:8008\r\nContent-Length: 5000\r\n\r\n"

    async def ended(first: bytes, again: bytes = b"") -> bytes:
        """What comes back before the node closes the connection, on which `again` is sent each second."""
        connection = node.host.socket()
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", node.port))
        reader, writer = await asyncio.open_connection(sock=connection)

        async def write():
            writer.write(first)
            while again:
                await asyncio.sleep(1)
                writer.write(again)

        writing = asyncio.create_task(write())
        try:
            return await asyncio.wait_for(reader.read(), 60)
        except ConnectionError:
            return b""
        finally:
            writing.cancel()
            writer.close()

    answers = await asyncio.gather(
        ended(b""), ended(b"PRI * HTTP/2.0\r\n"), ended(b"GET / HTTP/1.1\r\n", b"X: y\r\n"), ended(post), ended(post, b" "),
    )
    assert answers[:3] == [b""] * 3
    for answer in answers[3:]:
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 408") and json.loads(body)["errcode"], answer


async def test_bodies_of_strangers_are_not_taken_in(lan):
    node = lan.node("alice")
    await node.start()
    # Nothing of the body is sent: who must wait for it before refusing would not answer.
    for path, size, status in [("createRoom", 8_000_000, b"401"), ("createRoom", 99_000_000, b"401")]:
        head = f"POST /_matrix/client/v3/{path} HTTP/1.1\r\nHost: localhost:8008\r\nContent-Length: {size}\r\n\r\n"
        answer = await node.raw(head.encode(), deadline=5)
        assert answer.split(b" ", 2)[1] == status, answer
    async with node.http() as http:
        answer = await http.post("/_matrix/client/v3/login", data=b'{"type": "' + b"x" * 100_000 + b'"}')
        assert (answer.status, (await answer.json())["errcode"]) == (413, "M_TOO_LARGE")


async def test_an_event_nested_too_deeply_is_refused_and_the_room_goes_on(lan):
    node = lan.node("alice")
    await node.start()
    alice = await lan.user(node)
    room_id = await alice.create_room()
    headers = {"Authorization": f"Bearer {alice.nio.access_token}"}
    statuses = []
    async with node.http() as http:
        for levels in range(110, 130):
            body = '{"body":"x","a":' + "[" * levels + "]" * levels + "}"
            path = f"/_matrix/client/v3/rooms/{room_id}/send/m.room.message/{levels}"
            answer = await http.put(path, data=body, headers=headers)
            statuses.append(answer.status)
            if answer.status != 200:
                assert (answer.status, (await answer.json())["errcode"]) == (400, "M_BAD_JSON")
            for rest in (f"rooms/{room_id}/messages?dir=b&limit=1", "sync?timeout=0"):
                assert (await http.get(f"/_matrix/client/v3/{rest}", headers=headers)).status == 200, (levels, rest)
    assert statuses[0] == 200 and statuses[-1] == 400
    await alice.send(room_id, "still here")


async def test_a_web_page_of_another_host_name_cannot_talk_to_the_node(lan):
    """DNS rebinding: a page of evil.example whose name now points to 127.0.0.1 sends its own Host."""
    node = lan.node("alice")
    await node.start()
    async with node.http() as http:
        answer = await http.get("/_matrix/client/v3/login", headers={"Host": "evil.example"})
        assert answer.status in (403, 421), await answer.text()


# --- the peer listeners

async def test_garbage_on_the_peer_ports_does_not_disturb_two_who_talk(lan):
    listen = ["/ip4/0.0.0.0/udp/4001/quic-v1", "/ip4/0.0.0.0/tcp/4001"]
    here, there = lan.node("alice", {"p2p": {"listen": listen}}), lan.node("bob")
    stranger = lan.network.host("stranger")
    await asyncio.gather(here.start(), there.start())
    alice, bob = await asyncio.gather(lan.user(here), lan.user(there))
    room_id = await lan.room_of(alice, bob)
    noise = random.Random(SEED)
    before = here.resident_bytes()

    datagrams = stranger.socket(kind=socket.SOCK_DGRAM)
    for size in [0, 1, 20, 1200, 1200, 1452] * 500:
        # The bits that make a QUIC long header, so that half of them go further than the first check.
        datagrams.sendto(bytes([noise.choice((0xC0, noise.randrange(256)))]) + noise.randbytes(size), (here.host.ipv4, 4001))
    datagrams.close()

    loop = asyncio.get_running_loop()
    for opening in (b"", b"\x13/multistream/1.0.0\n", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff", b"GET / HTTP/1.1\r\n\r\n"):
        stream = stranger.socket()
        stream.setblocking(False)
        await asyncio.wait_for(loop.sock_connect(stream, (here.host.ipv4, 4001)), 5)
        try:
            for _ in range(50):
                await asyncio.wait_for(loop.sock_sendall(stream, opening + noise.randbytes(20_000)), 5)
        except (ConnectionError, TimeoutError, asyncio.TimeoutError):
            pass
        stream.close()

    await bob.send(room_id, "did you hear that?")
    await alice.wait_for_message(room_id, "did you hear that?")
    await alice.send(room_id, "no")
    await bob.wait_for_message(room_id, "no")
    assert here.resident_bytes() - before < 64_000_000
    assert "panicked" not in here.output()


# --- the disk

async def test_on_a_full_disk_writes_are_refused_reads_go_on_and_space_mends_it(lan, small_disk):
    node = lan.node("alice")
    node.data = small_disk / "data"
    await node.start()
    alice = await lan.user(node)
    room_id = await alice.create_room()
    kept = await alice.send(room_id, "before")

    filler = small_disk / "filler"
    for left_free in (32 * 1024 * 1024, 0):
        fill(filler, small_disk, left_free)
        answer = await eventually(lambda: refusal(alice, room_id), 20, "sends are refused")
        assert answer == (507, "M_RESOURCE_LIMIT_EXCEEDED")
        assert kept in {message.event_id for message in await alice.history(room_id)}
        assert (await alice.request("GET", "/_matrix/client/v3/account/whoami"))["user_id"] == alice.user_id
        await alice.request("GET", "/_matrix/client/v3/sync")

    filler.unlink()
    await eventually(lambda: alice.send(room_id, "after"), 20, "sends work again")
    node.kill()
    await node.start()
    assert {"before", "after"} <= {message.body for message in await alice.history(room_id)}
    assert "panicked" not in node.output()


async def test_on_a_full_disk_a_node_still_starts_shows_its_rooms_and_says_how_it_is(lan, small_disk):
    """A device that was switched off and on again because "nothing works any more"."""
    node = lan.node("alice")
    node.data = small_disk / "data"
    await node.start()
    alice = await lan.user(node)
    room_id = await alice.create_room()
    kept = await alice.send(room_id, "before")
    fill(small_disk / "filler", small_disk, 0)
    await eventually(lambda: refusal(alice, room_id), 20, "sends are refused")

    node.kill()
    await node.start()
    assert kept in {message.event_id for message in await alice.history(room_id)}
    joined = (await alice.request("GET", "/_matrix/client/v3/sync"))["rooms"]["join"]
    assert kept in {event["event_id"] for event in joined[room_id]["timeline"]["events"]}
    assert json.loads(node.run("status", "--json").stdout)["accounts"] == 1
    problems = [found for found in json.loads(node.run("doctor", "--json", check=False).stdout) if found["level"] == "problem"]
    assert [found["check"] for found in problems] == ["disk"], problems


async def test_a_node_without_an_account_says_how_it_is_on_a_full_disk(lan, small_disk):
    """The setup link cannot be noted then; that must not hide everything else."""
    node = lan.node("alice", {"registration": {"mode": "setup"}})
    node.data = small_disk / "data"
    await node.start()
    assert await node.stop() == 0
    fill(small_disk / "filler", small_disk, 0)
    await node.start()
    status = json.loads(node.run("status", "--json").stdout)
    assert "setup_link" not in status and status["store"]["free_bytes"] < 64 * 1024 * 1024
    problems = [found for found in json.loads(node.run("doctor", "--json", check=False).stdout) if found["level"] == "problem"]
    assert [found["check"] for found in problems] == ["disk"], problems


async def refusal(client, room_id: str):
    from client import MatrixError
    try:
        await client.send(room_id, "does this fit?")
    except MatrixError as error:
        return error.status, error.code
    return None


def fill(filler, disk, left_free: int) -> None:
    """Writes a file until only so many bytes are free."""
    with open(filler, "ab") as file:
        try:
            while (free := os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize) > left_free:
                file.write(b"\0" * min(1024 * 1024, free - left_free))
                file.flush()
        except OSError:
            assert left_free == 0


# --- the clock

@pytest.mark.parametrize("shift, told, mended", [
    ("@1970-01-02 00:00:00", "which is years behind", None),
    ("+3650d", "which is probably years ahead", "If the clock is right now, it was wrong before: nothing to do"),
], ids=["1970", "ten years ahead"])
async def test_two_devices_chat_when_the_clock_of_one_is_far_off_and_its_owner_is_told(lan, libfaketime, shift, told, mended):
    here, there = lan.node("alice"), lan.node("bob")
    here.environment = {"LD_PRELOAD": libfaketime, "FAKETIME": shift, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    await asyncio.gather(here.start(), there.start())
    # The page answers a moment before everything is said.
    await eventually(lambda: told in here.output() and "Set the device's clock" in here.output(), 10, "the owner is told")
    found = clock_of(here)
    assert found["level"] == "problem" and told in found["message"], found
    alice, bob = await asyncio.gather(lan.user(here), lan.user(there))
    room_id = await lan.room_of(alice, bob)
    await alice.send(room_id, "what year is it?")
    await bob.wait_for_message(room_id, "what year is it?")
    await bob.send(room_id, "not yours")
    await alice.wait_for_message(room_id, "not yours")

    # The clock is set right while the node is off.
    assert await here.stop() == 0
    here.environment = {}
    assert_clock(clock_of(here), mended)
    here.stderr_file.write_text("")
    await here.start()
    assert_clock(clock_of(here), mended)
    if mended:
        await eventually(lambda: mended in here.stderr_file.read_text(), 10, "the first lines tell it too")
    await alice.send(room_id, "and now?")
    await bob.wait_for_message(room_id, "and now?")


def clock_of(node) -> dict:
    """What `kith doctor` finds about the clock."""
    return next(found for found in json.loads(node.run("doctor", "--json", check=False).stdout) if found["check"] == "clock")


def assert_clock(found: dict, remedy: str | None) -> None:
    """That doctor calls the clock right, or says this of it."""
    if remedy is None:
        assert found["level"] == "ok", found
    else:
        assert found["level"] == "note" and found["remedy"].startswith(remedy) and "until 20" in found["remedy"], found
