"""A real Jupyter server with the real handlers and service, over a cluster in memory."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator  # type: ignore[import-untyped]
from jupyter_server.serverapp import ServerApp
from jupyter_server.utils import url_path_join
from tornado.httpclient import HTTPResponse
from traitlets.config import Config

import jupyter_elastic.api
from jupyter_elastic.api.events import register_events
from jupyter_elastic.api.handlers import routes
from jupyter_elastic.kernels import service as service_module
from jupyter_elastic.kernels.service import ElasticService
from jupyter_elastic.kernels.standalone import make_service

from .memory import MemoryCluster, MemoryHost

TEMPLATES = [
    {
        "name": "small",
        "display_name": "Small",
        "preload": ["json"],
        "resources": {
            "cpu": {"minimum": "100m", "default": 1, "maximum": 4},
            "memory": {"minimum": "128Mi", "default": "1Gi", "maximum": "8Gi"},
            "gpu": {"kinds": ["a100"], "maximum": 2},
        },
        "pool": {"size": 1},
    },
    {"name": "fixed", "resources": {"cpu": {"choices": [1, 2]}, "memory": "1Gi"}},
    {"name": "broken", "colour": "red"},
]


@dataclass
class World:
    """The server's inside."""

    service: ElasticService
    cluster: MemoryCluster
    host: MemoryHost


@pytest.fixture
def jp_server_config() -> Config:
    return Config({"ServerApp": {"jpserver_extensions": {"jupyter_elastic": False}}})


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    cluster = MemoryCluster()
    monkeypatch.setattr(service_module, "make_cluster", lambda *_: cluster)
    config = Config({"ElasticKernels": {"templates": TEMPLATES, "owner": "me"}})
    service = make_service(config)
    service.templates.refresh()
    host = MemoryHost(cluster, service.template)
    service.host = host
    return World(service, cluster, host)


@pytest.fixture
def server(jp_serverapp: ServerApp, world: World) -> ServerApp:
    """The running server; nothing but our API was added to it."""
    app = jp_serverapp
    app.web_app.settings["elastic_service"] = world.service
    assert app.event_logger is not None
    register_events(app.event_logger)
    app.web_app.add_handlers(".*$", routes(app.base_url))  # type: ignore[no-untyped-call]
    return app


Call = Callable[..., Awaitable[HTTPResponse]]


@pytest.fixture
def call(server: ServerApp, http_server_client: Any, jp_auth_header: Any, jp_base_url: str) -> Call:
    """Send a request below ``/elastic/api``; errors are answers like others."""

    async def send(
        method: str,
        path: str,
        body: Any = None,
        *,
        raw: bytes | None = None,
        headers: dict[str, str] | None = None,
        **options: Any,
    ) -> HTTPResponse:
        sent = dict(jp_auth_header)
        if body is not None:
            raw = json.dumps(body).encode()
        if raw is not None:
            sent["Content-Type"] = "application/json"
        sent |= headers or {}
        response: HTTPResponse = await http_server_client.fetch(
            url_path_join(jp_base_url, "elastic/api", path),
            method=method,
            body=raw,
            headers={name: value for name, value in sent.items() if value},
            allow_nonstandard_methods=True,
            raise_error=False,
            **options,
        )
        return response

    return send


@pytest.fixture(scope="session")
def document() -> dict[str, Any]:
    """The OpenAPI document."""
    text = (Path(jupyter_elastic.api.__file__).parent / "openapi.yaml").read_text()
    document: dict[str, Any] = yaml.safe_load(text)
    return document


@pytest.fixture(scope="session")
def valid(document: dict[str, Any]) -> Callable[[str, Any], None]:
    """Hold data against a schema of the document, by its name. Raises ValidationError."""
    schemas = as_json_schema(document["components"])

    def validate(name: str, data: Any) -> None:
        schema = {"$ref": f"#/components/schemas/{name}", "components": schemas}
        Draft7Validator(schema).validate(data)

    return validate


def as_json_schema(schema: Any) -> Any:
    """OpenAPI 3.0 says ``nullable`` where JSON schema says it in ``type``."""
    if isinstance(schema, list):
        return [as_json_schema(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    plain = {key: as_json_schema(value) for key, value in schema.items()}
    if plain.pop("nullable", False) is True:
        plain["type"] = [plain["type"], "null"]
    return plain
