"""The first start without any configuration, the owner's account, and the owner's commands."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pty
import re
from signal import SIGINT, SIGTERM

import pytest

from client import PASSWORD, Client
from waiting import eventually


def unconfigured(lan, name: str):
    """A node as it comes: no configuration at all."""
    node = lan.node(name)
    node.config_file.write_text("")
    return node


async def setup_token(node) -> str:
    """The secret of the link that the node prints."""
    link = await eventually(
        lambda: re.search(r"http://localhost:8008/#/setup/(\S+)", node.output()), 10, "the setup link is printed"
    )
    return link.group(1)


async def register_with(http, username: str, token: str):
    """Registers through the stage of the setup link. Returns the status and the answer."""
    wanted = {"username": username, "password": PASSWORD}
    async with http.post("/_matrix/client/v3/register", json=wanted) as answer:
        body = await answer.json()
        if answer.status != 401:
            return answer.status, body
    assert ["m.login.registration_token"] in [flow["stages"] for flow in body["flows"]]
    auth = {"type": "m.login.registration_token", "token": token, "session": body["session"]}
    async with http.post("/_matrix/client/v3/register", json={**wanted, "auth": auth}) as answer:
        return answer.status, await answer.json()


async def test_two_unconfigured_devices_chat_after_each_owner_used_the_link_that_the_first_start_printed(lan):
    nodes = [unconfigured(lan, "alice"), unconfigured(lan, "bob")]
    people = []
    for node in nodes:
        await node.start()
        async with node.http() as http:
            status, account = await register_with(http, node.name, await setup_token(node))
        assert status == 200, account
        people.append(await Client.login(node, node.name))
        lan.clients.append(people[-1])
    alice, bob = people
    room_id = await lan.room_of(alice, bob)
    await alice.send(room_id, "no configuration")
    await bob.wait_for_message(room_id, "no configuration")


async def test_the_setup_link_makes_one_account_and_a_wrong_one_none(lan):
    node = unconfigured(lan, "alice")
    await node.start()
    token = await setup_token(node)
    async with node.http() as http:
        wrong = ("A" if token[0] != "A" else "B") + token[1:]
        status, answer = await register_with(http, "mallory", wrong)
        assert status in (401, 403) and "access_token" not in answer
        status, answer = await register_with(http, "alice", token)
        assert status == 200 and answer["user_id"].startswith("@alice:")
        status, answer = await register_with(http, "mallory", token)
        assert status in (401, 403) and "access_token" not in answer
    assert token not in node.stderr_file.read_text(), "the secret is in the log"


async def test_accounts_are_added_and_passwords_set_on_a_running_and_on_a_stopped_node(lan):
    node = unconfigured(lan, "alice")
    await node.start()
    node.run("user", "add", "alice", "--admin", "--password-stdin", feed=PASSWORD + "\n")
    assert await node.stop() == 0
    node.run("user", "add", "bob", "--password-stdin", feed=PASSWORD + "\n")
    await node.start()
    for name in ("alice", "bob"):
        lan.clients.append(await Client.login(node, name))
    listed = node.run("user", "list", "--json").stdout
    assert all(f"@{name}:" in listed for name in ("alice", "bob"))

    node.run("user", "deactivate", "bob", "--yes")
    async with node.http() as http:
        who = {"type": "m.login.password", "identifier": {"type": "m.id.user", "user": "bob"}, "password": PASSWORD}
        async with http.post("/_matrix/client/v3/login", json=who) as answer:
            assert answer.status == 403


async def test_peers_and_status_tell_the_owner_who_is_near_and_that_nothing_waits(lan):
    alice, bob = await lan.pair()
    room_id = await lan.room_of(alice, bob)
    await alice.send(room_id, "hello")
    await bob.wait_for_message(room_id, "hello")

    await eventually(
        lambda: bob.server_name in alice.node.run("peers", "--json").stdout, 10, "alice's node names bob's among its peers"
    )
    status = json.loads(alice.node.run("status", "--json").stdout)
    assert alice.server_name in json.dumps(status)
    for command in ("peers", "status", "identity", "doctor"):
        assert alice.node.run(command, check=False).stdout.strip()


async def test_doctor_finds_nothing_wrong_with_two_healthy_neighbours_who_share_no_room_or_one(lan):
    """Neighbours are dialled when there is something to say to them: two new ones are near, and not connected."""
    here, there = unconfigured(lan, "alice"), unconfigured(lan, "bob")
    await asyncio.gather(here.start(), there.start())
    peer_id = there.identity()["peer_id"]
    await eventually(lambda: peer_id in here.run("peers", "--json").stdout, 10, "the neighbour is seen")
    done = await asyncio.to_thread(here.run, "doctor", check=False)
    assert done.returncode == 0, done.stdout
    for node in (here, there):
        node.run("user", "add", node.name, "--password-stdin", feed=PASSWORD + "\n")
        lan.clients.append(await Client.login(node, node.name))
    alice, bob = lan.clients
    room_id = await lan.room_of(alice, bob)
    await alice.send(room_id, "hello")
    await bob.wait_for_message(room_id, "hello")
    for node in (here, there):
        done = await asyncio.to_thread(node.run, "doctor", check=False)
        assert done.returncode == 0, done.stdout


async def test_doctor_changes_nothing_of_what_it_looks_at(lan):
    """Run as root on the folder of a stopped service, it must leave nothing that the service's user cannot use."""
    node = unconfigured(lan, "alice")
    await node.start()
    assert await node.stop() == 0
    (node.data / "kith.lock").unlink()
    node.data.chmod(0o755)

    def picture():
        return {path.name: (path.stat().st_mode, path.stat().st_mtime_ns) for path in [node.data, *node.data.iterdir()]}

    before = picture()
    done = node.run("doctor", check=False)
    assert done.returncode == 8 and "chmod 700" in done.stdout, done.stdout
    assert picture() == before
    node.data.chmod(0o700)
    assert node.run("doctor", check=False).returncode == 0


async def test_doctor_gives_no_advice_to_change_a_folder_that_is_not_a_node_s(lan):
    node = unconfigured(lan, "alice")
    node.data.mkdir(mode=0o755)
    (node.data / "thesis.docx").write_text("years of work")
    done = node.run("doctor", check=False)
    assert done.returncode == 8 and "thesis.docx" in done.stdout and "--data" in done.stdout, done.stdout
    assert "chmod" not in done.stdout
    assert [path.name for path in node.data.iterdir()] == ["thesis.docx"]


async def test_at_a_terminal_a_neighbour_is_told_when_it_comes_and_when_it_goes(lan):
    here, there = unconfigured(lan, "alice"), unconfigured(lan, "bob")
    terminal, other_end = pty.openpty()
    os.set_blocking(terminal, False)
    shown = bytearray()

    def shows(words: str) -> bool:
        with contextlib.suppress(BlockingIOError):
            shown.extend(os.read(terminal, 65536))
        return words in shown.decode()

    try:
        here.spawn(stdout=other_end)
        await here.ready()
        assert await eventually(lambda: shows("Looking for other nodes"), 10, "it says what it does")
        await there.start()
        name = there.identity()["server_name"]
        await eventually(lambda: shows(f"  {name} is near\r\n"), 10, "the neighbour is told")
        assert await there.stop() == 0
        await eventually(lambda: shows(f"  {name} is gone\r\n"), 10, "and that it went")
    finally:
        os.close(terminal)
        os.close(other_end)


async def test_what_to_know_about_the_key_is_shown_until_there_is_an_account(lan):
    """The first start may end at a port in use, after it has made the key."""
    node = unconfigured(lan, "alice")
    taken = node.host.socket()
    taken.bind(("127.0.0.1", node.port))
    taken.listen()
    node.spawn()
    assert await node.exit_code() == 6
    taken.close()
    assert (node.data / "server.key").exists()
    for hint in (True, False):
        node.stdout_file.write_text("")
        await node.start()
        await eventually(lambda: "Looking for other nodes" in node.output(), 10, "all is said")
        assert (f"Keep a copy of {node.data / 'server.key'}" in node.output()) == hint
        if hint:
            node.run("user", "add", "alice", "--password-stdin", feed=PASSWORD + "\n")
        assert await node.stop() == 0


async def test_commands_end_with_the_exit_codes_that_are_documented(lan):
    """3, 5 and 6 of a node that does not start are in test_bad_input.py, 8 of the doctor above."""
    node = unconfigured(lan, "alice")
    for arguments, code, words in [
        (["no-such-command"], 2, "no-such-command"),
        (["status", "--log", "verbos"], 2, "verbos"),
        (["identity"], 4, "there is no node in"),
        (["user", "list"], 4, "there is no node in"),
        (["status"], 7, "no node is running on"),
        (["peers"], 7, "no node is running on"),
        (["config"], 0, ""),
    ]:
        done = node.run(*arguments, check=False)
        assert done.returncode == code and words in done.stderr, (arguments, done)
    assert not node.data.exists(), "none of these makes anything"

    await node.start()
    done = node.run("user", "passwd", "nobody", "--password-stdin", feed=PASSWORD + "\n", check=False)
    assert done.returncode == 1 and "no such user" in done.stderr, done
    assert await node.stop() == 0


@pytest.mark.parametrize("first, second, code", [(SIGTERM, SIGINT, 130), (SIGINT, SIGTERM, 143)], ids=["130", "143"])
async def test_a_second_signal_ends_at_once_a_node_that_is_still_stopping(lan, first, second, code):
    node = lan.node("alice")
    await node.start()
    async with node.http() as http:
        # A node does not stop in the middle of hashing passwords, which takes a while.
        wanted = [{"username": f"user{n}", "password": PASSWORD, "auth": {"type": "m.login.dummy"}} for n in range(40)]
        under_way = [asyncio.create_task(http.post("/_matrix/client/v3/register", json=each)) for each in wanted]
        await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
        node.process.send_signal(first)
        await eventually(lambda: "Stopping." in node.output(), 10, "it says that it stops", every=0.001)
        node.process.send_signal(second)
        assert await node.exit_code(5) == code
        await asyncio.gather(*under_way, return_exceptions=True)
    await node.start()
