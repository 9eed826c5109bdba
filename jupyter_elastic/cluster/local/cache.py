"""What a cluster object last saw, and who is told of changes. Lives on the loop; no IO."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from ...model import Kernel, Pod, PodPhase
from ...waits import event_or_timeout
from .. import base, room
from .ledger import Snapshot, Written
from .state import PodRecord

_LOG = logging.getLogger(__name__)

_ENDINGS = 256
"""How many ended pods are remembered, for those who ask after them."""


class Cache:
    """Fed by what the ledger publishes, in that order.

    ``follow`` is called with the name of each pod that changed, after the cache shows all of it
    and before listeners are told.
    """

    def __init__(self, follow: Callable[[str], None]) -> None:
        self.records: dict[str, PodRecord] = {}
        self.pods: dict[str, Pod] = {}
        self.kernels: dict[str, Kernel] = {}
        self.endings: dict[str, Pod] = {}
        self._follow = follow
        self._listeners: list[base.Listener] = []

    def clear(self) -> None:
        """Forget all that was seen; listeners stay."""
        for view in (self.records, self.pods, self.kernels, self.endings):
            view.clear()

    def live(self) -> list[str]:
        """Names of the pods that are not gone."""
        return [name for name, pod in self.pods.items() if pod.phase is not PodPhase.GONE]

    def subscribe(self, listener: base.Listener) -> Callable[[], None]:
        """Be told every change; returns a disposer."""
        self._listeners.append(listener)

        def dispose() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return dispose

    async def next_change(self, timeout: float) -> None:
        """Return at the next change, or after ``timeout`` seconds."""
        changed = asyncio.Event()
        dispose = self.subscribe(lambda _change: changed.set())
        try:
            await event_or_timeout(changed, timeout)
        finally:
            dispose()

    def apply(self, news: Snapshot | Sequence[Written]) -> None:
        """Take over what is written; all of it is visible before anybody is told."""
        if isinstance(news, Snapshot):
            written: list[Written] = [*news.kernels.items(), *news.pods.items()]
            written += [(one, None) for one in self.kernels if one not in news.kernels]
            written += [(one, None) for one in self.pods if one not in news.pods]
        else:
            written = list(news)
        used = room.used(self.pods.values())
        changes = [change for one in written if (change := self._take(*one)) is not None]
        if room.used(self.pods.values()) != used:
            changes.append(base.Change(kind="capacity", name=""))
        for change in changes:
            if change.kind == "pod":
                self._follow(change.name)
        for change in changes:
            self._tell(change)

    def _take(self, name: str, new: PodRecord | Kernel | None) -> base.Change | None:
        """Put one record into the cache; the change it makes, if any."""
        if isinstance(new, Kernel) or (new is None and name in self.kernels):
            old_kernel = self.kernels.get(name)
            if old_kernel == new:
                return None
            if isinstance(new, Kernel):
                self.kernels[name] = new
            else:
                del self.kernels[name]
            return base.Change(kind="kernel", name=name, old=old_kernel, new=new)
        old_pod = self.pods.get(name)
        if new is None:
            self.records.pop(name, None)
            if self.pods.pop(name, None) is None:
                return None
            return base.Change(kind="pod", name=name, old=old_pod)
        self.records[name] = new
        if old_pod == new.pod:
            return None
        self.pods[name] = new.pod
        if new.pod.phase is PodPhase.GONE:
            self.endings[name] = new.pod
            while len(self.endings) > _ENDINGS:
                self.endings.pop(next(iter(self.endings)))
        return base.Change(kind="pod", name=name, old=old_pod, new=new.pod)

    def _tell(self, change: base.Change) -> None:
        for listener in tuple(self._listeners):
            try:
                listener(change)
            except Exception:  # noqa: BLE001 - one bad listener must not silence the others
                _LOG.exception("A listener to the local cluster failed")
