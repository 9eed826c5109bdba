"""What is done for pods that belong to nobody."""

from __future__ import annotations

import pytest

from jupyter_elastic.cluster.kubernetes.fate import pod_from_object
from jupyter_elastic.cluster.kubernetes.objects import PodObject
from jupyter_elastic.cluster.kubernetes.tending import WARMING_AT_MOST, Care, care_for

from .objects import ended, pod, waiting

NO_STATUS = {"phase": "Pending", "podIP": "", "containerStatuses": [], "conditions": []}


def care(obj: PodObject, age: float = 5.0) -> Care | None:
    seen = pod_from_object(obj)
    return care_for(seen, obj, seen.created + age)


def test_a_pod_that_warms_is_seen_through_and_a_warm_one_left_alone() -> None:
    assert care(pod("warming")) == Care("nurse")
    assert care(pod("warming", status=NO_STATUS)) == Care("nurse")
    assert care(pod("warm"), age=10 * WARMING_AT_MOST) is None


def test_pods_of_kernels_are_the_affair_of_their_starters() -> None:
    assert care(pod("claimed")) is None
    assert care(pod("claimed", container=ended(2))) is None
    assert care(pod("warming", labels={"kernel": "k"}), age=10 * WARMING_AT_MOST) is None


def test_what_has_ended_is_removed() -> None:
    assert care(pod("warm", status={"phase": "Succeeded"})) == Care("remove")


def test_an_image_that_does_not_exist_is_given_up_with_the_reason() -> None:
    obj = pod(
        "warming",
        container=waiting("ErrImagePull", 'failed to pull "img:1": not found', ready=False),
        status={"phase": "Pending"},
    )
    found = care(obj)
    assert found is not None
    assert (found.kind, found.reason) == ("give-up", "ImageNotFound")
    assert "img:1" in found.message


@pytest.mark.parametrize("age", [WARMING_AT_MOST - 1, WARMING_AT_MOST + 1])
def test_nothing_warms_for_ever(age: float) -> None:
    """As a pod whose Secret was never made, because its creator vanished in between."""
    found = care(pod("warming", status=NO_STATUS), age)
    assert found is not None
    assert found.kind == ("give-up" if age > WARMING_AT_MOST else "nurse")
    if found.kind == "give-up":
        assert found.reason == "NeverWarm"
        assert "15 minutes" in found.message
