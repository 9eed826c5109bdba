"""An in-place resize as a state machine: what was seen goes in, what is to be done comes out.

A PATCH of ``pods/resize`` that is answered with 200 has changed nothing yet: the kubelet may have
no room now (Deferred) or ever (Infeasible), may be stuck half-way, or may not have looked at all.
This machine follows it to an end that can be told to the user. It does no IO and reads no clock.

```mermaid
stateDiagram-v2
    [*] --> Asked: PATCH sent
    Asked --> Submitted: accepted
    Asked --> Denied: quota, limit range, rights
    Asked --> Unsupported: this cluster cannot
    Asked --> Reverting: no answer
    Submitted --> InProgress: allocated by the node
    Submitted --> Deferred: no room now
    Submitted --> Infeasible: never room
    Deferred --> InProgress: room appeared
    InProgress --> Blocked: the kubelet reports an error
    Blocked --> InProgress: it tries again
    Submitted --> Done: agent or kubelet says so
    InProgress --> Done
    Blocked --> Done
    Deferred --> Done
    Infeasible --> Reverting
    Deferred --> Reverting: deferred_grace passed
    InProgress --> Reverting: in_progress_grace passed
    Blocked --> Reverting: memory is in use, or in_progress_grace passed
    InProgress --> Lost: the container was killed
    Lost --> Reverting
    InProgress --> Superseded: somebody else resized
    Reverting --> Reverted: the old size is back
    Reverting --> Stranded: it could not be put back
    InProgress --> Gone: the pod ended
```

Drawn once where it may happen from several states; :data:`TRANSITIONS` is complete. Whatever fails
after the API server accepted the new size is reverted, because a size that is not in force keeps
holding quota.
"""

from __future__ import annotations

import msgspec

from ...errors import (
    ElasticError,
    Gone,
    NoNodeFits,
    ResizeStuck,
    ResizeUnsupported,
    ShrinkUnderUse,
    Superseded,
    Unsupported,
)
from .facts import amounts
from .objects import PodObject
from .resize_events import (
    Accepted,
    Action,
    EnforcedByAgent,
    Event,
    Finish,
    GiveUp,
    PodGone,
    Policy,
    Refused,
    Report,
    Revert,
    Seen,
    Tick,
)
from .resize_status import (
    Observation,
    Size,
    State,
    Wanted,
    in_force,
    observe,
    same_cpu,
    size_of,
)

__all__ = [
    "TERMINAL",
    "TRANSITIONS",
    "Accepted",
    "Action",
    "EnforcedByAgent",
    "Event",
    "Finish",
    "GiveUp",
    "InvalidTransition",
    "Observation",
    "Passed",
    "PodGone",
    "Policy",
    "Refused",
    "Report",
    "Resizing",
    "Revert",
    "Seen",
    "Size",
    "State",
    "Tick",
    "Wanted",
    "observe",
]

_SEEN = frozenset(
    {State.DEFERRED, State.INFEASIBLE, State.IN_PROGRESS, State.BLOCKED, State.DONE, State.LOST}
)
_WATCHED = _SEEN | {State.SUPERSEDED, State.GONE, State.REVERTING}

TRANSITIONS: dict[State, frozenset[State]] = {
    State.ASKED: frozenset(
        {
            State.SUBMITTED,
            State.DENIED,
            State.UNSUPPORTED,
            State.REVERTING,
            State.GONE,
        }
    ),
    State.SUBMITTED: _WATCHED,
    State.DEFERRED: _WATCHED - {State.DEFERRED},
    State.IN_PROGRESS: _WATCHED - {State.IN_PROGRESS},
    State.BLOCKED: _WATCHED - {State.BLOCKED},
    # These two are left in the same step:
    State.INFEASIBLE: frozenset({State.REVERTING}),
    State.LOST: frozenset({State.REVERTING}),
    State.REVERTING: frozenset({State.REVERTED, State.STRANDED, State.GONE}),
    State.UNSUPPORTED: frozenset(),
    State.DENIED: frozenset(),
    State.DONE: frozenset(),
    State.SUPERSEDED: frozenset(),
    State.REVERTED: frozenset(),
    State.STRANDED: frozenset(),
    State.GONE: frozenset(),
}
"""The allowed pairs. A state without successors is an end."""

TERMINAL = frozenset(state for state, after in TRANSITIONS.items() if not after)

SLOW = 8.0
"""Seconds after which it is told that the pod's node has not looked yet; it does so in one."""

PAGE = 65536
"""Kernels round memory limits down to pages; the largest pages in use."""


class Passed(msgspec.Struct, frozen=True):
    """One line of a resize's history."""

    cause: str
    before: State
    after: State


class InvalidTransition(RuntimeError):
    """A step that the machine does not know: an error of ours, never of the cluster."""

    def __init__(self, before: State, what: str, cause: str, history: tuple[Passed, ...]) -> None:
        self.history = history
        told = ", ".join(
            f"{one.before.value} -> {one.after.value} ({one.cause})" for one in history
        )
        super().__init__(f"{before.value}: {what} is not possible (cause: {cause}); so far: {told}")


class Resizing:
    """One resize on its way. Not for use from several tasks at once.

    Parameters
    ----------
    pod
        The pod before the PATCH is sent.
    size
        What the PATCH asks for. It may be the size the pod's specification has already: then this
        follows a resize that was asked for earlier.
    now
        Seconds on any clock that does not run backwards; the same for :meth:`advance`.
    """

    def __init__(self, pod: PodObject, size: Size, policy: Policy, now: float) -> None:
        self.policy = policy
        self.wanted = Wanted.before(pod, size)
        self.old = _to_put_back(pod, size)
        """What a revert puts back."""
        self.state = State.ASKED
        self.message = ""
        self.history: tuple[Passed, ...] = ()
        self.failure: ElasticError | None = None
        """Why a revert is or was needed."""
        self._entered = {State.ASKED: now}
        self._node = f"Node {pod.spec.node_name}" if pod.spec.node_name else "The pod's node"
        self._told_slow = False
        self._answers_due = 1
        self._reverts = 0

    @property
    def over(self) -> bool:
        """Whether nothing more will come of it."""
        return self.state in TERMINAL

    def advance(self, event: Event, now: float) -> tuple[Action, ...]:
        """Take in one event; what is to be done, in this order.

        What is seen after the end is ignored, and so is an answer that came too late.

        Raises
        ------
        InvalidTransition
            An answer to a PATCH that was never sent.
        """
        if isinstance(event, (Accepted, Refused)):
            if not self._answers_due:
                raise InvalidTransition(self.state, type(event).__name__, event.cause, self.history)
            self._answers_due -= 1
        if self.over:
            return ()
        if isinstance(event, Accepted):
            return self._accepted(event, now)
        if isinstance(event, Refused):
            return self._refused(event, now)
        if isinstance(event, PodGone):
            return self._gone(event, now, "The pod ended while it was resized.")
        if isinstance(event, Tick):
            return self._tick(event, now)
        if isinstance(event, Seen):
            return self._saw(event, now)
        if isinstance(event, EnforcedByAgent) and self._followed and self._in_force(event):
            return (
                *self.enter(State.DONE, event.cause, "The new size is in force.", now),
                Finish(),
            )
        return ()

    def enter(self, state: State, cause: str, message: str, now: float) -> tuple[Action, ...]:
        """Pass to another state, which :data:`TRANSITIONS` must allow."""
        if state not in TRANSITIONS[self.state]:
            raise InvalidTransition(self.state, state.value, cause, self.history)
        self.history = (*self.history, Passed(cause, self.state, state))
        self.state, self.message = state, message
        self._entered.setdefault(_clock(state), now)
        return (Report(state, message),)

    # -- by event --------------------------------------------------------------------------

    def _accepted(self, event: Accepted, now: float) -> tuple[Action, ...]:
        if self.state is State.ASKED:
            self.wanted = msgspec.structs.replace(self.wanted, generation=event.generation)
            return self.enter(State.SUBMITTED, event.cause, "The cluster accepted the size.", now)
        assert self.failure is not None
        message = "The size is as it was before."
        return (*self.enter(State.REVERTED, event.cause, message, now), GiveUp(self.failure))

    def _refused(self, event: Refused, now: float) -> tuple[Action, ...]:
        error = event.error
        if isinstance(error, Gone):
            return self._gone(event, now, error.message)
        if self.state is State.REVERTING:
            if (error.retry or not event.certain) and self._reverts < self.policy.revert_attempts:
                return self._revert()
            return self._strand(event, now, error.message)
        if not event.certain:
            return self._fail(event, now, error)
        if isinstance(error, (ResizeUnsupported, Unsupported)):
            done = self.enter(State.UNSUPPORTED, event.cause, error.message, now)
        else:
            done = self.enter(State.DENIED, event.cause, error.message, now)
        return (*done, GiveUp(error))

    def _gone(self, event: Event, now: float, message: str) -> tuple[Action, ...]:
        return (*self.enter(State.GONE, event.cause, message, now), GiveUp(Gone(message)))

    def _tick(self, event: Tick, now: float) -> tuple[Action, ...]:
        deferred = self.state is State.DEFERRED
        grace = self.policy.deferred_grace if deferred else self.policy.in_progress_grace
        waited = now - self._entered[_clock(self.state)]
        if waited < grace:
            return self._slow(grace) if waited >= SLOW else ()
        if self.state is State.REVERTING:
            return self._strand(event, now, f"There was no answer within {grace:.0f} s.")
        return self._fail(event, now, self._overdue(grace))

    def _saw(self, event: Seen, now: float) -> tuple[Action, ...]:
        if self.state is State.ASKED:
            return ()  # which generation is ours is known with the answer
        seen = observe(self.wanted, event.pod, event.events)
        if seen.state is State.GONE:
            return self._gone(event, now, seen.message)
        if not self._followed or seen.state is State.SUBMITTED:  # being reverted; an old view
            return ()
        if seen.state is self.state:
            return self._remark(seen)
        told = self.enter(seen.state, event.cause, seen.message, now)
        self.failure = seen.error
        if seen.state is State.DONE:
            return (*told, Finish())
        if seen.state is State.SUPERSEDED:
            return (*told, GiveUp(Superseded(seen.message)))
        final = seen.state in (State.INFEASIBLE, State.LOST)
        if seen.error and (final or isinstance(seen.error, ShrinkUnderUse)):
            return (*told, *self._fail(event, now, seen.error))
        return told

    # -- steps -----------------------------------------------------------------------------

    @property
    def _followed(self) -> bool:
        return not self.over and self.state not in (State.ASKED, State.REVERTING)

    def _remark(self, seen: Observation) -> tuple[Action, ...]:
        self.failure = seen.error
        if seen.message == self.message:
            return ()
        self.message = seen.message
        return (Report(self.state, self.message),)

    def _slow(self, grace: float) -> tuple[Action, ...]:
        """Say once that nothing is heard of the node."""
        if self.state is not State.SUBMITTED or self._told_slow:
            return ()
        self._told_slow = True
        self.message = (
            f"{self._node} has not looked at the new size yet: its kubelet does not answer, or has"
            f" just come back. It is waited for up to {grace:.0f} s."
        )
        return (Report(self.state, self.message, slow=True),)

    def _overdue(self, grace: float) -> ElasticError:
        within = f"within {grace:.0f} s"
        if self.state is State.DEFERRED:
            return NoNodeFits(f"{self.message} Nothing became free {within}.")
        if self.failure is not None:
            return self.failure
        if self.state is State.ASKED:
            return ResizeStuck(f"The cluster did not answer {within}.")
        if self.state is State.SUBMITTED:
            return ResizeStuck(
                f"{self._node} did not look at the new size {within}: its kubelet does not answer,"
                " or has just come back. The kernel runs on with the size that it had.",
                "Try again in a minute; if it stays so, start a new kernel with that size.",
            )
        return ResizeStuck(f"{self._node} did not put the new size in force {within}.")

    def _fail(self, event: Event, now: float, error: ElasticError) -> tuple[Action, ...]:
        """Nothing will come of it, and the cluster holds the new size: revert."""
        self.failure = error
        told = self.enter(State.REVERTING, event.cause, error.message, now)
        return (*told, *self._revert())

    def _revert(self) -> tuple[Action, ...]:
        self._reverts += 1
        self._answers_due += 1
        return (Revert(self.old),)

    def _strand(self, event: Event, now: float, why: str) -> tuple[Action, ...]:
        assert self.failure is not None
        message = f"{self.failure.message} The size asked for could not be taken back: {why}"
        error = type(self.failure)(
            message, "It still counts against the quota: resize again, or restart the kernel."
        )
        return (*self.enter(State.STRANDED, event.cause, message, now), GiveUp(error))

    def _in_force(self, event: EnforcedByAgent) -> bool:
        if event.memory_limit is None or event.cpu_limit is None:
            return False
        size = self.wanted.size
        return size.memory_limit - PAGE < event.memory_limit <= size.memory_limit and same_cpu(
            event.cpu_limit, size.cpu_limit
        )


def _to_put_back(pod: PodObject, size: Size) -> Size:
    """The size before: what the kubelet enforces, or will by an earlier resize that goes well."""
    before = size_of(amounts(pod))
    if before == size:
        return in_force(pod)  # that earlier resize is the one to be followed
    now = observe(Wanted.before(pod, before), pod)
    coming = now.state in (State.SUBMITTED, State.IN_PROGRESS, State.DONE)
    return before if coming else in_force(pod)


def _clock(state: State) -> State:
    """The state whose first entry a grace counts from; a kubelet that tries again is one thing."""
    return State.IN_PROGRESS if state is State.BLOCKED else state
