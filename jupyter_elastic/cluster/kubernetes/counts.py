"""How many pods there may be by the namespace's quotas, and how many there are. Pure.

A quota may count objects as well as what they ask for, and each pod of ours is two: a pod and its
Secret. Others are in the namespace too (Jupyter servers, jobs), so what is taken is read off the
quota. It counts a pod's end later than we see it; until then the pod's share looks as if somebody
else had taken it, targets would fall, another warm pod be given back, and so on. So of what others
have the least holds that was seen within some seconds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence, Set

from ...model import Pod
from .. import room
from .objects import PodObject, QuotaObject, ScopeRequirement
from .problems import number

PODS = "pods"
NAMES = (PODS, "count/pods", "secrets", "count/secrets")
"""What a quota may count of which each pod takes one."""
COUNTED_WITHIN = 10.0
"""Seconds within which a quota shows that a pod is gone; more than between two looks at it."""
_ENDED = ("Succeeded", "Failed")
_PRIORITY = "PriorityClass"
_NOT_OURS = ("BestEffort", "Terminating", "CrossNamespacePodAffinity")
"""Scopes of pods that ours are none of: they ask for something, have no deadline, and (but for
a template with such an affinity) look at no pods of other namespaces."""


def is_ours(quota: QuotaObject, classes: Set[str]) -> bool:
    """Whether a quota is about such pods as ours.

    Parameters
    ----------
    classes
        Priority classes of our pods, empty for a pod that has none. A quota of some of them is
        taken to be about all, and so is any as long as no class is known.
    """
    chosen = quota.spec.scope_selector.match_expressions
    if {*quota.spec.scopes, *(one.scope_name for one in chosen)} & set(_NOT_OURS):
        return False
    scopes = [one for one in chosen if one.scope_name == _PRIORITY]
    if not scopes or not classes:
        return True
    return any(all(_takes(one, name) for one in scopes) for name in classes)


def _takes(scope: ScopeRequirement, name: str) -> bool:
    """Whether pods of a priority class are in a scope, as the API server has it."""
    if scope.operator in ("Exists", "DoesNotExist"):
        return bool(name) == (scope.operator == "Exists")
    return (name in scope.values) == (scope.operator == "In")


class Counts:
    """See the module. One for each namespace."""

    def __init__(self) -> None:
        self._others: dict[str, deque[tuple[float, int]]] = {}

    def read(
        self,
        quotas: Sequence[QuotaObject],
        pods: Iterable[Pod],
        object_of: Callable[[str], PodObject | None],
        now: float,
    ) -> tuple[dict[str, int], dict[str, int]]:
        """How many there may be, and how many there are, by the names of quotas that are ours.

        Of several quotas that count the same, the one that has room for fewest.
        """
        limits: dict[str, int] = {}
        used: dict[str, int] = {}
        rows = [
            (key, number(key, hard), number(key, quota.status.used.get(key, "0")))
            for quota in quotas
            for key, hard in quota.status.hard.items()
            if key in NAMES
        ]
        for key, hard, taken in sorted(rows, key=lambda row: (row[1] - row[2], row[1])):
            if key not in limits:
                limits[key], used[key] = hard, taken
        if not limits:
            self._others.clear()
            return {}, {}
        live, counted, ended = _count(pods, object_of)
        for key, taken in used.items():
            mine = counted - ended if key == PODS else counted
            used[key] = live + self._least(key, max(0, taken - mine), now)
        return limits, used

    def _least(self, key: str, others: int, now: float) -> int:
        seen = self._others.setdefault(key, deque())
        # Of what was seen before only what is less can matter.
        while seen and seen[-1][1] >= others:
            seen.pop()
        seen.append((now, others))
        while now - seen[0][0] > COUNTED_WITHIN:
            seen.popleft()
        return seen[0][1]


def _count(
    pods: Iterable[Pod], object_of: Callable[[str], PodObject | None]
) -> tuple[int, int, int]:
    """Pods that stay; all that are still there; and those of them in which nothing runs any more.

    A quota of ``pods`` counts one that is being deleted, but none that has ended.
    """
    live = counted = ended = 0
    for pod in pods:
        counted += 1
        if room.counts(pod):
            live += 1
        elif (obj := object_of(pod.name)) is not None:
            ended += obj.status.phase in _ENDED
    return live, counted, ended
