"""Bad input: each is refused with reason, field and remedy, and nothing is started."""

from __future__ import annotations

import json
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tornado.httpclient import HTTPClientError

from .world import World, template, templates, world_of

KERNELS = "/elastic/api/kernels"
LONG = "x" * 10_000_000


def make_config(home: Path) -> str:
    """A good template, some that cannot work, and a directory of files."""
    files = home / "templates"
    files.mkdir()
    (files / "good.yaml").write_text("name: from-file\nresources: {cpu: 1, memory: 256Mi}\n")
    (files / "field.yaml").write_text("name: typo\nresources: {cpu: 1, memroy: 256Mi}\n")
    (files / "syntax.yaml").write_text("name: [\n")
    misspelt = "c.ElasticKernel.start_timeout = 5\n"
    return misspelt + templates(
        template("work"),
        template("no-interpreter", interpreter=str(home / "nowhere" / "python")),
        template("no-ipykernel", interpreter=str(bare_python(home))),
        template("no-module", preload=["json", "no_such_module_here"]),
        template("no-program", argv=["/nowhere/kernel", "{connection_file}"], language="x"),
        template("bad-quantity", resources={"cpu": "two", "memory": "1Gi"}),
        str(files),
    )


def bare_python(home: Path) -> Path:
    """An interpreter that has neither pyzmq nor ipykernel."""
    path = home / "bare" / "python"
    path.parent.mkdir()
    path.write_text(f'#!/bin/sh\nexec {sys.executable} -S -E "$@"\n')
    path.chmod(0o755)
    return path


@pytest.fixture(scope="module")
def server() -> Iterator[World]:
    with world_of(make_config) as world:
        yield world


@pytest.fixture
def world(server: World) -> Iterator[World]:
    """The module's server; no test may leave anything running."""
    try:
        yield server
        server.assert_nothing_runs()
    finally:
        server.stop_all()


@pytest.mark.parametrize(
    ("resources", "reason", "field", "words"),
    [
        ({"cpu": "two"}, "BadQuantity", "cpu", ["'two'"]),
        ({"cpu": "-1"}, "BadQuantity", "cpu", ["'-1'"]),
        ({"cpu": "NaN"}, "BadQuantity", "cpu", ["'NaN'"]),
        ({"cpu": True}, "BadRequest", "resources.cpu", []),
        ({"cpu": 10**30}, None, None, ["cpu"]),
        ({"cpu": "1" + "0" * 30}, None, "cpu", []),
        ({"cpu": 64}, "OutOfRange", "cpu", ["64", "2 CPU", "work"]),
        ({"cpu": "1m"}, "OutOfRange", "cpu", ["1m", "100m", "work"]),
        ({"memory": "-1Gi"}, "BadQuantity", "memory", ["'-1Gi'"]),
        ({"memory": "1 GB"}, "BadQuantity", "memory", ["'1 GB'"]),
        ({"memory": ""}, "BadQuantity", "memory", []),
        ({"memory": 1e30}, None, "memory", []),
        ({"memory": "64Gi"}, "OutOfRange", "memory", ["64 GiB", "2 GiB", "work"]),
        ({"memory": "1Mi"}, "OutOfRange", "memory", ["1 MiB", "128 MiB", "work"]),
        ({"gpu": {"kind": "a100", "count": 1}}, "NoGpu", "gpu", ["offers no GPU"]),
        ({"gpu": {"kind": "a100", "count": -1}}, "BadRequest", "resources.gpu.count", []),
        ({"gpu": 1}, "BadRequest", "resources.gpu", []),
        ({"disk": "1Gi"}, "BadRequest", "resources", ["disk"]),
        ("much", "BadRequest", "resources", []),
    ],
)
def test_resources_that_make_no_sense(
    world: World, resources: Any, reason: str | None, field: str | None, words: list[str]
) -> None:
    problem = world.refused("POST", KERNELS, {"template": "work", "resources": resources})
    assert problem["status"] == 400
    assert reason is None or problem["reason"] == reason
    assert field is None or problem["field"] == field
    for word in words:
        assert word in problem["detail"]


def test_nan_as_a_number_is_no_json(world: World) -> None:
    raw = b'{"template": "work", "resources": {"memory": NaN}}'
    assert world.refused("POST", KERNELS, raw=raw)["reason"] == "BadRequest"


def test_unknown_template_names_those_there_are(world: World) -> None:
    problem = world.refused("POST", KERNELS, {"template": "nope"})
    assert (problem["reason"], problem["status"]) == ("UnknownTemplate", 404)
    assert "'nope'" in problem["title"]
    assert "work" in problem["remedy"]


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"not json",
        b'{"template": ',
        b"[1, 2]",
        b"null",
        b'"work"',
        b"\xff\xfe",
        b"[" * 200_000,
    ],
)
def test_a_body_that_is_not_what_it_should_be(world: World, raw: bytes) -> None:
    problem = world.refused("POST", KERNELS, raw=raw)
    assert (problem["reason"], problem["status"]) == ("BadRequest", 400)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "template"),
        ({"template": 7}, "template"),
        ({"template": "work", "tempalte": "work"}, "tempalte"),
        ({"template": "work", "name": "n" * 300}, "name"),
        ({"template": "work", "path": "p" * 5000}, "path"),
    ],
)
def test_a_field_that_is_wrong_is_named(world: World, body: Any, field: str) -> None:
    problem = world.refused("POST", KERNELS, body)
    assert (problem["reason"], problem["status"]) == ("BadRequest", 400)
    assert field in problem["detail"]


def test_ten_megabytes_of_json(world: World) -> None:
    problem = world.refused("POST", KERNELS, {"template": "work", "name": LONG})
    assert (problem["reason"], problem["status"]) == ("TooLarge", 413)
    assert "1048576" in problem["title"]


@pytest.mark.parametrize("kernel_id", ["1", "", "../../etc/passwd", "g" * 36, "0" * 10_000])
def test_an_id_that_is_no_uuid(world: World, kernel_id: str) -> None:
    body = {"template": "work", "kernel_id": kernel_id}
    problem = world.refused("POST", KERNELS, body)
    assert (problem["reason"], problem["field"]) == ("BadRequest", "kernel_id")


def test_an_id_that_exists(world: World) -> None:
    kernel = world.post(KERNELS, {"template": "work"})
    body = {"template": "work", "kernel_id": kernel["kernel_id"]}
    problem = world.refused("POST", KERNELS, body)
    assert (problem["reason"], problem["status"]) == ("KernelExists", 409)
    world.phase(kernel["kernel_id"], "Running")
    assert world.refused("POST", KERNELS, body)["reason"] == "KernelExists"
    assert len(world.get(KERNELS)["kernels"]) == 1
    world.delete(f"{KERNELS}/{kernel['kernel_id']}")


@pytest.mark.parametrize("kernel_id", ["nope", str(uuid.uuid4())])
@pytest.mark.parametrize(
    ("method", "tail", "body"),
    [
        ("GET", "", None),
        ("PATCH", "", {"resources": {"cpu": 1}}),
        ("DELETE", "", None),
        ("GET", "/progress", None),
        ("GET", "/usage", None),
        ("POST", "/keepalive", {}),
    ],
)
def test_a_kernel_that_is_not_there(
    world: World, method: str, tail: str, body: Any, kernel_id: str
) -> None:
    problem = world.refused(method, f"{KERNELS}/{kernel_id}{tail}", body)
    assert (problem["reason"], problem["status"]) == ("UnknownKernel", 404)


def test_changes_of_a_running_kernel_that_make_no_sense(world: World) -> None:
    kernel_id = world.post(KERNELS, {"template": "work"})["kernel_id"]
    before = world.phase(kernel_id, "Running")
    path = f"{KERNELS}/{kernel_id}"
    for resources, reason in (
        ({"cpu": "two"}, "BadQuantity"),
        ({"memory": "64Gi"}, "OutOfRange"),
        ({"memory": "1Mi"}, "OutOfRange"),
        ({"gpu": {"kind": "a100", "count": 1}}, "NoGpu"),
    ):
        assert world.refused("PATCH", path, {"resources": resources})["reason"] == reason
    assert world.refused("PATCH", path, {})["reason"] == "BadRequest"
    assert world.refused("PATCH", path, raw=b"{")["reason"] == "BadRequest"
    after = world.elastic(kernel_id)
    assert after["actual"] == after["resources"] == before["resources"]
    world.delete(path)


# -- templates that cannot work ---------------------------------------------------------------


def test_broken_templates_are_listed_and_others_serve(world: World) -> None:
    listed = world.get("/elastic/api/templates")
    names = {one["name"] for one in listed["templates"]}
    assert {"work", "from-file", "no-module"} <= names
    assert not {"typo", "bad-quantity"} & names
    texts = [problem["detail"] for problem in listed["problems"]]
    assert any("field.yaml" in t and "memroy" in t and '"memory"' in t for t in texts)
    assert any("syntax.yaml" in t and "line" in t for t in texts)
    assert any("bad-quantity" in t and "resources.cpu" in t and "'two'" in t for t in texts)
    model = world.post("/api/kernels", {"name": "from-file"})
    assert world.execute(model["id"], "1 + 1") == "2"
    world.delete(f"/api/kernels/{model['id']}")


def test_a_corrected_file_is_offered_and_a_broken_one_keeps_its_last_form(world: World) -> None:
    directory = world.home / "templates"

    def offered(name: str) -> dict[str, Any] | None:
        found = world.get("/elastic/api/templates")["templates"]
        return next((one for one in found if one["name"] == name), None)

    (directory / "field.yaml").write_text("name: typo\nresources: {cpu: 1, memory: 256Mi}\n")
    world.until(lambda: offered("typo"), "the corrected template")
    assert "typo" in world.get("/api/kernelspecs")["kernelspecs"]
    (directory / "field.yaml").write_text("name: typo\nresources: {cpu: 1, memory: lots}\n")
    world.until(
        lambda: "'lots'" in json.dumps(world.get("/elastic/api/templates")["problems"]),
        "the problem",
    )
    assert offered("typo")
    (directory / "field.yaml").write_text("name: typo\nresources: {cpu: 1, memroy: 256Mi}\n")


def failed(world: World, name: str) -> dict[str, Any]:
    """Start a template that cannot work; the Failed kernel, removed again."""
    kernel_id = world.post(KERNELS, {"template": name})["kernel_id"]
    kernel: dict[str, Any] = world.phase(kernel_id, "Failed")
    assert kernel["pod"] is None
    progress = world.get(f"{KERNELS}/{kernel_id}/progress")
    assert progress["done"] is True
    assert progress["steps"][-1]["name"] == "failed"
    assert progress["steps"][-1]["message"] == kernel["message"]
    world.delete(f"{KERNELS}/{kernel_id}")
    return kernel


def test_an_interpreter_that_does_not_exist(world: World) -> None:
    kernel = failed(world, "no-interpreter")
    assert kernel["reason"] == "BadInterpreter"
    assert "nowhere/python" in kernel["message"]
    assert "does not exist" in kernel["message"]
    reply = world.run(world.ask("POST", "/api/kernels", {"name": "no-interpreter"}))
    assert reply.status == 422
    assert reply.json["message"] == kernel["message"]


def test_an_interpreter_without_ipykernel(world: World) -> None:
    kernel = failed(world, "no-ipykernel")
    assert kernel["reason"] == "BadInterpreter"
    assert "has no " in kernel["message"]
    assert "pip install" in kernel["message"]


def test_a_kernel_program_that_does_not_exist(world: World) -> None:
    kernel = failed(world, "no-program")
    assert kernel["reason"] == "StartFailed"
    assert "/nowhere/kernel" in kernel["message"]


def test_a_preload_module_that_fails_is_a_warning(world: World) -> None:
    kernel_id = world.post(KERNELS, {"template": "no-module"})["kernel_id"]
    kernel = world.phase(kernel_id, "Running")
    assert any("no_such_module_here" in warning for warning in kernel["warnings"])
    steps = world.get(f"{KERNELS}/{kernel_id}/progress")["steps"]
    warned = [step["message"] for step in steps if step["name"] == "warning"]
    assert any("no_such_module_here" in message for message in warned)
    assert world.execute(kernel_id, "import sys; 'json' in sys.modules") == "True"
    world.delete(f"{KERNELS}/{kernel_id}")


# -- through Jupyter's own API ----------------------------------------------------------------


@pytest.mark.newest  # older servers know no kernel_id in this body
@pytest.mark.parametrize("kernel_id", ["1", "../../etc/passwd", "g" * 36])
def test_a_plain_start_with_an_id_that_is_no_uuid(world: World, kernel_id: str) -> None:
    body = {"name": "work", "kernel_id": kernel_id}
    reply = world.run(world.ask("POST", "/api/kernels", body))
    assert reply.status == 400
    assert "no UUID" in reply.json["message"]


def test_a_session_on_an_id_that_is_no_kernel_starts_at_most_that_template(world: World) -> None:
    """jupyter_server starts a kernel then; it must be the elastic one that was named, and one."""
    path = world.notebook("ghost.ipynb")
    ghost = str(uuid.uuid4())
    session = world.post("/api/sessions", world.session(path, {"id": ghost, "name": "work"}))
    kernels = world.get("/api/kernels")
    assert [k["id"] for k in kernels] == [session["kernel"]["id"]]
    assert kernels[0]["name"] == "work"
    assert world.plain_kernels() == []
    world.delete(f"/api/sessions/{session['id']}")


def test_a_plain_start_that_fails_leaves_nothing(world: World) -> None:
    reply = world.run(world.ask("POST", "/api/kernels", {"name": "no-program"}))
    assert reply.status == 502
    assert "/nowhere/kernel" in reply.json["message"]
    path = world.notebook("fails.ipynb")
    reply = world.run(
        world.ask("POST", "/api/sessions", world.session(path, {"name": "no-interpreter"}))
    )
    assert reply.status == 422
    assert "does not exist" in reply.json["message"]


@pytest.mark.parametrize(
    ("wish", "status", "word"),
    [
        ({"resources": {"cpu": "many"}}, 400, "metadata.elastic"),
        ({"resources": {"memory": "1Ti"}}, 400, "2 GiB"),
        ({"resources": "all of it"}, 400, "metadata.elastic"),
    ],
)
def test_a_notebooks_wish_that_cannot_be_met_is_a_bad_request(
    world: World, wish: Any, status: int, word: str
) -> None:
    """Not a failure of the server, by whichever way the kernel was asked for."""
    path = world.notebook("wish.ipynb", {"elastic": wish})
    by_session = world.run(
        world.ask("POST", "/api/sessions", world.session(path, {"name": "work"}))
    )
    by_kernel = world.run(world.ask("POST", "/api/kernels", {"name": "work", "path": path}))
    assert by_session.status == by_kernel.status == status
    assert word in by_session.json["message"]
    assert by_session.json["message"] == by_kernel.json["message"]


def test_a_misspelt_section_is_in_the_log(world: World) -> None:
    assert "Did you mean c.ElasticKernels?" in world.server.log.read_text()


def test_a_restart_that_fails_says_why(world: World) -> None:
    kernel_id = world.post(KERNELS, {"template": "no-interpreter"})["kernel_id"]
    world.phase(kernel_id, "Failed")
    reply = world.run(world.ask("POST", f"/api/kernels/{kernel_id}/restart"))
    assert reply.status == 422
    assert "nowhere/python" in reply.json["message"]
    world.delete(f"{KERNELS}/{kernel_id}")


def test_a_restart_of_a_kernel_that_is_not_there(world: World) -> None:
    reply = world.run(world.ask("POST", f"/api/kernels/{uuid.uuid4()}/restart"))
    assert reply.status == 404


def test_a_body_that_is_no_json_to_jupyters_own_api(world: World) -> None:
    for path in ("/api/kernels", "/api/sessions"):
        assert world.run(world.ask("POST", path, raw=b"{")).status == 400


def test_a_failing_test_says_what_the_server_said(world: World) -> None:
    """Of ``benchmarks.server``, by which all of these tests ask."""
    path = f"{KERNELS}/{uuid.uuid4()}"
    with pytest.raises(HTTPClientError, match="You have no kernel") as caught:
        world.get(path)
    assert caught.value.code == 404
    assert f"GET {path}" in str(caught.value)
