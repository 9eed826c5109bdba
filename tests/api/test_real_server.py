"""The API of a server with the extension enabled, on the real local cluster."""

from __future__ import annotations

import asyncio
import json
import platform
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from jupyter_server.serverapp import ServerApp
from jupyter_server.utils import url_path_join
from tornado.httpclient import HTTPResponse
from traitlets.config import Config

from jupyter_elastic.api.base import ElasticHandler
from jupyter_elastic.api.events import KERNEL_SCHEMA, POOL_SCHEMA
from jupyter_elastic.api.handlers import routes
from jupyter_elastic.api.jupyter import jupyter_routes
from jupyter_elastic.kernels.service import ElasticService
from jupyter_elastic.resources import MIB

SMALL = {
    "name": "small",
    "resources": {
        "cpu": {"minimum": "100m", "default": 1, "maximum": 4},
        "memory": {"minimum": "64Mi", "default": "256Mi", "maximum": "2Gi"},
    },
    "pool": {"size": 1},
}


@pytest.fixture
def jp_server_config(state_dir: Path) -> Config:
    return Config(
        {
            "ServerApp": {"jpserver_extensions": {"jupyter_elastic": True}},
            "ElasticLocal": {"state_dir": str(state_dir)},
            "ElasticKernels": {"templates": [SMALL], "owner": "tester", "refill_delay": 0.0},
        }
    )


@pytest.fixture
def told(jp_serverapp: ServerApp) -> list[dict[str, Any]]:
    """All events of ours that the server emits."""
    events: list[dict[str, Any]] = []

    async def listen(logger: Any, schema_id: str, data: dict[str, Any]) -> None:
        events.append({"schema": schema_id, **data})

    assert jp_serverapp.event_logger is not None
    for schema in (KERNEL_SCHEMA, POOL_SCHEMA):
        jp_serverapp.event_logger.add_listener(schema_id=schema, listener=listen)
    return events


@pytest.fixture
def real(
    jp_serverapp: ServerApp, http_server_client: Any, jp_auth_header: Any, jp_base_url: str,
    valid: Callable[[str, Any], None], jp_asyncio_loop: asyncio.AbstractEventLoop,
) -> Iterator[Any]:  # fmt: skip
    """Send a request, hold a 2xx answer against the schema that is named, return its JSON."""

    async def send(
        method: str, path: str, schema: str = "", body: Any = None, **options: Any
    ) -> Any:
        headers = dict(jp_auth_header) | options.pop("headers", {})
        if body is not None:
            headers["Content-Type"] = "application/json"
        response: HTTPResponse = await http_server_client.fetch(
            url_path_join(jp_base_url, "elastic/api", path),
            method=method,
            body=None if body is None else json.dumps(body).encode(),
            headers=headers,
            allow_nonstandard_methods=True,
            request_timeout=120,
            **options,
        )
        if not schema:
            return None
        data = json.loads(response.body)
        valid(schema, data)
        return data

    yield send

    async def end() -> None:
        [app] = jp_serverapp.extension_manager.extension_apps["jupyter_elastic"]
        service = app.service
        try:
            await asyncio.wait_for(service.controller.stop(), 60)
        finally:
            for kernel_id in list(service.cluster.kernels()):
                await service.stop_kernel(kernel_id)
            for name in list(service.cluster.pods()):
                await service.cluster.delete_pod(name)
            await app.stop_extension()

    jp_asyncio_loop.run_until_complete(end())


async def until(condition: Callable[[], Any], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return
        assert time.monotonic() < deadline, "it did not happen"
        await asyncio.sleep(0.05)


async def progress(real: Any, kernel_id: str) -> AsyncIterator[dict[str, Any]]:
    received: list[dict[str, Any]] = []
    buffer = b""

    def take(chunk: bytes) -> None:
        nonlocal buffer
        buffer += chunk
        while b"\n\n" in buffer:
            message, buffer = buffer.split(b"\n\n", 1)
            if message.startswith(b"data: "):
                received.append(json.loads(message.removeprefix(b"data: ")))

    headers = {"Accept": "text/event-stream"}
    await real("GET", f"kernels/{kernel_id}/progress", headers=headers, streaming_callback=take)
    for message in received:
        yield message


def test_all_handlers_of_the_extension_are_those_that_are_tested(jp_serverapp: ServerApp) -> None:
    [app] = jp_serverapp.extension_manager.extension_apps["jupyter_elastic"]
    instead = {handler for _, handler in jupyter_routes()}
    ours = {handler for _, handler in routes()}
    found = {
        rule.target
        for router in jp_serverapp.web_app.default_router.rules
        for rule in getattr(router.target, "rules", ())
        if getattr(rule.target, "__module__", "").startswith("jupyter_elastic")
    }
    assert found == ours | instead
    assert all(issubclass(handler, ElasticHandler) for handler in ours)
    # What stands in front of Jupyter's own handlers is held to Jupyter's own permissions.
    assert {handler.auth_resource for handler in instead} == {"kernels", "sessions"}
    assert {entry[1] for entry in app.handlers} == ours | instead


@pytest.mark.parametrize(
    "path", ["api/sessions", "api/kernels/00000000-0000-4000-8000-000000000000/restart"]
)
async def test_a_stranger_is_refused_in_front_of_jupyters_handlers(
    jp_serverapp: ServerApp, http_server_client: Any, jp_base_url: str, path: str
) -> None:
    response = await http_server_client.fetch(
        url_path_join(jp_base_url, path), method="POST", body=b"{}", raise_error=False
    )
    assert response.code == 403


async def test_a_kernel_over_rest(
    real: Any, told: list[dict[str, Any]], jp_serverapp: ServerApp,
    http_server_client: Any, jp_auth_header: Any, jp_base_url: str,
) -> None:  # fmt: skip
    settings = jp_serverapp.web_app.settings
    await until(lambda: isinstance(settings["elastic_service"], ElasticService))

    async def warm() -> bool:
        pool = await real("GET", "pool", "Pool")
        return bool(pool["templates"][0]["warm"] == 1)

    await until(warm)
    assert (await real("GET", "pool", "Pool"))["controller"] is True
    await real("GET", "status", "Status")
    await real("GET", "templates", "TemplateList")

    body = {"template": "small", "resources": {"memory": "128Mi"}, "name": "mine"}
    kernel_id = (await real("POST", "kernels", "Kernel", body))["kernel_id"]
    steps = [message async for message in progress(real, kernel_id)]
    assert steps[-1]["done"] is True
    assert steps[-1]["phase"] == "Running"
    assert steps[-1]["steps"][0]["name"] == "queued"

    one = f"kernels/{kernel_id}"
    kernel = await real("GET", one, "Kernel")
    assert kernel["start"] == "warm"
    assert kernel["node"] == platform.node()
    [row] = (await real("GET", "pool", "Pool"))["templates"]
    assert row["starts"] == {"warm": 1, "cold": 0}
    assert kernel["attached"] is True
    assert kernel["actual"]["memory"] == "128Mi"
    where = url_path_join(jp_base_url, "metrics")
    metrics = (await http_server_client.fetch(where, headers=jp_auth_header)).body.decode()
    assert 'jupyter_elastic_kernel_starts_total{start="warm",template="small"}' in metrics
    assert 'jupyter_elastic_kernels{phase="Running",template="small"} 1.0' in metrics
    usage = await real("GET", f"{one}/usage", "Usage")
    assert usage["memory_limit"] == 128 * MIB
    assert usage["cpu_limit"] == 1
    assert 0 < usage["memory"] < 128 * MIB
    changed = await real("PATCH", one, "Kernel", {"resources": {"memory": "256Mi", "cpu": 2}})
    assert changed["resize"]["state"] == "Done"
    usage = await real("GET", f"{one}/usage", "Usage")
    assert (usage["memory_limit"], usage["cpu_limit"]) == (256 * MIB, 2)
    await real("POST", f"{one}/keepalive")
    assert (await real("GET", "capacity", "Capacity"))["memory"]["used"] != "0"
    await real("DELETE", one)
    assert (await real("GET", "kernels", "KernelList"))["kernels"] == []

    def kernel_events() -> list[dict[str, Any]]:
        return [event for event in told if event["schema"] == KERNEL_SCHEMA]

    await until(lambda: kernel_events()[-1]["change"] == "removed")
    assert kernel_events()[0]["change"] == "added"
    assert "Running" in [event["phase"] for event in kernel_events()]
    assert {event["kernel_id"] for event in kernel_events()} == {kernel_id}
    await until(lambda: any(event["schema"] == POOL_SCHEMA for event in told))
