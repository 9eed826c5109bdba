"""When a kernel has been idle, or alive, for too long. Pure: facts in, a decision out."""

from __future__ import annotations

from typing import Any, Dict, NamedTuple, Optional


class Cull(NamedTuple):
    """End the kernel, and why."""

    reason: str
    message: str


class Wait(NamedTuple):
    """Look again after so many seconds; None: only when something changes."""

    seconds: Optional[float]


class Ask(NamedTuple):
    """Ask the kernel whether it really still works, and wait as :class:`Wait` does."""

    seconds: Optional[float]


class Policy(NamedTuple):
    """Seconds; 0 means never."""

    cull_after: float = 0
    max_age: float = 0
    cull_connected: bool = True

    @classmethod
    def parse(cls, given: Optional[Dict[str, Any]]) -> "Policy":
        """From the ``idle`` field of ``start``."""
        given = given or {}
        return cls(
            float(given.get("cull_after") or 0),
            float(given.get("max_age") or 0),
            bool(given.get("cull_connected", True)),
        )


CONNECTED_RECHECK = 30.0
"""Seconds until a kernel that only its connections keep alive is looked at again."""


def decide(
    policy: Policy,
    now: float,
    started: float,
    last_activity: float,
    busy: bool,
    connected: bool,
) -> "Cull | Wait | Ask":
    """What to do now. Busy is never idle; the maximum age holds for busy kernels too.

    A busy kernel that was not heard of for the idle time is asked: its last word may be lost.
    """
    waits = []
    ask = False
    if policy.max_age:
        left = started + policy.max_age - now
        if left <= 0:
            return Cull(
                "MaxAge",
                f"The kernel reached its maximum age of {show(policy.max_age)} and was ended.",
            )
        waits.append(left)
    if policy.cull_after:
        left = last_activity + policy.cull_after - now
        if left > 0:
            waits.append(left)
        elif busy:
            ask = True
        elif connected and not policy.cull_connected:
            waits.append(CONNECTED_RECHECK)
        else:
            return Cull(
                "Idle",
                f"The kernel was idle for {show(policy.cull_after)} and was ended; "
                "its variables are lost. Start it again when you need it.",
            )
    wait = min(waits) if waits else None
    return Ask(wait) if ask else Wait(wait)


def show(seconds: float) -> str:
    """A duration for a sentence."""
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} seconds"
