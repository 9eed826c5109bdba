"""What the clusters of many namespaces share in one process that keeps all their pools.

One connection with one budget, one watch per kind where the whole cluster may be read, one lease
for each shard (in the controller's own namespace), one ZeroMQ context.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import uuid
from collections.abc import Awaitable, Callable

import zmq.asyncio

from .api import KubeApi
from .everywhere import Collect, Everywhere
from .lease import API, LEASE_SECONDS, LeaseElector, LeaseObject
from .manifests import OURS
from .reflector import Reflector
from .sharedlease import SharedLease


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
        self.everywhere = Everywhere(api, log) if cluster_wide else None
        self.context = zmq.asyncio.Context()
        self._identity = f"{socket.gethostname()[:40]}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._leases: dict[str, SharedLease] = {}
        self._facts: dict[str, asyncio.Task[bool]] = {}
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

    async def close(self) -> None:
        """Hand over all shards and end all connections. Who uses it must have stopped."""
        await asyncio.gather(*(one.release() for one in self._leases.values()))
        await self._watch.close()
        if self.everywhere is not None:
            await self.everywhere.close()
        for task in self._facts.values():
            task.cancel()
        await asyncio.gather(*self._facts.values(), return_exceptions=True)
        self.context.destroy(linger=0)
        await self.api.close()

    def collect(self, namespace: str) -> Collect | None:
        """How a namespace's objects are watched; None: by watches of its own."""
        return None if self.everywhere is None else self.everywhere.collect(namespace)

    def lease(self, name: str) -> SharedLease:
        """The lease of a shard, the same for all who ask."""
        found = self._leases.get(name)
        if found is None:
            elector = LeaseElector(
                self.api, f"jupyter-elastic-{name}", self._identity, LEASE_SECONDS
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
        if new is not None and new.spec.holder_identity:
            return
        for lease in tuple(self._leases.values()):
            if lease.name == name:
                lease.is_free()
