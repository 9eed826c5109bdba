"""Blocking work in a thread, and still when the interpreter is ending.

A lone client may end its kernel from an exit handler. By then Python's executors take no more
work; nothing else is left that could be held up, so it is done on the spot.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from concurrent.futures import thread as pools
from typing import Any, TypeVar

_T = TypeVar("_T")


async def in_thread(executor: Executor | None, function: Callable[..., _T], *args: Any) -> _T:
    """Run in the executor (None: the loop's own); it is done even if the caller is cancelled."""
    try:
        future = asyncio.get_running_loop().run_in_executor(executor, function, *args)
    except RuntimeError as error:
        if not _ending(error):
            raise
    else:
        return await future
    done = function(*args)
    await asyncio.sleep(0)  # what the function asked the loop to do comes first, as with a thread
    return done


def _ending(error: RuntimeError) -> bool:
    """Whether the executor refused because the interpreter ends, not because it was closed.

    Python tells that in words, and once an executor's threads are gone no longer; its own mark
    is exact, but private, so that it may be missing one day.
    """
    return bool(getattr(pools, "_shutdown", False)) or "interpreter shutdown" in str(error)
