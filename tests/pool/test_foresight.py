"""From what a controller sees to targets, over its restarts."""

from __future__ import annotations

import json

from msgspec.structs import replace

from jupyter_elastic.model import (
    UNLIMITED,
    Capacity,
    GpuRange,
    Kernel,
    Offer,
    Pod,
    PodPhase,
    Range,
    Template,
)
from jupyter_elastic.pool.foresight import Foresight
from jupyter_elastic.resources import MIB, Gpu, Resources

NOW = 2600 * 604800.0 + 4 * 86400.0  # a Monday
LARGE = Capacity(total=Resources(cpu=100_000, memory=UNLIMITED), used=Resources(cpu=0, memory=0))


def template(name: str, gpu: GpuRange | None = None) -> Template:
    offer = Offer(cpu=Range(1, 1, 1), memory=Range(1, 1, 1), gpu=gpu or GpuRange())
    return Template(name=name, display_name=name, resources=offer)


def kernel(number: int, start: str | None) -> Kernel:
    return Kernel(
        kernel_id=str(number),
        owner="ada",
        template="a",
        resources=Resources(cpu=1, memory=1),
        created=NOW,
        start=start,  # type: ignore[arg-type]
    )


def pod(name: str, phase: PodPhase, **more: object) -> Pod:
    return Pod(
        name=name,
        uid=name,
        template="a",
        template_hash="",
        phase=phase,
        created=NOW,
        resources=Resources(cpu=100, memory=128 * MIB),
        **more,  # type: ignore[arg-type]
    )


def used(foresight: Foresight, count: int) -> None:
    for number in range(count):
        time = NOW + 30 * number
        foresight.saw_kernel(None, kernel(number, None), time)
        foresight.saw_kernel(kernel(number, None), kernel(number, "warm"), time)
        foresight.saw_kernel(kernel(number, "warm"), kernel(number, "warm"), time)


def test_a_start_counts_once_and_targets_follow() -> None:
    foresight = Foresight()
    used(foresight, 40)
    assert (foresight.demand["a"].hits, foresight.demand["a"].misses) == (40, 0)
    found = foresight.targets({"a": template("a")}, {}, LARGE, [], NOW + 1200)
    assert found["a"].size > 2
    fixed = foresight.targets({"a": template("a")}, {"a": 2}, LARGE, [], NOW + 1200)
    assert fixed["a"].size == 2


def test_refills_are_those_of_pods_that_became_warm() -> None:
    foresight = Foresight()
    young = pod("x", PodPhase.WARMING)
    foresight.saw_pod(young, replace(young, phase=PodPhase.WARM, warm_since=NOW + 7), NOW + 9)
    assert foresight.demand["a"].refill == 7


def test_pods_that_wait_are_no_use_of_the_quota() -> None:
    """Else the pool would be short of the room that it takes itself."""
    foresight = Foresight()
    used(foresight, 40)
    waiting = [pod(f"p{n}", PodPhase.WARM) for n in range(5)]
    full = replace(LARGE, total=Resources(cpu=600, memory=UNLIMITED))
    busy = replace(full, used=Resources(cpu=500, memory=640 * MIB))
    assert foresight.targets({"a": template("a")}, {}, busy, waiting, NOW + 1200)["a"].size == 1
    taken = replace(full, used=Resources(cpu=600, memory=640 * MIB))
    foresight = Foresight()
    used(foresight, 40)
    assert foresight.targets({"a": template("a")}, {}, taken, [], NOW + 1200)["a"].size == 0


def test_gpus_cost_where_warm_pods_hold_them() -> None:
    gpu = template("a", GpuRange(kinds=("big",), default=2, maximum=2))
    assert Foresight().cost(gpu, []) == {"pods": 1, "cpu": 100, "memory": 128 * MIB}
    assert Foresight(gives_gpus=True).cost(gpu, [])["big"] == 2
    held = replace(pod("x", PodPhase.WARM), resources=Resources(cpu=9, memory=8, gpu=Gpu("b", 1)))
    assert Foresight().cost(gpu, [held]) == {"pods": 1, "cpu": 9, "memory": 8, "b": 1}


def test_the_next_controller_knows_what_this_one_learnt() -> None:
    first = Foresight()
    used(first, 40)
    stored = json.loads(json.dumps(first.to_json(), allow_nan=False))
    second = Foresight()
    second.restore(stored, NOW + 1210)
    now = NOW + 1215
    templates = {"a": template("a")}
    assert (
        second.targets(templates, {}, LARGE, [], now)["a"].size
        == first.targets(templates, {}, LARGE, [], now)["a"].size
    )
    # What has watched for longer is not replaced by what has not, nor by nonsense.
    second.restore(Foresight().to_json(), now)
    second.restore({"a": {"version": 1, "born": now}, "b": "?"}, now)
    assert second.demand["a"].hits == 40


def test_templates_that_come_and_go_do_not_add_up_for_ever() -> None:
    foresight = Foresight()
    for number in range(300):
        name = f"t{number}"
        foresight.targets({name: template(name)}, {}, LARGE, [], NOW + number)
    assert len(foresight.demand) <= 200
