"""One watch of a collection in the whole cluster, handed out by namespace.

Hundreds of namespaces with five watches each would be thousands of connections and as many lists at
each start; the same objects come by five watches when they are asked for once, for all namespaces.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from .cache import HasMetadata, T
from .listing import Api
from .reflector import Reflector

OnChange: TypeAlias = Callable[[str, T | None, T | None], None]
Item = TypeVar("Item", bound=HasMetadata)


class Collection(Protocol[T]):
    """The objects of one kind in one namespace, kept by a watch; see :class:`.Reflector`."""

    items: Mapping[str, T]

    async def start(self) -> None:
        """Read everything once, then keep watching."""

    async def close(self) -> None:
        """Be told nothing more."""

    def put(self, item: T) -> None:
        """Show what the API answered to a write of ours."""

    def drop(self, name: str, uid: str) -> None:
        """Forget an object that is gone for good."""

    async def sync(self) -> None:
        """Return once all that was written by anyone before the call is shown."""


class Collect(Protocol):
    """Makes the collection of a namespaced path."""

    def __call__(
        self,
        path: str,
        type: type[Item],
        on_change: Callable[[str, Item | None, Item | None], None],
        query: Mapping[str, str] | None = None,
    ) -> Collection[Item]:
        """See :class:`.Reflector`."""


class Everywhere:
    """All that is watched for all namespaces together. Belongs to the running loop."""

    def __init__(self, api: Api, log: logging.Logger) -> None:
        self._api = api
        self._log = log
        self._wholes: dict[tuple[str, str], Whole[Any]] = {}

    def whole(
        self, path: str, type: type[Item], query: Mapping[str, str] | None = None
    ) -> Whole[Item]:
        """The collection of all namespaces, for instance ``/api/v1/pods``; one for all who ask."""
        key = (path, str(sorted((query or {}).items())))
        found: Whole[Item] | None = self._wholes.get(key)
        if found is None:
            found = self._wholes[key] = Whole(self._api, path, type, query, self._log)
        return found

    def collect(self, namespace: str) -> Collect:
        """What makes collections of one namespace, each a part of a whole."""

        def part(
            path: str,
            type: type[Item],
            on_change: Callable[[str, Item | None, Item | None], None],
            query: Mapping[str, str] | None = None,
        ) -> Collection[Item]:
            whole = self.whole(path.replace(f"/namespaces/{namespace}/", "/"), type, query)
            return Part(whole, namespace, on_change)

        return part

    async def close(self) -> None:
        """Stop watching. Idempotent."""
        await asyncio.gather(*(one.close() for one in self._wholes.values()))


class Whole(Generic[T]):
    """One collection in all namespaces.

    Attributes
    ----------
    watchers
        Called with the name of a namespace in which something changed.
    """

    def __init__(
        self,
        api: Api,
        path: str,
        type: type[T],
        query: Mapping[str, str] | None,
        log: logging.Logger,
    ) -> None:
        self.watchers: list[Callable[[str], None]] = []
        self.reflector: Reflector[T] = Reflector(
            api, path, type, self._changed, query=query, everywhere=True, log=log
        )
        self._log = log
        self._starting = asyncio.Lock()
        self._items: dict[str, dict[str, T]] = {}
        self._parts: dict[str, list[OnChange[T]]] = {}

    async def start(self) -> None:
        """Read everything once, then keep watching. Idempotent, also for many at once."""
        async with self._starting:
            await self.reflector.start()

    async def close(self) -> None:
        """Stop watching. Idempotent."""
        await self.reflector.close()

    def namespaces(self) -> Mapping[str, Mapping[str, T]]:
        """The objects by name, of each namespace that has any."""
        return {namespace: items for namespace, items in self._items.items() if items}

    def items_of(self, namespace: str) -> dict[str, T]:
        """The objects of one namespace by name, as they are at any time; do not change it."""
        return self._items.setdefault(namespace, {})

    def attach(self, namespace: str, on_change: OnChange[T]) -> None:
        """Tell of one namespace, what is there first. Idempotent."""
        parts = self._parts.setdefault(namespace, [])
        if on_change in parts:
            return
        for name, item in tuple(self.items_of(namespace).items()):
            self._tell(on_change, name, None, item)
        parts.append(on_change)

    def detach(self, namespace: str, on_change: OnChange[T]) -> None:
        """Tell no more. Idempotent."""
        parts = self._parts.get(namespace, [])
        if on_change in parts:
            parts.remove(on_change)
        if not parts:
            self._parts.pop(namespace, None)

    def _changed(self, key: str, old: T | None, new: T | None) -> None:
        namespace, _, name = key.partition("/")
        items = self.items_of(namespace)
        if new is None:
            items.pop(name, None)
        else:
            items[name] = new
        for on_change in tuple(self._parts.get(namespace, ())):
            self._tell(on_change, name, old, new)
        for watcher in tuple(self.watchers):
            watcher(namespace)

    def _tell(self, on_change: OnChange[T], name: str, old: T | None, new: T | None) -> None:
        try:
            on_change(name, old, new)
        except Exception:  # noqa: BLE001 - one namespace must not keep others from the news
            self._log.exception("A listener to changes of %s failed", name)


class Part(Generic[T]):
    """What one namespace has of a whole: a :class:`Collection`."""

    def __init__(self, whole: Whole[T], namespace: str, on_change: OnChange[T]) -> None:
        self._whole = whole
        self._namespace = namespace
        self._on_change = on_change
        self.items: Mapping[str, T] = whole.items_of(namespace)

    async def start(self) -> None:
        """See :class:`Collection`."""
        await self._whole.start()
        self._whole.attach(self._namespace, self._on_change)

    async def close(self) -> None:
        """See :class:`Collection`. The watch goes on for others."""
        self._whole.detach(self._namespace, self._on_change)

    def put(self, item: T) -> None:
        """See :class:`Collection`."""
        self._whole.reflector.put(item)

    def drop(self, name: str, uid: str) -> None:
        """See :class:`Collection`."""
        self._whole.reflector.drop(f"{self._namespace}/{name}", uid)

    async def sync(self) -> None:
        """See :class:`Collection`."""
        await self._whole.reflector.sync()
