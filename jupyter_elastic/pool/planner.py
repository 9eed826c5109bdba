"""What the pool should do next: a pure function of what was seen, the targets and the time.

No clock, no IO, no randomness: :func:`plan` can be tested with literals and, later, simulated.
The controller (:mod:`jupyter_elastic.pool.controller`) carries the actions out and distrusts them.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping

import msgspec

from ..errors import Unschedulable
from ..model import Pod, PodPhase


class Want(msgspec.Struct, frozen=True, kw_only=True):
    """What one template wants of the pool."""

    template: str
    hash: str
    target: int
    ttl: float
    """Seconds a pod may be warm before it is renewed; 0 = for ever."""
    blocked_until: float = 0
    """No creation before this time (back-off after failures)."""
    failing: bool = False
    """The last pod never became warm: try one at a time."""


class Create(msgspec.Struct, frozen=True):
    """Create one warm pod of ``template``."""

    template: str
    reason: str


class Delete(msgspec.Struct, frozen=True):
    """Delete the warm or warming pod ``pod``."""

    pod: str
    reason: str


Action = Create | Delete


def lifetime(pod: Pod, ttl: float) -> float:
    """The pod's own share of ``ttl`` (90-100 %), so that a pool is not renewed all at once."""
    return ttl * (0.9 + 0.1 * (zlib.crc32(pod.name.encode()) % 1000) / 1000)


def waits_for_node(pod: Pod) -> bool:
    """Whether a pod on its way up was found no node for, so far."""
    return pod.phase is PodPhase.WARMING and pod.reason == Unschedulable.reason


def plan(pods: Iterable[Pod], wants: Mapping[str, Want], now: float) -> list[Action]:
    """Actions that bring the pool to its targets, deletions of useless pods first.

    A pod that is outdated (template changed) or too old is *replaced*: it goes only once the
    fresh ones reach the target, so a change of template causes no dip. A template that is gone,
    or whose target is 0, gives its pods back at once.

    Where no node takes the pods of a template, one of them waits for a node, which is also what a
    cluster that can add nodes looks at; the others are given back, and no more are made.
    """
    pool = sorted(
        (p for p in pods if p.phase in (PodPhase.WARMING, PodPhase.WARM) and p.kernel_id is None),
        key=lambda p: (p.created, p.name),
    )
    deletes: list[Action] = []
    creates: list[Action] = []
    for pod in pool:
        if pod.template not in wants:
            deletes.append(Delete(pod.name, "its template is no longer offered"))
    for want in wants.values():
        mine = [p for p in pool if p.template == want.template]
        fresh = [p for p in mine if p.template_hash == want.hash and not expired(p, want.ttl, now)]
        pending = [p for p in fresh if waits_for_node(p)]
        for pod in pending[1:]:
            deletes.append(Delete(pod.name, "no node takes it, and one that waits is enough"))
            fresh.remove(pod)
        stale = [p for p in mine if p not in fresh and p not in pending]
        ready = [p for p in fresh if p.phase is PodPhase.WARM]

        for pod in stale:
            if pod.phase is PodPhase.WARMING or len(ready) >= want.target:
                why = "too old" if pod.template_hash == want.hash else "its template changed"
                deletes.append(Delete(pod.name, why))
        # Surplus: first those that are not ready, then the oldest.
        surplus = len(fresh) - want.target
        for pod in sorted(fresh, key=lambda p: (p.phase is PodPhase.WARM, p.created)):
            if surplus <= 0:
                break
            deletes.append(Delete(pod.name, "over the target"))
            surplus -= 1
        if now >= want.blocked_until and not pending:
            missing = want.target - len(fresh)
            if want.failing:
                missing = min(missing, 1 - (len(fresh) - len(ready)))
            for _ in range(missing):
                creates.append(Create(want.template, f"{len(fresh)} of {want.target} warm"))
    return deletes + creates


def expired(pod: Pod, ttl: float, now: float) -> bool:
    """Whether a pod has been warm for so long that it is to be renewed."""
    return bool(ttl and pod.warm_since is not None and now - pod.warm_since > lifetime(pod, ttl))
