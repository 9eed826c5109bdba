"""Room in the namespace: its caps and quotas, and warm pods that are given back for kernels.

A ResourceQuota cannot be overshot: the API server refuses. The caps are ours, and a pod shows its
new size only when the API has answered. So what is on its way is counted from before the request is
sent until the view shows it. A claimed pod counts what its kernel asked for although it is still as
small as a warm one: the resize follows.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from typing import Any, Protocol, TypeVar

from ...errors import Conflict, ElasticError, QuotaFull
from ...model import Capacity, Kernel, KernelPhase, Pod, PodPhase, Template
from ...resources import Resources
from .. import room
from . import capacity
from .counts import Counts, is_ours
from .objects import PodObject, QuotaObject
from .problems import ApiQuotaFull, number

EVICTIONS = 5
"""How often a refusal for want of quota is answered by giving warm pods back."""
COUNTED_WITHIN = 5.0
"""Seconds that the cluster may take to see that a pod which is gone takes no quota any more."""
GROWS_WITHIN = 60.0
"""Seconds after which a resize that is under way, by its record, was left behind by its server."""
_WAITING = (KernelPhase.QUEUED, KernelPhase.STARTING, KernelPhase.MOVING)

T = TypeVar("T")


class _Promise:
    """What a pod is about to have. ``claimed``: for longer than the request lasts."""

    def __init__(self, name: str, size: Resources) -> None:
        self.name, self.size = name, size
        self.claimed = False


class Seen(Protocol):
    """What is needed of the adapter's view."""

    @property
    def pods(self) -> Mapping[str, Pod]:
        """All pods by name."""

    @property
    def kernels(self) -> Mapping[str, Kernel]:
        """All kernels by id."""

    @property
    def templates(self) -> Mapping[str, Template]:
        """All templates that are objects, by name."""

    def object(self, name: str) -> PodObject | None:
        """A pod as Kubernetes has it."""

    def quotas(self) -> list[QuotaObject]:
        """The namespace's quotas."""

    async def changed(self, timeout: float) -> None:
        """Return at the next change of any pod, kernel or quota, or after ``timeout`` seconds."""


class Quota:
    """See the module.

    Parameters
    ----------
    caps
        Millicores and bytes that all kernels may have together; None: no such limit.
    where
        What has no room, for a refusal's sentence.
    give_back
        Deletes a pod if it is nobody's, for a reason.
    spawn
        Carries something out in the background.
    """

    def __init__(
        self,
        seen: Seen,
        caps: tuple[int | None, int | None],
        where: str,
        give_back: Callable[[str, str], Awaitable[None]],
        spawn: Callable[[Coroutine[Any, Any, None]], None],
        log: logging.Logger,
    ) -> None:
        self._seen = seen
        self._caps = caps
        self._where = where
        self._delete = give_back
        self._spawn = spawn
        self._log = log
        self._given = -COUNTED_WITHIN
        """When warm pods were last given back for want of quota, by the loop's clock."""
        self._counts = Counts()
        self._promises: list[_Promise] = []
        self._leaving: set[str] = set()
        """Warm pods that are being given back."""

    def capacity(self) -> Capacity:
        """The tightest of all limits, and what pods take of it."""
        pods, quotas = self._seen.pods.values(), list(self._seen.quotas())
        # Most quotas have no scope; to look at every pod for nothing is too dear.
        scoped = any(one.spec.scope_selector.match_expressions for one in quotas)
        classes = self._classes() if scoped else set()
        quotas = [one for one in quotas if is_ours(one, classes)]
        counts = self._counts.read(quotas, pods, self._seen.object, time.monotonic())
        return capacity.read(self._caps, quotas, pods, counts)

    def _classes(self) -> set[str]:
        """Priority classes of our pods, and of those that templates would have."""
        objects = (self._seen.object(name) for name in self._seen.pods)
        found = {obj.spec.priority_class_name for obj in objects if obj is not None}
        for one in self._seen.templates.values():
            found.add(one.kubernetes.priority_class if one.kubernetes is not None else "")
        return found

    # -- caps ------------------------------------------------------------------------------

    @contextlib.contextmanager
    def room_for(self, name: str, asked: Resources, *, evict: bool = True) -> Iterator[None]:
        """Keep room for a pod of this name while it is created or changed.

        Gives warm pods back if need be and ``evict``.

        Raises
        ------
        QuotaFull
            The configured caps leave no room.
        """
        promise = self._promise(name, asked, evict)
        try:
            yield
        finally:
            self._promises.remove(promise)

    @contextlib.contextmanager
    def claiming(self, name: str, asked: Resources) -> Iterator[None]:
        """The same for a claim, after which room is kept until :meth:`settled` or the pod's end.

        Raises
        ------
        Conflict
            The pod is being given back.
        QuotaFull
            The configured caps leave no room.
        """
        if name in self._leaving:
            raise Conflict(f"Pod {name} is being given up.")
        promise = self._promise(name, asked, True)
        try:
            yield
        except BaseException:
            self._promises.remove(promise)
            raise
        promise.claimed = True

    def settled(self, name: str) -> None:
        """A claimed pod shows the size that its kernel asked for, or will not have it."""
        self._promises = [one for one in self._promises if one.name != name or not one.claimed]

    def _promise(self, name: str, asked: Resources, evict: bool) -> _Promise:
        if self._caps != (None, None):
            for victim in self._make_room(name, asked, evict):
                self._leaving.add(victim)
                self._spawn(self._give_back(victim))
        promise = _Promise(name, asked)
        self._promises.append(promise)
        return promise

    def _make_room(self, name: str, asked: Resources, evict: bool) -> list[str]:
        pods = self._seen.pods
        self._promises = [
            one for one in self._promises if not one.claimed or self._is_there(one.name)
        ]
        return room.make_room(
            capacity.capped(self._caps),
            [pod for pod in pods.values() if pod.name not in self._leaving],
            asked,
            replacing=name,
            evict=evict,
            promised={one.name: one.size for one in self._promises},
            where=self._where,
        )

    def _is_there(self, name: str) -> bool:
        pod = self._seen.pods.get(name)
        return pod is not None and room.counts(pod)

    # -- quotas ----------------------------------------------------------------------------

    async def within(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do it; a refusal for want of quota is answered with warm pods first.

        Raises
        ------
        QuotaFull
            There is no room even so.
        """
        for _ in range(EVICTIONS):
            try:
                return await work()
            except QuotaFull as error:
                if not await self._give_room(error):
                    raise
        return await work()

    async def _give_room(self, error: QuotaFull) -> bool:
        """Give warm pods back to a full quota; whether it is worth trying again."""
        if not isinstance(error, ApiQuotaFull) or error.is_hopeless or not error.lacking:
            return False
        clock = asyncio.get_running_loop().time
        chosen = room.fewest(self._offers(), error.lacking)
        if chosen:
            self._leaving.update(chosen)
            await asyncio.gather(*(self._give_back(name) for name in chosen))
            self._given = clock()
        elif clock() > self._given + COUNTED_WITHIN:
            return False
        until = clock() + COUNTED_WITHIN
        while clock() < until and not self._has_room(error):
            await self._seen.changed(0.2)
        return True

    def _offers(self) -> dict[str, dict[str, int]]:
        """What warm pods would give back; those that are not warm yet first, then the oldest."""
        held = {one.name for one in self._promises} | self._leaving
        spare = [
            pod for pod in self._seen.pods.values() if room.is_spare(pod) and pod.name not in held
        ]
        spare.sort(key=lambda pod: (pod.phase is PodPhase.WARM, pod.created))
        objects = ((pod.name, self._seen.object(pod.name)) for pod in spare)
        return {name: capacity.given_back(obj) for name, obj in objects if obj is not None}

    def _has_room(self, error: ApiQuotaFull) -> bool:
        """Whether the quota shows room by now for what it has refused."""
        for quota in self._seen.quotas():
            if quota.metadata.name == error.quota:
                hard, used = quota.status.hard, quota.status.used
                return all(
                    number(key, used.get(key, "0")) + number(key, amount) <= number(key, hard[key])
                    for key, amount in error.requested.items()
                    if key in hard
                )
        return False  # it is so new that it is not seen yet, or was removed

    def let_kernels_first(self) -> None:
        """A warm pod takes no room that a kernel waits for. Raises QuotaFull."""
        room.let_kernels_first(self._seen.kernels.values(), time.time())
        if not self._seen.quotas():
            return
        served = {pod.kernel_id for pod in self._seen.pods.values()}
        now = time.time()
        for kernel in self._seen.kernels.values():
            starts = kernel.phase in _WAITING and now < kernel.deadline
            resize = kernel.resize
            grows = resize is not None and resize.state == "InProgress"
            if (starts and kernel.kernel_id not in served) or (
                grows and resize is not None and now < resize.time + GROWS_WITHIN
            ):
                raise QuotaFull("A kernel that starts or grows takes what room there is.")

    async def _give_back(self, name: str) -> None:
        try:
            await self._delete(name, "room is needed")
        except ElasticError as error:
            self._log.warning("Warm pod %s could not be given back: %s", name, error)
        finally:
            self._leaving.discard(name)
