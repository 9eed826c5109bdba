"""What processes use, and the controllers that ``python -m benchmarks.crowd`` kills."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from jupyter_elastic.resources import MIB
from tests.kubernetes.desk import Desk

HOLDER = "/apis/coordination.k8s.io/v1/namespaces/{}/leases"


def rss(pid: int) -> float:
    """Resident memory of a process, MiB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MIB


def cpu(pid: int) -> float:
    """CPU seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Controllers:
    """The replicas of ``jupyter elastic controller``."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.config = desk.home / "controller.py"
        self.config.write_text(desk.config(access="direct"))
        self.all: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """One more."""
        command = [sys.executable, "-m", "benchmarks.pretend", "controller"]
        command += ["--config", str(self.config)]
        log = (self.desk.home / f"controller-{len(self.all)}.log").open("wb")
        with log:
            self.all.append(subprocess.Popen(command, stdout=log, stderr=log))

    def alive(self) -> list[subprocess.Popen[bytes]]:
        """Those that run."""
        return [one for one in self.all if one.poll() is None]

    def leader(self) -> subprocess.Popen[bytes] | None:
        """The one that holds the lease."""
        leases = self.desk.kube.admin.get(HOLDER.format(self.desk.namespace))["items"]
        holders = [one["spec"].get("holderIdentity", "") for one in leases]
        for one in self.alive():
            if any(f"-{one.pid}-" in holder for holder in holders):
                return one
        return None

    async def end_leader(self, how: signal.Signals) -> subprocess.Popen[bytes]:
        """Tell it to end, or make it; which one it was."""
        until = time.monotonic() + 60
        while (leader := await asyncio.to_thread(self.leader)) is None:
            if time.monotonic() > until:
                raise RuntimeError("nobody leads for a minute")
            await asyncio.sleep(0.1)
        leader.send_signal(how)
        return leader

    async def replace(self, leader: subprocess.Popen[bytes]) -> None:
        """Have another one in the place of one that ends."""
        await asyncio.to_thread(leader.wait, 30)
        self.start()

    def close(self) -> None:
        """End all."""
        for one in self.alive():
            one.terminate()
        for one in self.all:
            try:
                one.wait(20)
            except subprocess.TimeoutExpired:
                one.kill()
                one.wait()
