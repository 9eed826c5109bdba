"""Waiting with a bound. Imports nothing of the project.

Before Python 3.12 ``asyncio.wait_for`` forgets a cancellation that comes in the same turn of the
loop as what it waits for. A task that waits so again and again would go on, and whoever cancelled
it, as at the end of a server, wait for it for ever. What is here never does that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

T = TypeVar("T")


async def event_or_timeout(event: asyncio.Event, seconds: float) -> bool:
    """Whether the event came within the time."""
    if event.is_set():
        return True
    woken: asyncio.Future[Any] = asyncio.ensure_future(event.wait())
    try:
        done, _ = await asyncio.wait({woken}, timeout=seconds)
    finally:
        woken.cancel()
    return bool(done)


async def within(work: Awaitable[T], seconds: float) -> T:
    """What the work returns or raises; it is cancelled with the caller, and when its time is over.

    Without any time only what is done already is in time.

    Raises
    ------
    asyncio.TimeoutError
        It took longer.
    """
    task = asyncio.ensure_future(work)
    try:
        if seconds > 0:
            await asyncio.wait({task}, timeout=seconds)
    except asyncio.CancelledError:
        await _end(task)
        raise
    if not task.done():
        await _end(task)
        if task.cancelled():
            raise asyncio.TimeoutError
    return task.result()


async def _end(task: asyncio.Future[Any]) -> None:
    """Return once it has ended; what it ended with is of no interest."""
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()
