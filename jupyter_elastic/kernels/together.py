"""Two small things of asyncio that Python has only later, or in another form."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TypeVar

from ..errors import ElasticError

_A = TypeVar("_A")
_B = TypeVar("_B")


async def both(first: Coroutine[Any, Any, _A], second: Coroutine[Any, Any, _B]) -> tuple[_A, _B]:
    """Do two things at once; when one fails, end the other before the failure is raised."""
    tasks = asyncio.ensure_future(first), asyncio.ensure_future(second)
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


@contextlib.asynccontextmanager
async def time_limit(seconds: float, make_error: Callable[[], ElasticError]) -> AsyncIterator[None]:
    """Like ``asyncio.timeout`` (Python 3.11), raising what ``make_error`` returns."""
    task = asyncio.current_task()
    assert task is not None
    expired = False

    def expire() -> None:
        nonlocal expired
        expired = True
        task.cancel()

    handle = asyncio.get_running_loop().call_later(seconds, expire)
    try:
        yield
    except asyncio.CancelledError:
        if expired:
            if hasattr(task, "uncancel"):  # Python 3.11
                task.uncancel()
            raise make_error() from None
        raise
    finally:
        handle.cancel()
