"""Starts through the plain Jupyter API and through ours, with what notebooks ask for."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from benchmarks.server import Channel

from .tools import Cell
from .world import World, template, templates, world_of

CONFIG = (
    templates(
        template("work", pool=1),
        template("cold"),
        template("small", resources={"cpu": "1", "memory": "256Mi"}),
    )
    + "c.ElasticKernels.notebook_size_limit = 200_000\n"
)
PENDING = "c.MappingKernelManager.use_pending_kernels = True\n"


@pytest.fixture(scope="module")
def server() -> Iterator[World]:
    with world_of(CONFIG) as world:
        yield world


@pytest.fixture
def world(server: World) -> Iterator[World]:
    """The module's server; each test must leave it as it found it."""
    try:
        yield server
        server.assert_nothing_runs()
    finally:
        server.stop_all()


@pytest.fixture(scope="module")
def pending_server() -> Iterator[World]:
    with world_of(CONFIG + PENDING) as world:
        yield world


def asked(cpu: str, memory: str, template_name: str = "work") -> dict[str, Any]:
    """A notebook's metadata."""
    resources = {"cpu": cpu, "memory": memory}
    return {"elastic": {"template": template_name, "resources": resources}}


async def executes_again(channel: Channel) -> None:
    """After a cell that failed, a kernel aborts what is sent at once: wait until that is over."""
    for _ in range(50):
        if (await Cell(channel, "").done())["content"]["status"] == "ok":
            return
    raise AssertionError("the kernel goes on aborting")


def interrupted(world: World, kernel_id: str) -> str:
    """The value of ``x`` after a cell that would take a minute was interrupted."""

    async def scenario() -> str:
        channel = await world.server.connect(kernel_id)
        # Not on execute_input: ipykernel loses a signal that comes before the cell's own code.
        cell = Cell(channel, "import time; print('begun', flush=True); time.sleep(60)")
        await cell.prints("begun")
        await world.server.request("POST", f"/api/kernels/{kernel_id}/interrupt", {})
        assert (await cell.done())["content"]["ename"] == "KeyboardInterrupt"
        await executes_again(channel)
        answer = await channel.execute("x")
        channel.close()
        return answer

    return world.run(scenario())


# -- through Jupyter's own API ---------------------------------------------------------------


def test_plain_post_returns_a_running_kernel(world: World) -> None:
    world.warm("work")
    model = world.post("/api/kernels", {"name": "work"})
    assert model["name"] == "work"
    kernel = world.elastic(model["id"])
    assert kernel["phase"] == "Running"
    assert kernel["start"] == "warm"
    assert kernel["resources"] == {"cpu": "500m", "memory": "256Mi", "gpu": None}
    assert kernel["actual"] == kernel["resources"]
    assert world.execute(model["id"], "6 * 7") == "42"
    world.delete(f"/api/kernels/{model['id']}")


def test_templates_are_kernelspecs_beside_plain_ones(world: World) -> None:
    specs = world.get("/api/kernelspecs")["kernelspecs"]
    assert {"work", "cold", "small", "python3"} <= set(specs)
    spec = specs["work"]["spec"]
    assert spec["display_name"] == "Work"
    assert spec["metadata"]["parameters"]["properties"]["memory"]["default"] == "256Mi"
    assert any("logo" in name for name in specs["work"]["resources"])


def test_without_a_warm_pod_the_start_is_cold(world: World) -> None:
    model = world.post("/api/kernels", {"name": "cold"})
    kernel = world.elastic(model["id"])
    assert (kernel["phase"], kernel["start"]) == ("Running", "cold")
    assert world.execute(model["id"], "6 * 7") == "42"
    world.delete(f"/api/kernels/{model['id']}")


def test_restart_and_interrupt_of_an_elastic_kernel(world: World) -> None:
    world.warm("work")
    kernel_id = world.post("/api/kernels", {"name": "work"})["id"]
    assert world.execute(kernel_id, "import os; x = 1; before = os.getpid(); x") == "1"

    assert interrupted(world, kernel_id) == "1"
    pod = world.elastic(kernel_id)["pod"]
    world.post(f"/api/kernels/{kernel_id}/restart")
    assert world.execute(kernel_id, "'x' in globals()") == "False"
    assert world.elastic(kernel_id)["pod"] == pod
    world.delete(f"/api/kernels/{kernel_id}")


def test_kernel_name_that_is_none_is_refused_and_starts_nothing(world: World) -> None:
    reply = world.run(world.ask("POST", "/api/kernels", {"name": "nope"}))
    assert reply.status >= 400


@pytest.mark.parametrize(
    ("url", "body"),
    [("/api/kernels", {"name": "work"}), ("/elastic/api/kernels", {"template": "work"})],
)
def test_without_a_path_it_runs_at_the_root_of_the_files(
    world: World, url: str, body: dict[str, str]
) -> None:
    """As for a notebook there: Lab asks for one with an empty path."""
    started = world.post(url, body)
    kernel_id = started.get("kernel_id") or started["id"]
    directory = world.execute(kernel_id, "import os; os.getcwd()")
    assert directory == repr(str((world.home / "work").resolve()))
    world.delete(f"/elastic/api/kernels/{kernel_id}")


# -- through a session: the notebook's wish ---------------------------------------------------


def test_session_gets_what_the_notebook_asks_for(world: World) -> None:
    world.warm("work")
    path = world.notebook("folder/asked.ipynb", asked("1500m", "400Mi"))
    session = world.post("/api/sessions", world.session(path, {"name": "work"}))
    kernel = world.elastic(session["kernel"]["id"])
    assert kernel["resources"] == {"cpu": "1500m", "memory": "400Mi", "gpu": None}
    assert kernel["actual"] == kernel["resources"]
    assert kernel["start"] == "warm"
    assert kernel["path"] == path
    directory = world.execute(kernel["kernel_id"], "import os; os.getcwd()")
    assert directory == repr(str((world.home / "work" / "folder").resolve()))
    world.until(
        lambda: [s["path"] for s in world.elastic(kernel["kernel_id"])["sessions"]] == [path],
        "the session in the record",
    )
    world.delete(f"/api/sessions/{session['id']}")


def test_jupyterlabs_made_up_path_leads_to_the_notebook(world: World) -> None:
    """Lab creates the session as ``<directory>/<uuid>`` and renames it once the kernel is up."""
    (world.home / "work" / "sub").mkdir(exist_ok=True)
    world.notebook("sub/lab.ipynb", asked("750m", "384Mi"))
    body = {
        "path": f"sub/{uuid.uuid4()}",
        "name": "lab.ipynb",
        "type": "notebook",
        "kernel": {"name": "work"},
    }
    session = world.post("/api/sessions", body)
    view = world.elastic(session["kernel"]["id"])
    assert view["resources"] == {"cpu": "750m", "memory": "384Mi", "gpu": None}
    assert view["path"] == "sub/lab.ipynb"
    world.delete(f"/api/sessions/{session['id']}")


def test_kernel_started_for_a_path_gets_what_its_notebook_asks_for(world: World) -> None:
    path = world.notebook("path.ipynb", asked("1", "300Mi"))
    model = world.post("/api/kernels", {"name": "cold", "path": path})
    assert world.elastic(model["id"])["resources"]["memory"] == "300Mi"
    world.delete(f"/api/kernels/{model['id']}")


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        (asked("two", "1Gi"), ["metadata.elastic", "'two'"]),
        (asked("1", "-1Gi"), ["metadata.elastic", "'-1Gi'"]),
        (asked("1", "64Gi"), ["metadata.elastic", "64 GiB", "2 GiB", "work"]),
        (asked("10m", "256Mi"), ["metadata.elastic", "10m", "100m"]),
        ({"elastic": {"resources": {"memory": {}}}}, ["metadata.elastic"]),
        ({"elastic": {"resources": {"disk": "1Gi"}}}, ["metadata.elastic", "'disk'"]),
        ({"elastic": {"resources": "much"}}, ["metadata.elastic", "resources"]),
        ({"elastic": 7}, ["metadata.elastic"]),
        ({"elastic": {"note": "x" * 20_000}}, ["metadata.elastic", "16384"]),
        (
            {"elastic": {"resources": {"gpu": {"kind": "a100", "count": 1}}}},
            ["metadata.elastic", "offers no GPU"],
        ),
    ],
)
def test_a_wrong_wish_in_the_metadata_is_explained(
    world: World, metadata: Any, words: list[str]
) -> None:
    path = world.notebook("wrong.ipynb", metadata)
    reply = world.run(world.ask("POST", "/api/sessions", world.session(path, {"name": "work"})))
    assert reply.status >= 400, reply  # jupyter_server tells every failure here as a 500
    message = reply.json["message"]
    for word in words:
        assert word in message
    reply = world.run(world.ask("POST", "/api/kernels", {"name": "work", "path": path}))
    assert 400 <= reply.status < 500, reply
    for word in words:
        assert word in reply.json["message"]


def test_a_notebook_over_the_size_limit_gets_the_defaults(world: World) -> None:
    path = world.notebook("large.ipynb", asked("1", "512Mi"), source="#" * 300_000)
    session = world.post("/api/sessions", world.session(path, {"name": "cold"}))
    assert world.elastic(session["kernel"]["id"])["resources"]["memory"] == "256Mi"
    log = world.server.log.read_text()
    assert "c.ElasticKernels.notebook_size_limit" in log
    assert path in log
    world.delete(f"/api/sessions/{session['id']}")


def test_a_file_that_is_no_notebook_gets_the_defaults(world: World) -> None:
    (world.home / "work" / "broken.ipynb").write_text('{"metadata": {"elastic": ')
    session = world.post("/api/sessions", world.session("broken.ipynb", {"name": "cold"}))
    assert world.elastic(session["kernel"]["id"])["resources"]["memory"] == "256Mi"
    world.delete(f"/api/sessions/{session['id']}")


def test_a_wish_made_for_another_template_falls_back_to_the_defaults(world: World) -> None:
    """Its sizes hold where the other template offers them; else that one's defaults, and a note."""
    path = world.notebook("moved.ipynb", asked("1", "1Gi", "work"))
    session = world.post("/api/sessions", world.session(path, {"name": "small"}))
    kernel = world.elastic(session["kernel"]["id"])
    assert (kernel["template"], kernel["resources"]["memory"]) == ("small", "256Mi")
    assert "chosen for template work" in world.server.log.read_text()
    world.delete(f"/api/sessions/{session['id']}")
    session = world.post("/api/sessions", world.session(path, {"name": "cold"}))
    assert world.elastic(session["kernel"]["id"])["resources"]["memory"] == "1Gi"
    world.delete(f"/api/sessions/{session['id']}")


# -- changing the kernel ----------------------------------------------------------------------


def only(world: World, kernel_id: str) -> None:
    """Wait until this kernel is the only one."""
    world.until(
        lambda: [k["id"] for k in world.get("/api/kernels")] == [kernel_id], "the old one gone"
    )


def test_changing_the_kernel_of_a_session(world: World) -> None:
    """Elastic to plain to elastic: each time the old one ends and the new one answers."""
    path = world.notebook("change.ipynb", asked("1", "300Mi"))
    session = world.post("/api/sessions", world.session(path, {"name": "cold"}))
    first = session["kernel"]["id"]
    changed = world.patch(f"/api/sessions/{session['id']}", {"kernel": {"name": "python3"}})
    second = changed["kernel"]["id"]
    assert world.execute(second, "1 + 1") == "2"
    only(world, second)
    world.until(lambda: world.get("/elastic/api/kernels")["kernels"] == [], "no elastic one")
    changed = world.patch(f"/api/sessions/{session['id']}", {"kernel": {"name": "work"}})
    third = changed["kernel"]["id"]
    assert len({first, second, third}) == 3
    assert world.elastic(third)["resources"]["memory"] == "300Mi"
    assert world.execute(third, "1 + 1") == "2"
    only(world, third)
    world.delete(f"/api/sessions/{session['id']}")


def test_a_refused_change_keeps_the_old_kernel(world: World) -> None:
    path = world.notebook("keep.ipynb")
    session = world.post("/api/sessions", world.session(path, {"name": "cold"}))
    kernel_id = session["kernel"]["id"]
    assert world.execute(kernel_id, "x = 5; x") == "5"
    world.notebook("keep.ipynb", asked("1", "64Gi"))
    reply = world.run(
        world.ask("PATCH", f"/api/sessions/{session['id']}", {"kernel": {"name": "work"}})
    )
    assert reply.status >= 400, reply
    assert "64 GiB" in reply.json["message"]
    assert world.execute(kernel_id, "x") == "5"
    assert world.get(f"/api/sessions/{session['id']}")["kernel"]["id"] == kernel_id
    world.delete(f"/api/sessions/{session['id']}")


# -- through our API --------------------------------------------------------------------------


def test_our_api_answers_at_once_and_tells_the_steps(world: World) -> None:
    kernel = world.post(
        "/elastic/api/kernels",
        {"template": "cold", "resources": {"memory": "300Mi"}, "name": "mine", "path": "a.ipynb"},
    )
    assert kernel["phase"] in ("Queued", "Starting")
    assert kernel["name"] == "mine"
    kernel_id = kernel["kernel_id"]
    # It can be attached already, by anything that knows Jupyter's API only.
    assert world.get(f"/api/kernels/{kernel_id}")["execution_state"] == "starting"
    kernel = world.phase(kernel_id, "Running")
    assert kernel["resources"]["memory"] == "300Mi"
    progress = world.get(f"/elastic/api/kernels/{kernel_id}/progress")
    assert progress["done"] is True
    assert [step["name"] for step in progress["steps"]] == [
        "queued",
        "created",
        "agent-up",
        "kernel-up",
    ]
    times = [step["time"] for step in progress["steps"]]
    assert times == sorted(times)
    assert world.execute(kernel_id, "1 + 1") == "2"
    world.delete(f"/elastic/api/kernels/{kernel_id}")


def test_a_session_attaches_to_a_kernel_started_through_our_api(world: World) -> None:
    world.warm("work")
    kernel = world.post("/elastic/api/kernels", {"template": "work"})
    path = world.notebook("attach.ipynb")
    session = world.post("/api/sessions", world.session(path, {"id": kernel["kernel_id"]}))
    assert session["kernel"]["id"] == kernel["kernel_id"]
    assert world.execute(kernel["kernel_id"], "1 + 1") == "2"
    assert len(world.get("/api/kernels")) == 1
    world.delete(f"/api/sessions/{session['id']}")


def test_a_kernel_id_may_be_chosen(world: World) -> None:
    kernel_id = "0f5c5c1e-6c7e-4d2a-9f0b-1c2d3e4f5a6b"
    kernel = world.post("/elastic/api/kernels", {"template": "cold", "kernel_id": kernel_id})
    assert kernel["kernel_id"] == kernel_id
    world.phase(kernel_id, "Running")
    assert (
        world.refused("POST", "/elastic/api/kernels", {"template": "cold", "kernel_id": kernel_id})[
            "reason"
        ]
        == "KernelExists"
    )
    # This kernel's pod and the warm one.
    world.until(lambda: len(world.processes()) <= 2, "there is no third pod")
    world.delete(f"/elastic/api/kernels/{kernel_id}")


def test_stopping_through_jupyters_api_removes_the_record(world: World) -> None:
    kernel_id = world.post("/elastic/api/kernels", {"template": "cold"})["kernel_id"]
    world.phase(kernel_id, "Running")
    world.delete(f"/api/kernels/{kernel_id}")
    assert world.refused("GET", f"/elastic/api/kernels/{kernel_id}")["reason"] == "UnknownKernel"


# -- plain kernels ----------------------------------------------------------------------------


def test_plain_kernels_work_as_before(world: World) -> None:
    model = world.post("/api/kernels", {"name": "python3"})
    kernel_id = model["id"]
    assert world.get("/elastic/api/kernels")["kernels"] == []
    assert world.execute(kernel_id, "x = 1; x") == "1"

    assert interrupted(world, kernel_id) == "1"
    world.post(f"/api/kernels/{kernel_id}/restart")
    assert world.execute(kernel_id, "'x' in globals()") == "False"
    assert len(world.plain_kernels()) == 1
    world.delete(f"/api/kernels/{kernel_id}")


# -- pending kernels --------------------------------------------------------------------------


def test_with_pending_kernels_a_post_returns_while_the_kernel_starts(
    pending_server: World,
) -> None:
    world = pending_server
    model = world.post("/api/kernels", {"name": "cold"})
    assert world.elastic(model["id"])["kernel_id"] == model["id"]
    world.phase(model["id"], "Running")
    assert world.execute(model["id"], "1 + 1") == "2"
    world.delete(f"/api/kernels/{model['id']}")
    world.assert_nothing_runs()


def test_with_pending_kernels_the_notebooks_wish_holds(pending_server: World) -> None:
    world = pending_server
    path = world.notebook("pending.ipynb", asked("1", "300Mi"))
    session = world.post("/api/sessions", world.session(path, {"name": "cold"}))
    kernel_id = session["kernel"]["id"]
    assert world.phase(kernel_id, "Running")["resources"]["memory"] == "300Mi"
    world.notebook("pending.ipynb", asked("two", "300Mi"))
    reply = world.run(
        world.ask("PATCH", f"/api/sessions/{session['id']}", {"kernel": {"name": "work"}})
    )
    assert reply.status >= 400, reply
    assert "is not a usable quantity" in json.dumps(reply.json)
    assert world.execute(kernel_id, "1 + 1") == "2"
    world.delete(f"/api/sessions/{session['id']}")
    world.assert_nothing_runs()
