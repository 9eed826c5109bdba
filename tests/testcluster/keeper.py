"""Owns the namespaces from outside: ``python -m tests.testcluster.keeper STATE [--tied]``.

It starts the supervisor in new namespaces and waits. Told to end (SIGTERM) it kills the
supervisor, and with that everything in the namespaces, and then takes away what the kernel does
not, the control groups. A tied keeper ends also when its standard input does, which is when whoever
started it is gone, and removes the state directory.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from . import cgroups, network
from .addresses import Addresses

UNSHARE = (
    *("unshare", "--fork", "--kill-child", "--pid", "--mount-proc", "--net"),
    *("--mount", "--propagation", "private"),
)


class Process(NamedTuple):
    """A process, told from a later one with the same id by its start."""

    pid: int
    start: int

    @staticmethod
    def of(pid: int) -> Process | None:
        """The process that has this id now; None if there is none but a zombie."""
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        return None if fields[0] in "ZX" else Process(pid, int(fields[19]))

    def runs(self) -> bool:
        """Whether it still runs."""
        return Process.of(self.pid) == self

    def kill(self, number: signal.Signals) -> None:
        """Send a signal if it still runs."""
        if self.runs():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def wait(self, patience: float) -> bool:
        """Whether it has ended in time."""
        deadline = time.monotonic() + patience
        while self.runs() and time.monotonic() < deadline:
            time.sleep(0.05)
        return not self.runs()


def children(pid: int) -> list[int]:
    """Process ids of the children of a process."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(fields[1]) == pid:
                    found.append(int(entry.name))
    return found


def mounts_below(state: Path) -> list[str]:
    """Mount points in a directory."""
    lines = Path("/proc/self/mounts").read_text().splitlines()
    places = [line.split(" ")[1].replace("\\040", " ") for line in lines]
    return [place for place in places if Path(place).is_relative_to(state)]


def clean(state: Path) -> list[str]:
    """Take away what outlives the processes, except the state directory; what is left, in words."""
    left = []
    with contextlib.suppress(FileNotFoundError):
        addresses = Addresses(int((state / "slot").read_text()))
        network.disconnect(addresses)
        left += [f"control group {place}" for place in cgroups.remove(addresses.name)]
    return left


def main(state: Path, tied: bool) -> None:
    """Start the namespaces, and end them when told to."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with (state / "log" / "supervisor.log").open("ab") as log:
        unshare = subprocess.Popen(
            [*UNSHARE, sys.executable, "-m", "tests.testcluster.supervisor", str(state)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    inner = None
    try:
        while unshare.poll() is None and inner is None:
            inner = next((Process.of(pid) for pid in children(unshare.pid)), None)
        keeper = Process.of(os.getpid())
        part = state / "processes.json.part"
        part.write_text(json.dumps({"keeper": keeper, "inner": inner}))
        part.rename(state / "processes.json")
        while unshare.poll() is None:
            select.select([sys.stdin] if tied else [], [], [], 1.0)
            if tied and select.select([sys.stdin], [], [], 0)[0]:
                break
    finally:
        if inner is not None:
            inner.kill(signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                unshare.wait(30)
        unshare.kill()  # --kill-child: the same once more, had the supervisor not been known yet
        unshare.wait()
        clean(state)
        if tied and not mounts_below(state):
            shutil.rmtree(state, ignore_errors=True)
            with contextlib.suppress(OSError):  # not empty: not made for this alone
                state.parent.rmdir()


if __name__ == "__main__":
    main(Path(sys.argv[1]), "--tied" in sys.argv[2:])
