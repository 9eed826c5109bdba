"""Which namespaces are kept, one watch for all of them, and a lease for each shard."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_elastic.cluster.kubernetes.balance import (
    WANTED_BY,
    YIELD,
    to_ask_for,
    to_hand_over,
)
from jupyter_elastic.cluster.kubernetes.everywhere import Everywhere
from jupyter_elastic.cluster.kubernetes.lease import LeaseElector
from jupyter_elastic.cluster.kubernetes.manifests import MANAGED_BY
from jupyter_elastic.cluster.kubernetes.namespaces import KEPT_BY, Choice, chosen
from jupyter_elastic.cluster.kubernetes.objects import CustomObject, Meta, PodObject
from jupyter_elastic.cluster.kubernetes.sharedlease import LOOK, SharedLease
from jupyter_elastic.errors import ApiUnreachable, Forbidden

from .fakeapi import connected, failure

LOG = logging.getLogger("test")


# -- which ones ----------------------------------------------------------------------------


def pool(kept_by: str = "", *, made_by_us: bool = False) -> CustomObject:
    annotations = {KEPT_BY: kept_by} if kept_by else {}
    labels = MANAGED_BY if made_by_us else {}
    return CustomObject(metadata=Meta(name="pool", annotations=annotations, labels=labels))


def choose(choice: Choice | None = None, **found: Any) -> dict[str, bool]:
    everything: dict[str, Any] = {"labelled": (), "refused": (), "pools": {}, "quotas": ()}
    pools = {name: {"pool": one} for name, one in found.pop("pools", {}).items()}
    return chosen(choice or Choice(), **{**everything, **found, "pools": pools}, keeper="me")


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({"labelled": ["a"]}, {"a": True}),
        ({"pools": {"a": pool()}}, {"a": True}),
        # Every server makes one where it keeps the pool, which is nobody's wish.
        ({"pools": {"a": pool(made_by_us=True)}}, {}),
        ({"quotas": ["a"]}, {}),
        ({"choice": Choice(by_quota=True), "quotas": ["a"]}, {"a": True}),
        ({"choice": Choice(by_pool=False), "pools": {"a": pool()}}, {}),
        # A label that says no is stronger than all that says yes.
        ({"labelled": ["a", "b"], "pools": {"c": pool()}, "refused": ["b", "c"]}, {"a": True}),
        # What we keep and should not any more is given up; what others keep is theirs.
        ({"pools": {"a": pool("me", made_by_us=True)}}, {"a": False}),
        ({"pools": {"a": pool("me")}, "refused": ["a"]}, {"a": False}),
        ({"pools": {"a": pool("me", made_by_us=True)}, "labelled": ["a"]}, {"a": True}),
        ({"pools": {"a": pool("another", made_by_us=True)}}, {}),
    ],
)
def test_a_namespace_is_found(found: dict[str, Any], expected: dict[str, bool]) -> None:
    assert choose(**found) == expected


# -- one watch for all ---------------------------------------------------------------------


class Pods:
    """An API with pods of several namespaces; what a reflector needs of it."""

    def __init__(self) -> None:
        self.items: dict[str, dict[str, Any]] = {}
        self.version = 1
        self.asked: list[str] = []
        self._events: asyncio.Queue[bytes] = asyncio.Queue()

    def put(self, namespace: str, name: str, phase: str = "") -> dict[str, Any]:
        self.version += 1
        key = f"{namespace}/{name}"
        meta = {"namespace": namespace, "name": name, "uid": f"uid-{key}"}
        meta["resourceVersion"] = str(self.version)
        self.items[key] = {"metadata": meta, "status": {"phase": phase}}
        self._tell("MODIFIED", self.items[key])
        return self.items[key]

    def delete(self, namespace: str, name: str) -> None:
        self.version += 1
        gone = self.items.pop(f"{namespace}/{name}")
        gone["metadata"]["resourceVersion"] = str(self.version)
        self._tell("DELETED", gone)

    def _tell(self, kind: str, item: dict[str, Any]) -> None:
        self._events.put_nowait(json.dumps({"type": kind, "object": item}).encode())

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        accept: str = "application/json",
    ) -> bytes:
        self.asked.append(path)
        if path == "/api/v1/pods":
            meta = {"resourceVersion": str(self.version)}
            return json.dumps({"metadata": meta, "items": list(self.items.values())}).encode()
        _, _, _, _, namespace, _, name = path.split("/")
        return json.dumps(self.items[f"{namespace}/{name}"]).encode()

    async def watch(
        self,
        path: str,
        query: Mapping[str, str] | None = None,
        *,
        opened: Callable[[], None] | None = None,
    ) -> AsyncGenerator[bytes, None]:
        self.asked.append(f"watch {path}")
        if opened is not None:
            opened()
        while True:
            yield await self._events.get()


class Told:
    """A namespace's part, and what it told."""

    def __init__(self, everywhere: Everywhere, namespace: str) -> None:
        self.news: list[str] = []
        self.part = everywhere.collect(namespace)(
            f"/api/v1/namespaces/{namespace}/pods", PodObject, self._on_change
        )

    def _on_change(self, name: str, old: PodObject | None, new: PodObject | None) -> None:
        assert self.part.items.get(name) is new
        self.news.append(f"{'-' if new is None else '+'}{name}")

    async def until(self, *news: str) -> None:
        for _ in range(500):
            if self.news == list(news):
                return
            await asyncio.sleep(0.01)
        raise AssertionError(f"told {self.news}, not {news}")


@contextlib.asynccontextmanager
async def everywhere() -> AsyncIterator[tuple[Pods, Everywhere]]:
    pods = Pods()
    found = Everywhere(pods, LOG)
    try:
        yield pods, found
    finally:
        await found.close()


async def test_many_namespaces_are_one_list_and_one_watch() -> None:
    async with everywhere() as (pods, found):
        for namespace in ("a", "b"):
            pods.put(namespace, "one")
        parts = {name: Told(found, name) for name in ("a", "b", "empty")}
        await asyncio.gather(*(one.part.start() for one in parts.values()))
        await parts["a"].until("+one")
        await parts["b"].until("+one")
        pods.put("a", "two")
        pods.delete("b", "one")
        await parts["a"].until("+one", "+two")
        await parts["b"].until("+one", "-one")
        assert sorted(parts["a"].part.items) == ["one", "two"]
        assert parts["empty"].news == []
        assert pods.asked == ["/api/v1/pods", "watch /api/v1/pods"]


async def test_who_comes_later_is_told_what_is_there_and_who_left_nothing_more() -> None:
    async with everywhere() as (pods, found):
        pods.put("a", "one")
        first = Told(found, "a")
        await first.part.start()
        await first.part.close()
        pods.put("a", "two")
        watching = Told(found, "b")
        await watching.part.start()
        pods.put("b", "last")
        await watching.until("+last")
        assert first.news == ["+one"]
        second = Told(found, "a")
        await second.part.start()
        await second.part.start()
        assert second.news == ["+one", "+two"]
        assert pods.asked.count("/api/v1/pods") == 1


async def test_the_same_name_in_two_namespaces_is_two_objects() -> None:
    async with everywhere() as (pods, found):
        a, b = Told(found, "a"), Told(found, "b")
        await a.part.start()
        await b.part.start()
        pods.put("a", "same", "Running")
        written = pods.put("b", "same", "Pending")
        await b.until("+same")
        assert b.part.items["same"].status.phase == "Pending"
        b.part.drop("same", written["metadata"]["uid"])
        assert b.news == ["+same", "-same"]
        assert a.part.items["same"].status.phase == "Running"


async def test_what_the_watch_is_late_with_is_asked_for_where_it_is() -> None:
    async with everywhere() as (pods, found):
        part = Told(found, "a")
        await part.part.start()
        late = pods.put("a", "late")
        pods._events.get_nowait()  # the watch does not tell it
        await part.part.sync()
        assert "/api/v1/namespaces/a/pods/late" in pods.asked
        assert part.part.items["late"].metadata.uid == late["metadata"]["uid"]


# -- shards --------------------------------------------------------------------------------


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@contextlib.asynccontextmanager
async def replicas(folder: Path) -> AsyncIterator[tuple[Any, Clock, SharedLease, SharedLease]]:
    async with connected(folder) as (fake, api):
        clock = Clock()
        one, two = (
            SharedLease(LeaseElector(api, "shard", who, 10, clock=clock), clock)
            for who in ("one", "two")
        )
        yield fake, clock, one, two


async def test_hundreds_of_namespaces_ask_for_a_shard_and_the_api_hears_of_few(
    tmp_path: Path,
) -> None:
    async with replicas(tmp_path) as (fake, clock, one, two):
        for seconds in range(30):
            clock.now += 1
            assert all(await asyncio.gather(*(one.acquire() for _ in range(200))))
            assert not any(await asyncio.gather(*(two.acquire() for _ in range(200))))
            # One renews every third of the lease, the other looks once a second.
            assert len(fake.seen) < 5 + (1 / 3 + 1 / LOOK) * (seconds + 1)
        assert fake.leases["shard"]["spec"]["holderIdentity"] == "one"


async def test_a_shard_is_handed_over_at_once_to_who_is_told(tmp_path: Path) -> None:
    async with replicas(tmp_path) as (_, _, one, two):
        assert await one.acquire()
        assert not await two.acquire()
        told: list[str] = []
        dispose = two.subscribe(lambda: told.append("two"))
        await one.release()
        assert not await two.acquire(), "it looked a moment ago, and nobody told it"
        two.is_free()  # the watch does
        assert told == ["two"]
        assert await two.acquire()
        assert told == ["two", "two"], "all namespaces of the shard may begin"
        dispose()
        assert not await one.acquire()


async def test_a_shard_whose_holder_is_silent_is_taken_over(tmp_path: Path) -> None:
    async with replicas(tmp_path) as (_, clock, one, two):
        assert await one.acquire()
        began = clock.now
        while not await two.acquire():
            clock.now += 0.5
            assert clock.now - began <= 10 + LOOK
        assert not await one.acquire()
        assert not one.held


async def test_a_refusal_is_told_once_and_not_to_each_namespace(tmp_path: Path) -> None:
    async with replicas(tmp_path) as (fake, clock, one, _):
        fake.next.append(failure(403, "Forbidden", "no"))
        answers = await asyncio.gather(*(one.acquire() for _ in range(50)), return_exceptions=True)
        assert [type(one) for one in answers if one is not False] == [Forbidden]
        clock.now += LOOK
        assert await one.acquire()


async def test_that_the_api_is_silent_is_told_to_each_namespace_and_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with replicas(tmp_path) as (fake, clock, one, two):
        assert await one.acquire()
        port = fake.port
        await fake.stop()
        clock.now += 7  # more than two thirds of what a lease lasts
        for _ in range(3):
            asked = (each.acquire() for each in (one, two) for _ in range(20))
            answers = await asyncio.gather(*asked, return_exceptions=True)
            assert {type(answer) for answer in answers} == {ApiUnreachable}
            clock.now += LOOK
        assert not one.held
        said = [record for record in caplog.records if record.levelname == "WARNING"]
        assert len([record for record in said if "lease shard" in record.getMessage()]) == 2
        await fake.start(port)
        assert await one.acquire()
        assert not await two.acquire()


# -- who has how many ----------------------------------------------------------------------


@given(
    st.lists(st.sampled_from(["", *"abcd"]), min_size=1, max_size=12),
    st.sets(st.sampled_from("abcde"), min_size=1),
)
def test_replicas_come_to_have_about_as_many_shards(first: list[str], alive: set[str]) -> None:
    """Each of them asks, lets go and takes by what it sees; who is gone loses what it had."""
    holders = {f"shard-{i}": who if who in alive else "" for i, who in enumerate(first)}
    wanted = dict.fromkeys(holders, "")
    for _ in range(100):
        for me in sorted(alive):
            for name in to_hand_over(holders, wanted, me):
                holders[name] = ""
            missing = to_ask_for(holders, wanted, me)
            if missing is not None:
                assert holders[missing] != me
                wanted[missing] = me
            for name, holder in holders.items():
                if not holder and wanted[name] in ("", me):
                    holders[name], wanted[name] = me, ""
    counts = Counter(dict.fromkeys(alive, 0))
    counts.update(holders.values())
    assert max(counts.values()) - min(counts.values()) <= 1


async def test_a_shard_that_is_let_go_is_left_to_who_asked_for_it(tmp_path: Path) -> None:
    async with replicas(tmp_path) as (fake, clock, one, two):
        assert await one.acquire()
        assert not await two.acquire()
        fake.leases["shard"]["metadata"]["annotations"] = {WANTED_BY: "two"}
        told: list[bool] = []
        one.subscribe(lambda: told.append(one.held))
        await one.hand_over()
        assert told == [False], "those who act are told before another may begin"
        assert not await one.acquire()
        two.is_free()
        assert await two.acquire()
        assert fake.leases["shard"]["spec"]["holderIdentity"] == "two"
        clock.now += YIELD
        assert not await one.acquire()


async def test_a_shard_that_nobody_takes_after_all_is_anybodys(tmp_path: Path) -> None:
    async with replicas(tmp_path) as (fake, clock, one, _):
        assert await one.acquire()
        fake.leases["shard"]["metadata"]["annotations"] = {WANTED_BY: "two"}
        await one.hand_over()
        clock.now += YIELD
        assert await one.acquire()
        assert not fake.leases["shard"]["metadata"]["annotations"].get(WANTED_BY)
