"""What ``/proc`` and ``prctl`` tell and do: trees of processes, their memory and CPU, their end.

Everything here tolerates that processes vanish while one looks at them.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from typing import Dict, Iterable, List, NamedTuple, Optional, Set

PR_SET_CHILD_SUBREAPER = 36
TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


class Stat(NamedTuple):
    """The fields of ``/proc/PID/stat`` that matter here; times in clock ticks."""

    pid: int
    state: str
    ppid: int
    group: int
    cpu: int
    start: int


def become_subreaper() -> bool:
    """Adopt orphans below this process, so that none escapes. False where it is not possible."""
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        return bool(libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)
    except (OSError, AttributeError):
        return False


def stat(pid: int) -> Optional[Stat]:
    """The process's figures, or None when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read()
    except OSError:
        return None
    # The name may contain blanks and parentheses; what follows the last one is regular.
    fields = text[text.rindex(b")") + 2 :].split()
    return Stat(
        pid,
        fields[0].decode(),
        int(fields[1]),
        int(fields[2]),
        int(fields[11]) + int(fields[12]),
        int(fields[19]),
    )


def everybody() -> Dict[int, Stat]:
    """All processes that can be seen."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            one = stat(int(name))
            if one is not None:
                found[one.pid] = one
    return found


def children(pid: int) -> List[int]:
    """The direct children of a process, cheaply where the kernel lists them."""
    found: List[int] = []
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            try:
                with open(f"/proc/{pid}/task/{task}/children", "rb") as file:
                    found += [int(word) for word in file.read().split()]
            except FileNotFoundError:
                if os.path.exists(f"/proc/{pid}/task/{task}"):  # this kernel keeps no such file
                    return [one.pid for one in everybody().values() if one.ppid == pid]
            except OSError:
                continue  # the thread ended
    except OSError:
        return []
    return found


def tree(pid: int) -> List[int]:
    """``pid`` and everything below it."""
    found: List[int] = []
    queue = [pid]
    seen: Set[int] = set()
    while queue:
        one = queue.pop()
        if one in seen:
            continue
        seen.add(one)
        found.append(one)
        queue += children(one)
    return found


def descendants(pid: int, besides: Iterable[int] = ()) -> List[int]:
    """Everything below ``pid``, without the trees of those in ``besides``."""
    keep = {one for root in besides for one in tree(root)}
    return [one for one in tree(pid) if one != pid and one not in keep]


def marked(value: str, name: bytes = b"JUPYTER_ELASTIC_POD") -> List[int]:
    """Processes whose environment was born with ``name=value``; this process never counts."""
    wanted = b"\0" + name + b"=" + value.encode() + b"\0"
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        try:
            with open(f"/proc/{entry}/environ", "rb") as file:
                if wanted in b"\0" + file.read() + b"\0":
                    found.append(int(entry))
        except OSError:
            continue  # gone, or somebody else's
    return found


def kill(pids: Iterable[int], signum: int = signal.SIGKILL) -> None:
    """Send a signal to each that is still there."""
    for pid in pids:
        try:
            os.kill(pid, signum)
        except ProcessLookupError:
            continue


def reap() -> Dict[int, int]:
    """Collect ended children of this process: pid -> wait status."""
    ended: Dict[int, int] = {}
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if pid == 0:
            return ended
        ended[pid] = status


def kill_below(besides: Iterable[int] = (), timeout: float = 5.0) -> Dict[int, int]:
    """Kill and reap everything below this process, save the trees of ``besides``.

    Orphans come to this process (it is the subreaper), so that going on until nothing is left
    catches also what was forked meanwhile. Returns the wait statuses. Gives up after ``timeout``
    seconds: a process in uninterruptible sleep cannot be killed.
    """
    ended: Dict[int, int] = {}
    until = time.monotonic() + timeout
    pause = 0.0005
    while True:
        left = descendants(os.getpid(), besides)
        kill(left)
        ended.update(reap())
        if not left or time.monotonic() > until:
            return ended
        time.sleep(pause)
        pause = min(pause * 1.5, 0.02)


def start_ticks(pid: int) -> int:
    """When the process started, in clock ticks since boot; with the pid it names it for ever."""
    one = stat(pid)
    return one.start if one else 0


def cpu_seconds(pids: Iterable[int]) -> float:
    """CPU time of these processes, without that of children they have lost."""
    return sum(one.cpu for one in map(stat, pids) if one) / TICKS


def anonymous(pid: int) -> int:
    """Resident anonymous and shared memory in bytes: cheap; counts pages shared with a parent."""
    total = 0
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            for line in file:
                if line.startswith((b"RssAnon:", b"RssShmem:")):
                    total += int(line.split()[1]) * 1024
    except OSError:
        return 0
    return total


def proportional(pid: int, private: bool = False) -> int:
    """Memory in bytes, shared pages divided by their sharers (PSS), or only private ones (USS).

    File pages (libraries) are left out where the kernel tells them apart. Exact and dear.
    """
    values: Dict[bytes, int] = {}
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
            for line in file:
                words = line.split()
                if len(words) == 3 and words[2] == b"kB":
                    values[words[0]] = int(words[1]) * 1024
    except OSError:
        return anonymous(pid)
    if private:
        return values.get(b"Private_Dirty:", 0) + values.get(b"Private_Clean:", 0)
    if b"Pss_Anon:" in values:
        return values[b"Pss_Anon:"] + values.get(b"Pss_Shmem:", 0)
    return values.get(b"Pss:", 0)


def describe_status(status: int) -> "tuple[Optional[int], Optional[int]]":
    """Split a wait status into (exit code, signal); one of them is None."""
    if os.WIFSIGNALED(status):
        return None, os.WTERMSIG(status)
    return os.WEXITSTATUS(status), None
