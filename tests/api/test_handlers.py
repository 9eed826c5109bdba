"""What a client relies on, operation by operation; each answer is held against openapi.yaml."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from msgspec.structs import replace
from tornado.httpclient import HTTPResponse

from jupyter_elastic.errors import Unsupported
from jupyter_elastic.model import (
    NODE_UNREACHABLE,
    KernelPhase,
    PodPhase,
    PoolRow,
    Resize,
    SessionRef,
    Step,
)
from jupyter_elastic.resources import GIB

from .conftest import Call, World

UNKNOWN = "00000000-0000-4000-8000-000000000000"


class Checker:
    """Holds responses against the document, and remembers which operations it saw succeed."""

    def __init__(self, document: dict[str, Any], valid: Callable[[str, Any], None]) -> None:
        self.document = document
        self.valid = valid
        self.seen: set[str] = set()

    def operation(self, operation_id: str, response: HTTPResponse) -> Any:
        [operation] = [
            entry
            for path in self.document["paths"].values()
            for verb, entry in path.items()
            if verb != "parameters" and entry["operationId"] == operation_id
        ]
        media_type = response.headers.get("Content-Type", "").partition(";")[0]
        answer = operation["responses"].get(str(response.code))
        assert answer is not None, (response.code, response.body)
        self.seen.add(operation_id)
        if "content" not in answer:
            assert response.body == b""
            return None
        schema = answer["content"][media_type]["schema"]
        if media_type != "application/json":
            return response.body
        data = json.loads(response.body)
        self.valid(schema["$ref"].rpartition("/")[2], data)
        return data

    def problem(self, response: HTTPResponse, status: int, reason: str) -> dict[str, Any]:
        assert response.code == status, response.body
        assert response.headers["Content-Type"] == "application/problem+json"
        data: dict[str, Any] = json.loads(response.body)
        self.valid("Problem", data)
        assert data["reason"] == reason
        assert data["status"] == status
        assert data["title"]
        return data


@pytest.fixture
def check(document: dict[str, Any], valid: Callable[[str, Any], None]) -> Checker:
    return Checker(document, valid)


async def start(call: Call, **body: Any) -> dict[str, Any]:
    response = await call("POST", "kernels", {"template": "small", **body})
    assert response.code == 202, response.body
    kernel: dict[str, Any] = json.loads(response.body)
    return kernel


async def test_every_operation_answers_as_documented(
    call: Call, check: Checker, document: dict[str, Any], world: World
) -> None:
    await world.cluster.create_pod(world.service.template("small"))
    status = check.operation("getStatus", await call("GET", "status"))
    assert status["owner"] == "me"
    assert status["enforcement"]["memory"] == "watchdog"

    listed = check.operation("listTemplates", await call("GET", "templates"))
    assert [template["name"] for template in listed["templates"]] == ["small", "fixed"]
    assert "colour" in listed["problems"][0]["title"]
    template = check.operation("getTemplate", await call("GET", "templates/small"))
    assert template["resources"]["memory"]["maximum"] == "8Gi"
    icon = check.operation("getTemplateIcon", await call("GET", "templates/small/icon"))
    assert icon.startswith(b"<svg")

    wish = {"cpu": 2, "memory": "2Gi", "gpu": {"kind": "a100", "count": 1}}
    body = {"template": "small", "resources": wish, "name": "n", "path": "a.ipynb"}
    response = await call("POST", "kernels", body)
    kernel = check.operation("startKernel", response)
    assert kernel["resources"] == {**wish, "cpu": "2"}
    assert response.headers["Location"].endswith(f"/elastic/api/kernels/{kernel['kernel_id']}")
    one = f"kernels/{kernel['kernel_id']}"

    [mine] = check.operation("listKernels", await call("GET", "kernels"))["kernels"]
    assert mine["kernel_id"] == kernel["kernel_id"]
    assert check.operation("getKernel", await call("GET", one))["phase"] == "Running"
    progress = check.operation("getProgress", await call("GET", f"{one}/progress"))
    assert progress["done"] is True
    assert progress["steps"][-1]["name"] == "kernel-up"
    usage = check.operation("getUsage", await call("GET", f"{one}/usage"))
    assert usage["cpu_limit"] == 1.0
    check.operation("keepAlive", await call("POST", f"{one}/keepalive"))

    pool = check.operation("getPool", await call("GET", "pool"))
    row = pool["templates"][0]
    assert (row["template"], row["warming"], row["claimed"]) == ("small", 1, 1)
    assert row["reason"] == "A fixed number, as set or by default."
    capacity = check.operation("getCapacity", await call("GET", "capacity"))
    assert capacity["memory"] == {"total": "16Gi", "used": "3Gi", "free": "13Gi"}

    change = {"resources": {"memory": "4Gi"}, "name": "renamed"}
    changed = check.operation("changeKernel", await call("PATCH", one, change))
    assert changed["resources"]["memory"] == "4Gi"
    assert changed["resources"]["cpu"] == "2"
    assert changed["resize"]["state"] == "Done"
    assert changed["name"] == "renamed"

    check.operation("stopKernel", await call("DELETE", one))
    check.problem(await call("GET", one), 404, "UnknownKernel")
    text = check.operation("getOpenapi", await call("GET", "openapi.yaml"))
    assert yaml.safe_load(text) == document

    there = {
        entry["operationId"]
        for path in document["paths"].values()
        for verb, entry in path.items()
        if verb != "parameters"
    }
    assert check.seen == there


async def test_a_kernel_with_all_that_can_be_known_of_it(
    call: Call, check: Checker, world: World
) -> None:
    kernel_id = (await start(call))["kernel_id"]
    kernel = world.cluster.kernels()[kernel_id]
    pod = world.cluster.pods()[kernel.pod or ""]
    world.cluster.put_pod(replace(pod, warnings=("pandas could not be imported",)))
    world.cluster.put_kernel(
        replace(
            kernel,
            phase=KernelPhase.FAILED,
            reason="OutOfMemory",
            message="It needed more than 1 GiB.",
            resize=Resize(state="Refused", reason="QuotaFull", message="No room.", time=1.5),
            sessions=(SessionRef(id="s", path="a.ipynb"),),
        )
    )
    shown = check.operation("getKernel", await call("GET", f"kernels/{kernel_id}"))
    assert (shown["phase"], shown["reason"]) == ("Failed", "OutOfMemory")
    assert shown["resize"]["reason"] == "QuotaFull"
    assert shown["sessions"] == [{"id": "s", "path": "a.ipynb", "name": "", "type": "notebook"}]
    assert shown["warnings"] == ["pandas could not be imported"]


async def test_a_kernel_whose_node_does_not_answer_says_so(
    call: Call, check: Checker, world: World
) -> None:
    kernel_id = (await start(call))["kernel_id"]
    pod = world.cluster.pods()[world.cluster.kernels()[kernel_id].pod or ""]
    for reason, message in ((NODE_UNREACHABLE, "The pod's node does not answer."), ("", "")):
        world.cluster.put_pod(replace(pod, reason=reason, message=message))
        shown = check.operation("getKernel", await call("GET", f"kernels/{kernel_id}"))
        assert shown["phase"] == "Running"
        assert (shown["reason"], shown["message"]) == (reason, message)


async def test_a_client_may_choose_the_id(call: Call, check: Checker) -> None:
    chosen = str(uuid.uuid4())
    assert (await start(call, kernel_id=chosen.upper()))["kernel_id"] == chosen
    again = await call("POST", "kernels", {"template": "small", "kernel_id": chosen})
    check.problem(again, 409, "KernelExists")
    assert (await call("GET", f"kernels/{chosen.upper()}")).code == 200


@pytest.mark.parametrize(
    ("body", "status", "reason", "field"),
    [
        ({}, 400, "BadRequest", None),
        ({"template": "nothing"}, 404, "UnknownTemplate", None),
        ({"template": 3}, 400, "BadRequest", "template"),
        ({"template": "x" * 64}, 400, "BadRequest", "template"),
        ({"template": "small", "colour": 1}, 400, "BadRequest", None),
        ({"template": "small", "resources": {"cpu": "two"}}, 400, "BadQuantity", "cpu"),
        ({"template": "small", "resources": {"memory": "-1Gi"}}, 400, "BadQuantity", "memory"),
        ({"template": "small", "resources": {"memory": "NaN"}}, 400, "BadQuantity", "memory"),
        ({"template": "small", "resources": {"memory": 1e30}}, 400, "BadQuantity", "memory"),
        ({"template": "small", "resources": {"memory": "9Gi"}}, 400, "OutOfRange", "memory"),
        ({"template": "small", "resources": {"memory": "1Mi"}}, 400, "OutOfRange", "memory"),
        ({"template": "fixed", "resources": {"cpu": "1500m"}}, 400, "OutOfRange", "cpu"),
        ({"template": "small", "resources": {"cpu": [1]}}, 400, "BadRequest", "resources.cpu"),
        ({"template": "small", "resources": {"disk": 1}}, 400, "BadRequest", "resources"),
        ({"template": "small", "resources": None}, 400, "BadRequest", "resources"),
        ({"template": "fixed", "resources": {"gpu": {"kind": "a100", "count": 1}}}, 400, "NoGpu",
         "gpu"),
        ({"template": "small", "resources": {"gpu": {"kind": "a100"}}}, 400, "BadRequest",
         "resources.gpu"),
        ({"template": "small", "resources": {"gpu": {"kind": "a100", "count": 99}}}, 400,
         "BadRequest", "resources.gpu.count"),
        ({"template": "small", "kernel_id": "mine"}, 400, "BadRequest", "kernel_id"),
        ({"template": "small", "kernel_id": 7}, 400, "BadRequest", "kernel_id"),
        ({"template": "small", "name": "n" * 201}, 400, "BadRequest", "name"),
        ([], 400, "BadRequest", None),
        ("small", 400, "BadRequest", None),
    ],
)  # fmt: skip
async def test_a_bad_start_is_explained_and_starts_nothing(
    call: Call, check: Checker, world: World, body: Any, status: int, reason: str, field: str | None
) -> None:
    problem = check.problem(await call("POST", "kernels", body), status, reason)
    assert problem.get("field") == field
    assert problem["remedy"]
    assert not world.cluster.kernels()


@pytest.mark.parametrize(
    "raw",
    [b"", b"{", b"not json", b"\xff\xfe", b'{"template": NaN}', b"[" * 50_000,
     b'{"template": "\\ud800"}', b'{"template":' * 20_000],
)  # fmt: skip
async def test_what_is_no_json_is_refused(call: Call, check: Checker, raw: bytes) -> None:
    check.problem(await call("POST", "kernels", raw=raw), 400, "BadRequest")


async def test_large_bodies_are_refused_unread(
    call: Call, check: Checker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("it was parsed")

    monkeypatch.setattr("msgspec.json.decode", never)
    body = {"template": "small", "name": "n" * 10_000_000}
    problem = check.problem(await call("POST", "kernels", body), 413, "TooLarge")
    assert "1048576" in problem["title"]


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "x"])
async def test_bodies_must_be_said_to_be_json(
    call: Call, check: Checker, content_type: str
) -> None:
    headers = {"Content-Type": content_type}
    response = await call("POST", "kernels", {"template": "small"}, headers=headers)
    check.problem(response, 415, "UnsupportedMediaType")


async def test_json_with_a_charset_is_json(call: Call) -> None:
    headers = {"Content-Type": "Application/JSON; charset=utf-8"}
    response = await call("POST", "kernels", {"template": "small"}, headers=headers)
    assert response.code == 202


@pytest.mark.parametrize(
    ("method", "path", "reason"),
    [
        ("GET", "nothing", "NoSuchPath"),
        ("POST", "nothing/here", "NoSuchPath"),
        ("DELETE", "", "NoSuchPath"),
        ("GET", "kernels/", "NoSuchPath"),
        ("GET", "templates/nothing", "UnknownTemplate"),
        ("GET", "templates/nothing/icon", "UnknownTemplate"),
        ("GET", f"kernels/{UNKNOWN}", "UnknownKernel"),
        ("GET", "kernels/no-uuid", "UnknownKernel"),
        ("DELETE", f"kernels/{UNKNOWN}", "UnknownKernel"),
        ("GET", f"kernels/{UNKNOWN}/usage", "UnknownKernel"),
        ("GET", f"kernels/{UNKNOWN}/progress", "UnknownKernel"),
        ("POST", f"kernels/{UNKNOWN}/keepalive", "UnknownKernel"),
    ],
)
async def test_what_is_not_there(
    call: Call, check: Checker, method: str, path: str, reason: str
) -> None:
    check.problem(await call(method, path), 404, reason)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "kernels", "GET, POST, OPTIONS"),
        ("DELETE", "kernels", "GET, POST, OPTIONS"),
        ("POST", "status", "GET, OPTIONS"),
        ("PUT", f"kernels/{UNKNOWN}", "GET, PATCH, DELETE, OPTIONS"),
    ],
)
async def test_a_verb_that_is_not_there(
    call: Call, check: Checker, method: str, path: str, allowed: str
) -> None:
    response = await call(method, path)
    check.problem(response, 405, "MethodNotAllowed")
    assert response.headers["Allow"] == allowed


async def test_somebody_elses_kernel_is_not_there(call: Call, check: Checker, world: World) -> None:
    kernel_id = (await start(call))["kernel_id"]
    world.cluster.put_kernel(replace(world.cluster.kernels()[kernel_id], owner="you"))
    one = f"kernels/{kernel_id}"
    for method, path, body in [
        ("GET", one, None),
        ("PATCH", one, {"name": "mine"}),
        ("DELETE", one, None),
        ("GET", f"{one}/progress", None),
        ("GET", f"{one}/usage", None),
        ("POST", f"{one}/keepalive", None),
    ]:
        check.problem(await call(method, path, body), 404, "UnknownKernel")
    assert check.operation("listKernels", await call("GET", "kernels"))["kernels"] == []
    pods = check.operation("getPool", await call("GET", "pool"))["pods"]
    assert [pod["kernel_id"] for pod in pods] == [None]
    assert world.cluster.kernels()[kernel_id].name == ""


async def test_a_change_that_is_refused_changes_nothing(
    call: Call, check: Checker, world: World
) -> None:
    kernel_id = (await start(call))["kernel_id"]
    one = f"kernels/{kernel_id}"
    before = world.cluster.kernels()[kernel_id]
    check.problem(await call("PATCH", one, {}), 400, "BadRequest")
    too_much = {"resources": {"memory": "9Gi"}}
    check.problem(await call("PATCH", one, too_much), 400, "OutOfRange")
    check.problem(await call("PATCH", one, {"template": "fixed"}), 400, "BadRequest")
    gpu = {"resources": {"gpu": {"kind": "a100", "count": 1}}}
    check.problem(await call("PATCH", one, gpu), 409, "ResizeUnsupported")
    assert world.cluster.kernels()[kernel_id] == before


async def test_room_that_is_not_there_says_when_to_come_back(
    call: Call, check: Checker, world: World
) -> None:
    world.cluster.limit = 0
    response = await call("POST", "kernels", {"template": "small"})
    assert check.problem(response, 429, "QuotaFull")["retry"] is True
    assert int(response.headers["Retry-After"]) > 0


async def test_an_agent_that_does_not_answer(call: Call, check: Checker, world: World) -> None:
    kernel_id = (await start(call))["kernel_id"]
    world.cluster.deaf = True
    check.problem(await call("GET", f"kernels/{kernel_id}/usage"), 503, "AgentUnreachable")


async def test_what_nobody_expected_does_not_leak(
    call: Call, check: Checker, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("secret-of-the-house")

    monkeypatch.setattr(world.service, "kernels_of", fail)
    response = await call("GET", "kernels")
    check.problem(response, 500, "InternalError")
    assert b"secret-of-the-house" not in response.body
    assert b"Traceback" not in response.body


async def test_where_there_is_no_service_the_reason_is_told(
    call: Call, check: Checker, server: Any
) -> None:
    settings = server.web_app.settings
    settings["elastic_service"] = Unsupported("Elastic kernels need Linux; this is Plan 9.")
    assert "Plan 9" in check.problem(await call("GET", "status"), 501, "Unsupported")["title"]
    del settings["elastic_service"]
    check.problem(await call("GET", "kernels"), 501, "Unsupported")


async def test_warm_pods_are_counted_apart_from_those_on_their_way(
    call: Call, check: Checker, world: World
) -> None:
    template = world.service.template("small")
    warm = await world.cluster.create_pod(template)
    world.cluster.put_pod(replace(warm, phase=PodPhase.WARM, warm_since=1.0))
    gone = await world.cluster.create_pod(template)
    world.cluster.put_pod(replace(gone, phase=PodPhase.GONE))
    await world.cluster.create_pod(template)
    pool = check.operation("getPool", await call("GET", "pool"))
    assert (pool["templates"][0]["warm"], pool["templates"][0]["warming"]) == (1, 1)
    assert gone.name not in [pod["name"] for pod in pool["pods"]]
    shown = check.operation("getTemplate", await call("GET", "templates/small"))
    assert shown["warm"] == 1


async def test_whoever_keeps_the_pool_says_what_is_wanted_and_why(
    call: Call, check: Checker, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = PoolRow(template="small", target=7, warm=0, warming=0, reason="Mondays are busy.")

    async def report() -> list[PoolRow]:
        return [row]

    monkeypatch.setattr(world.cluster, "pool_report", report)
    [shown, *_] = check.operation("getPool", await call("GET", "pool"))["templates"]
    assert (shown["target"], shown["reason"]) == (7, "Mondays are busy.")


async def test_no_room_is_never_less_than_none(call: Call, check: Checker, world: World) -> None:
    pod = await world.cluster.create_pod(world.service.template("small"))
    big = replace(pod.resources, cpu=99_000, memory=99 * GIB)
    world.cluster.put_pod(replace(pod, resources=big))
    capacity = check.operation("getCapacity", await call("GET", "capacity"))
    assert capacity["cpu"]["free"] == "0"
    assert capacity["memory"]["free"] == "0"


# -- progress as a stream ------------------------------------------------------------------


async def stream(call: Call, path: str, received: list[dict[str, Any]]) -> HTTPResponse:
    buffer = b""

    def take(chunk: bytes) -> None:
        nonlocal buffer
        buffer += chunk
        while b"\n\n" in buffer:
            message, buffer = buffer.split(b"\n\n", 1)
            if message.startswith(b"data: "):
                received.append(json.loads(message.removeprefix(b"data: ")))

    return await call(
        "GET",
        path,
        headers={"Accept": "text/event-stream"},
        streaming_callback=take,
        request_timeout=120,
    )


async def until(condition: Any) -> None:
    for _ in range(6000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not happen")


async def test_progress_is_streamed_until_the_kernel_runs(
    call: Call, check: Checker, world: World
) -> None:
    world.host.hold = True
    kernel_id = (await start(call))["kernel_id"]
    received: list[dict[str, Any]] = []
    task = asyncio.create_task(stream(call, f"kernels/{kernel_id}/progress", received))
    await until(lambda: len(received) == 1)
    kernel = world.cluster.kernels()[kernel_id]
    kernel = world.cluster.put_kernel(replace(kernel, steps=(Step(1.0, "created", "A pod."),)))
    await until(lambda: len(received) == 2)
    await world.host.finish(kernel)
    response = await task
    assert response.code == 200
    assert response.headers["Content-Type"] == "text/event-stream"
    for message in received:
        check.valid("Progress", message)
    assert [message["done"] for message in received] == [False, False, True]
    assert [step["name"] for step in received[-1]["steps"]] == ["created", "kernel-up"]
    assert world.cluster.listeners == 0


async def test_a_start_that_is_cancelled_ends_the_stream(call: Call, world: World) -> None:
    world.host.hold = True
    kernel_id = (await start(call))["kernel_id"]
    received: list[dict[str, Any]] = []
    task = asyncio.create_task(stream(call, f"kernels/{kernel_id}/progress", received))
    await until(lambda: received)
    await call("DELETE", f"kernels/{kernel_id}")
    assert (await task).code == 200
    assert received[-1]["done"] is True
    assert received[-1]["reason"] == "Deleted"


async def test_a_client_that_hangs_up_leaves_nothing_behind(
    call: Call, world: World, server: Any, jp_auth_header: Any, http_server_port: Any
) -> None:
    world.host.hold = True
    kernel_id = (await start(call))["kernel_id"]
    reader, writer = await asyncio.open_connection("127.0.0.1", http_server_port[1])
    path = f"{server.base_url}elastic/api/kernels/{kernel_id}/progress"
    writer.write(
        f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n"
        f"Authorization: {jp_auth_header['Authorization']}\r\n\r\n".encode()
    )
    await reader.readuntil(b"data: ")
    assert world.cluster.listeners == 1
    writer.close()
    await until(lambda: world.cluster.listeners == 0)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "\0x"),
        ("name", "a\x1b[2Jb"),
        ("name", "two\nlines"),
        ("name", "\x9b31m"),
        ("path", "a\0b"),
        ("path", "a\rb.ipynb"),
        ("path", "../../../../etc/x.ipynb"),
        ("path", "/../x"),
        ("path", "a/../../x"),
        ("path", "a\\..\\..\\x"),
        ("path", ".."),
    ],
)
async def test_words_that_would_do_harm_are_refused(
    call: Call, check: Checker, field: str, value: str
) -> None:
    response = await call("POST", "kernels", {"template": "small", field: value})
    assert check.problem(response, 400, "BadRequest")["field"] == field
    listed = check.operation("listKernels", await call("GET", "kernels"))
    assert listed["kernels"] == []


async def test_a_name_is_not_changed_to_one_that_would_do_harm(call: Call, check: Checker) -> None:
    kernel = await start(call, name="good")
    response = await call("PATCH", f"kernels/{kernel['kernel_id']}", {"name": "\x1b[31m"})
    assert check.problem(response, 400, "BadRequest")["field"] == "name"
    shown = check.operation("getKernel", await call("GET", f"kernels/{kernel['kernel_id']}"))
    assert shown["name"] == "good"


@pytest.mark.parametrize("path", ["", "/a/b.ipynb", "a..b/c...ipynb", "RTC:Übung 1.ipynb", "a//b"])
async def test_usual_paths_are_taken(call: Call, path: str) -> None:
    assert (await start(call, path=path))["path"] == path
