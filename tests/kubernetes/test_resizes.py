"""The state machine of a resize against a real kubelet: what it says is what happened."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from jupyter_elastic.agent import processes
from jupyter_elastic.cluster.kubernetes.facts import amounts
from jupyter_elastic.cluster.kubernetes.objects import EventObject, PodObject
from jupyter_elastic.cluster.kubernetes.resize import (
    Accepted,
    Action,
    Finish,
    GiveUp,
    Policy,
    Refused,
    Report,
    Resizing,
    Revert,
    Seen,
    Size,
    State,
    Tick,
)
from jupyter_elastic.cluster.kubernetes.resize_status import in_force, size_of
from jupyter_elastic.errors import (
    BadRequest,
    ElasticError,
    NoNodeFits,
    ResizeLost,
    ShrinkUnderUse,
)
from jupyter_elastic.resources import GIB, MIB

from ..testcluster.api import MERGE, ApiFailure, until
from ..testcluster.world import Kube

STRATEGIC = MERGE.replace("merge-patch", "strategic-merge-patch")
SLEEP = ["sleep", "3600"]
PATIENT = Policy(deferred_grace=90, in_progress_grace=90)
SMALL = Size(cpu_request=20, cpu_limit=500, memory_request=128 * MIB, memory_limit=128 * MIB)


class Node:
    """Pods of one namespace, and resizes of them that are carried out."""

    def __init__(self, kube: Kube, namespace: str) -> None:
        self.kube = kube
        self.api = kube.admin
        self.path = f"/api/v1/namespaces/{namespace}"
        self.reports: list[State] = []

    def make(self, name: str, command: list[str], size: Size = SMALL, **spec: Any) -> None:
        container = {
            "name": "kernel",
            "image": self.kube.image,
            "imagePullPolicy": "IfNotPresent",
            "command": command,
            "resources": resources(size),
            "volumeMounts": self.kube.mounts,
            "resizePolicy": [
                {"resourceName": one, "restartPolicy": "NotRequired"} for one in ("cpu", "memory")
            ],
        }
        body = {
            "metadata": {"name": name},
            "spec": {
                "containers": [container],
                "volumes": self.kube.volumes,
                "terminationGracePeriodSeconds": 1,
                **spec,
            },
        }
        self.api.post(f"{self.path}/pods", body)
        until(f"{name} runs", lambda: self.pod(name).status.phase == "Running")
        until(f"the kubelet tells {name}'s limits", lambda: in_force(self.pod(name)) == size)

    def pod(self, name: str) -> PodObject:
        return msgspec.convert(self.api.get(f"{self.path}/pods/{name}"), PodObject)

    def events(self, name: str) -> tuple[EventObject, ...]:
        found = self.api.get(f"{self.path}/events", fieldSelector=f"involvedObject.name={name}")
        return msgspec.convert(found["items"], tuple[EventObject, ...])

    def reported(self, uid: str) -> int:
        """Bytes that the kubelet says a pod uses; 0 before it says anything."""
        summary = self.api.get("/api/v1/nodes/node1/proxy/stats/summary")
        mine = (one for one in summary["pods"] if one["podRef"]["uid"] == uid)
        return max((one.get("memory", {}).get("usageBytes", 0) for one in mine), default=0)

    def patch(self, name: str, size: Size) -> Accepted | Refused:
        body = {"spec": {"containers": [{"name": "kernel", "resources": resources(size)}]}}
        try:
            answer = self.api.patch(f"{self.path}/pods/{name}/resize", body, STRATEGIC)
        except ApiFailure as error:
            return Refused(cause="patch", error=BadRequest(str(error)))
        return Accepted(cause="patch", generation=answer["metadata"]["generation"])

    def free(self) -> int:
        """Millicores of the real node that no pod has asked for."""
        total = int(self.api.get("/api/v1/nodes/node1")["status"]["allocatable"]["cpu"]) * 1000
        pods = self.api.get("/api/v1/pods", fieldSelector="spec.nodeName=node1")["items"]
        running = [msgspec.convert(one, PodObject) for one in pods]
        return total - sum(size_of(amounts(one)).cpu_request for one in running)

    def resize(
        self,
        name: str,
        size: Size,
        policy: Policy,
        meanwhile: Callable[[State], object] = lambda state: None,
    ) -> ElasticError | None:
        """Carry one out to its end; the error, or None when it is in force.

        ``meanwhile`` is called with each state that is reported.
        """
        machine = Resizing(self.pod(name), size, policy, time.monotonic())
        self.reports.clear()
        actions: list[Action] = list(machine.advance(self.patch(name, size), time.monotonic()))
        deadline = time.monotonic() + 200
        while time.monotonic() < deadline:
            for action in actions:
                if isinstance(action, Report):
                    self.reports.append(action.state)
                    meanwhile(action.state)
                if isinstance(action, Finish):
                    return None
                if isinstance(action, GiveUp):
                    return action.error
            answers = [self.patch(name, one.to) for one in actions if isinstance(one, Revert)]
            actions = []
            seen = Seen(cause="look", pod=self.pod(name), events=self.events(name))
            for event in (*answers, seen, Tick(cause="tick")):
                actions += machine.advance(event, time.monotonic())
            time.sleep(0.1)
        raise AssertionError(f"no end; so far: {machine.history}")


def resources(size: Size) -> dict[str, dict[str, str]]:
    return {
        "requests": {"cpu": f"{size.cpu_request}m", "memory": str(size.memory_request)},
        "limits": {"cpu": f"{size.cpu_limit}m", "memory": str(size.memory_limit)},
    }


def sized(cpu: int, memory: int) -> Size:
    return Size(cpu_request=cpu, cpu_limit=cpu + 50, memory_request=memory, memory_limit=memory)


@pytest.fixture
def node(kube: Kube) -> Iterator[Node]:
    if kube.cluster is None:
        pytest.skip("needs a node whose size is known")
    with kube.namespace() as name:
        yield Node(kube, name)


def test_growing_and_shrinking(node: Node) -> None:
    node.make("one", SLEEP)
    uid = node.pod("one").metadata.uid
    for size in (sized(40, 256 * MIB), sized(30, 192 * MIB)):
        assert node.resize("one", size, PATIENT) is None
        assert node.reports[-1] is State.DONE
        assert in_force(node.pod("one")) == size
        limits = node.kube.limits(uid)
        assert limits is not None
        assert limits.memory == size.memory_limit
    # Asking for the present size again is at its end at once.
    assert node.resize("one", sized(30, 192 * MIB), PATIENT) is None


def test_more_than_the_node_has_is_reverted(node: Node) -> None:
    node.make("one", SLEEP)
    for size in (sized(64_000, 128 * MIB), sized(20, 4096 * GIB)):
        error = node.resize("one", size, PATIENT)
        assert isinstance(error, NoNodeFits)
        assert "where the node has" in error.message
        assert node.reports[-3:] == [State.INFEASIBLE, State.REVERTING, State.REVERTED]
        assert size_of(amounts(node.pod("one"))) == SMALL
    assert node.resize("one", sized(30, 160 * MIB), PATIENT) is None


def test_what_is_not_free_now_is_reverted_or_used_when_it_is(node: Node) -> None:
    node.make("one", SLEEP)
    node.make("other", SLEEP, sized(node.free() - 300, 64 * MIB))
    most = sized(node.free() + 200, 128 * MIB)
    error = node.resize("one", most, Policy(deferred_grace=2, in_progress_grace=90))
    assert isinstance(error, NoNodeFits)
    assert "are free" in error.message
    assert node.reports[-3:] == [State.DEFERRED, State.REVERTING, State.REVERTED]
    assert size_of(amounts(node.pod("one"))) == SMALL
    node.api.delete(f"{node.path}/pods/other")
    assert node.resize("one", most, PATIENT) is None


def test_memory_in_use_is_refused_with_figures(node: Node) -> None:
    script = "x = b'x' * (150 * 2**20); import time; time.sleep(3600)"
    size = sized(20, 256 * MIB)
    node.make("one", [node.kube.python, "-S", "-c", script], size)
    uid = node.pod("one").metadata.uid
    until("it has the memory", lambda: used(node, uid) > 150 * MIB)
    until("the kubelet has a figure", lambda: node.reported(uid) > 150 * MIB)
    error = node.resize("one", sized(20, 64 * MIB), PATIENT)
    assert isinstance(error, ShrinkUnderUse)
    assert "64 MiB would be too little" in error.message
    least = re.search(r"at least (\d+) MiB", error.remedy)
    assert least, error.remedy
    assert 150 <= int(least[1]) < 256
    assert State.BLOCKED in node.reports
    until("the old size is back", lambda: in_force(node.pod("one")) == size)


def used(node: Node, uid: str) -> int:
    groups = node.kube.container_cgroup(uid)
    assert groups is not None
    for name in ("memory.usage_in_bytes", "memory.current"):
        if (file := groups["memory"] / name).exists():
            return int(file.read_text())
    return 0


def test_a_kernel_killed_meanwhile_is_said(node: Node) -> None:
    node.make("one", SLEEP)
    uid = node.pod("one").metadata.uid
    node.make("other", SLEEP, sized(node.free() - 300, 64 * MIB))

    def end_when_it_waits(state: State) -> None:
        if state is State.DEFERRED:
            processes.kill(node.kube.container_pids(uid) or [])

    most = sized(node.free() + 200, 128 * MIB)
    error = node.resize("one", most, PATIENT, end_when_it_waits)
    assert isinstance(error, ResizeLost)
    assert State.LOST in node.reports
    assert size_of(amounts(node.pod("one"))) == SMALL


def test_what_the_api_refuses_changes_nothing(node: Node) -> None:
    node.make("one", SLEEP)
    same = Size(cpu_request=70, cpu_limit=70, memory_request=MIB, memory_limit=MIB)
    assert isinstance(node.resize("one", same, PATIENT), BadRequest)  # another QoS class
    assert node.reports == [State.DENIED]
    assert size_of(amounts(node.pod("one"))) == SMALL
