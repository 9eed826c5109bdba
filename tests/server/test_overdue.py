"""Sizes that a vanished server left open: when somebody looks after them, and what is written."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace
from traitlets.config import Config

from jupyter_elastic.errors import AgentUnreachable, Conflict, ElasticError, NoNodeFits
from jupyter_elastic.kernels import overdue
from jupyter_elastic.kernels import service as service_module
from jupyter_elastic.kernels.overdue import look_after_size, outcome, overdue_at
from jupyter_elastic.kernels.service import ElasticService
from jupyter_elastic.kernels.standalone import make_service
from jupyter_elastic.model import Kernel, KernelPhase, Pod, Resize
from jupyter_elastic.resources import GIB, Resources

from ..api.memory import MemoryCluster

SMALL, LARGE = Resources(cpu=1000, memory=GIB), Resources(cpu=2000, memory=2 * GIB)
ID = "00000000-0000-4000-8000-000000000000"


def begun(**fields: Any) -> Kernel:
    """A kernel in the middle of a resize from small."""
    kernel = Kernel(
        kernel_id=ID,
        owner="me",
        template="small",
        resources=SMALL,
        actual=SMALL,
        phase=KernelPhase.RUNNING,
        created=1.0,
        deadline=121.0,
        resize=Resize(state="InProgress", message="Changing.", time=1000.0),
    )
    return replace(kernel, **fields)


def test_when_a_size_is_overdue() -> None:
    assert overdue_at(begun(), settles_later=False) == 1000 + overdue.RESIZE_PATIENCE
    for state in ("Done", "Refused"):
        ended = begun(resize=Resize(state=state, time=1000.0))
        assert overdue_at(ended, settles_later=True) is None
    assert overdue_at(begun(phase=KernelPhase.MOVING), settles_later=True) is None
    # A start whose size was accepted and not yet seen in force.
    assert overdue_at(begun(resize=None), settles_later=True) == 121.0
    assert overdue_at(begun(resize=None), settles_later=False) is None


def test_what_is_in_force_is_what_is_written() -> None:
    done = outcome(begun(), LARGE, None, 5000.0)
    assert (done.resources, done.actual) == (LARGE, LARGE)
    assert done.resize is not None
    assert (done.resize.state, done.resize.time) == ("Done", 5000.0)

    lost = outcome(begun(), SMALL, None, 5000.0)
    assert lost.resize is not None
    assert (lost.resize.state, lost.resize.reason) == ("Refused", "ResizerLost")

    refused = outcome(begun(resize=None), SMALL, NoNodeFits("The node is full."), 5000.0)
    assert refused.resize is not None
    assert (refused.resize.state, refused.resize.reason) == ("Refused", "NoNodeFits")
    assert refused.actual == SMALL

    settled = begun(resize=None)
    assert outcome(settled, SMALL, None, 5000.0) is settled


class Answers(MemoryCluster):
    """Answers the question whether a size is in force as told, one answer after the other."""

    settles_later = True

    def __init__(self, *answers: ElasticError | None) -> None:
        super().__init__()
        self.answers = list(answers)

    async def resize_pod(
        self, pod: Pod, resources: Resources, *, wait: bool = True, tell: Any = None
    ) -> Pod:
        assert wait
        assert resources == pod.resources  # asked, and not changed
        answer = self.answers.pop(0)
        if answer is not None:
            raise answer
        return pod


def settle(monkeypatch: pytest.MonkeyPatch, cluster: Answers, kernel: Kernel) -> Kernel:
    """The record after its size was looked after."""
    monkeypatch.setattr(service_module, "make_cluster", lambda *_: cluster)
    monkeypatch.setattr(overdue, "FIRST_PAUSE", 0.001)
    template = {"name": "small", "resources": {"cpu": 1, "memory": "1Gi"}}
    service: ElasticService = make_service(Config({"ElasticKernels": {"templates": [template]}}))
    service.templates.refresh()

    async def scenario() -> None:
        pod = await cluster.create_pod(service.template("small"), kernel=kernel)
        cluster.put_kernel(replace(kernel, pod=pod.name))
        await look_after_size(service, kernel.kernel_id)

    asyncio.run(scenario())
    return cluster.kernels()[kernel.kernel_id]


def test_a_cluster_out_of_reach_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    away = AgentUnreachable("No answer.")
    cluster = Answers(away, away, None)
    kernel = settle(monkeypatch, cluster, begun())
    assert kernel.resize is not None
    assert kernel.resize.state == "Refused"
    assert cluster.answers == []


def test_one_out_of_reach_for_good_is_given_up_and_nothing_claimed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(overdue, "LONGEST_PAUSE", 0.001)
    cluster = Answers(*(AgentUnreachable("No answer.") for _ in range(100)))
    with pytest.raises(AgentUnreachable):
        settle(monkeypatch, cluster, begun())
    assert cluster.kernels()[ID].resize == begun().resize
    assert len(cluster.answers) == 100 - 1 - overdue.TRIES


def test_a_start_whose_size_never_came_into_force_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = settle(monkeypatch, Answers(NoNodeFits("The node is full.")), begun(resize=None))
    assert kernel.resize is not None
    assert (kernel.resize.state, kernel.resize.reason) == ("Refused", "NoNodeFits")
    assert "The node is full." in kernel.resize.message


def test_somebody_who_resizes_now_has_the_last_word(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = settle(monkeypatch, Answers(Conflict("Somebody resized.")), begun())
    assert kernel.resize == begun().resize
