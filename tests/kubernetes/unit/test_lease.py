"""Who holds a lease when clocks differ, answers get lost and holders fall silent."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncIterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from jupyter_elastic.cli.controller import Health
from jupyter_elastic.cluster.kubernetes.answers import ApiBusy
from jupyter_elastic.cluster.kubernetes.lease import LeaseElector
from jupyter_elastic.errors import ApiUnreachable, Forbidden
from jupyter_elastic.pool.term import Term

from .fakeapi import FakeApi, connected, cut, failure

NOON = datetime(2026, 7, 1, 14, 0, 0, 5, tzinfo=timezone(timedelta(hours=2)))


class World:
    """A fake API and contenders whose clock the test moves."""

    def __init__(self, fake: FakeApi, api: Any) -> None:
        self.fake, self._api = fake, api
        self.now = 1000.0

    def contender(self, identity: str, **options: Any) -> LeaseElector:
        options = {"now": lambda: NOON, "clock": lambda: self.now, **options}
        return LeaseElector(self._api, "pool", identity, **options)

    @property
    def spec(self) -> dict[str, Any]:
        found: dict[str, Any] = self.fake.leases["pool"]["spec"]
        return found

    @property
    def sent(self) -> int:
        return len(self.fake.seen)


class Keeper:
    """What ``jupyter elastic controller`` keeps, as far as probes ask: one term, by one lease."""

    lease_valid = lease_look = 0.02

    def __init__(self, world: World) -> None:
        self._elector = world.contender("a")
        self._asked = asyncio.Condition()
        self._count = 0
        self.term = Term(
            self,  # type: ignore[arg-type]
            "pool",
            lambda: None,
            monotonic=lambda: world.now,
            rng=random.Random(1),
            log=logging.getLogger("test"),
        )

    async def acquire_lease(self, name: str) -> bool:
        try:
            return await self._elector.acquire()
        finally:
            self._count += 1
            async with self._asked:
                self._asked.notify_all()

    async def asks(self, times: int) -> None:
        """Return when the lease was asked for so often; of each the first may be under way."""
        until = self._count + times
        async with self._asked:
            await self._asked.wait_for(lambda: self._count >= until)

    def terms(self) -> list[Term]:
        return [self.term]

    def lacks(self) -> str:
        return ""

    async def open(self) -> None: ...

    async def close(self) -> None: ...


@contextlib.asynccontextmanager
async def world(folder: Path) -> AsyncIterator[World]:
    async with connected(folder) as (fake, api):
        yield World(fake, api)


async def test_the_first_to_ask_holds_it_and_writes_it_as_kubernetes_does(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        a, b = it.contender("a"), it.contender("b")
        assert await a.acquire()
        assert not await b.acquire()
        assert it.spec == {
            "holderIdentity": "a",
            "leaseDurationSeconds": 15,
            "acquireTime": "2026-07-01T12:00:00.000005Z",
            "renewTime": "2026-07-01T12:00:00.000005Z",
            "leaseTransitions": 0,
        }
        labels = it.fake.leases["pool"]["metadata"]["labels"]
        assert labels == {"app.kubernetes.io/managed-by": "jupyter-elastic"}


async def test_asking_often_costs_a_request_every_third_of_the_duration(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        a = it.contender("a")
        assert await a.acquire()
        begun = it.sent
        for _ in range(100):
            it.now += 0.1
            assert await a.acquire()
        assert it.sent - begun == 2


async def test_a_holder_that_renews_keeps_it(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        a, b = it.contender("a"), it.contender("b")
        moment = [NOON]
        a._now = lambda: moment[0]
        for _ in range(20):
            it.now += 5
            moment[0] += timedelta(seconds=5)
            assert await a.acquire()
            assert not await b.acquire()
        assert it.spec["leaseTransitions"] == 0
        assert it.spec["acquireTime"] < it.spec["renewTime"]


async def test_one_that_falls_silent_is_followed_after_its_duration_by_our_own_clock(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as it:
        # Its clock is hours away, in either direction; that does not matter.
        for hours in (-5, 5):
            wrong = NOON + timedelta(hours=hours)
            a = it.contender(f"a{hours}", now=lambda wrong=wrong: wrong)
            b = it.contender(f"b{hours}")
            it.fake.leases.clear()
            assert await a.acquire()
            it.now += 14
            assert not await b.acquire()  # seen for the first time just now
            it.now += 14.9
            assert not await b.acquire()
            it.now += 0.2
            assert await b.acquire()
            assert it.spec["holderIdentity"] == f"b{hours}"
            assert it.spec["leaseTransitions"] == 1
            assert not await a.acquire()


async def test_the_holders_own_duration_counts(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        a, b = it.contender("a", duration=60), it.contender("b")
        assert await a.acquire()
        assert not await b.acquire()
        it.now += 59
        assert not await b.acquire()
        it.now += 2
        assert await b.acquire()


async def test_of_two_that_take_over_at_once_one_wins(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        gone, *others = (it.contender(name) for name in "abcdef")
        assert await gone.acquire()
        await asyncio.gather(*(one.acquire() for one in others))
        it.now += 16
        held = await asyncio.gather(*(one.acquire() for one in others))
        assert sum(held) == 1
        it.fake.leases.clear()
        fresh = [it.contender(name) for name in "uvwxyz"]
        held = await asyncio.gather(*(one.acquire() for one in fresh))
        assert sum(held) == 1


async def test_what_is_released_is_free_at_once(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        a, b = it.contender("a"), it.contender("b")
        await a.release()
        assert it.sent == 0
        assert await a.acquire()
        assert not await b.acquire()
        await a.release()
        await a.release()
        assert it.spec["holderIdentity"] == ""
        assert await b.acquire()
        assert it.spec["leaseTransitions"] == 1
        await a.release()
        assert not await a.acquire()
        assert it.spec["holderIdentity"] == "b"


async def test_a_release_after_another_took_over_changes_nothing(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        a, b = it.contender("a"), it.contender("b")
        assert await a.acquire()
        assert not await b.acquire()
        it.now += 16
        assert await b.acquire()
        await a.release()  # it believes that it holds it
        assert it.spec["holderIdentity"] == "b"
        assert not await a.acquire()


async def test_an_answer_that_gets_lost_loses_no_lease(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        a = it.contender("a")
        assert await a.acquire()

        async def done_and_cut(request: web.Request) -> web.StreamResponse:
            await it.fake._lease(request)
            return await cut(request)

        it.now += 6
        it.fake.next.append(done_and_cut)
        assert await a.acquire()
        assert it.spec["leaseTransitions"] == 0


async def test_while_the_api_is_away_a_holder_stops_before_others_may_begin(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as it:
        a, b = it.contender("a"), it.contender("b")
        assert await a.acquire()
        port = it.fake.port
        await it.fake.stop()
        it.now += 6
        assert await a.acquire()
        with pytest.raises(ApiUnreachable):  # whoever stands by is told as well
            await b.acquire()
        it.now += 3.5
        assert await a.acquire()
        it.now += 1
        for _ in range(2):
            with pytest.raises(ApiUnreachable):
                await a.acquire()
        await it.fake.start(port)
        assert await a.acquire()


async def test_a_controller_whose_api_is_silent_is_not_ready(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        keeper = Keeper(it)
        health = Health(keeper)
        health.is_open = True
        contending = asyncio.ensure_future(keeper.term.run())
        try:
            await keeper.asks(2)
            assert health.is_ready() == ""
            port = it.fake.port
            await it.fake.stop()
            for _ in range(25):
                it.now += 1
                await keeper.asks(2)
            assert health.is_ready() == "", "an outage of seconds is none of a probe's business"
            for _ in range(25):
                it.now += 1
                await keeper.asks(2)
            assert health.is_ready().startswith("The cluster has not answered for ")
            assert health.is_alive() == "", "a new process would do no better"
            await it.fake.start(port)
            await keeper.asks(2)
            assert health.is_ready() == ""
        finally:
            contending.cancel()
            await asyncio.gather(contending, return_exceptions=True)


async def test_an_overloaded_api_is_no_reason_to_give_up(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        a = it.contender("a")
        it.fake.next.extend([failure(503, "ServiceUnavailable")] * 100)
        with pytest.raises(ApiBusy):
            await a.acquire()
        it.fake.next.clear()
        assert await a.acquire()
        it.fake.next.extend([failure(500, "InternalError")] * 100)
        it.now += 6
        assert await a.acquire()


async def test_a_missing_permission_is_told(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        message = (
            'User "me" cannot get resource "leases" in API group "coordination.k8s.io" in the'
            ' namespace "team"'
        )
        it.fake.next.append(failure(403, "Forbidden", message))
        with pytest.raises(Forbidden, match="may not get leases"):
            await it.contender("a").acquire()


async def test_a_lease_that_somebody_deletes_is_made_anew(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        a, b = it.contender("a"), it.contender("b")
        assert await a.acquire()
        it.fake.leases.clear()
        it.now += 6
        assert await a.acquire()
        assert it.spec["holderIdentity"] == "a"
        it.fake.leases.clear()
        assert await b.acquire()
        it.now += 6
        assert not await a.acquire()
