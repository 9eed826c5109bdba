"""The first process of the cluster's namespaces: ``python -m tests.testcluster.supervisor STATE``.

It gives the cluster folders of its own, starts what ``STATE/run.json`` lists once that file is
there, starts again what ends, and reaps orphans. It never stops anything: when it is killed, the
kernel ends every process of the namespace, and with the last of them the mounts and the network.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

COVERED = ("/var/lib", "/var/log")
"""Where components write outside the state directory: what they write, only they see."""

# The kubelet insists on these settings of the whole machine. It is shown that they hold already.
KERNEL = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}
PAUSE = 0.5
"""Seconds before something that ended is started again."""


def isolate(state: Path) -> None:
    """Cover what must stay as it is on the machine, by mounts that only the cluster sees."""

    def mount(*arguments: str | Path) -> None:
        subprocess.run(["mount", "--no-mtab", *arguments], check=True)

    mount("-t", "tmpfs", "tmpfs", "/run")
    own = Path("/run/testcluster")
    for folder in (own / "state", Path("/run/lock")):
        folder.mkdir(parents=True)
    mount("--rbind", state, own / "state")
    for number, place in enumerate(COVERED):
        upper, work = own / f"upper-{number}", own / f"work-{number}"
        upper.mkdir()
        work.mkdir()
        layers = f"lowerdir={place},upperdir={upper},workdir={work}"
        mount("-t", "overlay", "overlay", "-o", layers, place)
        if state.is_relative_to(place):  # the state directory itself is to be written
            mount("--rbind", own / "state", state)
    subprocess.run(["umount", "--no-mtab", own / "state"], check=True)
    for number, (name, value) in enumerate(KERNEL.items()):
        setting = Path("/proc/sys", name)
        if setting.exists():
            shown = own / f"setting-{number}"
            shown.write_text(value + "\n")
            mount("--bind", shown, setting)
    mount("--make-rshared", "/")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


def answers(where: str) -> bool:
    """Whether something listens on ``host:port`` or on the path of a socket."""
    family = socket.AF_UNIX if where.startswith("/") else socket.AF_INET
    host, _, port = where.rpartition(":")
    with socket.socket(family, socket.SOCK_STREAM) as attempt, contextlib.suppress(OSError):
        attempt.settimeout(1)
        attempt.connect(where if family == socket.AF_UNIX else (host, int(port)))
        return True
    return False


class Daemon:
    """One component."""

    def __init__(self, state: Path, command: list[str], name: str, after: list[str]) -> None:
        self.state = state
        self.command = command
        self.name = name
        self.after = after
        self.process: subprocess.Popen[bytes] | None = None
        self.not_before = 0.0

    def start_when_ready(self) -> None:
        """Start it, unless it runs, or waits for others or for the pause after its end."""
        waits = self.process is not None or time.monotonic() < self.not_before
        if waits or not all(answers(where) for where in self.after):
            return
        with open(self.state / "log" / f"{self.name}.log", "ab") as log:
            self.process = subprocess.Popen(
                self.command,
                cwd=self.state,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def ended(self, pid: int, status: int) -> None:
        """Take note that a process ended; nothing to do when it is another's."""
        if self.process is not None and self.process.pid == pid:
            self.process.returncode = os.waitstatus_to_exitcode(status)
            say(f"{self.name} ended with {self.process.returncode}")
            self.process = None
            self.not_before = time.monotonic() + PAUSE


def say(text: str) -> None:
    """One dated line in the supervisor's log."""
    print(time.strftime("%H:%M:%S"), text, flush=True)


def reap(daemons: list[Daemon]) -> None:
    """Take in every child that ended, ours or one that its parent left behind."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        for daemon in daemons:
            daemon.ended(pid, status)


def run(state: Path, components: list[dict[str, Any]]) -> None:
    """Keep the components running, for ever."""
    wake, woken = os.pipe()
    os.set_blocking(wake, False)
    os.set_blocking(woken, False)
    signal.set_wakeup_fd(woken)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    daemons = [Daemon(state, **component) for component in components]
    while True:
        reap(daemons)
        for daemon in daemons:
            daemon.start_when_ready()
        idle = all(daemon.process for daemon in daemons)
        select.select([wake], [], [], None if idle else 0.1)
        with contextlib.suppress(BlockingIOError):
            os.read(wake, 4096)


def main(state: Path) -> None:
    """Prepare the namespaces, wait for the plan, and carry it out."""
    isolate(state)
    plan = state / "run.json"
    (state / "isolated").touch()
    while not plan.exists():
        time.sleep(0.05)
    run(state, json.loads(plan.read_text()))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
