"""schemathesis asks what the OpenAPI document allows, and what it does not: never a 5xx."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from jupyter_server.serverapp import ServerApp

from .conftest import World

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")

EXAMPLES = 20
SURE: dict[str, dict[str, Any]] = {
    "POST /kernels": {"template": "small"},
    "PATCH /kernels/{kernel_id}": {"resources": {"memory": "256Mi"}},
}
"""Requests that must succeed, where what is made up seldom does."""


def operations(document: dict[str, Any]) -> Iterator[Any]:
    """What ends kernels comes last, so that the others still find them."""
    schema = schemathesis.openapi.from_dict(document)
    found = [result.ok() for result in schema.get_all_operations()]
    yield from sorted(found, key=lambda operation: operation.method.lower() == "delete")


async def test_no_request_makes_the_server_fail(
    server: ServerApp,
    world: World,
    document: dict[str, Any],
    http_server: Any,
    http_server_port: Any,
    jp_auth_header: dict[str, str],
) -> None:
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi import checks

    kernel_ids = [
        (await world.service.start_kernel("small", name=str(i))).kernel_id for i in range(2)
    ]
    url = f"http://localhost:{http_server_port[1]}{server.base_url}elastic/api"
    wanted = [
        not_a_server_error,
        checks.status_code_conformance,
        checks.content_type_conformance,
        checks.response_schema_conformance,
        checks.negative_data_rejection,
    ]
    answers: Counter[tuple[str, int]] = Counter()

    def probe(operation: Any, real: bool) -> None:
        modes = [schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE]
        cases = st.one_of([operation.as_strategy(generation_mode=mode) for mode in modes])

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=cases, kernel_id=st.sampled_from(kernel_ids))
        def ask(case: Any, kernel_id: str) -> None:
            if real:
                there = {"kernel_id": kernel_id, "name": "small"}
                for name in case.path_parameters or {}:
                    case.path_parameters[name] = there[name]
                if isinstance(case.body, dict) and "template" in case.body:
                    case.body["template"] = "small"
            response = case.call(base_url=url, headers=jp_auth_header, timeout=120)
            answers[operation.label, response.status_code] += 1
            case.validate_response(response, checks=wanted[:-1] if real else wanted)

        ask()
        if real and operation.label in SURE:
            where = {"kernel_id": kernel_ids[0]} if "{" in operation.path else {}
            case = operation.Case(
                path_parameters=where,
                body=SURE[operation.label],
                media_type="application/json",
            )
            response = case.call(base_url=url, headers=jp_auth_header, timeout=120)
            answers[operation.label, response.status_code] += 1
            case.validate_response(response, checks=wanted)

    for operation in operations(document):
        await asyncio.to_thread(probe, operation, False)
        # With made-up names and ids only, nothing behind the first look-up would be asked.
        if "{" in operation.path or operation.method.lower() == "post":
            await asyncio.to_thread(probe, operation, True)

    for (label, status), count in sorted(answers.items()):
        print(f"{count:4} x {status}  {label}")
    asked = {label for label, _ in answers}
    assert len(asked) == len(list(operations(document)))
    assert not [status for _, status in answers if status >= 500]
    reached = {label for label, status in answers if status < 300}
    assert reached == asked, "an operation never succeeded, so its answer was never looked at"
