"""A local network of several hosts on one machine: one network namespace per host, joined by a switch.

The switch is a Linux bridge in a namespace of its own, so nothing of the machine's real network is touched and nothing
outside can be reached: there is no route beyond the link, as in a camp without internet. Names carry the process id of
the run; a run holds a lock for as long as it lives, so what a killed run left behind is recognised and removed.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import fcntl
import os
import signal
import socket
import subprocess
from pathlib import Path

CLONE_NEWNET = 0x40000000
PR_SET_PDEATHSIG = 1
NETNS_FOLDER = Path("/run/netns")
LOCK_FOLDER = Path("/run/kith-e2e")
PREFIX = "kithe2e"

_libc = ctypes.CDLL(None, use_errno=True)
_run_lock = None
_networks = 0


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(
            f"`ip {' '.join(arguments)}` failed: {done.stderr.strip()}. The end-to-end tests need root (or "
            "CAP_SYS_ADMIN and CAP_NET_ADMIN) and a kernel with network namespaces, veth and bridge."
        )


@contextlib.contextmanager
def inside(namespace: str):
    """Moves the calling thread into a network namespace for the block. Sockets made there stay there afterwards."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        there = os.open(NETNS_FOLDER / namespace, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _setns(there)
        finally:
            os.close(there)
        try:
            yield
        finally:
            _setns(home)
    finally:
        os.close(home)


def _setns(descriptor: int) -> None:
    if _libc.setns(descriptor, CLONE_NEWNET) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"setns: {os.strerror(error)}")


def hold_run_lock() -> None:
    """Marks this process as a living run and removes what dead ones left: processes, namespaces, disks."""
    global _run_lock
    if _run_lock is not None:
        return
    LOCK_FOLDER.mkdir(parents=True, exist_ok=True)
    # One at a time, so that nobody meets a lock that is made but not held yet.
    with open(LOCK_FOLDER / "starting", "w") as starting:
        fcntl.flock(starting, fcntl.LOCK_EX)
        # Before this run has its own lock: what bears its process id is left from a dead run that had the same.
        _remove_leftovers()
        _run_lock = open(LOCK_FOLDER / f"{os.getpid()}.lock", "w")
        fcntl.flock(_run_lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    atexit.register(Path(_run_lock.name).unlink, missing_ok=True)


def _remove_leftovers() -> None:
    for entry in sorted(NETNS_FOLDER.glob(f"{PREFIX}-*")):
        if not _run_is_alive(entry.name.split("-")[1]):
            _remove_namespace(entry.name)
    for line in Path("/proc/self/mounts").read_text().splitlines():
        source, folder = line.split(" ")[:2]
        if source.startswith(f"{PREFIX}-") and not _run_is_alive(source.split("-")[1]):
            subprocess.run(["umount", "--lazy", folder], capture_output=True)


def _remove_namespace(name: str) -> None:
    """Removes one of our namespaces. Its processes end first: a namespace lives on, nameless, as long as one is in it."""
    assert name.startswith(f"{PREFIX}-"), name
    inside_it = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True).stdout.split()
    for pid in map(int, inside_it):
        if pid != os.getpid():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    subprocess.run(["ip", "netns", "del", name], capture_output=True)


def disk_name() -> str:
    """What to call a disk that this run mounts, so that it is known whose it is."""
    hold_run_lock()
    return f"{PREFIX}-{os.getpid()}-disk"


def dies_with_us() -> None:
    """For `preexec_fn`: the child is killed when the test's process dies, however that dies."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _run_is_alive(pid: str) -> bool:
    try:
        with open(LOCK_FOLDER / f"{pid}.lock") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    (LOCK_FOLDER / f"{pid}.lock").unlink(missing_ok=True)
    return False


class Host:
    """One device on the network."""

    def __init__(self, network: Network, name: str, number: int):
        self.network = network
        self.name = name
        self.namespace = f"{network.prefix}-{name}"
        self.port = f"port{number}"
        self.ipv4 = f"10.77.0.{number}"
        self.ipv6 = f"fd77::{number:x}"
        # Which name servers there are, for programs on this host; else as on the machine.
        self.resolv_conf: Path | None = None

        _ip("netns", "add", self.namespace)
        _ip("-n", self.namespace, "link", "set", "lo", "up")
        # Addresses are usable at once: no second of duplicate address detection in each start.
        self.sysctl("net.ipv6.conf.all.accept_dad", "0")
        self.sysctl("net.ipv6.conf.default.accept_dad", "0")
        _ip("-n", network.switch, "link", "add", self.port, "type", "veth", "peer", "name", "eth0", "netns", self.namespace)
        _ip("-n", network.switch, "link", "set", self.port, "master", "switch", "up")
        _ip("-n", self.namespace, "address", "add", f"{self.ipv4}/24", "dev", "eth0")
        _ip("-n", self.namespace, "address", "add", f"{self.ipv6}/64", "dev", "eth0", "nodad")
        _ip("-n", self.namespace, "link", "set", "eth0", "up")

    def sysctl(self, key: str, value: str) -> None:
        """Sets a kernel parameter of this host's network."""
        path = "/proc/sys/" + key.replace(".", "/")
        with inside(self.namespace), open(path, "w") as file:
            file.write(value)

    def command(self, *arguments: str | os.PathLike) -> list[str]:
        """The command line that runs a program on this host. The process id is the program's own."""
        # `ip netns exec` gives it mounts of its own.
        own = ["sh", "-c", 'mount --bind "$0" /etc/resolv.conf && exec "$@"', str(self.resolv_conf)] if self.resolv_conf else []
        return ["ip", "netns", "exec", self.namespace, *own, *map(str, arguments)]

    def socket(self, family=socket.AF_INET, kind=socket.SOCK_STREAM, protocol=0) -> socket.socket:
        """A socket that lives on this host, usable from the test's process."""
        with inside(self.namespace):
            return socket.socket(family, kind, protocol)

    def cable_out(self) -> None:
        """Pulls the network cable: the device sees its link go down."""
        _ip("-n", self.network.switch, "link", "set", self.port, "down")

    def cable_in(self) -> None:
        """Puts the network cable back."""
        _ip("-n", self.network.switch, "link", "set", self.port, "up")


class Network:
    """The switch and its hosts. Use as a context manager; everything is removed at the end."""

    def __init__(self):
        global _networks
        hold_run_lock()
        _networks += 1
        self.prefix = f"{PREFIX}-{os.getpid()}-{_networks}"
        self.switch = f"{self.prefix}-switch"
        self.hosts: list[Host] = []

    def __enter__(self) -> Network:
        _ip("netns", "add", self.switch)
        try:
            # Without snooping the bridge floods multicast, as plain switches do, and mDNS reaches every port.
            _ip("-n", self.switch, "link", "add", "switch", "type", "bridge", "mcast_snooping", "0", "forward_delay", "0")
            _ip("-n", self.switch, "link", "set", "switch", "up")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def host(self, name: str) -> Host:
        """Adds a host with its cable plugged in."""
        host = Host(self, name, len(self.hosts) + 1)
        self.hosts.append(host)
        return host

    def close(self) -> None:
        """Removes every namespace of this network, with what runs there; their links go with them."""
        for entry in NETNS_FOLDER.glob(f"{self.prefix}-*"):
            _remove_namespace(entry.name)
