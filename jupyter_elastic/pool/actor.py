"""Carries out what the planner decided, and distrusts it: things have changed since.

Several requests are under way at once, but not many; a template's creations begin with one and
double, so that a refusal costs one request and not fifty; and before each request leadership is
checked again, because an earlier one may have taken longer than the lease.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import zip_longest

import msgspec

from .. import metrics
from ..cluster.base import Cluster
from ..errors import Conflict, ElasticError, QuotaFull
from ..model import Pod, PodPhase, Template
from .bucket import TokenBucket
from .expectations import Expectations
from .planner import Action, Create, Delete, expired
from .troubles import Troubles

_TIGHT = "One more warm pod would bring all pods above the part of the quota that is for them."


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """How fast a pool is changed."""

    rate: float = 10.0
    """Pods created per second, on average."""
    burst: int = 20
    """Pods created at once after a quiet time."""
    at_once: int = 8
    """Creations under way at the same time, and deletions likewise."""
    warming_grace: float = 300.0
    """Seconds a pod may warm before it counts as failed and is given back."""


class Actor:
    """See the module. One per controller."""

    def __init__(
        self,
        cluster: Cluster,
        templates: Callable[[], Mapping[str, Template]],
        troubles: Troubles,
        expect: Expectations,
        pace: Pace,
        *,
        may_act: Callable[[], bool],
        has_room: Callable[[Template, Iterable[Pod], Iterable[Template]], bool],
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        log: logging.Logger,
    ) -> None:
        self._cluster = cluster
        self._templates = templates
        self._troubles = troubles
        self._expect = expect
        self._may_act = may_act
        self._has_room = has_room
        self._coming: list[Template] = []
        """Of which pods are being created."""
        self._clock = clock
        self._monotonic = monotonic
        self._log = log
        self._at_once = pace.at_once
        self._bucket = TokenBucket(pace.rate, pace.burst)
        self._unwanted: dict[str, str] = {}
        self._deleting: dict[str, asyncio.Task[None]] = {}

    @property
    def deleting(self) -> frozenset[str]:
        """Pods whose deletion is under way; they are as good as gone."""
        return frozenset(self._deleting)

    async def close(self) -> None:
        """Give up what is under way. Idempotent."""
        self._unwanted.clear()
        tasks = list(self._deleting.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def carry_out(self, actions: Iterable[Action]) -> float | None:
        """Begin the deletions, make the creations.

        Returns
        -------
        float | None
            Seconds until more may be created, when the pace forbids it now.
        """
        creates: dict[str, list[Create]] = {}
        self._unwanted.clear()
        for action in actions:
            if isinstance(action, Delete):
                self._unwanted[action.pod] = action.reason
            else:
                creates.setdefault(action.template, []).append(action)
        self._delete_more()
        # In turn, so that no template waits for another's many.
        turns = zip_longest(*creates.values())
        return await self._create_all(deque(one for turn in turns for one in turn if one))

    # -- deletions -------------------------------------------------------------------------

    def _delete_more(self) -> None:
        """Begin as many deletions as may be under way; nobody waits for them.

        A node may take its time to end a pod. What has not begun is planned anew the next time.
        """
        while self._unwanted and len(self._deleting) < self._at_once:
            name = next(iter(self._unwanted))
            reason = self._unwanted.pop(name)
            pod = self._cluster.pods().get(name)
            if pod is not None and name not in self._deleting and _is_spare(pod):
                task = asyncio.create_task(self._delete(name, reason), name=f"delete-{name}")
                self._deleting[name] = task
                task.add_done_callback(partial(self._deleted, name))

    def _deleted(self, name: str, task: asyncio.Task[None]) -> None:
        del self._deleting[name]
        if task.cancelled():
            return
        if task.exception() is not None:
            self._log.error("Deleting warm pod %s failed", name, exc_info=task.exception())
        self._delete_more()

    async def _delete(self, name: str, reason: str) -> None:
        if not self._may_act():
            return
        self._log.info("Giving back warm pod %s: %s.", name, reason)
        self._troubles.removed(name)
        try:
            await self._cluster.delete_pod(name, reason=reason, if_spare=True)
        except ElasticError as error:
            self._log.warning("Warm pod %s could not be given back yet: %s", name, error)
            return
        metrics.POOL_DELETIONS.inc()
        if name in self._cluster.pods():
            self._expect.removed(name, self._monotonic())

    # -- creations -------------------------------------------------------------------------

    async def _create_all(self, queue: deque[Create]) -> float | None:
        size = 1
        while queue and self._may_act():
            batch: list[Create] = []
            while queue and len(batch) < size:
                now = self._monotonic()
                action = queue.popleft()
                if self._troubles.left(action.template, now):
                    continue  # refused a moment ago
                if self._troubles.waits_for_node(action.template):
                    continue  # found no node a moment ago
                if not self._bucket.take(now):
                    await self._create_batch(batch)
                    return self._bucket.ready_in(now)
                batch.append(action)
            await self._create_batch(batch)
            size = min(2 * size, self._at_once)
        return None

    async def _create_batch(self, batch: list[Create]) -> None:
        await asyncio.gather(*(self._create(action) for action in batch))

    async def _create(self, action: Create) -> None:
        template = self._templates().get(action.template)
        if template is None:
            return
        name = template.name
        known = self._expect.apply(self._cluster.pods())
        if not self._has_room(template, known, self._coming):
            self._troubles.refused(name, QuotaFull(_TIGHT), self._monotonic())
            self._make_way(template)
            return
        self._coming.append(template)
        self._expect.creating()
        try:
            pod = await self._cluster.create_pod(template)
        except ElasticError as error:
            now = self._monotonic()
            if error.retry and not isinstance(error, (QuotaFull, Conflict)):
                self._expect.unsure(name, template.hash, now)
            else:
                self._expect.refused()
            self._troubles.refused(name, error, now)
            if isinstance(error, QuotaFull):
                self._make_way(template)
            outcome = "refused" if isinstance(error, QuotaFull) else "failed"
            metrics.POOL_CREATIONS.labels(name, outcome).inc()
        except BaseException:
            # Whatever it was, or a cancellation: the request may have got there.
            self._expect.unsure(name, template.hash, self._monotonic())
            raise
        else:
            self._expect.created(pod, self._monotonic())
            self._troubles.answered()
            self._troubles.has_room(name)
            self._troubles.see(None, pod, self._monotonic())
            metrics.POOL_CREATIONS.labels(name, "created").inc()
            self._log.debug("Warming pod %s (%s).", pod.name, action.reason)
        finally:
            self._coming.remove(template)

    def _make_way(self, template: Template) -> None:
        """Where nothing fits beside them, pods are replaced one by one, with a dip.

        Else outdated ones would stay for ever, and every start be a cold one.
        """
        now = self._clock()
        mine = [
            pod
            for pod in self._expect.apply(self._cluster.pods())
            if _is_spare(pod) and pod.template == template.name
        ]
        changed = [pod for pod in mine if pod.template_hash != template.hash]
        stale = changed or [pod for pod in mine if expired(pod, template.pool.ttl, now)]
        # One at a time: not while its successor warms.
        if not stale or any(
            pod.name in self._deleting
            or (pod.template_hash == template.hash and pod.phase is PodPhase.WARMING)
            for pod in mine
        ):
            return
        oldest = min(stale, key=lambda pod: (pod.created, pod.name))
        why = "its template changed" if changed else "too old"
        self._unwanted[oldest.name] = f"{why}, and there is no room beside it"
        self._delete_more()


def _is_spare(pod: Pod) -> bool:
    return pod.kernel_id is None and pod.phase in (PodPhase.WARM, PodPhase.WARMING)
