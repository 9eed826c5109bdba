"""The pool's own object, KernelPool, who keeps the pool, and what the keeper does for its pods."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from ...errors import ElasticError
from ...model import Pod, PoolRow, Template
from ...podoptions import API_VERSION
from .. import room
from . import manifests
from .api import MERGE_PATCH, KubeApi
from .lease import LEASE_SECONDS, LeaseElector
from .manifests import label
from .namespaces import KEPT_BY, kept_by
from .objects import CustomObject, seconds
from .problems import ApiNotFound
from .records import timestamp
from .tending import Care, care_for
from .view import View

if TYPE_CHECKING:
    from .fleet import Fleet
    from .sharedlease import SharedLease

DEMAND = "jupyter-elastic-demand"
"""The name of the ConfigMap with what is known of the demand."""
POOL = "pool"
"""The name of the KernelPool that is made where there is none."""
MAKE_AGAIN = 30.0
"""Seconds after which it is made again: somebody deleted it, or it could not be made."""


class _ConfigMap(msgspec.Struct):
    data: dict[str, str] = {}


class Pool:
    """See the module.

    Parameters
    ----------
    identity
        Who we are; no other server may have it.
    nurse
        Sees a warming pod through until its agent is up.
    give_back
        Deletes a pod if it is nobody's, for a reason.
    spawn
        Carries something out in the background.
    fleet
        Of a controller that keeps the pools of many namespaces; None: this namespace's own lease
        decides who keeps its pool.
    """

    def __init__(
        self,
        api: KubeApi,
        view: View,
        identity: str,
        nurse: Callable[[str], None],
        give_back: Callable[[str, str], Awaitable[None]],
        spawn: Callable[[Coroutine[Any, Any, None]], None],
        log: logging.Logger,
        clock: Callable[[], float] = time.monotonic,
        fleet: Fleet | None = None,
    ) -> None:
        self._api = api
        self._view = view
        self._fleet = fleet
        self.is_leaving = False
        """Whether the pool is to be given up: a fleet's namespace that is wanted no more."""
        self._identity = identity
        self._nurse = nurse
        self._delete = give_back
        self._spawn = spawn
        self._log = log
        self._electors: dict[str, LeaseElector | SharedLease] = {}
        self._disposers: list[Callable[[], None]] = []
        self._told_keeper = ""
        self._ensuring = False
        self._held: set[str] = set()
        self._giving_up: set[str] = set()
        self._clock = clock
        self._make_after = self._mark_after = -math.inf

    async def close(self) -> None:
        """Let others keep the pool."""
        for dispose in self._disposers:
            dispose()
        for name in tuple(self._held):
            try:
                await self.release(name)
            except ElasticError as error:
                self._log.warning("Lease %s runs out by itself: %s", name, error)

    # -- the object ------------------------------------------------------------------------

    def size(self, template: Template) -> int | None:
        """See :meth:`..base.Cluster.pool_size`. A KernelPool may say otherwise than templates."""
        if self.is_leaving:
            return 0
        pool = self._view.pool()
        if pool is None:
            return template.pool.size
        if pool.spec.get("paused"):
            return None
        sizes = pool.spec.get("sizes") or {}
        return int(sizes.get(template.name, template.pool.size))

    def predicts(self, template: Template) -> bool:
        """See :meth:`..base.Cluster.pool_predicts`. What a KernelPool says is exact."""
        pool = self._view.pool()
        fixed = pool is not None and template.name in (pool.spec.get("sizes") or {})
        return template.pool.predict and not fixed and not self.is_leaving

    def owner(self) -> dict[str, Any] | None:
        """Makes a warm pod end with the KernelPool."""
        pool = self._view.pool()
        if pool is None:
            return None
        return manifests.owner_reference("KernelPool", pool.metadata.name, pool.metadata.uid)

    async def _ensure(self) -> None:
        """Have a KernelPool, so that warm pods belong to something and admins see how they are.

        A fleet's also says whose it is: servers in the namespace leave the pool to it.
        """
        pool = self._view.pool()
        now = self._clock()
        if not self._lacks(pool):
            return
        try:
            if pool is None:
                self._make_after = now + MAKE_AGAIN
                await self._make()
            else:
                await self._mark(pool)
        except ElasticError as error:
            self._mark_after = now + MAKE_AGAIN
            self._log.debug("There is no KernelPool, or it does not say whose it is: %s", error)

    def _lacks(self, pool: CustomObject | None) -> bool:
        """Whether the KernelPool has yet to be made, or to say whose it is, and may be now."""
        if self._clock() < (self._make_after if pool is None else self._mark_after):
            return False
        if self._fleet is None:
            return pool is None
        if not self.is_leaving:
            return pool is None or kept_by(pool) != self._fleet.name
        return pool is not None and bool(kept_by(pool)) and not self._has_spares()

    async def _make(self) -> None:
        meta: dict[str, Any] = {"name": POOL, "labels": manifests.MANAGED_BY}
        if self._fleet is not None:
            meta["annotations"] = {KEPT_BY: self._fleet.name}
        body = {"apiVersion": API_VERSION, "kind": "KernelPool", "metadata": meta}
        path = self._api.path("kernelpools", api=API_VERSION)
        self._view.took_pool(await self._api.request("POST", path, body=body))

    async def _mark(self, pool: CustomObject) -> None:
        assert self._fleet is not None
        keeper = None if self.is_leaving else self._fleet.name
        path = self._api.path("kernelpools", pool.metadata.name, api=API_VERSION)
        body = {"metadata": {"annotations": {KEPT_BY: keeper}}}
        answer = await self._api.request("PATCH", path, body=body, content_type=MERGE_PATCH)
        self._view.took_pool(answer)

    def _has_spares(self) -> bool:
        return any(map(room.is_spare, self._view.pods.values()))

    async def report(self, rows: Sequence[PoolRow]) -> None:
        """See :meth:`..base.Cluster.report_pool`."""
        pool = self._view.pool()
        if pool is None:
            return
        status = {
            "warm": sum(row.warm for row in rows),
            "target": sum(row.target for row in rows),
            "templates": [
                {
                    "name": row.template,
                    "target": row.target,
                    "warm": row.warm,
                    "warming": row.warming,
                    "message": row.message[:4096],
                    "reason": row.reason[:4096],
                    "failures": row.failures,
                    **({"retryAt": timestamp(row.retry_at)} if row.retry_at else {}),
                }
                for row in rows
            ],
            "holder": self._identity,
            "observedGeneration": pool.metadata.generation,
        }
        await self._patch_status(pool.metadata.name, status)

    async def _patch_status(self, name: str, status: dict[str, Any]) -> None:
        path = self._api.path("kernelpools", name, "status", api=API_VERSION)
        body = {"status": status}
        self._view.took_pool(
            await self._api.request("PATCH", path, body=body, content_type=MERGE_PATCH)
        )

    def reported(self) -> Sequence[PoolRow]:
        """See :meth:`..base.Cluster.pool_report`."""
        pool = self._view.pool()
        return [
            PoolRow(
                template=str(row.get("name", "")),
                target=int(row.get("target", 0)),
                warm=int(row.get("warm", 0)),
                warming=int(row.get("warming", 0)),
                message=str(row.get("message", "")),
                reason=str(row.get("reason", "")),
                failures=int(row.get("failures", 0)),
                retry_at=seconds(row.get("retryAt")),
            )
            for row in (pool.status.get("templates") or () if pool is not None else ())
        ]

    async def keep_demand(self, text: str) -> None:
        """See :meth:`..base.Cluster.keep_demand`."""
        data = {"data": {"demand": text}}
        try:
            path = self._api.path("configmaps", DEMAND)
            await self._api.request("PATCH", path, body=data, content_type=MERGE_PATCH)
        except ApiNotFound:
            meta = {"name": DEMAND, "labels": manifests.MANAGED_BY}
            body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, **data}
            await self._api.request("POST", self._api.path("configmaps"), body=body)

    async def kept_demand(self) -> str:
        """See :meth:`..base.Cluster.kept_demand`."""
        try:
            answer = await self._api.request("GET", self._api.path("configmaps", DEMAND))
        except ApiNotFound:
            return ""
        return msgspec.json.decode(answer, type=_ConfigMap).data.get("demand", "")

    # -- who keeps it ----------------------------------------------------------------------

    async def acquire(self, name: str) -> bool:
        """See :meth:`..base.Cluster.acquire_lease`."""
        if self._is_anothers():
            await self.release(name)
            return False
        elector = self._electors.get(name)
        if elector is None:
            elector = self._electors[name] = self._elector(name)
        try:
            held = await elector.acquire()
        except ElasticError:
            self._held.discard(name)
            raise
        if not held:
            self._held.discard(name)
            return False
        self._held.add(name)
        if self._fleet is None:
            await self._ensure()
        elif self._begin_ensure(name):
            return False  # we are told
        self._tend()
        return True

    def _begin_ensure(self, name: str) -> bool:
        """Whether a KernelPool is being made, without which warm pods would belong to nobody.

        It is not waited for: among the requests of hundreds of namespaces that may take longer than
        a lease may be believed in.
        """
        pool = self._view.pool()
        if not self._ensuring and self._lacks(pool):
            self._ensuring = True
            self._spawn(self._ensure_and_tell(name))
        return self._ensuring and pool is None

    async def _ensure_and_tell(self, name: str) -> None:
        try:
            await self._ensure()
        finally:
            self._ensuring = False
        self._view.tell_lease(name)

    def _elector(self, name: str) -> LeaseElector | SharedLease:
        if self._fleet is None:
            return LeaseElector(self._api, f"jupyter-elastic-{name}", self._identity, LEASE_SECONDS)
        shared = self._fleet.lease(name)
        self._disposers.append(shared.subscribe(lambda: self._view.tell_lease(name)))
        return shared

    def _is_anothers(self) -> bool:
        """Whether a controller that we are no part of keeps this namespace's pool."""
        pool = self._view.pool()
        keeper = kept_by(pool) if pool is not None else ""
        mine = self._fleet.name if self._fleet is not None else ""
        if keeper in ("", mine):
            return False
        if keeper != self._told_keeper:
            self._log.info(
                "The pool of %s is kept by the controller in namespace %s. Should that be gone: "
                "kubectl -n %s annotate kernelpool --all %s-",
                self._api.namespace,
                keeper,
                self._api.namespace,
                KEPT_BY,
            )
        self._told_keeper = keeper
        return True

    async def release(self, name: str) -> None:
        """See :meth:`..base.Cluster.release_lease`. A shard's lease is the fleet's to give up."""
        if self._fleet is not None:
            self._held.discard(name)
            return
        elector = self._electors.pop(name, None)
        if elector is not None and name in self._held:
            self._held.discard(name)
            await elector.release()
            await self._tell_free()

    async def _tell_free(self) -> None:
        """Let all others know that the lease may be had; they watch the KernelPool anyway."""
        pool = self._view.pool()
        if pool is not None and pool.status.get("holder") == self._identity:
            await self._patch_status(pool.metadata.name, {"holder": ""})

    def _tend(self) -> None:
        """What the holder of a lease does for pods that belong to nobody."""
        for pod in tuple(self._view.pods.values()):
            obj = self._view.object(pod.name)
            care = care_for(pod, obj, time.time()) if obj is not None else None
            if care is None or pod.name in self._giving_up:
                continue
            if care.kind == "nurse":
                self._nurse(pod.name)
            else:
                self._spawn(self._end_unneeded(pod, care))

    async def _end_unneeded(self, pod: Pod, care: Care) -> None:
        self._giving_up.add(pod.name)
        try:
            if care.kind == "give-up":
                # Told first: the pool's controller backs off for that reason, and shows it.
                said = {label("reason"): care.reason, label("message"): care.message[:2000]}
                self._log.warning("Warm pod %s is given up: %s", pod.name, care.message)
                await self._view.patch(pod, {"metadata": {"annotations": said}})
            await self._delete(pod.name, care.reason)
        except ElasticError as error:
            self._log.warning("Pod %s could not be removed yet: %s", pod.name, error)
        finally:
            self._giving_up.discard(pod.name)
