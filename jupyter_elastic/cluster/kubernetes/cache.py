"""The newest known state of a collection's objects, whatever order the news comes in. No IO.

News of an object comes from lists, from the watch, and from the answers to our own writes, and
none of them waits for the others. What decides:

* An object's ``resourceVersion`` is a number that grows with every write in the whole cluster.
  What is not newer than what is known is dropped.
* A name may be used again after a deletion; the ``uid`` tells the two objects apart. The uids of
  what was deleted are remembered for a while, so that nothing old brings it back.
* A list is a snapshot: what it lacks is gone, unless something newer is known of it.
"""

from __future__ import annotations

import logging
import math
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from .objects import Meta

GRAVES = 4096
"""How many deletions are remembered."""


class HasMetadata(Protocol):
    """What can be kept: any object of the API."""

    @property
    def metadata(self) -> Meta:
        """The object's ``metadata``."""


T = TypeVar("T", bound=HasMetadata)


class Cache(Generic[T]):
    """Objects by name (or what ``key`` makes of their metadata), and who is told of changes.

    ``on_change`` is called with ``(name, old, new)`` once per real change, after :attr:`items`
    shows it. An object that was replaced by another one of its name is told as gone, then as new.
    """

    def __init__(
        self,
        on_change: Callable[[str, T | None, T | None], None],
        log: logging.Logger,
        key: Callable[[Meta], str] = lambda meta: meta.name,
    ) -> None:
        self.items: dict[str, T] = {}
        self._on_change = on_change
        self._log = log
        self._key = key
        self._versions: dict[str, int] = {}
        self._graves: OrderedDict[str, float] = OrderedDict()

    def take(self, item: T) -> None:
        """An object was seen."""
        meta = item.metadata
        name = self._key(meta)
        version = number(meta.resource_version)
        if version <= self._graves.get(meta.uid, -1.0):
            return
        old = self.items.get(name)
        if old is not None:
            if version <= self._versions[name]:
                return
            if old.metadata.uid != meta.uid:
                self._bury(old.metadata.uid, version)
                self._remove(name, old)
                old = None
        self.items[name] = item
        self._versions[name] = version
        self._tell(name, old, item)

    def gone(self, name: str, uid: str, version: float = math.inf) -> None:
        """An object is gone, or has left what is looked at, as of this version."""
        self._bury(uid, version)
        old = self.items.get(name)
        if old is not None and old.metadata.uid == uid and version >= self._versions[name]:
            self._remove(name, old)

    def missing(self, present: set[str], version: int) -> list[T]:
        """What is kept and older than a snapshot that has only the uids ``present``."""
        return [
            item
            for name, item in self.items.items()
            if item.metadata.uid not in present and self._versions[name] <= version
        ]

    def shows(self, meta: Meta) -> bool:
        """Whether this version of an object, or something newer, is known."""
        version = number(meta.resource_version)
        return (
            self._versions.get(self._key(meta), -1) >= version
            or self._graves.get(meta.uid, -1.0) >= version
        )

    def rewind(self) -> None:
        """Versions start anew: the API's storage was restored from an earlier time."""
        self._versions = dict.fromkeys(self._versions, -1)
        self._graves.clear()

    # -- inside ----------------------------------------------------------------------------

    def _remove(self, name: str, old: T) -> None:
        del self.items[name], self._versions[name]
        self._tell(name, old, None)

    def _bury(self, uid: str, version: float) -> None:
        self._graves[uid] = max(version, self._graves.pop(uid, -1.0))
        while len(self._graves) > GRAVES:
            self._graves.popitem(last=False)

    def _tell(self, name: str, old: T | None, new: T | None) -> None:
        try:
            self._on_change(name, old, new)
        except Exception:  # noqa: BLE001 - one bad listener must not end the watch
            self._log.exception("A listener to changes of %s failed", name)


def number(version: str) -> int:
    """A ``resourceVersion``, to be compared; 0 when there is none."""
    return int(version) if version.isascii() and version.isdigit() else 0
