"""What a killed test run leaves behind goes away, and what another run still uses does not."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from net import NETNS_FOLDER
from waiting import eventually

HERE = Path(__file__).resolve().parent
RUN = """
import subprocess, time
from pathlib import Path
from net import Network, dies_with_us, disk_name
with Network() as network:
    host = network.host("left")
    stays = subprocess.Popen(host.command("sleep", "1000"))
    dies = subprocess.Popen(host.command("sleep", "1000"), preexec_fn=dies_with_us)
    Path("FOLDER").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", disk_name(), "FOLDER"], check=True)
    print(host.namespace, stays.pid, dies.pid, flush=True)
    time.sleep(1000)
"""


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


async def test_a_killed_run_leaves_no_process_namespace_or_disk_and_a_living_one_keeps_its_own(lan, tmp_path):
    ours = lan.node("alice")
    await ours.start()
    folder = tmp_path / "mounted"
    run = subprocess.Popen(
        [sys.executable, "-c", RUN.replace("FOLDER", str(folder))], cwd=HERE, stdout=subprocess.PIPE, text=True
    )
    namespace, stays, dies = run.stdout.readline().split()
    assert folder.is_mount() and (NETNS_FOLDER / namespace).exists()
    run.send_signal(signal.SIGKILL)
    run.wait()
    await eventually(lambda: is_gone(int(dies)), 10, "a node dies with its run")
    assert not is_gone(int(stays)), "this one stands for what does not"

    subprocess.run([sys.executable, "-c", "from net import hold_run_lock; hold_run_lock()"], cwd=HERE, check=True)
    await eventually(lambda: is_gone(int(stays)), 10, "the next run ends it")
    assert not (NETNS_FOLDER / namespace).exists()
    assert not folder.is_mount()
    await ours.ready()
