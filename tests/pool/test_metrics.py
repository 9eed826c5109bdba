"""What Prometheus is told, and that dashboard and page speak of figures that exist."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from prometheus_client import REGISTRY, generate_latest

from jupyter_elastic import metrics
from jupyter_elastic.cluster.base import Change
from jupyter_elastic.model import Kernel, KernelPhase, Resize, Step
from jupyter_elastic.resources import GIB, Resources

from .test_reliability import Stage, staged

DOCS = Path(__file__).parents[2] / "docs"
NAME = re.compile(rf"{metrics.PREFIX}\w+")
SIZE = Resources(cpu=1000, memory=GIB)
STARTING = Kernel(
    kernel_id="k", owner="me", template="t", resources=SIZE, created=0, phase=KernelPhase.STARTING
)
CLAIMED = replace(STARTING, pod="p", start="warm")
RUNNING = replace(
    CLAIMED,
    phase=KernelPhase.RUNNING,
    steps=(Step(10, "queued"), Step(10.02, "claimed"), Step(10.25, "kernel-up")),
)


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"{metrics.PREFIX}{name}", labels) or 0.0


class Told:
    """Counts what a change adds."""

    def __init__(self, old: Kernel | None, new: Kernel | None) -> None:
        self.before = dict(self._all())
        metrics.count_kernel(Change(kind="kernel", name="k", old=old, new=new))
        self.added = {
            (name, *labels): after - self.before.get((name, *labels), 0.0)
            for (name, *labels), after in self._all()
            if after != self.before.get((name, *labels), 0.0)
        }

    def _all(self) -> Iterator[tuple[tuple[str, ...], float]]:
        for family in REGISTRY.collect():
            for sample in family.samples:
                if sample.name.startswith(f"{metrics.PREFIX}kernel") and "le" not in sample.labels:
                    name = sample.name.removeprefix(metrics.PREFIX)
                    if not name.endswith("_created"):
                        yield (name, *sorted(sample.labels.values())), sample.value


def test_a_warm_start_is_counted_once_with_its_times() -> None:
    assert not Told(None, STARTING).added
    assert Told(STARTING, CLAIMED).added == {("kernel_starts_total", "t", "warm"): 1}
    assert Told(CLAIMED, RUNNING).added == {
        ("kernel_start_seconds_count", "t", "warm"): 1,
        ("kernel_start_seconds_sum", "t", "warm"): pytest.approx(0.25),
        ("kernel_claim_seconds_count", "t"): 1,
        ("kernel_claim_seconds_sum", "t"): pytest.approx(0.02),
    }
    assert not Told(RUNNING, replace(RUNNING, name="renamed")).added
    assert not Told(RUNNING, None).added


def test_failures_and_resizes_are_counted_by_reason() -> None:
    failed = replace(STARTING, phase=KernelPhase.FAILED, reason="QuotaFull")
    assert Told(STARTING, failed).added == {("kernel_failures_total", "QuotaFull", "t"): 1}
    under_way = replace(RUNNING, resize=Resize(state="InProgress", time=1))
    refused = replace(RUNNING, resize=Resize(state="Refused", reason="NoNodeFits", time=2))
    assert not Told(RUNNING, under_way).added
    expected = {("kernel_resizes_total", "NoNodeFits", "refused"): 1}
    assert Told(under_way, refused).added == expected
    assert not Told(refused, replace(refused, name="renamed")).added


def test_what_people_write_into_records_makes_no_endless_series() -> None:
    for i in range(200):
        failed = replace(STARTING, phase=KernelPhase.FAILED, reason=f"Reason{i}")
        Told(STARTING, failed)
    failed = replace(STARTING, phase=KernelPhase.FAILED, reason="two words")
    Told(STARTING, failed)
    text = generate_latest(REGISTRY).decode()
    assert text.count(f"{metrics.PREFIX}kernel_failures_total{{") <= 60
    assert 'reason="(other)"' in text


@staged
async def test_only_who_keeps_the_pool_tells_of_it(stage: Stage) -> None:
    stage.world.offer("a", 3)
    for _ in range(2):
        stage.controller()
    await stage.until(lambda: stage.is_full(), 30)
    stage.world.claim("a")
    await stage.until(lambda: stage.is_full(), 30)
    await asyncio.sleep(10)  # the cache of who tells it, and the last report
    text = generate_latest(REGISTRY).decode()
    pods = [line for line in text.splitlines() if line.startswith(f"{metrics.PREFIX}pool_pods{{")]
    assert sorted(pods) == [
        'jupyter_elastic_pool_pods{phase="claimed",template="a"} 1.0',
        'jupyter_elastic_pool_pods{phase="warm",template="a"} 3.0',
    ]
    assert value("pool_target_pods", template="a") == 3
    assert value("quota_cores", state="total") - value("quota_cores", state="used") == 2.6
    assert value("pool_creations_total", template="a", outcome="created") >= 4


@staged
async def test_several_pools_of_a_process_are_told_apart(stage: Stage) -> None:
    stage.world.offer("a", 3)
    controller = stage.controller()
    controller.namespace = "team"
    await stage.until(lambda: stage.is_full(), 30)
    assert value("pool_pods", template="a", phase="warm", namespace="team") == 3
    assert value("pool_leader", lease="pool", namespace="team") == 1
    assert not value("pool_pods", template="a", phase="warm")


def test_owners_are_named_up_to_the_number_that_is_allowed() -> None:
    owners = ["ann"] * 3 + ["bob"] * 2 + ["eve", "joe"]
    assert list(metrics._owners(owners, 2)) == [("ann", 3), ("bob", 2), ("(others)", 2)]
    assert list(metrics._owners(owners, 0)) == []


def expressions(found: Any) -> Iterator[str]:
    if isinstance(found, dict):
        for key, one in found.items():
            if key == "expr":
                yield one
            yield from expressions(one)
    elif isinstance(found, list):
        for one in found:
            yield from expressions(one)


def test_the_dashboard_shows_figures_that_exist() -> None:
    dashboard = json.loads((DOCS / "grafana-dashboard.json").read_text("utf-8"))
    used = {name for text in expressions(dashboard) for name in NAME.findall(text)}
    assert used
    assert used <= metrics.names()


def test_the_page_names_every_figure_and_no_other() -> None:
    page = (DOCS / "metrics.md").read_text("utf-8")
    named = set(NAME.findall(page))
    families = {re.sub(r"_(bucket|count|sum)$", "", name) for name in metrics.names()}
    assert named == families
