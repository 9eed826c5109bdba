"""The life of kernels on a real kubelet: servers, agents, pods and kernels that end, or are ended.

What is lost, what is not, and what the user is told; over REST and a notebook's websocket.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

import pytest

from benchmarks.server import Channel
from jupyter_elastic.agent import processes

from ..server.tools import Cell
from ..testcluster.world import Kube
from .served import RESOURCES, Served, own, served, server_on

pytestmark = pytest.mark.fault

IDLE = 6.0
"""Seconds after which the template ``brief`` ends an idle kernel."""
OFFERS = {
    "work": {"pool": 2, "resources": RESOURCES},
    "brief": {"pool": 0, "resources": RESOURCES, "idle": {"cullAfter": IDLE}},
}
OWNER = "c.ElasticKernels.owner = 'ada'\n"
ENDLESS = "print('begun'); import time; time.sleep(600)"


@pytest.fixture(scope="module")
def server(kube: Kube) -> Iterator[Served]:
    with served(kube, OWNER, offers=OFFERS) as running:
        yield running
        running.assert_nothing_runs()


@pytest.fixture
def world(server: Served) -> Iterator[Served]:
    yield server
    server.stop_all()


def begun(world: Served, kernel_id: str, code: str = ENDLESS) -> tuple[Channel, Cell]:
    """A cell that is running."""

    async def work() -> tuple[Channel, Cell]:
        channel = await world.server.connect(kernel_id)
        cell = Cell(channel, code)
        await cell.prints("begun")
        return channel, cell

    return world.run(work())


def has(world: Served, kernel_id: str, name: str) -> bool:
    return world.execute(kernel_id, f"{name!r} in globals()") == "True"


# -- servers ----------------------------------------------------------------------------------


def test_a_server_killed_in_a_cell_loses_nothing(world: Served) -> None:
    """SIGKILL; the next one on the same namespace has the kernel, its cell and its session."""
    world.warm("work")
    path = world.notebook("a.ipynb")
    session = world.post("/api/sessions", world.session(path, {"name": "work"}))
    kernel_id = session["kernel"]["id"]
    world.execute(kernel_id, "kept = 41; kept")
    begun(world, kernel_id, "import time; print('begun'); time.sleep(6); kept += 1")

    world.again(OWNER, signal.SIGKILL)

    [found] = world.get("/api/sessions")
    assert found["id"] == session["id"]
    assert found["path"] == path
    assert found["kernel"]["id"] == kernel_id
    assert world.execute(kernel_id, "kept") == "42", "it waits for the cell that ran on"
    view = world.elastic(kernel_id)
    assert (view["phase"], view["restarts"], view["attached"]) == ("Running", 0, True)
    world.delete(f"/api/sessions/{session['id']}")
    assert world.get("/elastic/api/kernels")["kernels"] == []


def test_a_clean_stop_leaves_kernels(world: Served) -> None:
    kernel_id = world.start()
    world.execute(kernel_id, "kept = 7; kept")
    pod = world.elastic(kernel_id)["pod"]
    world.again(OWNER)
    assert world.execute(kernel_id, "kept") == "7"
    assert world.elastic(kernel_id)["pod"] == pod


def test_two_servers_of_one_owner_share_a_kernel(world: Served) -> None:
    home = world.home / "second"
    home.mkdir()
    with server_on(world.desk, OWNER, home=home) as second:
        session = world.post("/api/sessions", world.session("b.ipynb", {"name": "work"}))
        kernel_id = session["kernel"]["id"]
        second.until(
            lambda: [one["id"] for one in second.get("/api/sessions")] == [session["id"]],
            "the session in the second server",
        )
        assert world.execute(kernel_id, "x = 5; x") == "5"
        assert second.execute(kernel_id, "x + 1") == "6"
        second.resize(kernel_id, memory="300Mi")
        world.until(
            lambda: world.elastic(kernel_id)["actual"]["memory"] == "300Mi", "the size in the first"
        )
        # A restart by one is told to the other's browser.
        _, cell = begun(second, kernel_id)
        world.post(f"/api/kernels/{kernel_id}/restart")
        second.run(cell.status("restarting"))
        assert not has(second, kernel_id, "x")
        second.delete(f"/api/kernels/{kernel_id}")
        world.until(lambda: world.get("/api/kernels") == [], "the kernel gone in the first")
        world.until(lambda: world.get("/api/sessions") == [], "its session gone")


# -- what is killed ------------------------------------------------------------------------------


def test_a_pod_deleted_by_hand_is_told_and_a_restart_gives_another(world: Served) -> None:
    """As ``kubectl delete pod``."""
    kernel_id = world.start()
    pod = world.elastic(kernel_id)["pod"]
    _, cell = begun(world, kernel_id)
    namespace = world.desk.namespace
    world.desk.kube.admin.delete(f"/api/v1/namespaces/{namespace}/pods/{pod}")
    world.run(cell.status("dead"))
    assert "deleted" in cell.output, "the cell says why"
    view = world.phase(kernel_id, "Failed")
    assert view["reason"] == "Deleted"
    assert view["message"]
    assert view["execution_state"] == "dead"
    world.post(f"/api/kernels/{kernel_id}/restart")
    again = world.phase(kernel_id, "Running")
    assert again["pod"] != pod
    assert world.execute(kernel_id, "6 * 7") == "42"


def test_everything_killed_comes_back_then_moves(world: Served) -> None:
    """What a container out of memory is, with its limits enforced for it as a whole."""
    own(world.desk.kube)
    world.warm("work")
    kernel_id = world.start()
    pod = world.elastic(kernel_id)["pod"]

    def back_in(pod: str, restarts: int) -> Any:
        view = world.elastic(kernel_id)
        there = (view["phase"], view["pod"], view["restarts"]) == ("Running", pod, restarts)
        return view if there else None

    _, cell = begun(world, kernel_id, f"x = 1; {ENDLESS}")
    world.kill_all(kernel_id)
    world.run(cell.status("restarting"))
    assert "Everything in the pod was killed" in cell.output, cell.output
    assert not has(world, kernel_id, "x")
    back = world.until(lambda: back_in(pod, 1), "the record says that it is back")
    assert back["reason"] == "ContainerKilled"

    world.warm("work")
    _, cell = begun(world, kernel_id)
    world.kill_all(kernel_id)
    world.run(cell.status("restarting", 100))

    def moved() -> Any:
        view = world.elastic(kernel_id)
        there = view["phase"] == "Running" and view["pod"] != pod
        return view if there and view["restarts"] > 1 else None

    view = world.until(moved, "the kernel is in another pod", 100)
    assert view["restarts"] == 2
    assert world.execute(kernel_id, "6 * 7") == "42"
    world.until(lambda: len(world.pods_of(kernel_id)) == 1, "the first pod is gone")

    # The third time, and the first in this pod: there it comes back in place.
    second = view["pod"]
    _, cell = begun(world, kernel_id)
    world.kill_all(kernel_id)
    world.run(cell.status("restarting"))
    world.until(lambda: back_in(second, 3), "the kernel is back in its second pod")
    assert world.execute(kernel_id, "6 * 7") == "42"
    world.until(lambda: len(world.pods_of(kernel_id)) == 1, "it has no other pod")


def test_an_agent_killed_ends_the_pod_and_says_so(world: Served) -> None:
    own(world.desk.kube)
    kernel_id = world.start()
    pod = world.elastic(kernel_id)["pod"]
    _, cell = begun(world, kernel_id)
    processes.kill([world.agent_of(kernel_id)])
    world.run(cell.status("dead"))
    assert "agent" in cell.output, "the cell says why"
    view = world.phase(kernel_id, "Failed")
    assert view["reason"] == "AgentLost"
    assert "variables are lost" in view["message"]
    world.post(f"/api/kernels/{kernel_id}/restart")
    assert world.phase(kernel_id, "Running")["pod"] != pod
    assert world.execute(kernel_id, "6 * 7") == "42"


def test_out_of_memory_is_told_and_a_raise_helps(world: Served) -> None:
    world.warm("work")
    kernel_id = world.start(resources={"memory": "128Mi"})
    pod = world.elastic(kernel_id)["pod"]

    def limited() -> bool:
        usage = world.get(f"/elastic/api/kernels/{kernel_id}/usage")
        return bool(usage["memory_limit"] == 128 * 2**20)

    world.until(limited, "the size is in force")
    code = "block = bytearray(400 * 2**20); print('passed', len(block))"

    async def over() -> str:
        cell = Cell(await world.server.connect(kernel_id), code)
        await cell.status("restarting")
        return cell.output

    said = world.run(over())
    assert "128 MiB" in said, "its limit"
    assert "peak" in said, said
    view = world.elastic(kernel_id)
    assert (view["phase"], view["pod"]) == ("Running", pod), "the kernel is back in place"
    assert world.execute(kernel_id, "6 * 7") == "42"
    world.until(lambda: world.elastic(kernel_id)["reason"] == "OutOfMemory", "the record says why")
    world.resize(kernel_id, memory="600Mi")

    async def under() -> None:
        cell = Cell(await world.server.connect(kernel_id), code)
        await cell.prints(f"passed {400 * 2**20}")

    world.run(under())


# -- what its user does -----------------------------------------------------------------------


def test_interrupt_and_restart_keep_pod_and_ports(world: Served) -> None:
    world.warm("work")
    kernel_id = world.start()
    pod = world.elastic(kernel_id)["pod"]
    channel, cell = begun(world, kernel_id, f"x = 1; {ENDLESS}")
    file = world.home / "runtime" / f"kernel-{kernel_id}.json"
    before = file.read_text()

    async def interrupted() -> str:
        await world.server.request("POST", f"/api/kernels/{kernel_id}/interrupt", {})
        return str((await cell.done())["content"]["ename"])

    assert world.run(interrupted()) == "KeyboardInterrupt"
    assert world.execute(kernel_id, "x") == "1"
    channel.close()
    world.post(f"/api/kernels/{kernel_id}/restart")
    assert not has(world, kernel_id, "x")
    assert world.elastic(kernel_id)["pod"] == pod
    assert file.read_text() == before, "the same pod, ports and keys"
    [status] = world.pod_of(kernel_id)["status"]["containerStatuses"]
    assert status["restartCount"] == 0


def test_an_idle_kernel_ends_by_its_template(world: Served) -> None:
    session = world.post("/api/sessions", world.session("c.ipynb", {"name": "brief"}))
    kernel_id = session["kernel"]["id"]
    assert world.execute(kernel_id, "1 + 1") == "2"
    world.until(lambda: world.get("/api/kernels") == [], "the kernel ended")
    world.until(lambda: world.get("/api/sessions") == [], "its session gone")
    world.until(lambda: world.desk.kernels() == [], "its record gone")
    world.until(lambda: not world.pods_of(kernel_id), "its pod gone")
    problem = world.problem("GET", f"/elastic/api/kernels/{kernel_id}")
    assert problem["reason"] == "UnknownKernel"


def test_a_kernel_deleted_as_an_object_is_told(world: Served) -> None:
    """As ``kubectl delete kernel``, in the middle of a cell."""
    kernel_id = world.start()
    _, cell = begun(world, kernel_id)
    world.desk.end(kernel_id)
    world.run(cell.status("dead"))
    assert "stopped" in cell.output, cell.output
    world.until(lambda: world.get("/api/kernels") == [], "it is gone")
    world.until(lambda: not world.pods_of(kernel_id), "its pod is gone")


# -- what its admin does ----------------------------------------------------------------------


def specs(world: Served) -> dict[str, str]:
    """Names that Jupyter offers, with what they show."""
    found = world.get("/api/kernelspecs")["kernelspecs"]
    return {name: one["spec"]["display_name"] for name, one in found.items()}


def test_templates_come_change_and_go_while_servers_run(world: Served) -> None:
    desk = world.desk
    desk.offer("late", pool=0, displayName="Late")
    world.until(lambda: specs(world).get("late") == "Late", "it is offered")
    desk.change("late", {"displayName": "Later", "preload": ["json"]})
    world.until(lambda: specs(world).get("late") == "Later", "it has changed")
    assert world.get("/elastic/api/templates/late")["preload"] == ["json"]
    desk.withdraw("late")
    world.until(lambda: "late" not in specs(world), "it is gone")
    problem = world.problem("POST", "/elastic/api/kernels", {"template": "late"})
    assert problem["reason"] == "UnknownTemplate"
    assert "work" in problem["remedy"], "what there is instead"


def test_a_template_that_breaks_is_reported_and_stays_as_it_was(world: Served) -> None:
    desk = world.desk
    with world.offered("fragile", pool=0, displayName="Fragile", resources=RESOURCES):
        # What the API server lets pass, and a pod could not be made of.
        pod = {"priorityClassName": "Not a name!"}
        desk.change("fragile", {"displayName": "Broken", "pod": pod})

        def problems() -> list[Any]:
            found: list[Any] = world.get("/elastic/api/templates")["problems"]
            return found

        [problem] = world.until(problems, "it is reported")
        assert problem["reason"] == "BadTemplate"
        assert problem["field"] == "spec.pod.priorityClassName"
        assert "fragile" in problem["title"]
        assert desk.namespace in problem["title"]
        assert specs(world)["fragile"] == "Fragile"
        kernel_id = world.start("fragile")
        assert world.execute(kernel_id, "6 * 7") == "42"
        desk.change("fragile", {"displayName": "Mended", "pod": {"priorityClassName": None}})
        world.until(lambda: specs(world)["fragile"] == "Mended", "the mended form is offered")
        world.until(lambda: problems() == [], "nothing is wrong any more")
    world.until(lambda: "fragile" not in specs(world), "it is gone")
