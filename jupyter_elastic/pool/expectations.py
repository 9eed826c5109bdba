"""What was done and the cache does not show yet. Pure.

A controller that counts only what its cache shows creates the same pods again while the watch is
late. So what it did itself is remembered until it is seen, and what may have been done (the answer
was lost) is counted as done for a while.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from ..model import Pod, PodPhase
from ..resources import Resources

UNSURE = 10.0
"""Seconds after which a creation whose answer was lost has come true or never will."""
LATE = 10.0
"""Seconds after which the cache should show what was done; else it is worth a look."""


class _Unsure(msgspec.Struct, frozen=True):
    at: float
    template: str
    hash: str


class Expectations:
    """Pods created and not seen yet, pods removed and still seen, and creations nobody knows of."""

    def __init__(self) -> None:
        self._created: dict[str, tuple[float, Pod]] = {}
        self._removed: dict[str, float] = {}
        self._unsure: list[_Unsure] = []
        self._creating = 0
        self._seen_meanwhile: set[str] = set()

    # -- what is done ----------------------------------------------------------------------

    def creating(self) -> None:
        """A creation begins; its pod may be seen, and be gone, before the answer is there."""
        self._creating += 1

    def created(self, pod: Pod, now: float) -> None:
        """It ended, with this pod."""
        if pod.name not in self._seen_meanwhile:
            self._created[pod.name] = (now, pod)
        self._ended()

    def refused(self) -> None:
        """It ended, and there is no pod."""
        self._ended()

    def unsure(self, template: str, hash: str, now: float) -> None:
        """It ended without an answer: there may be a pod."""
        self._unsure.append(_Unsure(now, template, hash))
        self._ended()

    def _ended(self) -> None:
        self._creating -= 1
        if not self._creating:
            self._seen_meanwhile.clear()

    def removed(self, name: str, now: float) -> None:
        """A pod was deleted."""
        self._created.pop(name, None)
        self._removed[name] = now

    # -- what is seen ----------------------------------------------------------------------

    def see(self, name: str, pod: Pod | None) -> None:
        """The cache has news of a pod; None: it is gone."""
        if self._creating:
            self._seen_meanwhile.add(name)
        self._created.pop(name, None)
        if pod is None or pod.phase in (PodPhase.GONE, PodPhase.CLAIMED):
            self._removed.pop(name, None)

    def is_overdue(self, now: float) -> bool:
        """Whether the cache should be brought up to date, and then :meth:`confirm` be called."""
        times = [at for at, _ in self._created.values()] + list(self._removed.values())
        if any(now - at > LATE for at in times):
            return True
        return any(now - one.at > UNSURE for one in self._unsure)

    def confirm(self, asked: float) -> None:
        """The cache shows everything that was written before ``asked``: believe it."""
        self._created = {k: v for k, v in self._created.items() if v[0] >= asked}
        self._removed = {k: at for k, at in self._removed.items() if at >= asked}
        self._unsure = [one for one in self._unsure if asked - one.at <= UNSURE]

    # -- together --------------------------------------------------------------------------

    def apply(self, pods: Mapping[str, Pod]) -> list[Pod]:
        """The pods that there are, as far as is known."""
        for name in set(self._created) & pods.keys():
            del self._created[name]
        shown: Iterable[Pod] = (pod for name, pod in pods.items() if name not in self._removed)
        known = [*shown, *(pod for _, pod in self._created.values())]
        return [*known, *(_phantom(one, i) for i, one in enumerate(self._unsure))]

    def __len__(self) -> int:
        return len(self._created) + len(self._removed) + len(self._unsure)


def _phantom(one: _Unsure, number: int) -> Pod:
    """Stands for a pod that may be there. No pod has such a name, so nothing can be done to it."""
    return Pod(
        name=f"?{number}",
        uid="",
        template=one.template,
        template_hash=one.hash,
        phase=PodPhase.WARMING,
        created=one.at,
        resources=Resources(cpu=0, memory=0),
    )
