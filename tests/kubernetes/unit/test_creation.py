"""Objects are created once, whatever becomes of the answers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any

import pytest

from jupyter_elastic.cluster.kubernetes.creation import Creator
from jupyter_elastic.cluster.kubernetes.problems import ApiConflict
from jupyter_elastic.errors import ApiUnreachable, Forbidden, KernelExists

from .fakeapi import PODS, Answer, FakeApi, Pause, connected, cut, failure

ONE = f"{PODS}/one"
BODY = {"metadata": {"name": "one", "annotations": {"kept": "yes"}}, "spec": {"a": 1}}
EXISTS = failure(409, "AlreadyExists", "already exists")


class World:
    """A fake API, a creator, and what it does in the background."""

    def __init__(self, fake: FakeApi, creator: Creator, tasks: list[asyncio.Task[None]]) -> None:
        self.fake, self.creator = fake, creator
        self._tasks = tasks

    async def settled(self) -> None:
        await asyncio.gather(*self._tasks)

    @property
    def uid(self) -> str:
        uid: str = self.fake.made[ONE]["metadata"]["uid"]
        return uid


@contextlib.asynccontextmanager
async def world(folder: Path) -> AsyncIterator[World]:
    tasks: list[asyncio.Task[None]] = []

    def spawn(work: Coroutine[Any, Any, None]) -> None:
        tasks.append(asyncio.ensure_future(work))

    async with connected(folder) as (fake, api):
        log = logging.getLogger("test")
        creator = Creator(api, spawn, log, sleep=Pause(), rand=lambda: 0.5)
        yield World(fake, creator, tasks)
        await asyncio.gather(*tasks)


def uid_of(answer: bytes) -> str:
    uid: str = json.loads(answer)["metadata"]["uid"]
    return uid


async def test_an_object_is_created_as_it_was_said(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        answer = json.loads(await it.creator.create(PODS, BODY))
        assert answer["spec"] == BODY["spec"]
        assert answer["metadata"]["annotations"]["kept"] == "yes"
        assert it.fake.paths == [f"POST {PODS}"]


async def test_a_lost_answer_is_no_failure(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        it.fake.next.append(it.fake.lose)
        answer = await it.creator.create(PODS, BODY, exists=KernelExists)
        assert uid_of(answer) == it.uid
        assert it.fake.paths == [f"POST {PODS}", f"POST {PODS}", f"GET {ONE}"]


async def test_a_gateway_that_gives_up_too_soon_is_no_failure(tmp_path: Path) -> None:
    async def carried_out(request: Any) -> Any:
        with contextlib.suppress(ConnectionError):
            await it.fake._properly(request)
        return await failure(504, "Timeout", "timed out")(request)

    async with world(tmp_path) as it:
        it.fake.next.append(carried_out)
        assert uid_of(await it.creator.create(PODS, BODY)) == it.uid


async def test_a_lost_request_is_sent_again(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        it.fake.next.append(cut)
        assert uid_of(await it.creator.create(PODS, BODY)) == it.uid


@pytest.mark.parametrize("first", [None, cut])
async def test_what_is_somebody_elses_is_not_ours(tmp_path: Path, first: Answer | None) -> None:
    async with world(tmp_path) as it:
        await it.creator.create(PODS, BODY)
        theirs = it.uid
        if first is not None:
            it.fake.next.append(first)
        with pytest.raises(KernelExists):
            await it.creator.create(PODS, BODY, exists=KernelExists)
        with pytest.raises(ApiConflict):
            await it.creator.create(PODS, BODY)
        await it.settled()
        assert it.uid == theirs


async def test_what_was_created_without_an_answer_is_taken_back(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        it.fake.next.extend([it.fake.lose, *[cut] * 20])
        with pytest.raises(ApiUnreachable):
            await it.creator.create(PODS, BODY)
        assert ONE in it.fake.made
        it.fake.next.clear()
        await it.settled()
        assert ONE not in it.fake.made


async def test_what_another_has_created_meanwhile_is_left(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        it.fake.next.extend([cut] * 20)
        with pytest.raises(ApiUnreachable):
            await it.creator.create(PODS, BODY)
        it.fake.next.clear()
        await it.creator.create(PODS, BODY)
        theirs = it.uid
        await it.settled()
        assert it.uid == theirs


async def test_a_creation_that_is_cancelled_leaves_nothing(tmp_path: Path) -> None:
    done = asyncio.Event()

    async def slow(request: Any) -> Any:
        await it.fake._properly(request)
        done.set()
        await asyncio.sleep(60)

    async with world(tmp_path) as it:
        it.fake.next.append(slow)
        task = asyncio.ensure_future(it.creator.create(PODS, BODY))
        await asyncio.wait_for(done.wait(), 20)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await it.settled()
        assert ONE not in it.fake.made


async def test_a_refusal_is_final_and_leaves_nothing_to_look_for(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        it.fake.next.append(failure(403, "Forbidden", "no"))
        with pytest.raises(Forbidden):
            await it.creator.create(PODS, BODY)
        await it.settled()
        assert it.fake.paths == [f"POST {PODS}"]


async def test_what_is_there_already_need_not_be_made(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        it.fake.next.append(it.fake.lose)
        await it.creator.ensure(PODS, BODY)
        first = it.uid
        await it.creator.ensure(PODS, BODY)
        assert it.uid == first


async def test_a_refusal_is_told_by_who_only_needs_it_to_be_there(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        it.fake.next.append(failure(403, "Forbidden", "no"))
        with pytest.raises(Forbidden):
            await it.creator.ensure(PODS, BODY)
