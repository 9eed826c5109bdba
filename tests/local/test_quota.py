"""The accounting, as pure functions."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_elastic.cluster import room
from jupyter_elastic.cluster.local import quota
from jupyter_elastic.cluster.local.machine import Device, slug
from jupyter_elastic.errors import NoGpu, QuotaFull
from jupyter_elastic.model import Pod, PodPhase
from jupyter_elastic.resources import MIB, Gpu, Resources

TOTAL = Resources(cpu=4000, memory=1024 * MIB)


def pod(name: str, cpu: int, memory: int, phase: PodPhase, created: float = 0.0) -> Pod:
    return Pod(
        name=name,
        uid=name,
        template="t",
        template_hash="h",
        created=created,
        phase=phase,
        kernel_id=name if phase in (PodPhase.CLAIMED, PodPhase.GONE) else None,
        resources=Resources(cpu=cpu, memory=memory),
    )


sizes = st.builds(
    lambda cpu, memory: Resources(cpu=cpu, memory=memory * MIB),
    st.integers(1, 3000),
    st.integers(1, 800),
)
crowds = st.lists(st.tuples(sizes, st.sampled_from(PodPhase), st.floats(0, 100)), max_size=8).map(
    lambda many: [
        pod(f"pod-{i}", size.cpu, size.memory, phase, created)
        for i, (size, phase, created) in enumerate(many)
    ]
)


@given(crowds, sizes, st.booleans())
def test_what_is_let_in_fits(pods: list[Pod], asked: Resources, evict: bool) -> None:
    try:
        chosen = room.make_room(TOTAL, pods, asked, evict=evict)
    except QuotaFull:
        spare = [one for one in pods if evict and room.is_spare(one)]
        least = room.used(one for one in pods if one not in spare)
        # Refused only if it would not fit even after giving up all that may be given up.
        assert least.cpu + asked.cpu > TOTAL.cpu or least.memory + asked.memory > TOTAL.memory
        return
    after = room.used(one for one in pods if one.name not in chosen)
    assert after.cpu + asked.cpu <= TOTAL.cpu
    assert after.memory + asked.memory <= TOTAL.memory
    assert all(room.is_spare(one) for one in pods if one.name in chosen)
    assert evict or not chosen


@given(crowds, sizes)
def test_no_warm_pod_is_given_up_without_need(pods: list[Pod], asked: Resources) -> None:
    try:
        without = room.make_room(TOTAL, pods, asked, evict=False)
    except QuotaFull:
        return
    assert without == []
    assert room.make_room(TOTAL, pods, asked, evict=True) == []


@given(crowds.filter(bool), sizes)
def test_a_resize_gives_back_its_own_share(pods: list[Pod], asked: Resources) -> None:
    rest = [one for one in pods[1:] if one.phase is not PodPhase.GONE]
    before = room.used(rest)
    fits = before.cpu + asked.cpu <= TOTAL.cpu and before.memory + asked.memory <= TOTAL.memory
    try:
        room.make_room(TOTAL, pods, asked, replacing=pods[0].name)
    except QuotaFull:
        assert not fits
    else:
        assert fits


def test_the_oldest_warm_pod_goes_first() -> None:
    pods = [
        pod("young", 100, 128 * MIB, PodPhase.WARM, created=2),
        pod("old", 100, 128 * MIB, PodPhase.WARMING, created=1),
        pod("mine", 100, 700 * MIB, PodPhase.CLAIMED, created=0),
    ]
    asked = Resources(cpu=100, memory=150 * MIB)
    assert room.make_room(TOTAL, pods, asked, evict=True) == ["old"]


def test_a_refusal_has_the_figures() -> None:
    pods = [
        pod("mine", 3500, 512 * MIB, PodPhase.CLAIMED),
        pod("gone", 3500, 512 * MIB, PodPhase.GONE),
        pod("warm", 100, 128 * MIB, PodPhase.WARM),
    ]
    with pytest.raises(QuotaFull) as refused:
        room.make_room(TOTAL, pods, Resources(cpu=1000, memory=768 * MIB), evict=True)
    assert "768 MiB of memory were asked for, 512 MiB of 1 GiB are free" in refused.value.message
    assert "1 CPU were asked for, 500m of 4 are free" in refused.value.message
    assert refused.value.remedy
    assert not refused.value.is_hopeless, "others may end"


@pytest.mark.parametrize(
    "asked",
    [
        Resources(cpu=TOTAL.cpu + 1, memory=MIB),
        Resources(cpu=1, memory=TOTAL.memory + 1),
    ],
)
def test_more_than_everything_is_hopeless(asked: Resources) -> None:
    with pytest.raises(QuotaFull) as refused:
        room.make_room(TOTAL, [], asked, evict=True)
    assert refused.value.is_hopeless


DEVICES = (Device("GPU-a", "nvidia-h200"), Device("GPU-b", "nvidia-h200"), Device("GPU-c", "t4"))


def test_gpus_are_exclusive() -> None:
    holder = msgspec.structs.replace(
        pod("holder", 1, 1, PodPhase.CLAIMED), gpu_ids=("GPU-a", "GPU-c")
    )
    assert quota.pick_gpus(DEVICES, [holder], Gpu("nvidia-h200", 1)) == ("GPU-b",)
    with pytest.raises(QuotaFull, match=r"2 x nvidia-h200 .* 1 of 2 are free"):
        quota.pick_gpus(DEVICES, [holder], Gpu("nvidia-h200", 2))
    gone = msgspec.structs.replace(holder, phase=PodPhase.GONE)
    assert quota.pick_gpus(DEVICES, [gone], Gpu("nvidia-h200", 2)) == ("GPU-a", "GPU-b")
    with pytest.raises(NoGpu, match=r"kinds here: nvidia-h200, t4"):
        quota.pick_gpus(DEVICES, [], Gpu("a100", 1))
    assert quota.pick_gpus(DEVICES, [], None) == ()
    counted = quota.capacity(TOTAL, DEVICES, [holder])
    assert counted.gpus == {"nvidia-h200": 2, "t4": 1}
    assert counted.gpus_used == {"nvidia-h200": 1, "t4": 1}


def test_a_product_name_as_a_slug() -> None:
    assert slug("NVIDIA H200") == "nvidia-h200"
    assert slug("Tesla T4 (16GB)") == "tesla-t4-16gb"


def test_cores_are_told_where_they_are_shared_out_more_than_once() -> None:
    assert quota.capacity(TOTAL, (), (), cores=2000).cores == 2000
    assert quota.capacity(TOTAL, (), (), cores=4000).cores == 0
