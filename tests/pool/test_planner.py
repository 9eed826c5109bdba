"""The planner's decisions, from literals; and what must hold for any pool."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from jupyter_elastic.model import Pod, PodPhase
from jupyter_elastic.pool.planner import Action, Create, Delete, Want, lifetime, plan
from jupyter_elastic.resources import Resources

NOW = 10_000.0
SMALL = Resources(cpu=100, memory=2**27)


def pod(
    name: str,
    phase: PodPhase = PodPhase.WARM,
    *,
    template: str = "a",
    version: str = "h1",
    created: float = NOW - 60,
    kernel_id: str | None = None,
) -> Pod:
    return Pod(
        name=name,
        uid=name,
        template=template,
        template_hash=version,
        phase=phase,
        created=created,
        warm_since=created + 1 if phase is not PodPhase.WARMING else None,
        kernel_id=kernel_id,
        resources=SMALL,
    )


def wants(target: int = 2, ttl: float = 3600, **more: object) -> dict[str, Want]:
    return {"a": Want(template="a", hash="h1", target=target, ttl=ttl, **more)}  # type: ignore[arg-type]


def names(actions: list[Action]) -> tuple[list[str], int]:
    """Names deleted, and how many are created."""
    deleted = [a.pod for a in actions if isinstance(a, Delete)]
    return deleted, sum(isinstance(a, Create) for a in actions)


def test_fills_up_to_the_target_counting_those_on_their_way() -> None:
    assert names(plan([], wants(), NOW)) == ([], 2)
    assert names(plan([pod("x", PodPhase.WARMING)], wants(), NOW)) == ([], 1)
    assert names(plan([pod("x"), pod("y", PodPhase.WARMING)], wants(), NOW)) == ([], 0)


def test_claimed_and_gone_pods_do_not_count() -> None:
    taken = [pod("x", PodPhase.CLAIMED, kernel_id="k"), pod("y", PodPhase.GONE)]
    assert names(plan(taken, wants(1), NOW)) == ([], 1)


def test_a_pod_born_for_a_kernel_is_left_alone() -> None:
    cold = pod("x", PodPhase.WARMING, kernel_id="k")
    assert names(plan([cold], wants(0), NOW)) == ([], 0)


def test_gives_back_what_is_over_the_target_unready_and_oldest_first() -> None:
    warming = pod("w", PodPhase.WARMING, created=NOW - 99)
    pods = [pod("old", created=NOW - 90), pod("new"), warming]
    assert names(plan(pods, wants(2), NOW)) == (["w"], 0)
    assert names(plan(pods, wants(1), NOW)) == (["w", "old"], 0)


def test_template_change_has_no_dip_under_the_target() -> None:
    old = [pod("o1", version="h0"), pod("o2", version="h0")]
    assert names(plan(old, wants(2), NOW)) == ([], 2)
    one_ready = [*old, pod("n1"), pod("n2", PodPhase.WARMING)]
    assert names(plan(one_ready, wants(2), NOW)) == ([], 0)
    both_ready = [*old, pod("n1"), pod("n2")]
    assert names(plan(both_ready, wants(2), NOW)) == (["o1", "o2"], 0)


def test_outdated_pods_that_are_not_even_warm_go_at_once() -> None:
    assert names(plan([pod("o", PodPhase.WARMING, version="h0")], wants(1), NOW)) == (["o"], 1)


def test_too_old_pods_are_renewed_but_not_all_at_once() -> None:
    pods = [pod("x", created=NOW - 4000)]
    assert names(plan(pods, wants(1), NOW)) == ([], 1)
    assert names(plan([*pods, pod("y")], wants(1), NOW)) == (["x"], 0)
    assert names(plan(pods, wants(1, ttl=0), NOW)) == ([], 0)
    lives = {lifetime(pod(f"p{i}"), 3600) for i in range(20)}
    assert len(lives) > 10
    assert all(3240 <= life <= 3600 for life in lives)


def test_a_template_that_is_gone_gives_its_pods_back() -> None:
    deleted, created = names(plan([pod("x", template="b")], wants(0), NOW))
    assert (deleted, created) == (["x"], 0)


def test_back_off_stops_creation_but_not_deletion() -> None:
    blocked = wants(2, blocked_until=NOW + 5)
    assert names(plan([pod("o", PodPhase.WARMING, version="h0")], blocked, NOW)) == (["o"], 0)
    assert names(plan([], blocked, NOW + 5)) == ([], 2)


def test_a_failing_template_is_tried_one_at_a_time() -> None:
    assert names(plan([], wants(3, failing=True), NOW)) == ([], 1)


def test_of_pods_that_no_node_takes_one_waits() -> None:
    waiting = [
        replace(pod(f"w{n}", PodPhase.WARMING, created=NOW - 9 + n), reason="Unschedulable")
        for n in range(3)
    ]
    assert names(plan(waiting, wants(5), NOW)) == (["w1", "w2"], 0)
    assert names(plan(waiting[:1], wants(5), NOW)) == ([], 0)
    # Those that have a node are not concerned, nor is another template.
    pods = [*waiting[:1], pod("x"), pod("y", PodPhase.WARMING)]
    assert names(plan(pods, wants(5), NOW)) == ([], 0)
    other = {**wants(5), "b": Want(template="b", hash="h1", target=2, ttl=0)}
    assert names(plan(pods, other, NOW)) == ([], 2)
    assert names(plan(waiting[:1], wants(0), NOW)) == (["w0"], 0)


pods_of_all_sorts = st.lists(
    st.builds(
        pod,
        st.uuids().map(str),
        st.sampled_from(list(PodPhase)),
        template=st.sampled_from(["a", "b"]),
        version=st.sampled_from(["h0", "h1"]),
        created=st.floats(0, NOW),
        kernel_id=st.sampled_from([None, None, "k"]),
    ),
    max_size=12,
)


@given(pods_of_all_sorts, st.integers(0, 5))
def test_plans_converge_and_never_touch_what_is_taken(pods: list[Pod], target: int) -> None:
    """Carried out, with everything warm in the end, a plan leaves nothing to do but waiting."""
    now = NOW
    want = wants(target)
    for _ in range(4):
        actions = plan(pods, want, now)
        for action in actions:
            if isinstance(action, Delete):
                victim = next(p for p in pods if p.name == action.pod)
                assert victim.phase in (PodPhase.WARMING, PodPhase.WARM)
                assert victim.kernel_id is None
                pods = [p for p in pods if p.name != action.pod]
            else:
                pods = [*pods, pod(f"n{len(pods)}-{now}", created=now)]
        now += 1
        pods = [
            replace(p, phase=PodPhase.WARM, warm_since=now) if p.phase is PodPhase.WARMING else p
            for p in pods
        ]
    assert plan(pods, want, now) == []
    fresh = [p for p in pods if p.phase is PodPhase.WARM and p.kernel_id is None]
    assert len([p for p in fresh if p.template == "a"]) <= target


def test_a_failing_template_is_tried_with_one_pod_at_a_time() -> None:
    assert names(plan([], wants(5, failing=True), NOW)) == ([], 1)
    assert names(plan([pod("x", PodPhase.WARMING)], wants(5, failing=True), NOW)) == ([], 0)
    assert names(plan([pod("x")], wants(5, failing=True), NOW)) == ([], 1)
