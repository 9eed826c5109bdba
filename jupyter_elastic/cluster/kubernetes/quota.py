"""Room in the namespace: its caps and quotas, and warm pods that are given back for kernels."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, Protocol, TypeVar

from ...errors import ElasticError, QuotaFull
from ...model import Capacity, Kernel, KernelPhase, Pod, PodPhase
from ...resources import Resources
from .. import room
from . import capacity
from .objects import QuotaObject
from .problems import ApiQuotaFull

EVICTIONS = 5
"""How often a refusal for want of quota is answered by giving warm pods back."""
COUNTED_WITHIN = 5.0
"""Seconds that the cluster may take to see that a pod which is gone takes no quota any more."""
GROWS_WITHIN = 60.0
"""Seconds after which a resize that is under way, by its record, was left behind by its server."""
_WAITING = (KernelPhase.STARTING, KernelPhase.MOVING)

T = TypeVar("T")


class Seen(Protocol):
    """What is needed of the adapter's view."""

    @property
    def pods(self) -> Mapping[str, Pod]:
        """All pods by name."""

    @property
    def kernels(self) -> Mapping[str, Kernel]:
        """All kernels by id."""

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
        self.promised: list[Resources] = []
        """Sizes of pods that are being created: the view does not show them yet."""

    def capacity(self) -> Capacity:
        """The tightest of all limits, and what pods take of it."""
        return capacity.read(self._caps, self._seen.quotas(), self._seen.pods.values())

    def make_room(self, asked: Resources, *, replacing: str | None = None, evict: bool) -> None:
        """Keep to the configured caps, giving warm pods back for kernels. Raises QuotaFull."""
        if self._caps == (None, None):
            return
        names = room.make_room(
            capacity.capped(self._caps),
            self._seen.pods.values(),
            asked,
            replacing=replacing,
            evict=evict,
            promised=self.promised,
            where=self._where,
        )
        for name in names:
            self._spawn(self._give_back(name))

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
        """Give back a few warm pods to a full quota; whether it is worth trying again."""
        if isinstance(error, ApiQuotaFull) and error.is_hopeless:
            return False
        spare = sorted(
            (pod for pod in self._seen.pods.values() if room.is_spare(pod)),
            key=lambda pod: (pod.phase is PodPhase.WARM, pod.created),
        )
        clock = asyncio.get_running_loop().time
        if not spare and clock() > self._given + COUNTED_WITHIN:
            return False
        before = [quota.status for quota in self._seen.quotas()]
        if spare:
            await asyncio.gather(*(self._give_back(pod.name) for pod in spare[:2]))
            self._given = clock()
        until = clock() + COUNTED_WITHIN
        while clock() < until and [quota.status for quota in self._seen.quotas()] == before:
            await self._seen.changed(0.2)
        return True

    def let_kernels_first(self) -> None:
        """A warm pod takes no room that a kernel waits for. Raises QuotaFull."""
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
