"""The pool's own object: there as long as somebody keeps the pool."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any

from jupyter_elastic.cluster.kubernetes.fleet import Fleet
from jupyter_elastic.cluster.kubernetes.namespaces import KEPT_BY
from jupyter_elastic.cluster.kubernetes.pool import MAKE_AGAIN, Pool
from jupyter_elastic.cluster.kubernetes.view import View

from .fakeapi import NAMESPACE, FakeApi, connected, failure
from .objects import pod as pod_object

POOLS = f"/apis/elastic.jupyter.org/v1alpha1/namespaces/{NAMESPACE}/kernelpools"


class World:
    pool: Pool
    """A server's."""
    kept: Pool
    """The same namespace's, as a controller of many namespaces has it."""

    def __init__(self, fake: FakeApi, view: View) -> None:
        self.fake, self.view = fake, view
        self.now = 1000.0
        self.chores: list[asyncio.Future[None]] = []

    async def keep(self) -> bool:
        """Ask for the shard as often as the controller of many namespaces is told to."""
        held = False
        for _ in range(3):
            held = await self.kept.acquire("shard-0-of-1")
            await asyncio.gather(*self.chores)
            self.chores.clear()
        return held

    @property
    def asked(self) -> int:
        """How often a pool was to be made."""
        return self.fake.paths.count(f"POST {POOLS}")

    @property
    def keeper(self) -> str:
        """Who the KernelPool says keeps it."""
        found: str = self.fake.made[f"{POOLS}/pool"]["metadata"]["annotations"].get(KEPT_BY, "")
        return found

    def delete(self) -> None:
        """As an admin does, and the watch tells."""
        one = self.fake.made.pop(f"{POOLS}/pool")
        self.view._pools.drop("pool", one["metadata"]["uid"])


@contextlib.asynccontextmanager
async def world(folder: Path) -> AsyncIterator[World]:
    async def give_back(name: str, reason: str) -> None:
        raise AssertionError("there are no pods")

    def spawn(work: Coroutine[Any, Any, None]) -> None:
        it.chores.append(asyncio.ensure_future(work))

    async with connected(folder) as (fake, api):
        log = logging.getLogger("test")
        view = View(api, log)
        it = World(fake, view)
        it.pool = Pool(api, view, "me", lambda _: None, give_back, spawn, log, lambda: it.now)
        fleet = Fleet(api.within("controllers"), cluster_wide=False, log=log)
        it.kept = Pool(
            api, view, "many", lambda _: None, give_back, spawn, log, lambda: it.now, fleet
        )
        yield it
        fleet.context.destroy(linger=0)


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


# -- by a controller of many namespaces ----------------------------------------------------


async def test_servers_leave_the_pool_to_a_controller_of_many_namespaces(tmp_path: Path) -> None:
    """They say nothing to each other but by the KernelPool, which both of them watch."""
    async with world(tmp_path) as it:
        told: list[str] = []
        it.view.subscribe(lambda change: told.append(f"{change.kind} {change.name}"))
        assert await it.pool.acquire("pool")
        assert await it.keep()
        assert it.keeper == "controllers"
        assert "lease pool" in told, "the server looks at once"
        assert not await it.pool.acquire("pool")
        assert it.fake.leases["jupyter-elastic-pool"]["spec"]["holderIdentity"] == ""
        assert await it.keep()


async def test_a_pool_that_is_left_is_the_servers_again(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        assert await it.keep()
        assert not await it.pool.acquire("pool")
        it.kept.is_leaving = True
        spare = pod_object("warm")
        it.view._pods.put(spare)
        await it.keep()
        assert it.keeper == "controllers", "its warm pods are to go first"
        it.view._pods.drop("p", spare.metadata.uid)
        await it.keep()
        assert it.keeper == ""
        assert await it.pool.acquire("pool")
        assert it.asked == 1


async def test_what_another_controller_keeps_is_left_to_it(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        assert await it.keep()
        path = it.fake.made[f"{POOLS}/pool"]
        path["metadata"]["annotations"][KEPT_BY] = "elsewhere"
        path["metadata"]["resourceVersion"] = "999"
        it.view.took_pool(json.dumps(path).encode())
        assert not await it.keep()
        assert it.keeper == "elsewhere"


async def test_no_lease_waits_for_a_kernelpool_to_be_made(tmp_path: Path) -> None:
    """Requests of hundreds of pools queue; who waits among them is no leader any more."""
    async with world(tmp_path) as it:
        assert not await it.kept.acquire("shard-0-of-1"), "warm pods would belong to nobody"
        assert it.asked == 0
        await asyncio.gather(*it.chores)
        assert it.keeper == "controllers"
        assert await it.kept.acquire("shard-0-of-1")


async def test_a_kernelpool_that_may_not_be_made_keeps_nobody_from_the_pool(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        await it.kept.acquire("shard-0-of-1")
        it.fake.next.append(failure(403, "Forbidden", "no"))
        await asyncio.gather(*it.chores)
        assert it.view.pool() is None
        assert await it.kept.acquire("shard-0-of-1")
