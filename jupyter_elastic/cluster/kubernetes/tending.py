"""What whoever holds the pool's lease does for pods that belong to nobody. Pure decisions.

Their creator may be gone, or they will never be warm: a pod that waits for an image that does not
exist would wait for ever, and count in the pool as long as it does.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from ...model import Pod, PodPhase
from .objects import PodObject
from .progress import hindrance

WARMING_AT_MOST = 900.0
"""Seconds after which a pod that is still not warm is given up, whatever it waits for."""


class Care(msgspec.Struct, frozen=True):
    """What to do for a pod."""

    kind: Literal["nurse", "remove", "give-up"]
    """See its agent through; delete what has ended; or say why it is given up and delete it."""
    reason: str = ""
    message: str = ""


def care_for(pod: Pod, obj: PodObject, now: float) -> Care | None:
    """What a pod of the pool needs now; None: nothing."""
    if pod.kernel_id is not None:
        return None  # its kernel's starter looks after it, and it ends with the kernel
    if pod.phase is PodPhase.GONE:
        return Care("remove")
    if pod.phase is not PodPhase.WARMING:
        return None
    found = hindrance(obj)
    if found is not None and found.is_hopeless(now):
        return Care("give-up", found.error.reason, str(found.error))
    if now - pod.created > WARMING_AT_MOST:
        minutes = WARMING_AT_MOST / 60
        message = f"The pod was not warm within {minutes:.0f} minutes."
        if found is not None:
            message += f" {found.error}"
        return Care("give-up", "NeverWarm", message)
    return Care("nurse")
