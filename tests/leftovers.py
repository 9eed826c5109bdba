"""Finds what outlived the tests that started it: processes of pods, and their control groups.

Processes are known by their environment. Every pod's carry ``JUPYTER_ELASTIC_POD``; those of
this test run carry ``RUN_MARKER`` as well. On a machine of our own (CI) every pod that was not
there before counts; elsewhere others may be at work too, and only marked ones do. Two runs may
share such a machine: what carries no marker may be either's, and the one that ends last counts it.
Pods of a Kubernetes have process ids of their own, and end with their namespace.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

RUN_MARKER = "JUPYTER_ELASTIC_TEST_RUN"
POD_MARKER = "JUPYTER_ELASTIC_POD"
CGROUP_PARENT = "jupyter-elastic"


def _environment(pid: int) -> dict[str, str]:
    """The environment a process was started with; empty when it is gone or not ours to read."""
    try:
        raw = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return {}
    pairs = (entry.partition(b"=") for entry in raw.split(b"\0") if b"=" in entry)
    return {os.fsdecode(name): os.fsdecode(value) for name, _, value in pairs}


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()[:120]
    except OSError:
        return "?"


def _pids() -> list[int]:
    proc = Path("/proc")
    return [int(entry.name) for entry in proc.iterdir() if entry.name.isdigit()]


def pod_processes() -> dict[int, dict[str, str]]:
    """Process id and environment of everything that runs in a pod of this machine."""
    found = ((pid, _environment(pid)) for pid in _pids() if pid != os.getpid())
    here = _numbering("self")
    return {
        pid: environment
        for pid, environment in found
        if environment.get(POD_MARKER) and _numbering(pid) == here
    }


def _numbering(pid: int | str) -> str:
    """The namespace of a process's id; empty when it is gone."""
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return ""


RUNS = Path(tempfile.gettempdir()) / "jupyter-elastic-test-runs"


@contextlib.contextmanager
def announced(place: Path = RUNS) -> Iterator[Callable[[], bool]]:
    """Be known to other test runs on this machine; gives whether there is no other now."""
    with place.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_SH)

        def alone() -> bool:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            finally:
                fcntl.flock(file, fcntl.LOCK_SH)
            return True

        yield alone


def pod_cgroups() -> set[Path]:
    """The control groups of pods, in every hierarchy, wherever our parent group is."""
    groups: set[Path] = set()
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        kind = fields[fields.index("-") + 1]
        if kind not in ("cgroup", "cgroup2"):
            continue
        # os.walk takes it when others' groups go away meanwhile; Path.glob did not before 3.11.
        for place, children, _ in os.walk(fields[4]):
            if Path(place).name == CGROUP_PARENT:
                groups.update(Path(place, child) for child in children)
    return groups


class Leftovers:
    """What a test run left behind.

    Parameters
    ----------
    run
        The value of ``RUN_MARKER`` in the environment of everything the run starts.
    strict
        Whether nobody else uses the machine now: then what carries no marker counts as well.
    """

    def __init__(self, run: str, *, strict: Callable[[], bool]) -> None:
        self.run = run
        self._strict = strict
        self._processes_before = set(pod_processes())
        self._cgroups_before = pod_cgroups()
        self._pods_seen: set[str] = set()

    def _processes(self) -> dict[int, str]:
        """Process id and pod of what is left."""
        strict = self._strict()
        return {
            pid: environment[POD_MARKER]
            for pid, environment in pod_processes().items()
            if environment.get(RUN_MARKER) == self.run
            or (strict and pid not in self._processes_before)
        }

    def _cgroups(self) -> list[Path]:
        """Groups of this run's pods; when strict, all that are new."""
        new = pod_cgroups() - self._cgroups_before
        strict = self._strict()
        return sorted(group for group in new if strict or group.name in self._pods_seen)

    def find(self) -> list[str]:
        """One line for each thing that is left."""
        processes = self._processes()
        self._pods_seen.update(processes.values())
        return [
            *(f"process {pid} of {pod}: {_command(pid)}" for pid, pod in processes.items()),
            *(f"control group {group}" for group in self._cgroups()),
        ]

    def end(self) -> None:
        """Kill the processes that are left. Control groups go when they are empty."""
        for pid in self._processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for group in self._cgroups():
            with contextlib.suppress(OSError):  # still busy: the next run reports it again
                group.rmdir()


def kill_at_once(find: Callable[[], list[int]]) -> set[int]:
    """SIGKILL to all that ``find`` finds, at one moment: none sees another one die.

    Returns them.

    A process may be forked while one looks (a pod makes its next spare when it likes). So all are
    stopped first, and looked for again until there is no new one.
    """
    stopped: set[int] = set()
    while new := set(find()) - stopped:
        _signal(new, signal.SIGSTOP)
        stopped |= new
    _signal(stopped, signal.SIGKILL)
    return stopped


def _signal(pids: set[int], signum: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signum)
