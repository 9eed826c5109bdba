"""The state machine of a resize: every pair of states, every event, and any sequence of them."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_elastic.cluster.kubernetes import resize, resize_status
from jupyter_elastic.cluster.kubernetes.facts import amounts
from jupyter_elastic.cluster.kubernetes.objects import EventObject, PodObject
from jupyter_elastic.cluster.kubernetes.resize import (
    TERMINAL,
    TRANSITIONS,
    Accepted,
    Action,
    EnforcedByAgent,
    Event,
    Finish,
    GiveUp,
    InvalidTransition,
    PodGone,
    Policy,
    Refused,
    Report,
    Resizing,
    Revert,
    Seen,
    Size,
    State,
    Tick,
    Wanted,
    observe,
)
from jupyter_elastic.cluster.kubernetes.resize_status import size_of
from jupyter_elastic.errors import (
    Conflict,
    ElasticError,
    Forbidden,
    Gone,
    NoNodeFits,
    QuotaFull,
    ResizeLost,
    ResizeStuck,
    ResizeUnsupported,
    ShrinkUnderUse,
    Superseded,
    Unsupported,
)

from .objects import MIB, SIZE, condition, ended, event, pod, running, samples

OLD = Size(cpu_request=1000, cpu_limit=1050, memory_request=256 * MIB, memory_limit=256 * MIB)
NEW = Size(cpu_request=2000, cpu_limit=2050, memory_request=2**30, memory_limit=2**30)
WISH = {
    "requests": {"cpu": "2000m", "memory": "1Gi"},
    "limits": {"cpu": "2050m", "memory": "1073741824"},
}
NO_ROOM = "Node didn't have enough capacity: cpu, requested: 5000, capacity: 2000"
NOT_NOW = "Node didn't have enough resource: memory, requested: 1073741824, used: 0, capacity: 0"
POLICY = Policy(deferred_grace=60, in_progress_grace=20)


def after(*, generation: int = 4, looked: int | None = 4, **changes: Any) -> PodObject:
    """The pod once its specification has the new size, and nothing else has happened."""
    status = {"observedGeneration": looked, **changes.pop("status", {})}
    one = {
        "resources": SIZE,
        "allocatedResources": SIZE["requests"],
        **changes.pop("container", {}),
    }
    meta = {"generation": generation, **changes.pop("metadata", {})}
    return pod(resources=WISH, metadata=meta, status=status, container=one, **changes)


def pending(reason: str, message: str, **more: Any) -> PodObject:
    told = condition("PodResizePending", reason, message, observedGeneration=4, **more)
    return after(status={"conditions": [told]})


def in_progress(reason: str = "", message: str = "") -> PodObject:
    told = condition("PodResizeInProgress", reason, message, observedGeneration=4)
    return after(status={"conditions": [told]}, container={"allocatedResources": WISH["requests"]})


SEEN: dict[State, PodObject] = {
    State.SUBMITTED: after(looked=3),
    State.DEFERRED: pending("Deferred", NOT_NOW),
    State.INFEASIBLE: pending("Infeasible", NO_ROOM),
    State.IN_PROGRESS: in_progress(),
    State.BLOCKED: in_progress("Error", "cgroup: device busy"),
    State.DONE: after(
        container={"resources": WISH, "allocatedResources": {"cpu": "2", "memory": "1024Mi"}}
    ),
    State.LOST: after(container=running(1, {"exitCode": 137, "reason": "OOMKilled"})),
    State.SUPERSEDED: pod(metadata={"generation": 5}),
    State.GONE: after(metadata={"deletionTimestamp": "2026-01-01T00:01:00Z"}),
}
"""A pod for each state that can be seen."""


class Story:
    """A resize that is told one event after the other; keeps what it answered last."""

    def __init__(self, policy: Policy = POLICY) -> None:
        self.machine = Resizing(pod(), NEW, policy, now=0.0)
        self.now = 0.0
        self.last: tuple[Action, ...] = ()
        self._causes = 0

    def do(self, kind: type[Event], **fields: Any) -> Story:
        self._causes += 1
        event = kind(cause=f"cause-{self._causes}", **fields)
        self.last = self.machine.advance(event, self.now)
        return self

    def accepted(self) -> Story:
        return self.do(Accepted, generation=4)

    def refused(self, error: ElasticError, certain: bool = True) -> Story:
        return self.do(Refused, error=error, certain=certain)

    def saw(self, state: State) -> Story:
        return self.do(Seen, pod=SEEN[state])

    def tick(self, after: float) -> Story:
        self.now += after
        return self.do(Tick)

    @property
    def kinds(self) -> list[str]:
        return [type(action).__name__ for action in self.last]

    @property
    def error(self) -> ElasticError:
        """Of the last action."""
        action = self.last[-1]
        assert isinstance(action, GiveUp)
        return action.error


def at(state: State) -> Story:
    """A resize in that state, by the shortest way."""
    story = Story()
    if state is State.ASKED:
        return story
    if state is State.DENIED:
        return story.refused(QuotaFull("Full."))
    if state is State.UNSUPPORTED:
        return story.refused(Unsupported("No."))
    story.accepted()
    if state in (State.INFEASIBLE, State.LOST):  # only passed through
        story.machine.enter(state, "test", "", 0.0)
        return story
    if state in (State.REVERTING, State.REVERTED, State.STRANDED):
        story.saw(State.INFEASIBLE)
        if state is State.REVERTED:
            story.do(Accepted, generation=5)
        if state is State.STRANDED:
            story.tick(20)
        return story
    return story if state is State.SUBMITTED else story.saw(state)


PAIRS = [(one, other) for one in State for other in State]


@pytest.mark.parametrize(("before", "then"), PAIRS)
def test_every_pair(before: State, then: State) -> None:
    machine = at(before).machine
    assert machine.state is before
    known = machine.history
    if then in TRANSITIONS[before]:
        assert machine.enter(then, "why", "So.", 1.0) == (Report(then, "So."),)
        assert machine.state is then
        assert (machine.history[-1].before, machine.history[-1].after) == (before, then)
        assert machine.history[-1].cause == "why"
    else:
        with pytest.raises(InvalidTransition) as wrong:
            machine.enter(then, "why", "So.", 1.0)
        assert machine.state is before
        assert wrong.value.history == machine.history == known
        assert before.value in str(wrong.value)
        assert "why" in str(wrong.value)


def test_the_table() -> None:
    assert set(TRANSITIONS) == set(State)
    assert {state for state in State if at(state).machine.over} == TERMINAL
    assert all(state not in then for state, then in TRANSITIONS.items())
    reached = set().union(*TRANSITIONS.values())
    assert reached == set(State) - {State.ASKED}


def test_the_picture_shows_what_the_table_allows() -> None:
    drawn = re.findall(r"^ +(\w+) --> (\w+)", resize.__doc__ or "", re.MULTILINE)
    assert len(drawn) > 20
    for one, other in drawn:
        assert State(other) in TRANSITIONS[State(one)]
    assert {State(name) for pair in drawn for name in pair} == set(State)


@pytest.mark.parametrize("state", [state for state in State if state is not State.ASKED])
def test_an_answer_to_nothing_is_an_error_of_ours(state: State) -> None:
    story = at(state)
    for _ in range(story.machine._answers_due):
        story.machine._answers_due -= 1
    with pytest.raises(InvalidTransition, match="cause-"):
        story.accepted()
    with pytest.raises(InvalidTransition):
        story.refused(QuotaFull("Full."))


# -- the way to the end ------------------------------------------------------------------------


def test_a_resize_that_works() -> None:
    story = Story()
    assert story.accepted().last == (Report(State.SUBMITTED, "The cluster accepted the size."),)
    assert story.saw(State.SUBMITTED).last == ()
    assert story.saw(State.IN_PROGRESS).kinds == ["Report"]
    assert story.saw(State.IN_PROGRESS).last == ()
    assert story.saw(State.DONE).kinds == ["Report", "Finish"]
    assert [one.after for one in story.machine.history] == [
        State.SUBMITTED,
        State.IN_PROGRESS,
        State.DONE,
    ]
    assert story.machine.history[-1].cause == "cause-5"


@pytest.mark.parametrize(
    "state", [State.SUBMITTED, State.DEFERRED, State.IN_PROGRESS, State.BLOCKED]
)
def test_the_agent_knows_sooner(state: State) -> None:
    story = at(state)
    old = {"memory_limit": OLD.memory_limit, "cpu_limit": OLD.cpu_limit}
    half = {"memory_limit": NEW.memory_limit, "cpu_limit": OLD.cpu_limit}
    none = {"memory_limit": None, "cpu_limit": None}
    more = {"memory_limit": NEW.memory_limit + 4096, "cpu_limit": NEW.cpu_limit}
    for limits in (old, half, none, more):
        assert story.do(EnforcedByAgent, **limits).last == ()
    # Kernels round down to pages.
    new = {"memory_limit": NEW.memory_limit - 4096, "cpu_limit": NEW.cpu_limit}
    assert story.do(EnforcedByAgent, **new).kinds == ["Report", "Finish"]
    assert story.machine.state is State.DONE


def test_before_the_answer_nothing_that_is_seen_counts() -> None:
    story = Story()
    for state in set(SEEN) - {State.GONE}:
        assert story.saw(state).last == ()
    new = {"memory_limit": NEW.memory_limit, "cpu_limit": NEW.cpu_limit}
    assert story.do(EnforcedByAgent, **new).last == ()
    assert story.machine.state is State.ASKED


def test_an_older_view_changes_nothing() -> None:
    story = at(State.DEFERRED)
    assert story.do(Seen, pod=pod()).last == ()
    assert story.saw(State.SUBMITTED).last == ()
    assert story.machine.state is State.DEFERRED


@pytest.mark.parametrize("state", sorted(TERMINAL))
def test_after_the_end_nothing_happens(state: State) -> None:
    story = at(state)
    for seen in SEEN:
        assert story.saw(seen).last == ()
    assert story.tick(1e6).last == ()
    assert story.do(PodGone).last == ()
    assert story.machine.state is state


def test_an_answer_after_the_end_of_the_pod_is_ignored() -> None:
    story = Story().do(PodGone)
    assert isinstance(story.error, Gone)
    assert story.refused(Gone("Gone.")).last == ()


# -- refusals ----------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [QuotaFull("Full."), Forbidden("No."), Conflict("Changed.")])
def test_a_refusal_is_told_as_it_is(error: ElasticError) -> None:
    story = Story().refused(error)
    assert story.last == (Report(State.DENIED, error.message), GiveUp(error))
    assert story.machine.state is State.DENIED


@pytest.mark.parametrize("error", [Unsupported("No."), ResizeUnsupported("No.")])
def test_a_cluster_that_cannot_resize(error: ElasticError) -> None:
    story = Story().refused(error)
    assert (story.machine.state, story.error) == (State.UNSUPPORTED, error)


def test_a_refusal_because_the_pod_is_gone() -> None:
    story = Story().refused(Gone("There is no such pod."))
    assert story.machine.state is State.GONE
    assert isinstance(story.error, Gone)


def test_no_answer_is_reverted_in_case_it_was_carried_out() -> None:
    lost = ElasticError("No answer.")
    story = Story().refused(lost, certain=False)
    assert story.last[-1] == Revert(OLD)
    assert story.do(Accepted, generation=5).error is lost
    story = Story().tick(19)
    assert story.last == ()
    assert story.tick(1).last[-1] == Revert(OLD)
    assert isinstance(story.do(Accepted, generation=5).error, ResizeStuck)


# -- no room -----------------------------------------------------------------------------------


def test_infeasible_is_reverted_and_told() -> None:
    story = at(State.SUBMITTED).saw(State.INFEASIBLE)
    message = (
        "The pod's node has no room for the new size: the pod needs 5 CPU, where the node has 2."
    )
    assert story.last == (
        Report(State.INFEASIBLE, message),
        Report(State.REVERTING, message),
        Revert(OLD),
    )
    story.do(Accepted, generation=5)
    assert story.machine.state is State.REVERTED
    assert isinstance(story.error, NoNodeFits)
    assert story.error.message == message
    assert "start a new kernel" in story.error.remedy


def test_deferred_waits_and_then_reverts() -> None:
    story = at(State.DEFERRED)
    assert story.tick(59).last == ()
    assert story.tick(1).last[-1] == Revert(OLD)
    error = story.do(Accepted, generation=5).error
    assert isinstance(error, NoNodeFits)
    assert "needs 1 GiB of memory" in error.message
    assert "Nothing became free within 60 s." in error.message


def test_room_that_appears_is_used() -> None:
    story = at(State.DEFERRED).tick(50).saw(State.IN_PROGRESS)
    assert story.tick(15).last == ()
    assert story.saw(State.DONE).last[-1] == Finish()


def test_what_the_node_says_anew_is_told() -> None:
    story = at(State.DEFERRED)
    said = NOT_NOW.replace("used: 0, capacity: 0", "used: 1073741824, capacity: 1610612736")
    story.do(Seen, pod=pending("Deferred", said))
    assert story.kinds == ["Report"]
    assert "512 MiB of the node's 1.5 GiB are free" in story.machine.message


# -- stuck -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (State.SUBMITTED, "did not look at the new size within 20 s"),
        (State.IN_PROGRESS, "did not put the new size in force within 20 s"),
        (State.BLOCKED, "cannot put it in force: cgroup: device busy"),
    ],
)
def test_stuck_is_reverted(state: State, words: str) -> None:
    story = at(state).tick(20)
    assert story.last[-1] == Revert(OLD)
    error = story.do(Accepted, generation=5).error
    assert isinstance(error, ResizeStuck)
    assert words in error.message


def test_a_node_that_does_not_look_is_told_of_once_while_it_is_waited_for() -> None:
    """As after its kubelet was restarted."""
    story = at(State.SUBMITTED)
    assert story.tick(7).last == ()
    [told] = story.tick(2).last
    assert isinstance(told, Report)
    assert told.slow
    assert "its kubelet does not answer, or has just come back" in told.message
    assert "waited for up to 20 s" in told.message
    assert story.tick(2).last == ()
    assert story.saw(State.SUBMITTED).last == ()
    assert story.saw(State.DONE).kinds == ["Report", "Finish"]


def test_trying_again_for_ever_is_stuck_too() -> None:
    story = at(State.IN_PROGRESS)
    for _ in range(9):
        story.tick(1).saw(State.BLOCKED)
        story.tick(1).saw(State.IN_PROGRESS)
    assert story.tick(2).last[-1] == Revert(OLD)


UNDER_USE = (
    "cannot decrease memory limits: [attempting to set pod memory limit (134217728) below current "
    'usage (314572800), attempting to set container "kernel" memory limit (134217728) below '
    "current usage (314572800)]"
)


def test_a_node_without_a_figure_of_the_use_is_told_so() -> None:
    """As the kubelet says of a container that was killed and started again in place."""
    said = 'cannot decrease memory limits: missing container "kernel" memory usage'
    story = Story().accepted().do(Seen, pod=in_progress("Error", said)).tick(20)
    assert story.last[-1] == Revert(OLD)
    error = story.do(Accepted, generation=5).error
    assert isinstance(error, ResizeStuck)
    assert "no figure of what is used" in error.message
    assert "another pod" in error.remedy


def test_memory_that_is_in_use_cannot_be_taken_away() -> None:
    story = Story().accepted().do(Seen, pod=in_progress("Error", UNDER_USE))
    assert story.last[-1] == Revert(OLD)  # waiting is no help
    story.do(Accepted, generation=5)
    assert isinstance(story.error, ShrinkUnderUse)
    # 64 MiB are the agent's:
    assert "uses 236 MiB of memory now; 64 MiB would be too little" in story.error.message
    assert "at least" in story.error.remedy


def told(reason: str, generation: int, error: str = "") -> EventObject:
    detail = {"containers": [], "generation": generation, "error": error}
    text = json.dumps(detail, separators=(",", ":"))
    return event(reason, f"Pod resize: {text}")


def test_the_event_says_sooner_that_memory_is_in_use() -> None:
    before = (told("ResizeError", 3, UNDER_USE), told("ResizeStarted", 4))
    story = at(State.SUBMITTED).do(Seen, pod=in_progress(), events=before)
    assert story.machine.state is State.IN_PROGRESS
    story.do(Seen, pod=in_progress(), events=(*before, told("ResizeError", 4, UNDER_USE)))
    assert story.last[-1] == Revert(OLD)
    assert isinstance(story.machine.failure, ShrinkUnderUse)


# -- others ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "lost",
    [
        {"containerID": "containerd://b"},
        running(1, {"exitCode": 137, "reason": "OOMKilled"}),
        ended(exitCode=137, reason="OOMKilled"),
    ],
)
def test_a_kernel_that_was_killed_meanwhile(lost: dict[str, Any]) -> None:
    story = at(State.IN_PROGRESS).do(Seen, pod=after(container=lost))
    assert story.last[-1] == Revert(OLD)
    error = story.do(Accepted, generation=5).error
    assert isinstance(error, ResizeLost)
    assert "was killed" in error.message
    assert ("OOMKilled" in error.message) == ("containerID" not in lost)


def test_somebody_else_resized() -> None:
    story = at(State.IN_PROGRESS).saw(State.SUPERSEDED)
    assert isinstance(story.error, Superseded)


@pytest.mark.parametrize("how", ["seen", "told"])
@pytest.mark.parametrize(
    "state", [State.SUBMITTED, State.DEFERRED, State.IN_PROGRESS, State.BLOCKED, State.REVERTING]
)
def test_the_pod_ends(state: State, how: str) -> None:
    story = at(state)
    story.saw(State.GONE) if how == "seen" else story.do(PodGone)
    assert story.machine.state is State.GONE
    assert isinstance(story.error, Gone)


# -- putting it back ---------------------------------------------------------------------------


def test_a_revert_is_tried_again_and_then_given_up() -> None:
    story = at(State.REVERTING)
    for _ in range(2):
        assert story.refused(Conflict("Changed.")).last == (Revert(OLD),)
    story.refused(Conflict("Changed."))
    assert story.machine.state is State.STRANDED
    assert isinstance(story.error, NoNodeFits)  # the cause stays
    assert "could not be taken back: Changed." in story.error.message
    assert "counts against the quota" in story.error.remedy


def test_a_revert_that_may_not_be_is_not_tried_again() -> None:
    story = at(State.REVERTING).refused(Forbidden("May not."))
    assert story.machine.state is State.STRANDED


def test_a_revert_without_an_answer() -> None:
    story = at(State.REVERTING).tick(19)
    assert story.last == ()
    assert isinstance(story.tick(1).error, NoNodeFits)
    assert story.machine.state is State.STRANDED


def test_what_is_seen_while_reverting_does_not_matter() -> None:
    story = at(State.REVERTING)
    for state in set(SEEN) - {State.GONE}:
        assert story.saw(state).last == ()


def test_a_revert_puts_back_what_is_in_force() -> None:
    """Not what the specification says: that may be an earlier wish that never came true."""
    machine = Resizing(after(), NEW, POLICY, 0.0)
    assert machine.old == OLD


def test_a_use_that_the_kubelet_does_not_know_is_no_figure() -> None:
    """Seen of containers a second old: "below current usage (0)"."""
    error = resize_status.blocked("memory limit (220200960) below current usage (0)", 86 * MIB)
    assert isinstance(error, ShrinkUnderUse)
    assert error.message == "The kernel uses more memory now than the 124 MiB that were asked for."


MORE = Size(cpu_request=3000, cpu_limit=3050, memory_request=2**31, memory_limit=2**31)


def test_a_revert_puts_back_a_size_that_is_on_its_way() -> None:
    """A claim's: the kubelet takes a second to put it in force, and the next resize may be faster.

    Put back instead was what the pod had before, when it was warm.
    """
    for seen in (after(looked=3), after(), in_progress()):
        assert Resizing(seen, MORE, POLICY, 0.0).old == NEW


def test_a_revert_does_not_put_back_a_size_that_never_came() -> None:
    for seen in (pending("Deferred", NOT_NOW), pending("Infeasible", NO_ROOM)):
        assert Resizing(seen, MORE, POLICY, 0.0).old == OLD


# -- a real cluster ----------------------------------------------------------------------------

REAL = samples("resizes")


@pytest.mark.parametrize(
    ("name", "state", "with_events", "words"),
    [
        ("before", State.SUBMITTED, State.SUBMITTED, ""),
        ("in-progress", State.IN_PROGRESS, State.IN_PROGRESS, ""),
        ("done", State.DONE, State.DONE, ""),
        ("cpu", State.INFEASIBLE, State.INFEASIBLE, "needs 5 CPU, where the node has 2."),
        ("both", State.INFEASIBLE, State.INFEASIBLE, "100 GiB of memory, where the node has 23.5"),
        ("memory", State.INFEASIBLE, State.INFEASIBLE, "needs 100 GiB of memory"),
        ("deferred", State.DEFERRED, State.DEFERRED, "where 0.82 of the node's 2 are free."),
        ("deferred-done", State.DONE, State.DONE, ""),
        ("shrink", State.IN_PROGRESS, State.BLOCKED, ""),
        ("shrink-error", State.BLOCKED, State.BLOCKED, "MiB of memory now"),
    ],
)
def test_a_real_cluster(name: str, state: State, with_events: State, words: str) -> None:
    obj, events = REAL[name]
    wanted = Wanted(size=size_of(amounts(obj)), generation=2)
    seen = observe(wanted, obj)
    assert seen.state is state
    assert words in seen.message
    assert observe(wanted, obj, events).state is with_events


def test_every_real_resize_is_expected() -> None:
    assert len(REAL) == 10


# -- reading the status ------------------------------------------------------------------------

WANTED = Wanted(size=NEW, generation=4, container_id="containerd://a")


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        # No condition, and it has not looked: not done, whatever the rest says.
        ({"looked": 3, "container": {"resources": WISH}}, State.SUBMITTED),
        # It has looked, and neither condition is there: on its way.
        ({}, State.IN_PROGRESS),
        # A cluster without observedGeneration (before 1.34): the sizes alone.
        ({"looked": None}, State.SUBMITTED),
        (
            {
                "looked": None,
                "container": {"resources": WISH, "allocatedResources": WISH["requests"]},
            },
            State.DONE,
        ),
        # Limits in force, requests not yet allocated.
        ({"container": {"resources": WISH}}, State.IN_PROGRESS),
        ({"container": {"resources": WISH, "allocatedResources": None}}, State.DONE),
        # A node that tells nothing of limits.
        ({"container": {"resources": None}}, State.IN_PROGRESS),
    ],
)
def test_absence_of_a_condition_is_not_the_end(changes: dict[str, Any], state: State) -> None:
    assert observe(WANTED, after(**changes)).state is state


@pytest.mark.parametrize("about", [3, None])
def test_a_condition_about_an_earlier_size_does_not_count(about: int | None) -> None:
    old = condition("PodResizePending", "Infeasible", NO_ROOM, observedGeneration=about)
    assert observe(WANTED, after(looked=3, status={"conditions": [old]})).state is State.SUBMITTED
    now = State.IN_PROGRESS if about else State.INFEASIBLE
    assert observe(WANTED, after(status={"conditions": [old]})).state is now


def test_another_change_of_the_specification_is_not_another_size() -> None:
    assert observe(WANTED, after(generation=5, looked=5)).state is State.IN_PROGRESS
    assert observe(WANTED, SEEN[State.SUPERSEDED]).state is State.SUPERSEDED


def test_limits_too_small_to_be_held_are_reported_as_the_smallest() -> None:
    tiny = {"requests": {"cpu": "1m", "memory": "1Gi"}, "limits": {"cpu": "5m", "memory": "1Gi"}}
    told = {**tiny, "limits": {"cpu": "10m", "memory": "1Gi"}}
    obj = pod(resources=tiny, container={"resources": told})
    assert observe(Wanted(size=size_of(amounts(obj)), generation=3), obj).state is State.DONE


@pytest.mark.parametrize(
    ("said", "kind", "words"),
    [
        (NO_ROOM, NoNodeFits, "needs 5 CPU, where the node has 2."),
        (
            "Node didn't have enough capacity: cpu, requested: 5000, capacity: 2000, memory, "
            "requested: 1073741824, capacity: 536870912",
            NoNodeFits,
            "needs 5 CPU, where the node has 2; 1 GiB of memory, where the node has 512 MiB.",
        ),
        (
            "Resize is infeasible for Guaranteed Pods alongside CPU Manager static policy",
            ResizeUnsupported,
            "cannot change this pod while it runs: Resize is infeasible for Guaranteed Pods",
        ),
        ("", ResizeUnsupported, "cannot change this pod while it runs."),
    ],
)
def test_infeasible_in_words(said: str, kind: type[ElasticError], words: str) -> None:
    error = observe(WANTED, pending("Infeasible", said)).error
    assert type(error) is kind
    assert words in error.message


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (NOT_NOW, "no room for the new size now: the pod needs 1 GiB of memory, where 0 KiB of"),
        ("Something new.", "no room for the new size now: Something new."),
        ("", "no room for the new size now."),
    ],
)
def test_deferred_in_words(said: str, words: str) -> None:
    assert words in observe(WANTED, pending("Deferred", said)).message


# -- any sequence ------------------------------------------------------------------------------

ERRORS: list[ElasticError] = [
    QuotaFull("Full."),
    Conflict("Changed."),
    Unsupported("No."),
    Gone("Gone."),
    ShrinkUnderUse("In use."),
]
EVENTS = st.one_of(
    st.builds(Accepted, cause=st.just("a"), generation=st.integers(3, 6)),
    st.builds(Refused, cause=st.just("r"), error=st.sampled_from(ERRORS), certain=st.booleans()),
    st.builds(Seen, cause=st.just("s"), pod=st.sampled_from(list(SEEN.values()))),
    st.builds(
        EnforcedByAgent,
        cause=st.just("e"),
        memory_limit=st.sampled_from([None, OLD.memory_limit, NEW.memory_limit]),
        cpu_limit=st.sampled_from([None, OLD.cpu_limit, NEW.cpu_limit]),
    ),
    st.just(Tick(cause="t")),
    st.sampled_from([Tick(cause="t"), Tick(cause="t"), PodGone(cause="g")]),
)


@given(st.lists(st.tuples(EVENTS, st.floats(0, 30)), max_size=30))
def test_any_sequence_comes_to_one_end(events: list[tuple[Event, float]]) -> None:
    policy = Policy(deferred_grace=60, in_progress_grace=20)
    machine = Resizing(pod(), NEW, policy, 0.0)
    now, ends = 0.0, 0
    ticks = [(Tick(cause="end"), 100.0)] * 3
    for happening, pause in events + ticks:
        now += pause
        over = machine.over
        try:
            actions = machine.advance(happening, now)
        except InvalidTransition:
            assert isinstance(happening, (Accepted, Refused))  # ours to send; the rest never raises
            continue
        assert not (over and actions)
        for action in actions:
            if isinstance(action, (Finish, GiveUp)):
                ends += 1
                assert action is actions[-1]
        assert machine.over == (ends == 1)
    assert machine.over
    assert (machine.state is State.DONE) == any(one.after is State.DONE for one in machine.history)
    for one in machine.history:
        assert one.after in TRANSITIONS[one.before]
