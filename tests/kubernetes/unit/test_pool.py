"""The pool's own object: there as long as somebody keeps the pool."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any

from jupyter_elastic.cluster.kubernetes.pool import MAKE_AGAIN, Pool
from jupyter_elastic.cluster.kubernetes.view import View

from .fakeapi import NAMESPACE, FakeApi, connected, failure

POOLS = f"/apis/elastic.jupyter.org/v1alpha1/namespaces/{NAMESPACE}/kernelpools"


class World:
    pool: Pool

    def __init__(self, fake: FakeApi, view: View) -> None:
        self.fake, self.view = fake, view
        self.now = 1000.0

    @property
    def asked(self) -> int:
        """How often a pool was to be made."""
        return self.fake.paths.count(f"POST {POOLS}")

    def delete(self) -> None:
        """As an admin does, and the watch tells."""
        one = self.fake.made.pop(f"{POOLS}/pool")
        self.view._pools.drop("pool", one["metadata"]["uid"])


@contextlib.asynccontextmanager
async def world(folder: Path) -> AsyncIterator[World]:
    async def give_back(name: str, reason: str) -> None:
        raise AssertionError("there are no pods")

    def spawn(work: Coroutine[Any, Any, None]) -> None:
        raise AssertionError("there is nothing to do")

    async with connected(folder) as (fake, api):
        log = logging.getLogger("test")
        view = View(api, log)
        it = World(fake, view)
        it.pool = Pool(api, view, "me", lambda _: None, give_back, spawn, log, lambda: it.now)
        yield it


async def test_who_keeps_the_pool_makes_its_object_once(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        for _ in range(3):
            assert await it.pool.acquire("pool")
            it.now += MAKE_AGAIN
        assert it.asked == 1
        owner = it.pool.owner()
        assert owner is not None
        assert owner["uid"] == it.fake.made[f"{POOLS}/pool"]["metadata"]["uid"]


async def test_it_is_made_again_when_it_was_deleted(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        await it.pool.acquire("pool")
        it.delete()
        assert it.pool.owner() is None
        it.now += MAKE_AGAIN
        assert await it.pool.acquire("pool")
        assert it.pool.owner() is not None


async def test_one_that_may_not_be_made_is_not_asked_for_all_the_time(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        await it.pool.acquire("pool")
        it.delete()
        it.now += MAKE_AGAIN
        it.fake.next.append(failure(403, "Forbidden", "no"))
        for _ in range(5):
            assert await it.pool.acquire("pool"), "the pool is kept all the same"
            it.now += 1
        assert it.asked == 2
        it.now += MAKE_AGAIN
        await it.pool.acquire("pool")
        assert json.loads(it.fake.bodies[-1])["kind"] == "KernelPool"
        assert it.pool.owner() is not None
