"""What the clusters of many namespaces share in one process that keeps all their pools.

One connection with one budget, one watch per kind where the whole cluster may be read, one lease
for each shard (in the controller's own namespace), one ZeroMQ context.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import uuid
from collections.abc import Awaitable, Callable

import zmq.asyncio

from ...errors import Conflict, ElasticError
from ...waits import event_or_timeout
from .api import MERGE_PATCH, KubeApi
from .balance import WANTED_BY, to_ask_for, to_hand_over
from .everywhere import Collect, Everywhere
from .lease import API, LEASE_SECONDS, LeaseElector, LeaseObject
from .manifests import OURS
from .problems import ApiNotFound
from .reflector import Reflector
from .sharedlease import SharedLease

BALANCED_AFTER = 10.0
"""Seconds after its start before a replica asks others for shards: first it is to know its part."""
LEASE_QPS = 20.0
"""Requests for leases, per second: they must not wait for those of hundreds of pools that fill."""
LOOK = 5.0
"""Seconds between two looks at who has how many shards, though nothing is heard of them."""


class Fleet:
    """See the module. Belongs to the running loop.

    Attributes
    ----------
    api
        In the controller's own namespace.
    everywhere
        The watches of the whole cluster; None where each namespace is watched on its own.
    context
        For conversations with agents.
    """

    def __init__(self, api: KubeApi, *, cluster_wide: bool, log: logging.Logger) -> None:
        self.api = api
        self._lease_api = api.within(api.namespace, qps=LEASE_QPS)
        self.everywhere = Everywhere(api, log) if cluster_wide else None
        self.context = zmq.asyncio.Context()
        self._identity = f"{socket.gethostname()[:40]}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._leases: dict[str, SharedLease] = {}
        self._facts: dict[str, asyncio.Task[bool]] = {}
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._log = log
        self._watch: Reflector[LeaseObject] = Reflector(
            api,
            api.path("leases", api=API),
            LeaseObject,
            self._on_lease,
            query={"labelSelector": OURS},
            log=log,
        )

    @property
    def name(self) -> str:
        """What stands in a KernelPool that this fleet keeps: all replicas have the same."""
        return self.api.namespace

    async def open(self) -> None:
        """Begin to watch the leases. Raises ElasticError: they cannot be read."""
        await self._watch.start()
        self._task = asyncio.create_task(self._balance(), name="elastic-shards")

    async def close(self) -> None:
        """Hand over all shards and end all connections. Who uses it must have stopped."""
        await self.hand_over()
        await self._watch.close()
        if self.everywhere is not None:
            await self.everywhere.close()
        for task in self._facts.values():
            task.cancel()
        await asyncio.gather(*self._facts.values(), return_exceptions=True)
        self.context.destroy(linger=0)
        await self.api.close()

    async def hand_over(self) -> None:
        """Let others have all shards, at once and for good. Nothing may be done here any more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await asyncio.gather(*(one.release() for one in self._leases.values()))

    def collect(self, namespace: str) -> Collect | None:
        """How a namespace's objects are watched; None: by watches of its own."""
        return None if self.everywhere is None else self.everywhere.collect(namespace)

    def lease(self, name: str) -> SharedLease:
        """The lease of a shard, the same for all who ask."""
        found = self._leases.get(name)
        if found is None:
            elector = LeaseElector(
                self._lease_api, f"jupyter-elastic-{name}", self._identity, LEASE_SECONDS
            )
            found = self._leases[name] = SharedLease(elector)
        return found

    async def once(self, fact: str, ask: Callable[[], Awaitable[bool]]) -> bool:
        """What holds for the whole cluster is asked by who needs it first."""
        task = self._facts.get(fact)
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            task = self._facts[fact] = asyncio.ensure_future(ask())
        return await asyncio.shield(task)

    def _on_lease(self, name: str, old: LeaseObject | None, new: LeaseObject | None) -> None:
        if old is None or new is None or new.metadata.annotations != old.metadata.annotations:
            self._news.set()
        if new is not None and new.spec.holder_identity:
            return
        lease = self._shards().get(name)
        if lease is not None:
            lease.is_free()

    # -- who has which shard ---------------------------------------------------------------

    def _shards(self) -> dict[str, SharedLease]:
        return {lease.name: lease for lease in self._leases.values()}

    async def _balance(self) -> None:
        ready = asyncio.get_running_loop().time() + BALANCED_AFTER
        while True:
            self._news.clear()
            try:
                await self._look(asks=asyncio.get_running_loop().time() >= ready)
            except ElasticError as error:
                self._log.debug("Shards are left where they are for now: %s", error)
            except Exception:  # noqa: BLE001 - pools are kept all the same
                self._log.exception("Shards are left where they are for now")
            await event_or_timeout(self._news, LOOK)

    async def _look(self, *, asks: bool) -> None:
        """Let go what others should have, and ask for what we should."""
        shards = self._shards()
        seen = {name: lease for name, lease in self._watch.items.items() if name in shards}
        holders = {name: lease.spec.holder_identity or "" for name, lease in seen.items()}
        wanted = {
            name: lease.metadata.annotations.get(WANTED_BY, "") for name, lease in seen.items()
        }
        for name in to_hand_over(holders, wanted, self._identity):
            self._log.info("Lease %s is handed over to %s, which has fewer.", name, wanted[name])
            await shards[name].hand_over()
        missing = to_ask_for(holders, wanted, self._identity) if asks else None
        if missing is not None:
            await self._ask_for(seen[missing])

    async def _ask_for(self, lease: LeaseObject) -> None:
        meta = lease.metadata
        change = {
            "uid": meta.uid,
            "resourceVersion": meta.resource_version,
            "annotations": {WANTED_BY: self._identity},
        }
        with contextlib.suppress(Conflict, ApiNotFound):  # it changed: the next look will tell
            await self._lease_api.request(
                "PATCH",
                self.api.path("leases", meta.name, api=API),
                body={"metadata": change},
                content_type=MERGE_PATCH,
            )
