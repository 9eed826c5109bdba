"""Which namespaces of the cluster have their pool kept: by a label, a KernelPool, or a quota."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping

import msgspec

from ...podoptions import API_VERSION
from .everywhere import Whole
from .fleet import Fleet
from .manifests import MANAGED_BY, label
from .objects import CustomObject, Meta, QuotaObject
from .reflector import Reflector

LABEL = label("pool")
SELECTOR = f"{LABEL}=enabled"
"""What a namespace is found by, unless an admin says otherwise."""
REFUSED = f"{LABEL}=disabled"
"""A namespace with this label is left alone, whatever else is in it."""
KEPT_BY = label("kept-by")
"""Annotation of a KernelPool: the namespace of the controller that keeps it, among others."""

_PATH = "/api/v1/namespaces"
_POOLS = f"/apis/{API_VERSION}/kernelpools"
_QUOTAS = "/api/v1/resourcequotas"


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """What a namespace is found by."""

    selector: str = SELECTOR
    """A label selector as ``kubectl`` takes it; empty: every namespace."""
    by_pool: bool = True
    """Whether a KernelPool in it is enough, unless we made it ourselves."""
    by_quota: bool = False
    """Whether a ResourceQuota in it is enough."""


class NamespaceObject(msgspec.Struct, frozen=True, kw_only=True):
    """A namespace."""

    metadata: Meta = Meta()


Pools = Mapping[str, Mapping[str, CustomObject]]


def chosen(
    choice: Choice,
    *,
    labelled: Collection[str],
    refused: Collection[str],
    pools: Pools,
    quotas: Collection[str],
    keeper: str,
) -> dict[str, bool]:
    """Decide where pools are kept (True), and where they are to be given up (False). Pure.

    Parameters
    ----------
    labelled, refused
        Namespaces that match the selector; and that have :data:`REFUSED`.
    pools
        KernelPools by namespace and name.
    quotas
        Namespaces that have a ResourceQuota.
    keeper
        What stands in KernelPools that we keep.
    """
    wanted = set(labelled)
    if choice.by_pool:
        wanted |= {name for name, some in pools.items() if not all(map(_is_ours, some.values()))}
    if choice.by_quota:
        wanted |= set(quotas)
    wanted -= set(refused)
    kept = {name for name, some in pools.items() if keeper in map(kept_by, some.values())}
    return dict.fromkeys(sorted(kept - wanted), False) | dict.fromkeys(sorted(wanted), True)


def kept_by(pool: CustomObject) -> str:
    """The controller that keeps a KernelPool for a whole cluster; empty: none says that it does."""
    return pool.metadata.annotations.get(KEPT_BY, "")


def _is_ours(pool: CustomObject) -> bool:
    """Whether whoever keeps the pool made the object, and no admin asked for it."""
    labels = pool.metadata.labels
    return all(labels.get(key) == value for key, value in MANAGED_BY.items())


class Namespaces:
    """The namespaces as they are found now, and whoever waits for changes.

    Parameters
    ----------
    fleet
        One that watches the whole cluster.
    """

    def __init__(self, fleet: Fleet, choice: Choice, log: logging.Logger) -> None:
        assert fleet.everywhere is not None
        self._choice = choice
        self._keeper = fleet.name
        self._changed = asyncio.Event()
        self._labelled = self._namespaces(fleet, choice.selector, log)
        self._refused = self._namespaces(fleet, REFUSED, log)
        self._pools: Whole[CustomObject] = fleet.everywhere.whole(_POOLS, CustomObject)
        self._quotas: Whole[QuotaObject] = fleet.everywhere.whole(_QUOTAS, QuotaObject)
        for whole in (self._pools, self._quotas):
            whole.watchers.append(self._on_change)

    def _namespaces(
        self, fleet: Fleet, selector: str, log: logging.Logger
    ) -> Reflector[NamespaceObject]:
        query = {"labelSelector": selector} if selector else {}
        on_change: Callable[[str, object, object], None] = lambda name, old, new: (  # noqa: E731
            self._on_change(name)
        )
        return Reflector(fleet.api, _PATH, NamespaceObject, on_change, query=query, log=log)

    async def start(self) -> None:
        """Read everything once, then keep watching. Raises ElasticError: the first that failed."""
        for one in (self._labelled, self._refused, self._pools):
            await one.start()
        if self._choice.by_quota:
            await self._quotas.start()

    async def close(self) -> None:
        """Stop watching. Idempotent."""
        for one in (self._labelled, self._refused):
            await one.close()
        for whole in (self._pools, self._quotas):
            if self._on_change in whole.watchers:
                whole.watchers.remove(self._on_change)

    def now(self) -> dict[str, bool]:
        """See :func:`chosen`."""
        self._changed.clear()
        return chosen(
            self._choice,
            labelled=[
                name
                for name, one in self._labelled.items.items()
                if one.metadata.deletion_timestamp is None
            ],
            refused=self._refused.items.keys(),
            pools=self._pools.namespaces(),
            quotas=self._quotas.namespaces().keys(),
            keeper=self._keeper,
        )

    async def changed(self) -> None:
        """Return when something may be other than :meth:`now` said."""
        await self._changed.wait()

    def _on_change(self, _name: str) -> None:
        self._changed.set()
