"""Keeps the warm pods of all templates at their targets, over any cluster.

Woken by changes (claims, ends, template edits) and by a slow resync. Whoever holds the lease
``pool`` acts; every other server's controller stands by and takes over within seconds. It holds
nothing that must survive: what is there is read from the cluster each time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping

from ..cluster.base import Change, Cluster
from ..errors import ElasticError, QuotaFull
from ..model import Kernel, Pod, PodPhase, PoolRow, Template
from .planner import Action, Create, Delete, Want, plan

LEASE = "pool"
LEASE_PERIOD = 5.0
"""Seconds between renewals of the lease; the port asks for less than 10."""
MAX_BACKOFF = 300.0
REPORT_PERIOD = 5.0
"""Seconds between two reports of how the pool stands, at least."""
RESYNC = 15.0
"""Seconds after which a refusal for want of room is tried again though nobody gave room back."""


class PoolController:
    """One per process; :meth:`start` it once the cluster is open.

    Parameters
    ----------
    cluster
        Where pods run.
    templates
        Returns the templates offered now.
    refill_delay
        Seconds to wait after a claim before a new pod is warmed, so that warming does not
        compete with the first cell of the kernel that was just started.
    clock
        Seconds since the epoch; injected by tests.
    """

    def __init__(
        self,
        cluster: Cluster,
        templates: Callable[[], Mapping[str, Template]],
        *,
        refill_delay: float = 1.0,
        log: logging.Logger | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.cluster = cluster
        self.templates = templates
        self.refill_delay = refill_delay
        self.log = log or logging.getLogger(__name__)
        self.clock = clock
        self.leading = False
        self.messages: dict[str, str] = {}
        """Per template, why its target is not met."""
        self._failures: dict[str, int] = {}
        self._blocked: dict[str, float] = {}
        self._refused: set[str] = set()  # templates without room for a pod
        self._born: dict[str, str] = {}  # pods that I created and that are not warm yet
        self._rows: tuple[PoolRow, ...] = ()
        self._reported = 0.0
        self._wake = asyncio.Event()
        self._quiet_until = 0.0
        self._task: asyncio.Task[None] | None = None
        self._dispose: Callable[[], None] | None = None

    # -- life ------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to keep the pool. Idempotent."""
        if self._task is None:
            self._dispose = self.cluster.subscribe(self._on_change)
            self._task = asyncio.create_task(self._run(), name="elastic-pool")

    async def stop(self) -> None:
        """Stop and let another controller take over at once. Warm pods stay."""
        if self._dispose:
            self._dispose()
            self._dispose = None
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
            if self.leading:
                self.leading = False
                await self.cluster.release_lease(LEASE)

    def wake(self) -> None:
        """Look again soon (templates changed)."""
        self._wake.set()

    def targets(self) -> dict[str, int]:
        """Warm pods wanted, per template."""
        return {name: self.cluster.pool_size(t) or 0 for name, t in self.templates().items()}

    # -- loop ------------------------------------------------------------------------------

    def _on_change(self, change: Change) -> None:
        if change.kind == "capacity":
            self._try_again()
            self._wake.set()
            return
        if change.kind == "kernel":
            if isinstance(change.new, Kernel) and change.old is None:
                self._quiet_until = self.clock() + self.refill_delay
            return
        if isinstance(change.new, Pod) or isinstance(change.old, Pod):
            self._note_outcome(change.old, change.new)
            if _gives_room(change.old, change.new):
                self._try_again()
            self._wake.set()

    def _try_again(self) -> None:
        """There may be room: what was refused for want of it need not wait any longer."""
        for template in self._refused:
            self._blocked.pop(template, None)
        self._refused.clear()

    def _note_outcome(self, old: object, new: object) -> None:
        """Count pods of mine that ended before they were warm, to back off."""
        name = str(getattr(new, "name", "") or getattr(old, "name", ""))
        template = self._born.get(name)
        if template is None:
            return
        if isinstance(new, Pod) and new.phase in (PodPhase.WARM, PodPhase.CLAIMED):
            del self._born[name]
            self._failures.pop(template, None)
            self._blocked.pop(template, None)
            self.messages.pop(template, None)
        elif new is None or (isinstance(new, Pod) and new.phase is PodPhase.GONE):
            del self._born[name]
            message = getattr(new or old, "message", "") or "a pod ended before it was warm"
            self._back_off(template, message)

    async def _run(self) -> None:
        while True:
            try:
                was = self.leading
                self.leading = await self.cluster.acquire_lease(LEASE)
                if self.leading and not was:
                    self.log.info("This server keeps the pool of warm pods now.")
                if self.leading:
                    await self._reconcile()
            except ElasticError as error:
                # Whether we still hold the lease is not known: another may act by now.
                self.leading = False
                self.log.warning("The pool could not be looked after, trying again: %s", error)
            except Exception:
                self.leading = False
                self.log.exception("The pool could not be looked after, trying again")
            await self._sleep()

    async def _sleep(self) -> None:
        """Until woken (merging what comes within the refill delay) or the lease is due."""
        # Not wait_for: before Python 3.12 it loses a cancellation that comes with the wake-up.
        woken = asyncio.ensure_future(self._wake.wait())
        try:
            done, _ = await asyncio.wait({woken}, timeout=LEASE_PERIOD * random.uniform(0.8, 1.0))
        finally:
            woken.cancel()
        if not done:
            return
        quiet = self._quiet_until - self.clock()
        await asyncio.sleep(min(max(quiet, 0.02), self.refill_delay or 0.02))
        self._wake.clear()

    async def _reconcile(self) -> None:
        self._wake.clear()
        wants = {name: self._want(template) for name, template in self.templates().items()}
        for action in plan(self.cluster.pods().values(), wants, self.clock()):
            await self._act(action)
        await self._report()

    def _want(self, template: Template) -> Want:
        name = template.name
        size = self.cluster.pool_size(template)
        if size is None:  # paused: make none, and take none away
            mine = [pod for pod in self._waiting_pods() if pod.template == name]
            size, blocked = len(mine), math.inf
        else:
            blocked = self._blocked.get(name, 0)
        return Want(
            template=name,
            hash=template.hash,
            target=size,
            ttl=template.pool.ttl,
            blocked_until=blocked,
            failing=name in self._failures,
        )

    def _waiting_pods(self) -> list[Pod]:
        return [
            pod
            for pod in self.cluster.pods().values()
            if pod.kernel_id is None and pod.phase in (PodPhase.WARMING, PodPhase.WARM)
        ]

    async def _report(self) -> None:
        """Let the cluster keep how the pool stands, when that has changed, and not too often."""
        now = self.clock()
        if now < self._reported + REPORT_PERIOD:
            return
        counts = Counter((pod.template, pod.phase) for pod in self._waiting_pods())
        rows = tuple(
            PoolRow(
                template=name,
                target=target,
                warm=counts[name, PodPhase.WARM],
                warming=counts[name, PodPhase.WARMING],
                message=self.messages.get(name, ""),
            )
            for name, target in sorted(self.targets().items())
        )
        if rows != self._rows:
            await self.cluster.report_pool(rows)
            self._reported, self._rows = now, rows

    async def _act(self, action: Action) -> None:
        if isinstance(action, Delete):
            pod = self.cluster.pods().get(action.pod)
            # Distrust the plan: somebody may have claimed the pod since.
            if pod is not None and pod.phase in (PodPhase.WARM, PodPhase.WARMING):
                self.log.info("Giving back warm pod %s: %s.", action.pod, action.reason)
                self._born.pop(action.pod, None)
                await self.cluster.delete_pod(action.pod, reason=action.reason, if_spare=True)
            return
        assert isinstance(action, Create)
        template = self.templates().get(action.template)
        if template is None or self._blocked.get(action.template, 0) > self.clock():
            return
        try:
            pod = await self.cluster.create_pod(template)
        except QuotaFull as error:
            self._wait_for_room(action.template, str(error))
        except ElasticError as error:
            self._back_off(action.template, str(error))
        else:
            self._refused.discard(action.template)
            self._born[pod.name] = action.template
            self.log.debug("Warming pod %s (%s).", pod.name, action.reason)

    def _wait_for_room(self, template: str, message: str) -> None:
        """A full machine is no fault of the template: no back-off that grows."""
        known = self.messages.get(template)
        self._refused.add(template)
        self._blocked[template] = self.clock() + RESYNC * random.uniform(0.8, 1.2)
        self.messages[template] = message
        if message != known:
            self.log.info("No warm pod for template %s for now: %s", template, message)

    def _back_off(self, template: str, message: str) -> None:
        self._refused.discard(template)
        count = self._failures.get(template, 0) + 1
        self._failures[template] = count
        delay = min(MAX_BACKOFF, 2.0**count) * random.uniform(0.8, 1.2)
        self._blocked[template] = self.clock() + delay
        self.messages[template] = message
        self.log.warning(
            "No warm pod for template %s (attempt %d, next in %.0f s): %s",
            template,
            count,
            delay,
            message,
        )


def _gives_room(old: object, new: object) -> bool:
    """Whether a pod ended or became smaller."""
    if not isinstance(old, Pod) or old.phase is PodPhase.GONE:
        return False
    if not isinstance(new, Pod) or new.phase is PodPhase.GONE:
        return True
    return new.resources.memory < old.resources.memory or new.resources.cpu < old.resources.cpu
