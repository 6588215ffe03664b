"""Fixtures of the end-to-end tests: a network, nodes and clients, and what to show when a test fails."""

from __future__ import annotations

import asyncio
import os
import subprocess
import tempfile
from pathlib import Path

import pytest
import pytest_asyncio

from client import Client
from net import Network, disk_name
from node import Node

pytest_plugins = ["federated", "terminal_scene"]


def pytest_addoption(parser):
    parser.addoption("--soak", action="store_true", help="run the long tests too")
    parser.addoption("--with-synapse", action="store_true", help="run the tests with a real Synapse too")


def pytest_collection_modifyitems(config, items):
    wanted = {"soak": config.getoption("--soak"), "synapse": config.getoption("--with-synapse")}
    left_out = [item for item in items if any(item.get_closest_marker(name) and not on for name, on in wanted.items())]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


class Lan:
    """One local network with the nodes and clients that a test makes on it."""

    def __init__(self, network: Network, folder):
        self.network = network
        self.folder = folder
        self.nodes: list[Node] = []
        self.clients: list[Client] = []

    def node(self, name: str, config: dict | None = None, **options) -> Node:
        """A node on a host of its own, not yet started."""
        node = Node(self.network.host(name), self.folder, config, **options)
        self.nodes.append(node)
        return node

    def node_on(self, host, name: str, config: dict | None = None, **options) -> Node:
        """A further node on a host that is there already."""
        node = Node(host, self.folder, config, name=name, **options)
        self.nodes.append(node)
        return node

    async def user(self, node: Node, name: str | None = None, **options) -> Client:
        """A person with a new account on a running node."""
        client = await Client.register(node, name or node.name, **options)
        self.clients.append(client)
        return client

    async def pair(self) -> tuple[Client, Client]:
        """Two started nodes, each with its person."""
        here, there = self.node("alice"), self.node("bob")
        await asyncio.gather(here.start(), there.start())
        return await asyncio.gather(self.user(here), self.user(there))

    async def room_of(self, host: Client, *guests: Client, encrypted: bool = True) -> str:
        """A room with everybody in it, where each knows the others and their devices."""
        room_id = await host.create_room(encrypted)
        for guest in guests:
            await host.invite(room_id, guest.user_id)
            await guest.accept(room_id, encrypted=encrypted)
        everybody = [host, *guests]
        await asyncio.gather(*(
            one.sees_member(room_id, other.user_id) for one in everybody for other in everybody if one is not other
        ))
        return room_id

    async def close(self) -> None:
        await asyncio.gather(*(client.close() for client in self.clients), return_exceptions=True)
        for node in self.nodes:
            node.close()


@pytest_asyncio.fixture
async def lan(request, tmp_path):
    """An empty network without any way out."""
    with Network() as network:
        made = Lan(network, tmp_path)
        request.node.lan = made
        try:
            yield made
        finally:
            await made.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    lan = getattr(item, "lan", None)
    if report.failed and lan is not None:
        for node in lan.nodes:
            report.sections.append((f"log of {node.name} ({node.folder})", node.tail()))
        for client in lan.clients:
            if client.errors:
                report.sections.append((f"errors of {client.user_id}", "\n".join(client.errors[-20:])))
    return report


@pytest.fixture
def measured(request):
    """Records a figure; it is printed at the end of the run."""
    def record(what: str, value: float, unit: str) -> None:
        figures = request.config.stash.setdefault(_FIGURES, [])
        figures.append(f"{what}: {value:.3f} {unit}")
    return record


_FIGURES = pytest.StashKey[list]()


def pytest_terminal_summary(terminalreporter, config):
    figures = config.stash.get(_FIGURES, [])
    if figures:
        terminalreporter.section("measured")
        for line in figures:
            terminalreporter.write_line(line)


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 200 MiB of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200m,mode=0700", disk_name(), folder], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture
def open_folder():
    """A folder that other users can enter, which pytest's own are not."""
    with tempfile.TemporaryDirectory(prefix="kith-e2e-") as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


@pytest.fixture
def libfaketime() -> str:
    """The library that makes a process believe in another time."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    assert found, "libfaketime is missing: apt-get install faketime (`.ci/run` does it)"
    return str(found[0])
