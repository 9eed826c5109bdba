"""The process a kernel belongs to, when that is no server: nbclient, papermill, a console.

A plain kernel ends with its parent. The agent is nobody's child, so it watches the process by
pid and start time instead; nothing is asked of that process.
"""

from __future__ import annotations

import asyncio
import os

from . import processes

LOOK_EVERY = 2.0
"""Seconds between two looks where the system does not announce the end of a process."""


def lives(pid: int, start_ticks: int) -> bool:
    """Whether exactly this process still runs; one that only waits to be reaped does not."""
    found = processes.stat(pid)
    return found is not None and found.state not in ("Z", "X") and found.start == start_ticks


async def gone(pid: int, start_ticks: int) -> None:
    """Return once the process has ended."""
    try:
        descriptor = _open(pid)
    except ProcessLookupError:
        return
    except OSError:  # no pidfd here, or it is forbidden
        while lives(pid, start_ticks):  # noqa: ASYNC110 - nobody here could set an event
            await asyncio.sleep(LOOK_EVERY)
        return
    loop = asyncio.get_running_loop()
    ended: "asyncio.Future[None]" = loop.create_future()
    try:
        # Only now is it sure that the descriptor is not of a later process of the same pid.
        if lives(pid, start_ticks):
            loop.add_reader(descriptor, _finish, ended)
            await ended
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def _open(pid: int) -> int:
    if not hasattr(os, "pidfd_open"):  # before Python 3.9
        raise OSError("no pidfd_open")
    return os.pidfd_open(pid)


def _finish(ended: "asyncio.Future[None]") -> None:
    if not ended.done():
        ended.set_result(None)
