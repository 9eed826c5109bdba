"""How far a pod has come on its way up, from its status and its events. Pure.

:func:`steps` are dated lines for the user who waits. :func:`hindrance` is what stands in the way
now: fatal where waiting cannot help (there is no such image), else something that may pass (no
node has room yet), and the caller decides how long to wait.

Events may be missing (they expire, and may be lost), so nothing but words and dates depends on
them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from ...errors import ElasticError
from ...model import Step
from . import obstacles
from .ending import ending
from .facts import condition, container
from .objects import EventObject, PodObject, seconds

_ORDER = ("scheduled", "node-coming", "image-pulling", "image-pulled", "started", "blocked")
_SCALING = ("TriggeredScaleUp", "Nominated")
FITS_NO_NODE = 45.0
"""Seconds to wait for a node that would take a pod which no node takes even when it is empty.

What adds nodes to a cluster says within that time that it does.
"""


class Hindrance(msgspec.Struct, frozen=True):
    """What keeps a pod from coming up."""

    error: ElasticError
    severity: Literal["waiting", "fatal"]
    since: float = 0.0
    """Seconds since the epoch; 0: unknown."""
    patience: float = 0.0
    """Seconds after which it seldom passes by itself any more."""

    def is_hopeless(self, now: float, patience: float | None = None) -> bool:
        """Whether to wait no longer; ``patience`` instead of the usual one."""
        if self.severity == "fatal":
            return True
        bound = self.patience if patience is None else patience
        return bool(self.since) and now - self.since >= bound


def steps(obj: PodObject, events: Sequence[EventObject] = ()) -> tuple[Step, ...]:
    """What has happened so far, by time. The last one may be ``blocked``.

    Names: ``scheduled``, ``node-coming``, ``image-pulling``, ``image-pulled``, ``started``,
    ``blocked``.
    """
    found = [*_scheduled(obj), *_from_events(events), *_started(obj)]
    if now := hindrance(obj, events):
        found.append(Step(now.since or _latest(found, obj), "blocked", str(now.error)))
    return tuple(sorted(found, key=lambda step: (step.time, _ORDER.index(step.name))))


def hindrance(obj: PodObject, events: Sequence[EventObject] = ()) -> Hindrance | None:
    """What is in the pod's way now; None: nothing that shows."""
    if end := ending(obj):
        return Hindrance(end.error, "fatal")
    scheduled = condition(obj, "PodScheduled")
    if scheduled and scheduled.status == "False":
        said = scheduled.message
        error = obstacles.unschedulable(obj, said, _said(events, "NotTriggerScaleUp"))
        scaling = any(event.reason in _SCALING for event in events)
        final = obstacles.fits_no_node(said) and events and not scaling
        patience = FITS_NO_NODE if final else 300
        return Hindrance(error, "waiting", seconds(scheduled.last_transition_time), patience)
    status = container(obj)
    waiting = status.state.waiting
    if waiting is None and (status.state.running or status.state.terminated):
        return None
    reason, said = (waiting.reason, waiting.message) if waiting else ("", "")
    since = _since(obj, events)
    found = obstacles.of_container(obj, reason, said, [e.message for e in _warnings(events)])
    if found is None and (event := _last_failure(events)):
        found, since = obstacles.of_event(obj, event.reason, event.message), _first(event)
    if found is None:
        return None
    return Hindrance(found.error, "fatal" if found.certain else "waiting", since, found.patience)


# -- steps -----------------------------------------------------------------------------------


def _scheduled(obj: PodObject) -> Iterable[Step]:
    found = condition(obj, "PodScheduled")
    if found and found.status == "True":
        time = seconds(found.last_transition_time or obj.metadata.creation_timestamp)
        yield Step(time, "scheduled", "A node has room for the pod.")


def _started(obj: PodObject) -> Iterable[Step]:
    state = container(obj).state
    if state.running:
        yield Step(seconds(state.running.started_at), "started", "The pod's container runs.")


def _from_events(events: Sequence[EventObject]) -> Iterable[Step]:
    """The first of each kind; of pulled images the last, as pulls may fail."""
    ordered = sorted(events, key=_first)
    for name, reason, pick in (
        ("node-coming", "TriggeredScaleUp", 0),
        ("image-pulling", "Pulling", 0),
        ("image-pulled", "Pulled", -1),
    ):
        same = [event for event in ordered if event.reason == reason]
        if same:
            event = same[pick]
            yield Step(_first(event), name, obstacles.told(name, event.message))


def _latest(found: Sequence[Step], obj: PodObject) -> float:
    created = seconds(obj.metadata.creation_timestamp)
    return max([step.time for step in found], default=created)


# -- events ----------------------------------------------------------------------------------


def _first(event: EventObject) -> float:
    return seconds(event.first_timestamp or event.event_time or event.metadata.creation_timestamp)


def _last(event: EventObject) -> float:
    return seconds(event.last_timestamp) or _first(event)


def _warnings(events: Sequence[EventObject]) -> list[EventObject]:
    """The latest first."""
    return sorted((e for e in events if e.type == "Warning"), key=_last, reverse=True)


def _said(events: Sequence[EventObject], reason: str) -> str:
    return next((event.message for event in events if event.reason == reason), "")


def _last_failure(events: Sequence[EventObject]) -> EventObject | None:
    """The latest event, if it is about a failure; after a success an old failure says nothing."""
    known = [event for event in events if event.reason in obstacles.TELLING]
    if not known:
        return None
    latest = max(known, key=lambda event: (_last(event), event.type == "Warning"))
    return latest if latest.type == "Warning" else None


def _since(obj: PodObject, events: Sequence[EventObject]) -> float:
    """Since when the container has been in trouble: its first warning, else its scheduling."""
    warned = [_first(event) for event in events if event.type == "Warning"]
    warned = [time for time in warned if time]
    if warned:
        return min(warned)
    scheduled = condition(obj, "PodScheduled")
    time = scheduled.last_transition_time if scheduled else None
    return seconds(time or obj.metadata.creation_timestamp)
