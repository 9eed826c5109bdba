"""Who of several servers does what only one may do: a ``coordination.k8s.io`` Lease.

The clocks of two servers may differ by minutes, so nobody believes the other's times: a holder is
given up when its record has not changed for as long as it promised, measured by our own clock
from when we saw the change. Nothing runs in the background; whoever wants the lease asks again.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

import msgspec

from ...errors import ApiUnreachable, Conflict, ElasticError
from . import problems
from .api import MERGE_PATCH, KubeApi
from .balance import WANTED_BY, YIELD
from .manifests import MANAGED_BY
from .objects import Meta

_LOG = logging.getLogger(__name__)

API = "coordination.k8s.io/v1"
LEASE_SECONDS = 10.0
"""How long who keeps a pool may be silent before another takes over."""


class LeaseSpec(msgspec.Struct, frozen=True, rename="camel"):
    """``spec`` of a Lease."""

    holder_identity: str | None = None
    lease_duration_seconds: int | None = None
    acquire_time: str | None = None
    renew_time: str | None = None
    lease_transitions: int | None = None


class LeaseObject(msgspec.Struct, frozen=True):
    """A Lease."""

    metadata: Meta = Meta()
    spec: LeaseSpec = LeaseSpec()


_LEASE = msgspec.json.Decoder(LeaseObject)


def _utc() -> datetime:
    return datetime.now(timezone.utc)


class LeaseElector:
    """One contender for one lease in the API's namespace.

    Parameters
    ----------
    api
        Where the lease is.
    name
        The Lease object's name.
    identity
        Ours; no other contender may have it.
    duration
        Seconds after which others may take over when we fall silent. Whole seconds, at least 3.
    clock
        Seconds that only grow.
    now
        The time to write down; for people, nobody decides by it.
    """

    def __init__(
        self,
        api: KubeApi,
        name: str,
        identity: str,
        duration: float = 15,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = _utc,
    ) -> None:
        self.name, self.identity = name, identity
        self._api = api
        self._duration = max(3, round(duration))
        self._clock, self._now = clock, now
        self._lock = asyncio.Lock()
        self._lease: LeaseObject | None = None
        self._changed_at = 0.0
        """When we saw the lease become what it is, by our own clock."""
        self._renewed_at: float | None = None
        """When we began to renew it the last time; None when it is not ours."""

    async def acquire(self) -> bool:
        """Try to be, or stay, the holder. Renews at most every third of the duration.

        While the API cannot be reached a holder stays so for two thirds of the duration; then it
        stops before others may begin.

        Raises
        ------
        ApiUnreachable, ApiBusy
            The API gives no answer, and the lease is not ours as far as is known.
        Forbidden
            RBAC does not allow it.
        """
        async with self._lock:
            started = self._clock()
            if self._age(started) < self._duration / 3:
                return True
            try:
                held = await self._contend(started)
            except (ApiUnreachable, problems.ApiBusy) as error:
                if self._age(self._clock()) >= self._duration * 2 / 3:
                    self._renewed_at = None
                    raise
                _LOG.debug("Lease %s was not renewed: %s", self.name, error)
                return True
            if not held:
                self._renewed_at = None
            return held

    async def release(self) -> None:
        """Let another take over at once. Idempotent; never fails."""
        async with self._lock:
            lease, held = self._lease, self._renewed_at is not None
            self._renewed_at = None
            if lease is None or not held:
                return
            spec = {"holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": self._time()}
            try:
                self._saw(await self._patch(lease, spec))
            except ElasticError as error:
                _LOG.debug("Lease %s was not released and runs out: %s", self.name, error)

    # -- inside ----------------------------------------------------------------------------

    def _age(self, now: float) -> float:
        """Seconds since the last renewal; infinite when the lease is not ours."""
        return math.inf if self._renewed_at is None else now - self._renewed_at

    async def _contend(self, started: float) -> bool:
        if self._renewed_at is None:
            await self._read()
        # Twice, since a conflict may be with ourselves: the answer to an earlier write got lost.
        for _ in range(2):
            lease = self._lease
            if lease is not None and self._taken(lease):
                return False
            try:
                made = await (self._create() if lease is None else self._patch(lease))
            except (Conflict, problems.ApiNotFound):
                await self._read()
                continue
            self._saw(made)
            self._renewed_at = started
            return True
        return False

    def _taken(self, lease: LeaseObject) -> bool:
        """Whether another holds it and has not been silent for too long."""
        holder = lease.spec.holder_identity
        if not holder:
            asker = lease.metadata.annotations.get(WANTED_BY, self.identity)
            # It was let go for somebody, who may have gone as well.
            return asker != self.identity and self._clock() - self._changed_at < YIELD
        if holder == self.identity:
            return False
        promised = lease.spec.lease_duration_seconds or self._duration
        return self._clock() - self._changed_at < promised

    async def _read(self) -> None:
        path = self._api.path("leases", self.name, api=API)
        try:
            body = await self._api.request("GET", path, timeout=self._duration / 3)
        except problems.ApiNotFound:
            self._lease = None
        else:
            self._saw(_LEASE.decode(body))

    async def _create(self) -> LeaseObject:
        now = self._time()
        body = {
            "apiVersion": API,
            "kind": "Lease",
            "metadata": {"name": self.name, "labels": MANAGED_BY},
            "spec": {
                "holderIdentity": self.identity,
                "leaseDurationSeconds": self._duration,
                "acquireTime": now,
                "renewTime": now,
                "leaseTransitions": 0,
            },
        }
        path = self._api.path("leases", api=API)
        return _LEASE.decode(
            await self._api.request("POST", path, body=body, timeout=self._duration / 3)
        )

    async def _patch(self, lease: LeaseObject, spec: dict[str, Any] | None = None) -> LeaseObject:
        """Write if nobody has written since; our claim when no ``spec`` is given."""
        notes: dict[str, None] = {}
        if spec is None:
            now = self._time()
            spec = {
                "holderIdentity": self.identity,
                "leaseDurationSeconds": self._duration,
                "renewTime": now,
            }
            if lease.spec.holder_identity != self.identity:
                spec["acquireTime"] = now
                spec["leaseTransitions"] = (lease.spec.lease_transitions or 0) + 1
                notes = {WANTED_BY: None}  # whoever asked, it is ours now
        body = {
            "metadata": {
                "uid": lease.metadata.uid,
                "resourceVersion": lease.metadata.resource_version,
                "labels": MANAGED_BY,
                **({"annotations": notes} if notes else {}),
            },
            "spec": spec,
        }
        answer = await self._api.request(
            "PATCH",
            self._api.path("leases", self.name, api=API),
            body=body,
            content_type=MERGE_PATCH,
            timeout=self._duration / 3,
        )
        return _LEASE.decode(answer)

    def _saw(self, lease: LeaseObject) -> None:
        if (
            self._lease is None
            or self._lease.metadata.uid != lease.metadata.uid
            or self._lease.spec != lease.spec
        ):
            self._changed_at = self._clock()
        self._lease = lease

    def _time(self) -> str:
        """RFC 3339 with microseconds, in UTC: what Kubernetes calls a MicroTime."""
        moment = self._now().astimezone(timezone.utc)
        return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
