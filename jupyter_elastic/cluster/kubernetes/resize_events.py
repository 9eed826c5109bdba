"""What goes into a resize's state machine and what comes out: events and actions, plain data."""

from __future__ import annotations

import msgspec

from ...errors import ElasticError
from .objects import EventObject, PodObject
from .resize_status import Size, State

# -- what goes in ------------------------------------------------------------------------------


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Something happened. ``cause`` tells it from all others in logs and histories."""

    cause: str


class Accepted(Event, frozen=True):
    """The PATCH sent last (the resize's, or the revert's) was accepted."""

    generation: int


class Refused(Event, frozen=True):
    """The PATCH sent last failed.

    ``certain`` is False where it may have been carried out all the same (no answer in time).
    """

    error: ElasticError
    certain: bool = True


class Seen(Event, frozen=True):
    """The pod as the watch shows it; its events, oldest first, where they are known."""

    pod: PodObject
    events: tuple[EventObject, ...] = ()


class EnforcedByAgent(Event, frozen=True):
    """The limits of the container's own group as the agent reads them; sooner than the status.

    Bytes and millicores, with the overheads that are part of the pod's limits.
    """

    memory_limit: int | None
    cpu_limit: int | None


class Tick(Event, frozen=True):
    """Time has passed. Only ticks make graces end: send one at least once a second."""


class PodGone(Event, frozen=True):
    """The pod is not there any more."""


# -- what comes out ----------------------------------------------------------------------------


class Report(msgspec.Struct, frozen=True):
    """Tell the user how it stands."""

    state: State
    message: str
    slow: bool = False
    """It takes longer than it should, and the message says so."""


class Finish(msgspec.Struct, frozen=True):
    """The size is in force."""


class Revert(msgspec.Struct, frozen=True):
    """Send a PATCH with this size; answer with ``Accepted`` or ``Refused``."""

    to: Size


class GiveUp(msgspec.Struct, frozen=True):
    """The resize failed; raise this."""

    error: ElasticError


Action = Report | Finish | Revert | GiveUp


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """How patient a resize is."""

    deferred_grace: float = 30.0
    """Seconds that a node without room may keep it waiting."""
    in_progress_grace: float = 30.0
    """Seconds that API server or kubelet may take for anything else."""
    revert_attempts: int = 3
