"""Resizes on a real kubelet, as their user sees them; the rows of what a kubelet can answer.

Whatever the answer, the kernel's variables stay, and after a refusal its limits are as before.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from benchmarks.server import Channel
from jupyter_elastic.cluster.kubernetes.manifests import CPU_OVERHEAD

from ..server.tools import Cell
from ..testcluster.api import until
from ..testcluster.world import Kube
from .desk import KERNELS
from .served import RESOURCES, Served, own, served, server_on

MIB, GIB = 2**20, 2**30
GRACE = 10.0
"""Seconds for which a resize may wait for room: within them a test sees that it waits."""
GPU = "nvidia.com/gpu"
OFFERS = {
    "work": {"pool": 1, "resources": RESOURCES},
    "gpu": {
        "pool": 0,
        "resources": {**RESOURCES, "gpu": {"kinds": [GPU], "maximum": 2}},
    },
}


@pytest.fixture(scope="module")
def server(kube: Kube) -> Iterator[Served]:
    with served(kube, offers=OFFERS, deferred_grace=GRACE) as running:
        yield running
        running.assert_nothing_runs()


@pytest.fixture
def world(server: Served) -> Iterator[Served]:
    yield server
    server.stop_all()


class Subject:
    """A kernel with a variable, and all that must be as before when a resize is refused."""

    def __init__(self, world: Served, template: str = "work", **resources: Any) -> None:
        self.world = world
        self.id = world.start(template, resources=resources)
        assert world.execute(self.id, "kept = 41; kept + 1") == "42"
        world.until(self._settled, "the size is in force")
        self.before = self.state()

    def state(self) -> dict[str, Any]:
        """The kernel's size to its user, to the API server and to the machine."""
        view = self.world.elastic(self.id)
        pod = self.world.desk.pod(view["pod"])
        [container] = pod["spec"]["containers"]
        return {
            "resources": view["resources"],
            "actual": view["actual"],
            "pod": view["pod"],
            "spec": container["resources"],
            "limits": self.world.desk.kube.limits(pod["metadata"]["uid"]),
            "restarts": pod["status"]["containerStatuses"][0]["restartCount"],
        }

    def _settled(self) -> bool:
        """Whether the size that was claimed is in force, which takes a moment."""
        state = self.state()
        memory = int(state["spec"]["limits"]["memory"])
        return state["limits"] is None or state["limits"].memory == memory

    def assert_as_before(self) -> None:
        """Nothing is changed in the end, and the kernel still has its variables."""
        with contextlib.suppress(AssertionError):  # the next line says what differs
            self.world.until(lambda: self.state() == self.before, "all is as before")
        assert self.state() == self.before
        assert self.world.execute(self.id, "kept") == "41"


@pytest.fixture(scope="module")
def kernel(server: Served) -> Subject:
    """For the tests of refusals, which come first and leave it as it is."""
    return Subject(server)


def waits(world: Served, kernel_id: str) -> bool:
    """Whether the kernel's record says that a resize waits for room on the node."""
    resize = world.elastic(kernel_id)["resize"] or {"state": ""}
    return bool(resize["state"] == "InProgress" and "no room" in resize["message"])


def test_more_than_the_node_has(server: Served, kernel: Subject) -> None:
    problem = server.refuses(kernel.id, cpu="100")
    assert problem["reason"] == "NoNodeFits"
    assert "100 CPU" in problem["title"], problem
    assert "the node has" in problem["title"]
    assert "start a new kernel" in problem["remedy"]
    kernel.assert_as_before()


def test_more_than_the_node_has_free_now(server: Served, kernel: Subject) -> None:
    path = f"/elastic/api/kernels/{kernel.id}"
    with server.desk.crowded(free=3 * GIB):
        request = server.meanwhile("PATCH", path, {"resources": {"memory": "8Gi"}})

        server.until(lambda: waits(server, kernel.id), "the user sees what the resize waits for")
        assert server.execute(kernel.id, "kept") == "41", "the kernel works meanwhile"
        problem = server.answer(request).json
    assert problem["reason"] == "NoNodeFits", problem
    assert "8" in problem["title"], problem
    assert f"Nothing became free within {GRACE:.0f} s" in problem["title"]
    resize = server.elastic(kernel.id)["resize"]
    assert (resize["state"], resize["message"]) == ("Refused", problem["detail"])
    kernel.assert_as_before()


def test_growth_beyond_the_limit_range(server: Served, kernel: Subject) -> None:
    desk = server.desk
    desk.kube.limit_range(desk.namespace, {"type": "Container", "max": {"memory": "1Gi"}})
    until("the range holds", lambda: not desk.admits(memory="2Gi"))
    try:
        problem = server.refuses(kernel.id, memory="2Gi")
    finally:
        desk.remove("limitranges/limits")
    assert problem["reason"] == "LimitRangeRefused"
    assert "at most 1 GiB" in problem["title"]
    kernel.assert_as_before()


def test_without_the_right_to_resize(server: Served, kernel: Subject) -> None:
    with server.without("pods/resize", "patch"):
        problem = server.refuses(kernel.id, memory="300Mi")
    assert problem["reason"] == "Forbidden"
    assert "may not patch pods/resize" in problem["title"]
    assert "`patch` on `pods/resize`" in problem["remedy"]
    kernel.assert_as_before()


def has_cpu(world: Served, uid: str, millicores: int) -> bool:
    """Whether the machine lets a pod have so much."""
    limits = world.desk.kube.limits(uid)
    return limits is not None and limits.cpu == millicores


def test_up_and_down_in_place_while_a_cell_runs(world: Served) -> None:
    world.warm("work")
    kernel_id = world.start()
    pod = world.pod_of(kernel_id)
    uid = pod["metadata"]["uid"]
    overhead = int(pod["metadata"]["annotations"]["elastic.jupyter.org/overhead"])

    async def begin() -> tuple[Channel, Cell]:
        channel = await world.server.connect(kernel_id)
        assert await channel.execute("kept = 1; kept") == "1"
        cell = Cell(channel, "import time\nprint('begun')\nwhile kept < 60: time.sleep(.1)")
        await cell.prints("begun")
        return channel, cell

    channel, cell = world.run(begin())
    for memory, cpu, size, millis in (
        ("512Mi", "500m", 512 * MIB, 500),
        ("192Mi", "200m", 192 * MIB, 200),
    ):
        view = world.resize(kernel_id, memory=memory, cpu=cpu)
        assert view["resize"]["state"] == "Done"
        assert view["actual"] == view["resources"]
        assert (view["actual"]["memory"], view["actual"]["cpu"]) == (memory, cpu)
        limits = world.desk.kube.limits(uid)
        if limits is not None:
            assert limits.memory == size + overhead, "as the agent has seen before it was Done"
            wanted = millis + CPU_OVERHEAD
            holds = partial(has_cpu, world, uid, wanted)
            world.until(holds, f"{wanted}m CPU in force")
        usage = world.get(f"/elastic/api/kernels/{kernel_id}/usage")
        assert usage["memory_limit"] == size
    pod = world.pod_of(kernel_id)
    assert pod["metadata"]["uid"] == uid
    assert pod["status"]["containerStatuses"][0]["restartCount"] == 0

    async def end() -> None:
        await world.server.request("POST", f"/api/kernels/{kernel_id}/interrupt", {})
        assert (await cell.done())["content"]["status"] == "error"
        assert await channel.execute("kept") == "1"
        channel.close()

    world.run(end())
    assert world.elastic(kernel_id)["restarts"] == 0


def test_a_refusal_right_after_the_claim_leaves_the_size_that_was_claimed(world: Served) -> None:
    """Once it left the warm pod's size, for the claim's own was not in force yet."""
    world.warm("work")
    kernel_id = world.start()
    claimed = world.pod_of(kernel_id)["spec"]["containers"][0]["resources"]
    world.refuses(kernel_id, cpu="100")
    assert world.pod_of(kernel_id)["spec"]["containers"][0]["resources"] == claimed

    def settled() -> bool:
        view = world.elastic(kernel_id)
        return bool(view["actual"] == view["resources"])

    world.until(settled, "the size that was claimed is in force")


def test_room_that_appears_is_taken(server: Served) -> None:
    """By a server that waits for it as long as it takes."""
    home = server.home / "patient"
    home.mkdir()
    config = "c.ElasticKernels.owner = 'patient'\nc.ElasticKernels.keep_pool = False\n"
    with server_on(server.desk, config, home=home, deferred_grace=90.0) as world:
        kernel = Subject(world)
        path = f"/elastic/api/kernels/{kernel.id}"
        with world.desk.crowded(free=3 * GIB) as end:
            request = world.meanwhile("PATCH", path, {"resources": {"memory": "8Gi"}})
            world.until(lambda: waits(world, kernel.id), "it waits")
            end()
            reply = world.answer(request)
        assert reply.status == 200, reply
        assert reply.json["actual"]["memory"] == "8Gi"
        assert reply.json["resize"]["state"] == "Done"
        assert world.execute(kernel.id, "kept") == "41"
        world.stop_all()


def test_less_memory_than_is_in_use(world: Served) -> None:
    kernel = Subject(world, memory="512Mi")
    world.execute(kernel.id, f"block = bytearray({200 * MIB}); len(block)")
    problem = world.refuses(kernel.id, memory="128Mi")
    assert problem["reason"] == "ShrinkUnderUse"
    assert "128 MiB would be too little" in problem["title"]
    assert "Choose at least" in problem["remedy"]
    kernel.assert_as_before()
    least = problem["remedy"].split("at least ")[1].split(" MiB")[0]
    view = world.resize(kernel.id, memory=f"{int(least) + 64}Mi")
    assert view["resize"]["state"] == "Done", "the remedy works"


def test_growth_beyond_the_quota(world: Served) -> None:
    desk = world.desk
    with world.emptied("work"):
        kernel = Subject(world)
        desk.kube.quota(desk.namespace, {"requests.memory": "1Gi"})
        try:
            problem = world.refuses(kernel.id, memory="4Gi")
            assert problem["reason"] == "QuotaFull"
            assert problem["retry"]
            assert re.search(r"3\.\d GiB more asked", problem["title"]), problem
            assert "of 1 GiB taken" in problem["title"]
            kernel.assert_as_before()
            assert world.resize(kernel.id, memory="300Mi")["resize"]["state"] == "Done"
        finally:
            desk.remove("resourcequotas/quota")


def test_growth_takes_the_quota_of_warm_pods(world: Served) -> None:
    desk = world.desk
    kernel = Subject(world)
    world.warm("work")
    desk.kube.quota(desk.namespace, {"requests.memory": "700Mi"})
    try:
        view = world.resize(kernel.id, memory="520Mi")
        assert view["actual"]["memory"] == "520Mi"
        assert world.execute(kernel.id, "kept") == "41"
    finally:
        desk.remove("resourcequotas/quota")


def test_gpus_need_another_pod_which_can_be_asked_for(world: Served) -> None:
    own(world.desk.kube)  # whose node says it has GPUs
    kernel = Subject(world, "gpu")
    path = f"/elastic/api/kernels/{kernel.id}"
    problem = world.problem("PATCH", path, {"resources": {"gpu": {"kind": GPU, "count": 1}}})
    assert problem["reason"] == "ResizeUnsupported"
    assert problem["field"] == "gpu"
    assert "another pod" in problem["remedy"]
    kernel.assert_as_before()
    body = {"resources": {"gpu": {"kind": GPU, "count": 1}}, "replace": True}
    view = world.patch(path, body)
    assert view["kernel_id"] == kernel.id
    assert view["actual"]["gpu"] == {"kind": GPU, "count": 1}
    assert view["pod"] != kernel.before["pod"]
    [container] = world.pod_of(kernel.id)["spec"]["containers"]
    assert container["resources"]["limits"][GPU] == "1"
    assert world.execute(kernel.id, "'kept' in globals()") == "False"


def test_another_pod_of_another_size_keeps_notebook_and_id(world: Served) -> None:
    world.warm("work")
    body = world.session(world.notebook("move.ipynb"), {"name": "work"})
    session = world.post("/api/sessions", body)
    kernel_id = session["kernel"]["id"]
    before = world.elastic(kernel_id)
    path = f"/elastic/api/kernels/{kernel_id}"
    view = world.patch(path, {"resources": {"memory": "300Mi"}, "replace": True})
    assert (view["phase"], view["actual"]["memory"]) == ("Running", "300Mi")
    assert view["pod"] != before["pod"]
    world.until(lambda: len(world.pods_of(kernel_id)) == 1, "the old pod is gone")
    [found] = world.get("/api/sessions")
    assert (found["id"], found["kernel"]["id"]) == (session["id"], kernel_id)
    assert world.execute(kernel_id, "6 * 7") == "42"


def test_a_warm_pod_whose_node_is_full_is_left_for_another_unnoticed(world: Served) -> None:
    """The claim is accepted and the kernel runs; only then the node says that it has no room."""
    world.warm("work")
    with world.desk.crowded(free=3 * GIB) as end:
        kernel_id = world.begin(resources={"memory": "8Gi"})
        first = world.phase(kernel_id, "Running")
        assert first["start"] == "warm"
        world.until(lambda: waits(world, kernel_id), "the user sees that it waits")
        # The node stays full until the kernel is given up there; then there is room elsewhere.
        world.until(lambda: world.elastic(kernel_id)["phase"] == "Moving", "it moves")
        end()
        view = world.phase(kernel_id, "Running", 100)
    assert view["pod"] != first["pod"]
    assert view["actual"]["memory"] == "8Gi"
    assert world.execute(kernel_id, "6 * 7") == "42"
    world.until(lambda: len(world.pods_of(kernel_id)) == 1, "the first pod is gone")
    assert view["restarts"] == 0, "nobody has seen the first one"
    steps = [step["message"] for step in world.progress(kernel_id)["steps"]]
    assert any("no room" in message for message in steps), steps


def test_a_used_kernel_whose_node_is_full_is_told(world: Served) -> None:
    """It has run code: its variables are worth more than its size."""
    world.warm("work")
    with world.desk.crowded(free=3 * GIB):
        kernel_id = world.start(resources={"memory": "8Gi"})
        assert world.execute(kernel_id, "kept = 41; kept + 1") == "42"

        def told() -> Any:
            resize = world.elastic(kernel_id)["resize"]
            return resize if resize and resize["state"] == "Refused" else None

        resize = world.until(told, "the record says that the size is not there")
    assert resize["reason"] == "NoNodeFits"
    assert "no room" in resize["message"]
    view = world.elastic(kernel_id)
    assert view["actual"]["memory"] != "8Gi"
    assert world.execute(kernel_id, "kept") == "41"
    assert world.resize(kernel_id, memory="512Mi")["resize"]["state"] == "Done"


def test_a_kernel_can_be_resized_as_soon_as_its_session_is_there(world: Served) -> None:
    """Once its record said for some more milliseconds that it starts."""
    world.warm("work")
    session = world.post("/api/sessions", world.session("at-once.ipynb", {"name": "work"}))
    view = world.resize(session["kernel"]["id"], memory="300Mi")
    assert (view["phase"], view["actual"]["memory"]) == ("Running", "300Mi")


def test_memory_taken_before_a_small_claim_is_in_force_is_told(world: Served) -> None:
    """The warm pod had more than was asked for, and the first cell was faster than the node."""
    world.warm("work")
    kernel_id = world.start(resources={"memory": "128Mi", "cpu": "200m"})

    async def take() -> None:
        channel = await world.server.connect(kernel_id)
        channel.send(f"block = bytearray({300 * MIB})")

    world.run(take())

    def told() -> Any:
        view = world.elastic(kernel_id)
        if view["reason"] == "OutOfMemory":
            pytest.skip("the node was faster: the kernel ran out of memory, which is told too")
        return view if view["resize"] and view["resize"]["state"] == "Refused" else None

    view = world.until(told, "the record says that the kernel has another size")
    assert view["resize"]["reason"] == "ShrinkUnderUse"
    assert "uses" in view["resize"]["message"]
    assert view["actual"]["cpu"] == "200m"
    assert view["actual"]["memory"] != "128Mi"
    assert world.execute(kernel_id, "len(block)") == str(300 * MIB)


# -- by hand ---------------------------------------------------------------------------------------


def test_a_size_that_is_written_into_the_object(world: Served) -> None:
    """As ``kubectl edit kernel``: acted on, and refused, as a request would be."""
    subject = Subject(world)
    path = f"{KERNELS.format(world.desk.namespace)}/{subject.id}"

    def edit(**resources: Any) -> None:
        world.desk.kube.admin.patch(path, {"spec": {"resources": resources}})

    def ended(state: str, reason: str = "") -> Any:
        resize = world.elastic(subject.id)["resize"] or {"state": "", "reason": ""}
        return resize if (resize["state"], resize["reason"]) == (state, reason) else None

    edit(memory="300Mi", cpu="750m")
    world.until(lambda: ended("Done"), "it is in force")
    view = world.elastic(subject.id)
    assert view["actual"] == view["resources"] == {"cpu": "750m", "memory": "300Mi", "gpu": None}
    world.until(subject._settled, "the size is in force")
    before = subject.state()

    for reason, words, wish in (
        ("OutOfRange", "over the maximum of 64 GiB", {"memory": "65Gi"}),
        ("NoNodeFits", "no room", {"memory": "64Gi"}),
        ("NoGpu", "GPU", {"memory": "300Mi", "gpu": {"kind": GPU, "count": 1}}),
    ):
        edit(**wish)
        told = world.until(partial(ended, "Refused", reason), f"refused: {reason}")
        assert words in told["message"], told
        world.until(lambda: subject.state() == before, "what was refused is put back")
        record = world.desk.kube.admin.get(path)
        assert record["status"]["resize"]["state"] == "Refused", "as kubectl shows it"
        assert record["spec"]["resources"]["memory"] == "300Mi"
    assert world.resize(subject.id, cpu="500m")["actual"]["cpu"] == "500m"
    edit(memory="320Mi")
    world.until(
        lambda: world.elastic(subject.id)["actual"]["memory"] == "320Mi", "what can be is done"
    )
    assert world.execute(subject.id, "kept") == "41"
