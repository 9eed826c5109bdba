"""Caps that are kept although requests cross, and warm pods that are given back to a full quota."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

import pytest
from msgspec.structs import replace

from jupyter_elastic.cluster.kubernetes import problems, quota
from jupyter_elastic.cluster.kubernetes.fate import pod_from_object
from jupyter_elastic.cluster.kubernetes.objects import (
    Meta,
    PodObject,
    QuotaObject,
    QuotaSpec,
    QuotaStatus,
    ScopeRequirement,
    ScopeSelector,
)
from jupyter_elastic.cluster.kubernetes.quota import Quota
from jupyter_elastic.errors import Conflict, ElasticError, QuotaFull
from jupyter_elastic.model import Kernel, Pod, Template
from jupyter_elastic.podoptions import PodOptions
from jupyter_elastic.resources import MIB, Resources

from .objects import pod as pod_object
from .test_counts import WORK


def size(memory: int) -> Resources:
    return Resources(cpu=100, memory=memory * MIB)


class World:
    """A namespace as a view shows it, whose quota counts a pod's end when the test says so."""

    def __init__(self, cap: int | None = None) -> None:
        self.objects: dict[str, PodObject] = {}
        self.kernels: dict[str, Kernel] = {}
        self.templates: dict[str, Template] = {}
        self.hard: dict[str, str] = {}
        self.deleted: list[str] = []
        self.fails: ElasticError | None = None
        self.tasks: list[asyncio.Task[None]] = []
        caps = (None, None) if cap is None else (100_000, cap * MIB)
        log = logging.getLogger("test")
        self.quota = Quota(self, caps, "Namespace team", self._delete, self._spawn, log)

    def warm(self, name: str, memory: int = 128, **changes: Any) -> None:
        sizes = {
            "requests": {"cpu": "100m", "memory": f"{memory}Mi"},
            "limits": {"cpu": "2", "memory": "512Mi"},
        }
        mark = {"name": name, "uid": name}
        self._add(pod_object(**{"phase": "warm", "resources": sizes, "metadata": mark, **changes}))

    def claimed(self, name: str, memory: int) -> None:
        sizes = {"cpu": "150m", "memory": str((memory + 64) * MIB)}
        mark = {"name": name, "uid": name}
        self._add(pod_object(resources={"requests": sizes, "limits": sizes}, metadata=mark))

    def _add(self, obj: PodObject) -> None:
        self.objects[obj.metadata.name] = obj

    def gone(self, name: str) -> None:
        del self.objects[name]

    # -- what a view does ------------------------------------------------------------------

    @property
    def pods(self) -> dict[str, Pod]:
        return {name: pod_from_object(obj) for name, obj in self.objects.items()}

    def object(self, name: str) -> PodObject | None:
        return self.objects.get(name)

    def quotas(self) -> list[QuotaObject]:
        used = sum(one.resources.memory for one in self.pods.values())
        status = QuotaStatus(hard=self.hard, used={"requests.memory": str(used)})
        return [QuotaObject(metadata=Meta(name="q"), status=status)] if self.hard else []

    async def changed(self, timeout: float) -> None:
        await asyncio.sleep(0.001)

    async def _delete(self, name: str, reason: str) -> None:
        await asyncio.sleep(0)
        if self.fails is not None:
            raise self.fails
        self.deleted.append(name)
        self.objects.pop(name, None)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self.tasks.append(asyncio.ensure_future(work))

    async def settled(self) -> None:
        await asyncio.gather(*self.tasks)

    def admit(self, memory: int) -> None:
        """As the API server does: raises what it answers when there is no room."""
        [one] = self.quotas()
        used, limit = int(one.status.used["requests.memory"]), self.hard["requests.memory"]
        if used + memory * MIB > problems.number("memory", limit):
            text = (
                'pods "p" is forbidden: exceeded quota: q, requested: requests.memory='
                f"{memory}Mi, used: requests.memory={used // MIB}Mi,"
                f" limited: requests.memory={limit}"
            )
            status = {"reason": "Forbidden", "message": text, "details": {"name": "p"}}
            raise problems.explain(403, status, "create", "pods", namespace="team")


# -- caps --------------------------------------------------------------------------------------


async def test_claims_that_cross_keep_to_the_caps() -> None:
    it = World(cap=1024)
    it.warm("one")
    it.warm("two")
    with it.quota.claiming("one", size(600)):
        with pytest.raises(QuotaFull), it.quota.claiming("two", size(600)):
            raise AssertionError("there is no room")
        with it.quota.claiming("two", size(400)):
            pass
    assert it.deleted == []


async def test_a_claimed_pod_counts_what_its_kernel_asked_for_until_it_is_resized() -> None:
    it = World(cap=1024)
    it.warm("one")
    with it.quota.claiming("one", size(600)):
        pass
    with pytest.raises(QuotaFull), it.quota.room_for("cold", size(500)):
        raise AssertionError("there is no room")
    it.claimed("one", 300)  # it was to be smaller after all
    it.quota.settled("one")
    with it.quota.room_for("cold", size(500)):
        pass


async def test_a_claim_that_fails_gives_its_room_back() -> None:
    it = World(cap=1024)
    it.warm("one")
    with pytest.raises(Conflict), it.quota.claiming("one", size(600)):
        raise Conflict("Somebody was faster.")
    with it.quota.room_for("cold", size(800)):
        pass


async def test_a_claimed_pod_that_ends_before_its_resize_gives_its_room_back() -> None:
    it = World(cap=1024)
    it.warm("one")
    with it.quota.claiming("one", size(600)):
        pass
    it.gone("one")
    with it.quota.room_for("cold", size(1024)):
        pass


async def test_resizes_that_cross_keep_to_the_caps() -> None:
    it = World(cap=1024)
    it.claimed("one", 256)
    it.claimed("two", 256)
    with it.quota.room_for("one", size(700)):
        with pytest.raises(QuotaFull), it.quota.room_for("two", size(700)):
            raise AssertionError("there is no room")
        with it.quota.room_for("two", size(324)):
            pass
    with it.quota.room_for("two", size(700)):
        pass


async def test_a_pod_that_shows_already_is_not_counted_twice() -> None:
    it = World(cap=1024)
    with it.quota.room_for("cold", size(500)):
        it.claimed("cold", 500)
        with it.quota.room_for("other", size(524)):
            pass


async def test_no_two_starts_count_on_the_same_warm_pod() -> None:
    it = World(cap=1024)
    it.warm("one", 512)
    it.warm("two", 512)
    with it.quota.room_for("a", size(512)), it.quota.room_for("b", size(512)):
        with pytest.raises(QuotaFull), it.quota.room_for("c", size(1)):
            raise AssertionError("there is no room")
        await it.settled()
    assert sorted(it.deleted) == ["one", "two"]


async def test_a_warm_pod_that_is_given_up_is_not_claimed() -> None:
    it = World(cap=1024)
    it.warm("one", 512)
    with it.quota.room_for("a", size(1024)):
        with pytest.raises(Conflict), it.quota.claiming("one", size(10)):
            raise AssertionError("it is going")
        await it.settled()


async def test_a_warm_pod_that_could_not_be_given_up_counts_again() -> None:
    it = World(cap=1024)
    it.warm("one", 512)
    it.fails = Conflict("Somebody has claimed it.")
    with it.quota.room_for("a", size(512)):
        pass
    with it.quota.room_for("a", size(1024)):
        await it.settled()
    with pytest.raises(QuotaFull), it.quota.room_for("a", size(1024), evict=False):
        raise AssertionError("there is no room")


# -- quotas ------------------------------------------------------------------------------------


async def test_no_more_warm_pods_are_given_back_than_are_needed() -> None:
    it = World()
    it.hard = {"requests.memory": "1Gi"}
    for name in ("a", "b", "c", "d"):
        it.warm(name, 128)
    it.claimed("mine", 384)  # of 1024 MiB 896 are taken

    async def create() -> str:
        it.admit(200)
        return "created"

    assert await it.quota.within(create) == "created"
    assert it.deleted == ["a"]


async def test_warm_pods_stay_when_all_of_them_are_not_enough() -> None:
    it = World()
    it.hard = {"requests.memory": "1Gi"}
    it.warm("a", 128)
    it.claimed("mine", 800)

    async def create() -> None:
        it.admit(512)

    with pytest.raises(QuotaFull):
        await it.quota.within(create)
    assert it.deleted == []


async def test_starts_that_are_refused_at_once_each_get_their_room() -> None:
    it = World()
    it.hard = {"requests.memory": "512Mi"}
    for name in ("a", "b", "c", "d"):
        it.warm(name, 128)

    async def create(name: str) -> None:
        it.admit(128)
        it.claimed(name, 128)

    await asyncio.gather(*(it.quota.within(lambda n=n: create(n)) for n in ("x", "y")))  # type: ignore[misc]
    assert sorted(it.deleted) == ["a", "b"]


async def test_pods_that_are_not_warm_yet_go_first_and_claimed_soon_are_kept() -> None:
    it = World()
    it.hard = {"requests.memory": "384Mi"}
    it.warm("warm")
    it.warm("taken")
    it.warm("warming", phase="warming")

    async def create() -> None:
        it.admit(200)

    with it.quota.claiming("taken", size(1)):
        await it.quota.within(create)
    assert it.deleted == ["warming", "warm"]


async def test_what_the_cluster_has_not_counted_yet_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(quota, "COUNTED_WITHIN", 20.0)
    it = World()
    it.hard = {"requests.memory": "256Mi"}
    it.warm("a")
    it.warm("b")
    counted = asyncio.Event()
    real = it.quotas

    def stale() -> list[QuotaObject]:
        if counted.is_set():
            return real()
        status = QuotaStatus(hard=it.hard, used={"requests.memory": "256Mi"})
        return [QuotaObject(metadata=Meta(name="q"), status=status)]

    it.quotas = stale  # type: ignore[method-assign]
    tries = 0

    async def create() -> None:
        nonlocal tries
        tries += 1
        if not counted.is_set():
            asyncio.get_running_loop().call_later(0.2, counted.set)
        [one] = it.quotas()
        if one.status.used["requests.memory"] == "256Mi":
            text = (
                "exceeded quota: q, requested: requests.memory=100Mi,"
                " used: requests.memory=256Mi, limited: requests.memory=256Mi"
            )
            raise problems.explain(
                403, {"reason": "Forbidden", "message": text, "details": {"name": "p"}},
                "create", "pods",
            )  # fmt: skip

    await it.quota.within(create)
    assert it.deleted == ["a"]
    assert tries == 2


async def test_a_quota_that_is_not_seen_yet_takes_no_more_warm_pods_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(quota, "COUNTED_WITHIN", 0.05)
    it = World()
    it.hard = {"requests.memory": "512Mi"}
    for name in ("a", "b", "c", "d"):
        it.warm(name, 128)
    real = it.quotas
    looks = 0

    def unseen() -> list[QuotaObject]:
        nonlocal looks
        looks += 1
        return []

    async def create() -> None:
        monkeypatch.setattr(it, "quotas", real)
        try:
            it.admit(128)
        finally:
            monkeypatch.setattr(it, "quotas", unseen)

    await it.quota.within(create)
    assert it.deleted == ["a"]
    assert looks > 1, "it was waited for"


def test_a_quota_of_a_priority_class_counts_where_a_template_or_a_pod_is_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    it = World()
    scope = ScopeRequirement(scope_name="PriorityClass", operator="In", values=("low",))
    spec = QuotaSpec(scope_selector=ScopeSelector(match_expressions=(scope,)))
    status = QuotaStatus(hard={"pods": "7"}, used={"pods": "0"})
    one = QuotaObject(metadata=Meta(name="q"), spec=spec, status=status)
    monkeypatch.setattr(it, "quotas", lambda: [one])

    def offered(priority_class: str) -> dict[str, Template]:
        options = PodOptions(priority_class=priority_class)
        return {"work": replace(WORK, kubernetes=options)}

    it.templates = offered("high")
    assert it.quota.capacity().counts == {}
    it.templates = offered("low")
    assert it.quota.capacity().counts == {"pods": 7}
    it.templates = offered("")
    assert it.quota.capacity().counts == {}
    it.warm("a")
    made = it.objects["a"]
    it.objects["a"] = replace(made, spec=replace(made.spec, priority_class_name="low"))  # a default
    assert it.quota.capacity().counts == {"pods": 7}
