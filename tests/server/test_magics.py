"""``%elastic status`` in real kernels: the figures are those of the server's own API."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from .world import World, template, templates, world_of

MIB = 2**20
HOLD = "held = bytearray(64 * 2**20); held[::4096] = b'x' * len(held[::4096]); len(held)"
PRINTED = """
import contextlib, io
with contextlib.redirect_stdout(io.StringIO()) as out:
    get_ipython().run_line_magic("elastic", "status")
out.getvalue()
"""


@pytest.fixture(scope="module", params=["auto", "off"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """Limits by a control group where one may be written, and by the agent."""
    config = f"c.ElasticLocal.cgroup = {request.param!r}\n"
    with world_of(templates(template("work", pool=1)) + config) as world:
        yield world


@pytest.fixture
def kernel_id(world: World) -> Iterator[str]:
    """A kernel on a warm pod, with the extension loaded."""
    world.warm("work")
    kernel_id = world.post("/api/kernels", {"name": "work"})["id"]
    world.execute(kernel_id, "%load_ext jupyter_elastic\n1")
    try:
        yield kernel_id
    finally:
        world.delete(f"/api/kernels/{kernel_id}")


def status(world: World, kernel_id: str) -> dict[str, Any]:
    """What the magic returns."""
    found: dict[str, Any] = ast.literal_eval(world.execute(kernel_id, "%elastic status --json"))
    return found


def test_limits_and_use_from_inside(world: World, kernel_id: str) -> None:
    before = status(world, kernel_id)
    view = world.elastic(kernel_id)
    assert before["template"] == "work"
    assert (before["kernel_id"], before["pod"]) == (kernel_id, view["pod"])
    assert before["memory"]["limit"] == 256 * MIB
    assert before["cpu"]["limit"] == 0.5
    assert before["cpu"]["now"] >= 0

    assert world.execute(kernel_id, HOLD) == str(64 * MIB)
    held = status(world, kernel_id)["memory"]
    assert 56 * MIB < held["now"] - before["memory"]["now"] < 96 * MIB
    assert held["peak"] >= held["now"]
    # As the server says, but for what both are doing meanwhile.
    usage = world.get(f"/elastic/api/kernels/{kernel_id}/usage")
    assert abs(usage["memory"] - held["now"]) < 48 * MIB
    assert usage["memory_limit"] == held["limit"]


def test_a_resize_is_seen(world: World, kernel_id: str) -> None:
    body = {"resources": {"memory": "384Mi", "cpu": "1"}}
    world.patch(f"/elastic/api/kernels/{kernel_id}", body)
    now = status(world, kernel_id)
    assert now["memory"]["limit"] == 384 * MIB
    assert now["cpu"]["limit"] == 1.0


def test_the_text_is_for_people(world: World, kernel_id: str) -> None:
    text = str(ast.literal_eval(world.execute(kernel_id, PRINTED)))
    lines = dict(line.split(maxsplit=1) for line in text.splitlines())
    assert list(lines) == ["Template", "Kernel", "Pod", "CPU", "Memory", "Limits"]
    assert lines["Template"] == "work"
    assert lines["CPU"].endswith("in use, limit 0.5 CPU")
    assert "limit 256 MiB" in lines["Memory"]
    means = world.get("/elastic/api/status")["enforcement"]["memory"]
    assert ("weaker" in lines["Limits"]) == (means == "watchdog")


def test_other_words_say_how_it_is_used(world: World, kernel_id: str) -> None:
    code = (
        "from IPython.core.error import UsageError\n"
        "try:\n    get_ipython().run_line_magic('elastic', 'stop')\n"
        "except UsageError as error:\n    said = str(error)\n"
        "said"
    )
    assert "%elastic status" in world.execute(kernel_id, code)


def test_a_plain_kernel_says_that_it_is_one(world: World) -> None:
    kernel_id = world.post("/api/kernels", {"name": "python3"})["id"]
    code = (
        "%load_ext jupyter_elastic\n"
        "from IPython.core.error import UsageError\n"
        "try:\n    get_ipython().run_line_magic('elastic', 'status')\n"
        "except UsageError as error:\n    said = str(error)\n"
        "said"
    )
    assert "no elastic kernel" in world.execute(kernel_id, code)
    world.delete(f"/api/kernels/{kernel_id}")


def test_a_kernel_loads_no_server_for_it() -> None:
    """In a user's kernel: quick, and nothing that a server needs."""
    code = (
        "import sys, IPython\n"
        "before = set(sys.modules)\n"
        "import jupyter_elastic.magics\n"
        "print(*sorted({name.partition('.')[0] for name in set(sys.modules) - before}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"jupyter_server", "jupyter_client", "tornado", "kubernetes", "aiohttp", "yaml", "zmq"}
    assert not heavy & set(done.stdout.split())
