"""A bridge on mautrix: ghosts, portals, encryption by the bridge's own device, and what is told it after it was away."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest

from libraries import ABILITIES, ask, register
from net import dies_with_us
from waiting import eventually

HERE = Path(__file__).resolve().parent


class Bridge:
    """The program `bridge.py` on a node's host, and its registration with the node."""

    def __init__(self, node, syncs: bool = True):
        self.node = node
        self.syncs = syncs
        self.folder = node.folder / "bridge"
        self.folder.mkdir()
        self.heard_file = self.folder / "heard.jsonl"
        self.port = 9100
        self.process: subprocess.Popen | None = None
        self.starts = 0
        self.tokens = {"as_token": "a" * 40, "hs_token": "h" * 40, "id": "echo", "sender_localpart": "echobot"}
        registration = {
            **self.tokens,
            "url": f"http://127.0.0.1:{self.port}",
            "rate_limited": False,
            "receive_ephemeral": True,
            "io.element.msc4190": True,
            "org.matrix.msc3202": not syncs,
            "namespaces": {
                "users": [{"exclusive": True, "regex": "@echo_.*"}],
                "aliases": [{"exclusive": True, "regex": "#echo_.*"}],
                "rooms": [],
            },
        }
        file = self.folder / "registration.yaml"
        # JSON is YAML.
        file.write_text(json.dumps(registration, indent=4))
        node.configure({"appservices": {"registrations": [str(file)]}})

    async def start(self) -> None:
        settings = {
            **self.tokens, "port": self.port, "folder": str(self.folder), "syncs": self.syncs,
            "homeserver": self.node.base_url, "domain": self.node.identity()["server_name"],
        }
        (self.folder / "settings.json").write_text(json.dumps(settings))
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(
                self.node.host.command(sys.executable, HERE / "bridge.py", self.folder / "settings.json"),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, preexec_fn=dies_with_us,
            )
        self.starts += 1

        def ready() -> bool:
            return self.process.poll() is not None or len(self.heard("ready")) >= self.starts
        await eventually(ready, 30, "the bridge is ready")
        assert self.process.poll() is None, f"the bridge ended:\n{self.tail()}"

    def kill(self) -> None:
        """kill -9."""
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)

    def heard(self, key: str) -> list[dict]:
        """What reached it that has this key, in order."""
        if not self.heard_file.exists():
            return []
        return [line for line in map(json.loads, self.heard_file.read_text().splitlines()) if key in line]

    def tail(self, lines: int = 40) -> str:
        return "\n".join((self.folder / "log").read_text(errors="replace").splitlines()[-lines:])

    # For the harness, which shows what a failed test's clients say and closes them.

    user_id = "the bridge"

    @property
    def errors(self) -> list[str]:
        return self.tail().splitlines()

    async def close(self) -> None:
        self.kill()


class Device:
    """Somebody's device, as the clients are asked about it."""

    def __init__(self, user_id: str, device_id: str):
        self.user_id, self.device_id = user_id, device_id


def server_of(person) -> str:
    return person.user_id.split(":", 1)[1]


async def bridged(lan, **options):
    """A node with its bridge."""
    node = lan.node("home")
    bridge = Bridge(node, **options)
    lan.clients.append(bridge)
    await node.start()
    await bridge.start()
    return node, bridge


@pytest.mark.parametrize("library, syncs", [("nio", True), ("js", True), ("nio", False)])
async def test_a_person_talks_to_somebody_on_another_network_in_an_encrypted_portal(lan, library, syncs):
    # The bridge's device syncs, or is told in transactions what concerns it (MSC3202).
    node, bridge = await bridged(lan, syncs=syncs)
    alice = await register(lan, library, node, "alice")
    ghost, bot = f"@echo_carol:{server_of(alice)}", f"@echobot:{server_of(alice)}"
    room_id = await alice.create_room()

    # Nobody is called so yet: the node asks the bridge, who makes the ghost.
    await alice.invite(room_id, ghost)
    await eventually(lambda: bridge.heard("portal"), 20, "the ghost comes into the portal")
    device = Device(bot, bridge.heard("ready")[-1]["device"])
    await alice.sees(room_id, device)
    if "cross-signing" in ABILITIES[library]:
        # It has signed its own device: clients need not warn of it.
        assert (await alice.device(device))["signed_by_owner"]

    event_id = await alice.send(room_id, "hello carol")
    answer = await alice.wait_for_message(room_id, "echo: hello carol")

    assert answer.sender == ghost
    [told] = bridge.heard("event_id")
    assert (told["event_id"], told["sender"], told["encrypted"]) == (event_id, alice.user_id, True)
    event = await ask(alice, f"/_matrix/client/v3/rooms/{quote(room_id)}/event/{quote(answer.event_id)}")
    assert event["type"] == "m.room.encrypted"


async def test_an_alias_of_the_bridge_leads_to_a_portal_that_it_makes(lan):
    node, bridge = await bridged(lan)
    alice = await lan.user(node, "alice")

    room_id = await alice.join(f"#echo_lobby:{server_of(alice)}")
    await alice.knows(room_id, encrypted=False)
    await alice.send(room_id, "hello lobby")

    answer = await alice.wait_for_message(room_id, "echo: hello lobby")
    assert answer.sender == f"@echo_lobby:{server_of(alice)}"
    assert [line["asked"] for line in bridge.heard("asked")] == [f"#echo_lobby:{server_of(alice)}"]


async def test_a_bridge_that_was_away_is_told_all_in_order_and_once_also_over_a_restart_of_the_node(lan):
    node, bridge = await bridged(lan)
    alice = await register(lan, "nio", node, "alice")
    room_id = await alice.create_room()
    await alice.invite(room_id, f"@echo_carol:{server_of(alice)}")
    await eventually(lambda: bridge.heard("portal"), 20, "the ghost comes into the portal")
    bot = Device(f"@echobot:{server_of(alice)}", bridge.heard("ready")[-1]["device"])
    await alice.sees(room_id, bot)
    await alice.send(room_id, "0")
    await alice.wait_for_message(room_id, "echo: 0")

    bridge.kill()
    await alice.send(room_id, "1")
    await alice.send(room_id, "2")
    await node.stop()
    await node.start()
    await alice.send(room_id, "3")
    await bridge.start()
    await alice.send(room_id, "4")

    await alice.wait_for_message(room_id, "echo: 4", deadline=40)
    assert [line["body"] for line in bridge.heard("event_id")] == ["0", "1", "2", "3", "4"]
    # The device is the same one as before: its keys are on the bridge's disk.
    assert {line["device"] for line in bridge.heard("ready")} == {bot.device_id}
    answers = [m.body for m in await alice.history(room_id) if m.body and m.body.startswith("echo")]
    assert answers == [f"echo: {number}" for number in range(5)]
