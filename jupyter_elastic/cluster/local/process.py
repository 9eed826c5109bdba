"""Processes of a pod: start the agent detached, know it again, and end everything.

A process is known by pid, start time and boot: a pid alone may by now be somebody else's. What
belongs to a pod is found by its control group, the agent's session and tree, and by the mark in
the environment that all processes of a pod inherit.
"""

from __future__ import annotations

import errno
import logging
import os
import signal
import subprocess
import time
import zlib
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path

import msgspec

from ...agent import processes as procfs
from . import cgroups

_LOG = logging.getLogger(__name__)

MARK = "JUPYTER_ELASTIC_POD"
"""The environment variable that names the pod in every process of it."""

_NOT_INHERITED = frozenset(
    # A server that itself runs below a kernel must not hand these on: a kernel that finds them
    # ends with the process they name.
    ("JPY_PARENT_PID", "JPY_INTERRUPT_EVENT", "JPY_SESSION_NAME", "PYTHONEXECUTABLE", MARK)
)

_children: dict[int, subprocess.Popen[bytes]] = {}


class Process(msgspec.Struct, frozen=True):
    """Identifies one process for ever."""

    pid: int
    start_ticks: int
    boot: str


@lru_cache(maxsize=1)
def boot_id() -> str:
    """Names this run of the machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def alive(process: Process) -> bool:
    """Whether exactly this process still runs; one that only waits to be reaped does not."""
    found = procfs.stat(process.pid)
    return (
        found is not None
        and found.state not in ("Z", "X")
        and found.start == process.start_ticks
        and process.boot == boot_id()
    )


def open_pidfd(process: Process) -> int | None:
    """A descriptor that becomes readable at the end of the process; None: it ended.

    Raises
    ------
    OSError
        This system has no pidfd (or forbids it): watch by polling.
    """
    if not hasattr(os, "pidfd_open"):
        raise OSError(errno.ENOSYS, "pidfd_open")
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return None
    if alive(process):  # only now is it sure that the descriptor is not of a reused pid
        return descriptor
    os.close(descriptor)
    return None


def spawn(command: list[str], *, pod: str, log: Path, env: Mapping[str, str]) -> Process:
    """Start the agent of ``pod`` so that it outlives this server. Raises OSError."""
    environment = {name: value for name, value in env.items() if name not in _NOT_INHERITED}
    environment[MARK] = pod
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=descriptor,
            stderr=descriptor,
            cwd="/",
            env=environment,
            start_new_session=True,
        )
    finally:
        os.close(descriptor)
    _children[child.pid] = child
    return Process(child.pid, procfs.start_ticks(child.pid), boot_id())


def reap() -> None:
    """Collect those agents that this very process started and that have ended."""
    for pid, child in tuple(_children.items()):
        if child.poll() is not None:
            _children.pop(pid, None)


def members(pod: str, agent: Process | None, group: cgroups.Group | None) -> list[int]:
    """Every living process of a pod, the agent included. Takes milliseconds: not on the loop."""
    reap()
    found: set[int] = set(procfs.marked(pod))
    if group is not None:
        found.update(cgroups.pids(group))
    if agent is not None and agent.boot == boot_id():
        if alive(agent):
            found.update(procfs.tree(agent.pid))
        # While one of the agent's session lives, its number is not given out again.
        found.update(_session(agent))
    found.discard(os.getpid())
    return [pid for pid in found if (one := procfs.stat(pid)) and one.state not in ("Z", "X")]


def _session(agent: Process) -> list[int]:
    found = []
    for pid, one in procfs.everybody().items():
        if one.start < agent.start_ticks:
            continue  # cheap and safe: what is older than the agent is not its child
        try:
            if os.getsid(pid) == agent.pid:
                found.append(pid)
        except (ProcessLookupError, PermissionError):
            continue
    return found


def kill(pids: Iterable[int], signum: int = signal.SIGKILL) -> None:
    """Send a signal to each that is still there and ours."""
    for pid in pids:
        try:
            os.kill(pid, signum)
        except ProcessLookupError:
            continue
        except PermissionError:
            _LOG.warning("Process %d of a pod belongs to another user and stays.", pid)


def end(
    pod: str,
    agent: Process | None,
    group: cgroups.Group | None,
    *,
    grace: float = 0.0,
    timeout: float = 10.0,
) -> list[int]:
    """End everything in a pod: SIGTERM to the agent, after ``grace`` seconds SIGKILL to all.

    Returns the processes still there after ``timeout`` more seconds (uninterruptible ones); none
    is the rule. Blocks: run it in a thread. Safe to run several times, also at once.
    """
    if grace and agent is not None and alive(agent):
        kill([agent.pid], signal.SIGTERM)
        until = time.monotonic() + grace
        while alive(agent) and time.monotonic() < until:
            time.sleep(0.01)
            reap()
    until = time.monotonic() + timeout
    pause = 0.002
    while left := members(pod, agent, group):
        if time.monotonic() > until:
            _LOG.error("Processes %s of pod %s could not be killed.", left, pod)
            return left
        if group is not None:
            cgroups.kill(group)
        # The agent first: it would bring its kernel back.
        if agent is not None and agent.pid in left:
            kill([agent.pid])
        kill(left)
        time.sleep(pause)
        pause = min(pause * 2, 0.05)
    return []


def set_affinity(pod: str, pids: Iterable[int], cores: int) -> None:
    """Hold a pod's processes (all their threads) to ``cores`` cores; children inherit it."""
    usable = sorted(os.sched_getaffinity(0))
    # Pods are spread over the cores by their name; which ones each gets does not matter.
    start = zlib.crc32(pod.encode())
    chosen = {usable[(start + i) % len(usable)] for i in range(min(cores, len(usable)))}
    for pid in pids:
        try:
            for task in os.listdir(f"/proc/{pid}/task"):
                os.sched_setaffinity(int(task), chosen)
        except (ProcessLookupError, FileNotFoundError):
            continue
