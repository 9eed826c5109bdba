"""Faults of the cluster itself, each with a running cell: what lives on, and what is told.

Its API server, its kubelet, its storage's memory of versions, and its nodes; over REST and a
notebook's websocket. The server reaches the API through a gate that can refuse.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from benchmarks.server import Channel
from jupyter_elastic.cluster.kubernetes.shipped import disruption_budget

from ..server.tools import Cell
from ..testcluster.api import ApiFailure
from ..testcluster.certificates import NODE
from ..testcluster.world import Kube
from .desk import Desk, home_directory
from .gate import Gate, busy, expired, gate
from .served import RESOURCES, Served, own, server_on
from .world import install

pytestmark = [pytest.mark.fault, pytest.mark.timeout(400)]

DOWN = 30 if os.environ.get("JUPYTER_ELASTIC_SOAK") else 12
"""Seconds without an API server. A kubelet tries again only after about as long as it was away."""
TICK = 0.25
TICKS = f"""
import time
print("begun", flush=True)
for tick in range(10_000):
    print(f"<{{tick}}>", flush=True)
    time.sleep({TICK})
"""


@pytest.fixture(scope="module")
def desk(kube: Kube) -> Iterator[Desk]:
    install(kube)
    with kube.namespace() as namespace, home_directory() as home:
        desk = Desk(kube, namespace, home)
        desk.offer("work", pool=1, resources=RESOURCES)
        yield desk


@pytest.fixture(scope="module")
def server(desk: Desk) -> Iterator[Served]:
    with server_on(desk) as running:
        yield running
        running.assert_nothing_is_left()


@pytest.fixture
def world(server: Served) -> Iterator[Served]:
    yield server
    server.stop_all()
    server.assert_nothing_runs()


@pytest.fixture(scope="module")
def way(desk: Desk) -> Iterator[Gate]:
    with gate(desk.kubeconfig, desk.home / "gate.conf") as way:
        yield way


@pytest.fixture(scope="module")
def second(desk: Desk, way: Gate) -> Iterator[Served]:
    home = desk.home / "second"
    home.mkdir()
    with server_on(desk, home=home, kubeconfig=str(desk.home / "gate.conf")) as running:
        yield running


@pytest.fixture
def gated(second: Served, way: Gate) -> Iterator[Served]:
    """A server that reaches the API through the gate."""
    yield second
    way.refuse = lambda method, path, watch: None
    second.stop_all()
    second.assert_nothing_runs()


class Notebook:
    """A kernel with a variable and a cell that ticks until it is interrupted."""

    def __init__(self, world: Served) -> None:
        world.warm("work")
        self.world = world
        self.id = world.start()
        self.before = world.elastic(self.id)
        assert world.execute(self.id, "kept = 41; kept") == "41"
        self.channel, self.cell = world.run(self._begin())

    async def _begin(self) -> tuple[Channel, Cell]:
        channel = await self.world.server.connect(self.id)
        cell = Cell(channel, TICKS)
        await cell.prints("<0>")
        return channel, cell

    def ticks(self, more: int = 8) -> None:
        """Wait for output that is printed from now on."""
        self.world.run(self._ticks(more))

    async def _ticks(self, more: int) -> None:
        last = self.cell.output.count("<")
        # What waits on the way was printed before: the number of ticks is what counts.
        await self.cell.prints(f"<{last + more}>", 120)

    def lives(self) -> None:
        """The cell went on through it all; the kernel is whole, and can be resized."""
        world = self.world
        self.ticks(1)
        world.post(f"/api/kernels/{self.id}/interrupt")
        reply = world.run(self.cell.done())
        assert reply["content"]["ename"] == "KeyboardInterrupt"
        seen = [int(part.partition(">")[0]) for part in self.cell.output.split("<")[1:]]
        assert seen == list(range(len(seen))), "no output is lost"
        self.channel.close()
        assert world.resize(self.id, memory="300Mi")["resize"]["state"] == "Done"
        view = world.elastic(self.id)
        assert (view["phase"], view["restarts"]) == ("Running", 0)
        assert view["actual"]["memory"] == "300Mi"
        assert view["pod"] == self.before["pod"]
        assert world.execute(self.id, "kept + 1") == "42"
        assert len(world.pods_of(self.id)) == 1
        [record] = [one for one in world.desk.kernels() if one["metadata"]["name"] == self.id]
        assert record["status"]["phase"] == "Running"
        assert record["status"]["pod"] == view["pod"]
        self.offers_go_on()

    def is_resized_in_the_end(self) -> None:
        """A kubelet that was away may not look at its pods again for half a minute."""
        path = f"/elastic/api/kernels/{self.id}"

        def resized() -> bool:
            request = self.world.ask("PATCH", path, {"resources": {"memory": "280Mi"}})
            reply = self.world.run(request)
            if reply.status == 504:
                assert reply.json["reason"] == "ResizeStuck", reply
            return reply.status == 200

        self.world.until(resized, "the resize is enforced", 120)

    def offers_go_on(self) -> None:
        """The watches run again: what an admin does is seen."""
        with self.world.offered("later", pool=0, resources=RESOURCES):
            pass

    def told(self, reason: str, words: str, timeout: float = 60) -> None:
        """The cell ends with a sentence, the kernel is dead, and a restart gives another pod."""
        world = self.world
        world.run(self.cell.status("dead", timeout), timeout + 5)
        assert words in self.cell.output, self.cell.output
        view = world.phase(self.id, "Failed")
        assert view["reason"] == reason, view
        assert words in view["message"], view
        assert view["execution_state"] == "dead"
        world.until(lambda: world.pods_of(self.id) == [], "no pod is its any more")
        self.channel.close()

    def starts_again(self) -> None:
        """A restart gives the kernel another pod."""
        world = self.world
        world.post(f"/api/kernels/{self.id}/restart")
        again = world.phase(self.id, "Running", 120)
        assert again["pod"] != self.before["pod"]
        assert world.execute(self.id, "'kept' in globals()") == "False"
        assert [pod["metadata"]["name"] for pod in world.pods_of(self.id)] == [again["pod"]]


# -- what a kernel lives through ----------------------------------------------------------------


def test_the_api_server_is_down(world: Served) -> None:
    cluster = own(world.desk.kube)
    notebook = Notebook(world)
    with cluster.without("apiserver"):
        notebook.ticks(4)
        asked = world.meanwhile("POST", "/elastic/api/kernels", {"template": "work"})
        notebook.ticks(round(DOWN / TICK))
        assert world.elastic(notebook.id)["phase"] == "Running", "what was seen is still shown"
    reply = world.answer(asked)
    if reply.status == 202:  # it waited
        world.phase(reply.json["kernel_id"], "Running", 120)
    else:
        assert reply.json["reason"] == "ApiUnreachable", reply
    notebook.is_resized_in_the_end()
    notebook.lives()


def test_the_kubelet_is_restarted(world: Served) -> None:
    cluster = own(world.desk.kube)
    notebook = Notebook(world)
    with cluster.without("kubelet"):
        notebook.ticks()
    notebook.is_resized_in_the_end()
    notebook.lives()


# -- what takes the pod away --------------------------------------------------------------------


def test_an_eviction_is_told(world: Served) -> None:
    notebook = Notebook(world)
    world.desk.evict(notebook.before["pod"])
    notebook.told("Evicted", "evicted")
    notebook.starts_again()


def test_the_budget_keeps_a_kernel_until_somebody_uses_force(world: Served) -> None:
    """As ``kubectl drain``, first plain, then with ``--disable-eviction --force``."""
    desk, notebook = world.desk, Notebook(world)
    admin, pod = desk.kube.admin, notebook.before["pod"]
    budgets = f"/apis/policy/v1/namespaces/{desk.namespace}/poddisruptionbudgets"
    budget = yaml.safe_load(disruption_budget(desk.namespace))
    admin.post(budgets, budget)
    try:
        with pytest.raises(ApiFailure) as refused:
            desk.evict(pod)
        assert refused.value.code == 429
        notebook.ticks(2)
        admin.delete(f"/api/v1/namespaces/{desk.namespace}/pods/{pod}?gracePeriodSeconds=0")
        notebook.told("Deleted", "deleted")
    finally:
        admin.delete(f"{budgets}/{budget['metadata']['name']}")
    notebook.starts_again()


def test_the_node_is_removed(world: Served) -> None:
    cluster = own(world.desk.kube)
    notebook = Notebook(world)
    with cluster.without("kubelet"):
        world.desk.kube.admin.delete(f"/api/v1/nodes/{NODE}")
        notebook.told("NodeLost", "node does not exist any more", 120)
    notebook.starts_again()


# -- what the API answers, by another server -------------------------------------------------


def test_the_api_server_is_overloaded_for_ten_seconds(gated: Served, way: Gate) -> None:
    """429 with Retry-After to everything; a start and a resize wait and go on."""
    world, notebook = gated, Notebook(gated)
    way.refuse = lambda method, path, watch: busy(1)
    assert way.cut() > 2
    path = f"/elastic/api/kernels/{notebook.id}"
    asked = world.meanwhile("PATCH", path, {"resources": {"memory": "280Mi"}})
    notebook.ticks(40)
    assert {"kernels", "pods"} <= {path.split("/")[-1] for path in way.refused}
    assert not asked.done(), "it waits"
    way.refuse = lambda method, path, watch: None
    reply = world.answer(asked)
    assert reply.status == 200, reply
    assert reply.json["actual"]["memory"] == "280Mi"
    notebook.lives()


def test_watches_are_answered_410(gated: Served, way: Gate) -> None:
    """All at once, as after a long silence or a compaction: everything is read again."""
    notebook = Notebook(gated)
    told: set[str] = set()  # paths

    def once(method: str, path: str, watch: bool) -> Any:
        if watch and path not in told:
            told.add(path)
            return expired()
        return None

    way.refuse = once
    assert way.cut() > 2
    wanted = {"kernelpools", "kernels", "kerneltemplates", "pods", "resourcequotas"}
    gated.until(lambda: {path.split("/")[-1] for path in told} == wanted, "each watch was told")
    notebook.ticks()
    notebook.lives()
