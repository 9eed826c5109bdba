"""A Jupyter server whose kernels and whose API are another's, as a browser meets it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from tornado.httpclient import AsyncHTTPClient, HTTPRequest, HTTPResponse

from benchmarks.server import Server, start_server
from jupyter_elastic.api.base import VERBS

from .tools import kernel, phase

BASE = "/user/ada"


@contextlib.asynccontextmanager
async def in_front_of(gateway: Server, home: Path, path: str = "") -> AsyncIterator[Server]:
    """A server with ``--gateway-url``, under a base URL of its own."""
    home.mkdir()
    config = (
        f"c.GatewayClient.url = {gateway.url + path!r}\n"
        f"c.GatewayClient.auth_token = {gateway.token!r}\n"
        f"c.ServerApp.base_url = {BASE + '/'!r}\n"
    )
    server = await start_server(home, config, until=f"{BASE}/api")
    server.url += BASE
    try:
        yield server
    finally:
        await server.stop()


async def ask(server: Server, path: str, method: str = "GET", **headers: str) -> HTTPResponse:
    """Whatever is answered, without following."""
    request = HTTPRequest(
        f"{server.url}{path}",
        method=method,
        headers=headers or server.headers,
        follow_redirects=False,
        allow_nonstandard_methods=True,
    )
    return await AsyncHTTPClient().fetch(request, raise_error=False)


async def use(front: Server, gateway: Server) -> None:
    """Kernels of the gateway by way of the front server: the plain API, and ours."""
    specs = await front.request("GET", "/api/kernelspecs")
    assert "work" in specs["kernelspecs"]
    plain = await front.request("POST", "/api/kernels", {"name": "work"})
    channel = await front.connect(plain["id"])
    assert await channel.execute("x = 6 * 7; x") == "42"
    seen = await kernel(front, plain["id"])
    assert seen == await kernel(gateway, plain["id"])
    assert seen["phase"] == "Running"
    place = f"/elastic/api/kernels/{plain['id']}"
    await front.request("PATCH", place, {"resources": {"memory": "300Mi"}})
    assert (await kernel(front, plain["id"]))["actual"]["memory"] == "300Mi"
    assert await channel.execute("x") == "42"
    channel.close()
    await front.request("DELETE", place)
    assert (await gateway.request("GET", "/elastic/api/kernels"))["kernels"] == []


async def use_by_panel(front: Server, gateway: Server) -> None:
    """As the panel starts one: by our API, and then a session for it.

    A front server of jupyter_server 2.14 does not know kernels that it did not start itself.
    """
    started = await front.request("POST", "/elastic/api/kernels", {"template": "work"})
    await phase(front, started["kernel_id"], "Running")
    made = {"kernel": {"id": started["kernel_id"]}, "type": "notebook"}
    await front.request("POST", "/api/sessions", {"path": "a.ipynb", "name": "a", **made})
    channel = await front.connect(started["kernel_id"])
    assert await channel.execute("6 * 7") == "42"
    channel.close()
    await front.request("DELETE", f"/api/kernels/{started['kernel_id']}")
    assert (await gateway.request("GET", "/elastic/api/kernels"))["kernels"] == []


async def protects(front: Server) -> None:
    """Who may ask the front server, and for what; errors are told as the gateway told them."""
    body = b'{"template": "work"}'
    for verb in VERBS:
        stranger = await ask(front, "/elastic/api/kernels", verb.upper(), Accept="*/*")
        assert stranger.code == 403, verb
    first = await ask(front, f"/elastic/api/status?token={front.token}", Accept="*/*")
    assert first.code == 200
    cookies = "; ".join(one.partition(";")[0] for one in first.headers.get_list("Set-Cookie"))
    refused = await AsyncHTTPClient().fetch(
        HTTPRequest(f"{front.url}/elastic/api/kernels", "POST", {"Cookie": cookies}, body),
        raise_error=False,
    )
    assert refused.code == 403
    assert b"_xsrf" in refused.body

    async def problem(path: str, method: str = "GET") -> Any:
        response = await ask(front, path, method)
        assert response.headers["Content-Type"] == "application/problem+json"
        return json.loads(response.body)

    nobody = "/elastic/api/kernels/00000000-0000-4000-8000-000000000000"
    assert (await problem(nobody))["reason"] == "UnknownKernel"
    assert (await problem("/elastic/api/pool", "PUT"))["reason"] == "MethodNotAllowed"
    for way in ("/..", "/%2e%2e", "/%2E%2E%2Fx", "/x%2f..", "/..%5c"):
        found = await problem(f"/elastic/api{way}/api/status")
        assert found["reason"] == "NoSuchPath"
        assert "openapi" in found["remedy"]

    templates = await front.request("GET", "/elastic/api/templates")
    [icon] = {one["icon_url"] for one in templates["templates"]}
    assert icon == f"{BASE}/elastic/api/templates/work/icon"
    picture = await ask(front, icon.removeprefix(BASE))
    assert picture.headers["Content-Type"].startswith("image/")
    assert "sandbox" in picture.headers["Content-Security-Policy"]
