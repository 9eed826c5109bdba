"""A cluster made of words: what the port promises and no more, with whatever may go wrong.

A :class:`World` is the truth. Each controller sees it through a :class:`ModelCluster` of its own,
whose cache lags behind, in another order for each object. Times are the virtual loop's.
"""

from __future__ import annotations

import asyncio
import itertools
import zlib
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from msgspec.structs import replace

from jupyter_elastic.cluster.base import Change, Cluster, Listener
from jupyter_elastic.errors import ApiUnreachable, BadInterpreter, QuotaFull
from jupyter_elastic.model import (
    UNLIMITED,
    Capacity,
    Enforcement,
    Kernel,
    KernelPhase,
    Pod,
    PodPhase,
    PoolRow,
    Template,
)
from jupyter_elastic.pool.controller import PoolController
from jupyter_elastic.pool.planner import lifetime
from jupyter_elastic.resources import GIB, Resources
from jupyter_elastic.templates import Machine, parse_template

WARM_AFTER = 2.0
SCHEDULED_AFTER = 0.02
LEASE = 10.0
"""Seconds after which a silent holder of a lease is given up."""
ONE = Resources(cpu=100, memory=GIB // 8)
EPOCH = 1_700_000_000.0
BURST, RATE = 6, 2.0
SHARE = 0.1
"""Part of the quota for what is predicted."""


class _Lease:
    def __init__(self) -> None:
        self.holder = ""
        self.written = 0
        """Counts writes: a record that did not change is one that nobody renewed."""


class World:
    """Pods, leases and the quota as they are; and what nobody may ever do to them."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.pods: dict[str, Pod] = {}
        self.templates: dict[str, Template] = {}
        self.behaviour: dict[str, str] = {}
        """``good``, ``broken`` (ends before it is warm), ``stuck`` (warms for ever), ``silent``
        (vanishes without a word), ``refused`` (cannot be created), ``nodeless`` (no node takes it,
        until :meth:`add_node`)."""
        self._limit = 30
        self.shows_limit = True
        """Whether servers can see that, before they are refused."""
        self.kernels: dict[str, Kernel] = {}
        """Records of starts that have no pod yet."""
        self.clients: list[ModelCluster] = []
        self.leases: dict[str, _Lease] = {}
        self.violations: list[str] = []
        self.wall = 0.0
        """What somebody moved the wall clock by."""
        self.deletion_takes = 0.2
        self.overlap_until = 0.0
        """Until when two controllers may believe that they lead."""
        self.creations: Counter[str] = Counter()
        self._wanted: dict[str, deque[tuple[float, int]]] = {}
        self._limits: deque[tuple[float, int]] = deque()
        self.offered: dict[str, float] = {}
        """When a template got another size, or became predicted."""
        self._names = itertools.count()

    # -- what admins and users do ----------------------------------------------------------

    def offer(
        self, name: str, size: int, ttl: float = 3600, version: int = 0, predict: bool = False
    ) -> None:
        """Offer a template, or change it."""
        data = {
            "name": name,
            "display_name": name,
            "env": {"VERSION": str(version)},
            "pool": {"size": size, "ttl": ttl, "predict": predict},
        }
        before = self.templates.get(name)
        if before is None or (before.pool.size, before.pool.predict) != (size, predict):
            self.offered[name] = self.loop.time()
        self.templates[name] = parse_template(data, "test", Machine(cpu=4000, memory=8 * GIB))
        self.behaviour.setdefault(name, "good")
        self._wanted.setdefault(name, deque()).append((self.loop.time(), size))

    def withdraw(self, name: str) -> None:
        self.templates.pop(name, None)

    def claim(self, template: str) -> bool:
        """A user takes a warm pod, as the truth has it; False: there is none."""
        for pod in self.pods.values():
            if pod.template == template and pod.phase is PodPhase.WARM:
                taken = replace(pod, phase=PodPhase.CLAIMED, kernel_id=f"k-{pod.name}")
                self._put(taken)
                return True
        return False

    def start_cold(self, template: str) -> None:
        """A user gets a pod of its own; a warm one makes room for it."""
        if self.alive() >= self.limit:
            spare = self.spare()
            if not spare:
                return
            self._end(spare[0], "RoomNeeded", "The pod was deleted.")
        self._make(template, kernel_id=f"k-{next(self._names)}")

    def ask(self, template: str, count: int) -> None:
        """Users ask for kernels, and the cluster is behind: they have no pods yet."""
        for _ in range(count):
            name = f"k-{next(self._names)}"
            self.kernels[name] = Kernel(
                kernel_id=name,
                owner="ann",
                template=template,
                resources=ONE,
                created=self.now(),
                deadline=self.now() + 120,
                phase=KernelPhase.STARTING,
            )

    def end_kernels(self, count: int) -> None:
        taken = [pod for pod in self.pods.values() if pod.kernel_id and _is_alive(pod)]
        for pod in taken[:count]:
            self._end(pod, "KernelDeleted", "")

    def steal_leases(self) -> None:
        """Somebody takes leases away while their holders still believe in them."""
        for lease in self.leases.values():
            lease.holder = ""
            lease.written += 1
        self.overlap_until = self.loop.time() + 2 * LEASE
        self.tell_lease()

    # -- what is ---------------------------------------------------------------------------

    def alive(self) -> int:
        return sum(_is_alive(pod) for pod in self.pods.values())

    def spare(self, template: str = "", hash: str = "") -> list[Pod]:
        return [
            pod
            for pod in self.pods.values()
            if pod.kernel_id is None
            and _is_alive(pod)
            and template in ("", pod.template)
            and hash in ("", pod.template_hash)
        ]

    def warm(self, template: str) -> int:
        fresh = self.templates[template].hash
        return sum(pod.phase is PodPhase.WARM for pod in self.spare(template, fresh))

    def wanted_lately(self, template: str) -> int:
        """The highest target of the last seconds: a request may have been on its way."""
        history = self._wanted.get(template)
        if not history:
            return 0
        while len(history) > 1 and history[1][0] < self.loop.time() - 5:
            history.popleft()
        return max(size for _, size in history)

    @property
    def limit(self) -> int:
        """Pods that the quota allows."""
        return self._limit

    @limit.setter
    def limit(self, limit: int) -> None:
        self._limits.append((self.loop.time(), self._limit))
        self._limit = limit

    def limit_lately(self) -> int:
        """The highest of the last seconds, in which somebody may have looked."""
        while self._limits and self._limits[0][0] < self.loop.time() - 20:
            self._limits.popleft()
        return max([self._limit, *(limit for _, limit in self._limits)])

    # -- what controllers do ---------------------------------------------------------------

    def create_for_pool(self, template: Template, client: ModelCluster) -> Pod:
        """Raises QuotaFull, BadInterpreter."""
        if self.alive() >= self.limit:
            raise QuotaFull(f"All {self.limit} pods that the quota allows are there.")
        if self.behaviour.get(template.name) == "refused":
            raise BadInterpreter("There is no such interpreter.")
        same = self.spare(template.name, template.hash)
        there = sum(not self._is_old(pod, template.pool.ttl) for pod in same)
        most = self.wanted_lately(template.name)
        if self.loop.time() < self.overlap_until:
            most *= max(2, len(self.clients))
        if there >= most and not template.pool.predict:
            self.violations.append(
                f"{client.identity} makes a pod of {template.name} beside {there} of {most}"
            )
        return self._make(template.name, hash=template.hash)

    def delete_for_pool(self, name: str, if_spare: bool, client: ModelCluster) -> None:
        pod = self.pods.get(name)
        if pod is None or not _is_alive(pod):
            return
        if pod.kernel_id is not None:
            if not if_spare:
                self.violations.append(f"{client.identity} ends {name}, which a kernel has")
            return
        self._end(pod, "Deleted", "The pod was deleted.")

    # -- inside ----------------------------------------------------------------------------

    def _is_old(self, pod: Pod, ttl: float) -> bool:
        """One that is to be renewed, and gives way only when its successor is warm."""
        age = 0.0 if pod.warm_since is None else self.now() - pod.warm_since
        return bool(ttl) and age > lifetime(pod, ttl)

    def now(self) -> float:
        """The wall clock."""
        return EPOCH + self.loop.time() + self.wall

    def _make(self, template: str, *, hash: str = "", kernel_id: str | None = None) -> Pod:
        name = f"{template}-{next(self._names)}"
        self.creations[template] += 1
        pod = Pod(
            name=name,
            uid=name,
            template=template,
            template_hash=hash or self.templates[template].hash,
            created=self.now(),
            kernel_id=kernel_id,
            resources=ONE,
        )
        self._put(pod)
        if kernel_id is None and self.behaviour.get(template) == "nodeless":
            self.loop.call_later(SCHEDULED_AFTER, self._find_no_node, name)
        else:
            self.loop.call_later(WARM_AFTER, self._become_warm, name)
        return pod

    def _find_no_node(self, name: str) -> None:
        pod = self.pods.get(name)
        if pod is None or not _is_alive(pod):
            return
        if self.behaviour.get(pod.template) != "nodeless":
            self.loop.call_later(WARM_AFTER, self._become_warm, name)
        else:
            self._put(replace(pod, reason="Unschedulable", message="No node takes the pod."))

    def add_node(self, template: str) -> None:
        """One that takes the pods of a template."""
        self.behaviour[template] = "good"
        for pod in self.spare(template):
            if pod.reason:
                self._put(replace(pod, reason="", message=""))
                self.loop.call_later(WARM_AFTER, self._become_warm, pod.name)

    def _become_warm(self, name: str) -> None:
        pod = self.pods.get(name)
        if pod is None or pod.phase is not PodPhase.WARMING:
            return
        behaviour = self.behaviour.get(pod.template, "good") if pod.kernel_id is None else "good"
        if behaviour == "broken":
            self._end(pod, "AgentTimeout", "Its image is broken.")
        elif behaviour == "silent":
            self._forget(name)
        elif behaviour == "good":
            phase = PodPhase.WARM if pod.kernel_id is None else PodPhase.CLAIMED
            self._put(replace(pod, phase=phase, warm_since=self.now()))

    def _end(self, pod: Pod, reason: str, message: str) -> None:
        self._put(replace(pod, phase=PodPhase.GONE, reason=reason, message=message))
        self.loop.call_later(self.deletion_takes, self._forget, pod.name)

    def _put(self, pod: Pod) -> None:
        self.pods[pod.name] = pod
        self._tell(pod.name, pod)

    def _forget(self, name: str) -> None:
        if self.pods.pop(name, None) is not None:
            self._tell(name, None)

    def _tell(self, name: str, pod: Pod | None) -> None:
        for client in self.clients:
            client.hear(name, pod)

    def tell_lease(self) -> None:
        for client in self.clients:
            client.hear_lease()


class ModelCluster(Cluster):
    """What one controller sees of a world."""

    name = "model"
    lease_valid = LEASE / 3
    lease_look = LEASE * 0.4

    def __init__(self, world: World, identity: str) -> None:
        self.world, self.identity = world, identity
        self.lag = 0.0
        """Seconds that news take, at most; each object has a share of it."""
        self.is_stalled = False
        """The watch brings nothing any more."""
        self.is_cut = False
        """Requests get no answer, and do not get there."""
        self.is_dead = False
        """Its process was killed: nothing it still does has an effect."""
        self.latency = 0.01
        self.faults: deque[str] = deque()
        """For the next creations: ``before`` or ``after`` it was done, or a ``bug``."""
        self.deletion_faults: deque[str] = deque()
        self.rows: tuple[PoolRow, ...] = ()
        self.requests = 0
        self._pods = dict(world.pods)
        self._news: list[tuple[float, int, str, Pod | None]] = []
        self._count = itertools.count()
        self._listeners: list[Listener] = []
        self._renewed: dict[str, float] = {}
        self._seen: dict[str, tuple[int, float]] = {}
        self._made: dict[str, Pod] = {}
        """Pods that it made and does not see yet."""
        self._deleted: set[str] = set()
        self._tokens, self._tokens_at = float(BURST), world.loop.time()
        world.clients.append(self)

    # -- the watch -------------------------------------------------------------------------

    def hear(self, name: str, pod: Pod | None) -> None:
        if self.is_dead:
            return
        share = (zlib.crc32(f"{self.identity}{name}".encode()) % 100) / 100
        when = self.world.loop.time() + self.lag * share
        earlier = [at for at, _, other, _ in self._news if other == name]
        when = max([when, *earlier])  # in order for each object
        self._news.append((when, next(self._count), name, pod))
        self.world.loop.call_at(when, self._pump)

    def hear_lease(self) -> None:
        if not self.is_dead and not self.is_stalled:
            for listener in tuple(self._listeners):
                listener(Change(kind="lease", name="pool"))

    def resume(self) -> None:
        self.is_stalled = False
        self._pump()

    def _pump(self, *, all_of_it: bool = False) -> None:
        if self.is_dead or (self.is_stalled and not all_of_it):
            return
        now = self.world.loop.time()
        while due := [one for one in self._news if all_of_it or one[0] <= now]:
            first = min(due, key=lambda one: (one[0], one[1]))
            self._news.remove(first)
            _, _, name, pod = first
            old = self._pods.pop(name, None)
            self._made.pop(name, None)
            if pod is not None:
                self._pods[name] = pod
            for listener in tuple(self._listeners):
                listener(Change(kind="pod", name=name, old=old, new=pod))

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def pods(self) -> Mapping[str, Pod]:
        return MappingProxyType(self._pods)

    def kernels(self) -> Mapping[str, Kernel]:
        return MappingProxyType(self.world.kernels)

    async def refresh(self) -> None:
        await self._request()
        self._pump(all_of_it=True)

    # -- requests --------------------------------------------------------------------------

    async def _request(self) -> None:
        self.requests += 1
        await asyncio.sleep(self.latency)
        if self.is_dead:
            await asyncio.Event().wait()  # for ever; whoever killed it cancels this
        if self.is_cut:
            await asyncio.sleep(1)
            raise ApiUnreachable("The API server does not answer.")

    async def create_pod(self, template: Template, *, kernel: Kernel | None = None) -> Pod:
        self._note_creation()
        self._check_share(template)
        await self._request()
        fault = self.faults.popleft() if self.faults else ""
        if fault == "before":
            raise ApiUnreachable("The API server refused the connection.")
        if fault == "bug":
            raise RuntimeError("a bug of the adapter")
        pod = self.world.create_for_pool(template, self)
        await asyncio.sleep(self.latency)
        if fault == "after":
            raise ApiUnreachable("The connection was cut before the answer.")
        self._made[pod.name] = pod
        return pod

    def _check_share(self, template: Template) -> None:
        """Of what is predicted a tenth of the quota is the bound, as far as this client can see."""
        limit = self.world.limit_lately()
        if not template.pool.predict or template.pool.size or not limit:
            return  # an admin wants it
        if self.world.loop.time() < self.world.offered[template.name] + 20:
            return  # it may still act upon what was offered before
        known = {**self._made, **self._pods}
        spare = [pod for pod in known.values() if pod.kernel_id is None and _is_alive(pod)]
        spare = [pod for pod in spare if pod.name not in self._deleted]
        if len(spare) + 1 > max(1, limit * SHARE):
            self.world.violations.append(
                f"{self.identity} makes a pod of {template.name} beside {len(spare)} of {limit}"
            )

    async def delete_pod(self, name: str, reason: str = "", *, if_spare: bool = False) -> None:
        await self._request()
        fault = self.deletion_faults.popleft() if self.deletion_faults else ""
        if fault == "before":
            raise ApiUnreachable("The API server refused the connection.")
        self.world.delete_for_pool(name, if_spare, self)
        if fault == "after":
            raise ApiUnreachable("The connection was cut before the answer.")
        await asyncio.sleep(self.world.deletion_takes)
        self._deleted.add(name)

    def _note_creation(self) -> None:
        """No storm: a bucket of our own beside the controller's."""
        now = self.world.loop.time()
        self._tokens = min(float(BURST), self._tokens + (now - self._tokens_at) * RATE) - 1
        self._tokens_at = now
        if self._tokens < -0.5:
            self.world.violations.append(f"{self.identity} creates faster than it may")

    async def capacity(self) -> Capacity:
        limit = self.world.limit if self.world.shows_limit else UNLIMITED // GIB
        total = Resources(cpu=limit * ONE.cpu, memory=limit * ONE.memory)
        used = Resources(cpu=self.world.alive() * ONE.cpu, memory=self.world.alive() * ONE.memory)
        return Capacity(total=total, used=used)

    async def report_pool(self, rows: Sequence[PoolRow]) -> None:
        await self._request()
        self.rows = tuple(rows)

    # -- leases: as the elector of Kubernetes has them -------------------------------------

    async def acquire_lease(self, name: str) -> bool:
        loop = self.world.loop
        asked = loop.time()
        age = asked - self._renewed.get(name, -1e9)
        if age < LEASE / 3:
            return True
        try:
            await self._request()
        except ApiUnreachable:
            held = loop.time() - self._renewed.get(name, -1e9) < LEASE * 2 / 3
            if not held:
                self._renewed.pop(name, None)
            return held
        lease = self.world.leases.setdefault(name, _Lease())
        now = loop.time()
        written, since = self._seen.get(name, (-1, now))
        if written != lease.written:
            written, since = self._seen[name] = (lease.written, now)
        if lease.holder not in ("", self.identity) and now - since < LEASE:
            self._renewed.pop(name, None)
            return False
        lease.holder, lease.written = self.identity, lease.written + 1
        self._seen[name] = (lease.written, now)
        self._renewed[name] = asked
        return True

    async def release_lease(self, name: str) -> None:
        if self.is_dead or self._renewed.pop(name, None) is None:
            return
        await self._request()
        lease = self.world.leases[name]
        if lease.holder == self.identity:
            lease.holder, lease.written = "", lease.written + 1
            self.world.tell_lease()

    # -- of no matter here -----------------------------------------------------------------

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    def enforcement(self) -> Enforcement:
        return Enforcement(memory="none", cpu="none")

    def gpu_kinds(self) -> tuple[str, ...]:
        return ()

    async def wait_pod(self, *_: Any, **__: Any) -> Pod:
        raise NotImplementedError

    async def claim_pod(self, *_: Any) -> Pod:
        raise NotImplementedError

    async def resize_pod(self, *_: Any, **__: Any) -> Pod:
        raise NotImplementedError

    async def dial(self, *_: Any) -> Any:
        raise NotImplementedError

    async def pod_log(self, *_: Any, **__: Any) -> str:
        return ""

    async def create_kernel(self, kernel: Kernel) -> Kernel:
        raise NotImplementedError

    async def update_kernel(self, kernel: Kernel) -> Kernel:
        raise NotImplementedError

    async def delete_kernel(self, kernel_id: str) -> None:
        raise NotImplementedError


async def kill(controller: PoolController) -> None:
    """End a controller's process: no farewell, no request of it gets anywhere any more."""
    cluster = controller.cluster
    assert isinstance(cluster, ModelCluster)
    cluster.is_dead = True
    cluster.world.clients.remove(cluster)
    await controller.stop()


def _is_alive(pod: Pod) -> bool:
    return pod.phase is not PodPhase.GONE
