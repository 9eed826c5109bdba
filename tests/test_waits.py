"""Waits with a bound: a cancellation ends them, whatever comes in the same turn of the loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from jupyter_elastic.waits import event_or_timeout, within

TURNS = range(6)
"""Turns of the loop between what is waited for and the cancellation."""


async def by_event(event: asyncio.Event) -> None:
    while True:
        event.clear()
        await event_or_timeout(event, 60)


async def by_work(event: asyncio.Event) -> None:
    while True:
        event.clear()
        await within(event.wait(), 60)


@pytest.mark.parametrize("turns", TURNS)
@pytest.mark.parametrize("loop", [by_event, by_work])
def test_a_cancellation_that_comes_with_the_news_ends_a_loop(
    loop: Callable[[asyncio.Event], Awaitable[None]], turns: int
) -> None:
    async def scenario() -> None:
        event = asyncio.Event()
        task = asyncio.ensure_future(loop(event))
        for _ in range(10):
            await asyncio.sleep(0)
        event.set()
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task}, timeout=5)
        assert task.cancelled()

    asyncio.run(scenario())


def test_what_is_late_is_cancelled_and_told() -> None:
    async def scenario() -> None:
        never = asyncio.ensure_future(asyncio.Event().wait())
        with pytest.raises(asyncio.TimeoutError):
            await within(never, 0.01)
        assert never.cancelled()
        assert not await event_or_timeout(asyncio.Event(), 0.01)
        with pytest.raises(asyncio.TimeoutError):
            await within(asyncio.sleep(0), 0)

    asyncio.run(scenario())


def test_what_is_in_time_is_handed_on() -> None:
    async def fail() -> None:
        raise ValueError("its own")

    async def scenario() -> None:
        assert await within(asyncio.sleep(0, "done"), 60) == "done"
        with pytest.raises(ValueError, match="its own"):
            await within(fail(), 60)
        event = asyncio.Event()
        event.set()
        assert await event_or_timeout(event, 60)

    asyncio.run(scenario())


def test_work_ends_before_its_caller_does() -> None:
    """Whoever cancelled the caller may close what the work uses."""
    ended = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.set()

    async def scenario() -> None:
        task = asyncio.ensure_future(within(work(), 60))
        for _ in range(5):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task}, timeout=5)
        assert task.cancelled()
        assert ended.is_set()

    asyncio.run(scenario())
