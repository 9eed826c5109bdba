"""No endpoint of the extension is open: found by looking at every handler, tried by asking."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from jupyter_server.auth import Authorizer
from jupyter_server.base.handlers import APIHandler
from traitlets.config import Config

from jupyter_elastic.api.base import VERBS, ElasticHandler
from jupyter_elastic.api.handlers import routes

from .conftest import Call, World

PATHS = {
    "name": "small",
    "kernel_id": "00000000-0000-4000-8000-000000000000",
}


def all_requests() -> list[tuple[str, str]]:
    """(verb, path) for each verb of each handler, including those that only refuse."""
    found = []
    for pattern, handler in routes():
        path = re.sub(r"\(\?P<(\w+)>[^)]*\)", lambda match: PATHS[match[1]], pattern)
        path = path.replace("(?:/.*)?", "/nothing").replace("\\", "")
        assert re.fullmatch(pattern, path)
        verbs = [verb for verb in (*VERBS, "options") if getattr(handler, verb, None) is not None]
        found += [(verb.upper(), path.removeprefix("/elastic/api/")) for verb in verbs]
    return found


class Nobody(Authorizer):
    """Allows nothing, and remembers what was asked."""

    asked: list[tuple[str, str]] = []

    def is_authorized(self, handler: Any, user: Any, action: str, resource: str) -> bool:
        self.asked.append((action, resource))
        return False


def test_every_handler_is_ours_and_no_verb_escaped_the_list() -> None:
    known = {"GET", "HEAD", "POST", "DELETE", "PATCH", "PUT", "OPTIONS"}
    for _, handler in routes():
        assert issubclass(handler, ElasticHandler)
        assert handler.auth_resource == "elastic"
        assert set(handler.SUPPORTED_METHODS) == known
        # Jupyter's own preflight: browsers send no credentials with it, and it tells nothing.
        assert handler.options is APIHandler.options
    assert {verb.upper() for verb in VERBS} == known - {"OPTIONS"}


@pytest.mark.parametrize(("method", "path"), all_requests())
async def test_a_stranger_is_refused(call: Call, world: World, method: str, path: str) -> None:
    response = await call(method, path, {}, headers={"Authorization": ""}, follow_redirects=False)
    if method == "OPTIONS":
        assert response.body == b""
        return
    assert response.code == 403
    assert not world.cluster.kernels()
    if method != "HEAD":
        assert response.headers["Content-Type"] == "application/problem+json"


class TestWithAnAuthorizerThatRefuses:
    """The user is known, but may not."""

    @pytest.fixture
    def jp_server_config(self) -> Config:
        Nobody.asked.clear()
        return Config({"ServerApp": {"authorizer_class": Nobody}})

    async def test_every_verb_is_refused(self, call: Call, world: World) -> None:
        for method, path in all_requests():
            if method == "OPTIONS":
                continue
            Nobody.asked.clear()
            response = await call(method, path, {})
            assert response.code == 403, (method, path)
            action = "read" if method in ("GET", "HEAD") else "write"
            assert Nobody.asked == [(action, "elastic")], (method, path)
        assert not world.cluster.kernels()


async def test_a_browser_needs_the_xsrf_token(
    call: Call, world: World, jp_serverapp: Any, jp_auth_header: Any
) -> None:
    """A page of somebody else's can make a browser send cookies, but not the header."""
    login = await call("GET", "status", headers={"Authorization": ""}, follow_redirects=False)
    assert login.code == 403
    token = jp_auth_header["Authorization"].removeprefix("token ")
    first = await call("GET", f"status?token={token}", headers={"Authorization": ""})
    assert first.code == 200
    cookies = "; ".join(cookie.partition(";")[0] for cookie in first.headers.get_list("Set-Cookie"))
    body = {"template": "small"}
    headers = {"Authorization": "", "Cookie": cookies}
    refused = await call("POST", "kernels", body, headers=headers)
    assert refused.code == 403
    assert b"_xsrf" in refused.body
    assert not world.cluster.kernels()


class Administrators(Authorizer):
    """Allows a user's own to everybody, and others' kernels as the test says."""

    allowed: set[str] = set()

    def is_authorized(self, handler: Any, user: Any, action: str, resource: str) -> bool:
        return resource == "elastic" or (resource == "elastic-others" and action in self.allowed)


async def somebody_elses(world: World) -> str:
    kernel = world.service.draft("small", owner="somebody-else")
    await world.service.launcher.record(kernel)
    return kernel.kernel_id


async def test_nobody_is_an_administrator_by_default(call: Call, world: World) -> None:
    kernel_id = await somebody_elses(world)
    assert (await call("GET", f"kernels/{kernel_id}")).code == 404
    assert (await call("DELETE", f"kernels/{kernel_id}")).code == 404
    refused = await call("GET", "kernels?all=1")
    assert refused.code == 403
    assert b"elastic-others" in refused.body
    assert kernel_id in world.cluster.kernels()


class TestAdministrators:
    @pytest.fixture
    def jp_server_config(self) -> Config:
        return Config({"ServerApp": {"authorizer_class": Administrators}})

    async def test_they_see_and_stop_the_kernels_of_others(self, call: Call, world: World) -> None:
        kernel_id = await somebody_elses(world)
        Administrators.allowed = {"read"}
        listed = json.loads((await call("GET", "kernels?all=1")).body)["kernels"]
        assert [(one["kernel_id"], one["owner"]) for one in listed] == [
            (kernel_id, "somebody-else")
        ]
        assert json.loads((await call("GET", "kernels")).body)["kernels"] == []
        assert (await call("GET", f"kernels/{kernel_id}/progress")).code == 200
        assert (await call("DELETE", f"kernels/{kernel_id}")).code == 404  # read is not write
        Administrators.allowed = {"read", "write"}
        assert (await call("DELETE", f"kernels/{kernel_id}")).code == 204
        assert kernel_id not in world.cluster.kernels()
