"""The pool's own object, KernelPool, who keeps the pool, and what the keeper does for its pods."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

import msgspec

from ...errors import ElasticError
from ...model import Pod, PoolRow, Template
from ...podoptions import API_VERSION
from . import manifests
from .api import MERGE_PATCH, KubeApi
from .lease import LeaseElector
from .manifests import label
from .objects import seconds
from .problems import ApiNotFound
from .records import timestamp
from .tending import Care, care_for
from .view import View

LEASE_SECONDS = 10.0
"""How long a holder of a lease may be silent before another takes over."""
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
    ) -> None:
        self._api = api
        self._view = view
        self._identity = identity
        self._nurse = nurse
        self._delete = give_back
        self._spawn = spawn
        self._log = log
        self._electors: dict[str, LeaseElector] = {}
        self._held: set[str] = set()
        self._giving_up: set[str] = set()
        self._clock = clock
        self._make_after = -math.inf

    async def close(self) -> None:
        """Let others keep the pool."""
        for name in tuple(self._held):
            try:
                await self.release(name)
            except ElasticError as error:
                self._log.warning("Lease %s runs out by itself: %s", name, error)

    # -- the object ------------------------------------------------------------------------

    def size(self, template: Template) -> int | None:
        """See :meth:`..base.Cluster.pool_size`. A KernelPool may say otherwise than templates."""
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
        return template.pool.predict and not fixed

    def owner(self) -> dict[str, Any] | None:
        """Makes a warm pod end with the KernelPool."""
        pool = self._view.pool()
        if pool is None:
            return None
        return manifests.owner_reference("KernelPool", pool.metadata.name, pool.metadata.uid)

    async def _ensure(self) -> None:
        """Have a KernelPool, so that warm pods belong to something and admins see how they are."""
        if self._view.pool() is not None or self._clock() < self._make_after:
            return
        self._make_after = self._clock() + MAKE_AGAIN
        body = {"apiVersion": API_VERSION, "kind": "KernelPool", "metadata": {"name": POOL}}
        path = self._api.path("kernelpools", api=API_VERSION)
        try:
            self._view.took_pool(await self._api.request("POST", path, body=body))
        except ElasticError as error:
            self._log.debug("There is no KernelPool, and none could be made: %s", error)

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
        elector = self._electors.get(name)
        if elector is None:
            elector = LeaseElector(
                self._api, f"jupyter-elastic-{name}", self._identity, LEASE_SECONDS
            )
            self._electors[name] = elector
        if not await elector.acquire():
            self._held.discard(name)
            return False
        self._held.add(name)
        await self._ensure()
        self._tend()
        return True

    async def release(self, name: str) -> None:
        """See :meth:`..base.Cluster.release_lease`."""
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
