"""How many pods there may be: what quotas count of ours and of others, and what follows."""

from __future__ import annotations

from typing import Any

import pytest

from jupyter_elastic.cluster.kubernetes import capacity, problems
from jupyter_elastic.cluster.kubernetes.counts import COUNTED_WITHIN, Counts, is_ours
from jupyter_elastic.cluster.kubernetes.fate import pod_from_object
from jupyter_elastic.cluster.kubernetes.objects import (
    Meta,
    PodObject,
    QuotaObject,
    QuotaSpec,
    QuotaStatus,
    ScopeRequirement,
    ScopeSelector,
)
from jupyter_elastic.model import Offer, Range, Template
from jupyter_elastic.pool.foresight import Foresight

from .objects import pod as pod_object

WORK = Template(
    name="work",
    display_name="Work",
    resources=Offer(cpu=Range(1, 1, 1), memory=Range(1, 1, 1)),
)
WARM = {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"cpu": "2", "memory": "512Mi"}}


def quota(hard: dict[str, str], used: dict[str, str], **spec: Any) -> QuotaObject:
    status = QuotaStatus(hard=hard, used=used)
    return QuotaObject(metadata=Meta(name="q"), spec=QuotaSpec(**spec), status=status)


def warm(*names: str) -> dict[str, PodObject]:
    marks = ({"name": name, "uid": name} for name in names)
    return {mark["name"]: pod_object(phase="warm", resources=WARM, metadata=mark) for mark in marks}


class Namespace:
    """What a server sees of one, at times that the test says."""

    def __init__(self, *quotas: QuotaObject, pods: dict[str, PodObject] | None = None) -> None:
        self.quotas = list(quotas)
        self.objects = pods or {}
        self.counts = Counts()
        self.classes = {""}

    def capacity(self, now: float = 0.0) -> Any:
        pods = [pod_from_object(obj) for obj in self.objects.values()]
        quotas = [one for one in self.quotas if is_ours(one, self.classes)]
        counts = self.counts.read(quotas, pods, self.objects.get, now)
        return capacity.read((None, None), quotas, pods, counts)

    def target(self, size: int, now: float = 0.0) -> tuple[int, str]:
        pods = [pod_from_object(obj) for obj in self.objects.values()]
        found = Foresight().targets({"work": WORK}, {"work": size}, self.capacity(now), pods, now)
        return found["work"].size, found["work"].reason


@pytest.mark.parametrize("name", ["pods", "count/pods", "secrets", "count/secrets"])
def test_the_pool_keeps_its_guards_for_the_number_of_pods(name: str) -> None:
    its = Namespace(quota({name: "20"}, {name: "12"}))
    assert its.capacity().counts_used == {name: 12}
    size, reason = its.target(10)
    assert size == 6, "12 others and 6 of ours are below 95 % of 20"
    assert name in reason
    its.quotas = [quota({name: "20"}, {name: "19"})]
    assert its.target(10, now=2 * COUNTED_WITHIN)[0] == 0


def test_a_predicted_pool_keeps_to_a_tenth_of_the_number_and_has_one_of_a_small_one() -> None:
    for hard, expected in ((100, 10), (30, 3), (5, 1), (2, 1)):
        foresight, now = Foresight(), 1_700_000_000.0
        demand = foresight.demand_of("work", now)
        for number in range(600):
            demand.observe(now + number, hit=True)
        its = Namespace(quota({"pods": str(hard)}, {"pods": "0"}))
        found = foresight.targets({"work": WORK}, {}, its.capacity(), [], now + 600)
        assert found["work"].size == expected


def test_what_takes_no_part_in_the_number_does_not_bound_it() -> None:
    every = {"pods": "0"}
    selectors = [
        ScopeSelector(match_expressions=(ScopeRequirement(scope_name=name),))
        for name in ("Terminating", "CrossNamespacePodAffinity")
    ]
    its = Namespace(
        quota(every, every, scopes=("BestEffort",)),
        *(quota(every, every, scope_selector=selector) for selector in selectors),
        quota({"count/jobs.batch": "0"}, {}),
    )
    assert its.capacity().counts == {}
    assert its.target(10)[0] == 10


@pytest.mark.parametrize(
    ("operator", "values", "about"),
    [
        ("In", ("high", "low"), {"low"}),
        ("NotIn", ("low",), {"", "other"}),
        ("Exists", (), {"low", "other"}),
        ("DoesNotExist", (), {""}),
    ],
)
def test_a_quota_of_a_priority_class_bounds_pods_of_that_class(
    operator: str, values: tuple[str, ...], about: set[str]
) -> None:
    scope = ScopeRequirement(scope_name="PriorityClass", operator=operator, values=values)
    selector = ScopeSelector(match_expressions=(scope,))
    its = Namespace(quota({"pods": "0"}, {"pods": "0"}, scope_selector=selector))
    for name in ("", "low", "other"):
        its.classes = {name}
        assert its.target(10)[0] == (0 if name in about else 10), name
    its.classes = {"", "low", "other"}
    assert its.target(10)[0] == 0, "some are bounded, so all are"


def test_of_two_quotas_the_one_with_less_room_counts() -> None:
    its = Namespace(
        quota({"pods": "50"}, {"pods": "48"}),
        quota({"pods": "10"}, {"pods": "1"}),
    )
    assert its.capacity().counts == {"pods": 50}
    assert its.capacity().counts_used == {"pods": 48}


def test_a_pod_that_is_given_back_is_nobody_elses_although_the_quota_still_counts_it() -> None:
    """Else targets would fall, another be given back, and so on until none is left."""
    its = Namespace(quota({"pods": "20"}, {"pods": "18"}), pods=warm("a", "b", "c", "d"))
    assert its.target(10, now=0)[0] == 4
    del its.objects["a"]
    assert its.capacity(now=1).counts_used == {"pods": 17}
    assert its.target(10, now=1)[0] == 4
    its.quotas = [quota({"pods": "20"}, {"pods": "17"})]
    assert its.target(10, now=2)[0] == 4
    # Somebody else's is believed when it stays.
    its.quotas = [quota({"pods": "20"}, {"pods": "18"})]
    assert its.target(10, now=3)[0] == 4
    assert its.target(10, now=3 + COUNTED_WITHIN)[0] == 3


def test_a_pod_that_ends_is_still_counted_and_one_that_has_ended_is_not() -> None:
    its = Namespace(
        quota({"pods": "20", "count/pods": "20"}, {"pods": "11", "count/pods": "12"}),
        pods=warm("a"),
    )
    leaving = {"name": "leaving", "uid": "1", "deletionTimestamp": "2026-01-01T00:00:00Z"}
    its.objects["leaving"] = pod_object(phase="warm", resources=WARM, metadata=leaving)
    done = pod_object(
        phase="warm", resources=WARM, metadata={"name": "done", "uid": "2"},
        status={"phase": "Failed"},
    )  # fmt: skip
    its.objects["done"] = done
    # Nine others, and one of ours that stays.
    assert its.capacity().counts_used == {"pods": 10, "count/pods": 10}


def test_a_start_above_it_is_told_so_and_what_warm_pods_would_give_back() -> None:
    text = "exceeded quota: q, requested: {0}=1, used: {0}=20, limited: {0}=20"
    for name, words in (("pods", "pods"), ("count/secrets", "number of secrets")):
        said = f"{words}: 1 asked, 20 of 20 taken"
        status = {"reason": "Forbidden", "message": text.format(name), "details": {"name": "p"}}
        error = problems.explain(403, status, "create", "pods", namespace="team")
        assert isinstance(error, problems.ApiQuotaFull)
        assert str(error).startswith(f'Quota "q" of namespace team has no room. {said}.')
        assert error.lacking == {name: 1}
        assert not error.is_hopeless
        assert capacity.given_back(warm("a")["a"])[name] == 1
