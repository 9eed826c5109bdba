"""Beside others: an admin's own managers, managers of other environments, a gateway."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tornado.httpclient import AsyncHTTPClient, HTTPRequest

from benchmarks.server import free_port, start_server

from .gateway import ask, in_front_of, protects, use, use_by_panel
from .test_starts import interrupted
from .tools import config, eventually
from .world import World, template, templates, world_of

ROOT = str(Path(__file__).parents[2])
"""So that servers and kernels can import :mod:`tests.server.admin`."""
ADMINS = """
c.ServerApp.kernel_manager_class = "tests.server.admin.AdminMappingManager"
c.ServerApp.session_manager_class = "tests.server.admin.AdminSessionManager"
c.ServerApp.kernel_spec_manager_class = "tests.server.admin.AdminSpecManager"
c.MappingKernelManager.kernel_manager_class = "tests.server.admin.AdminKernelManager"
"""


@pytest.fixture(scope="module")
def admins() -> Iterator[World]:
    with world_of(templates(template("work", pool=1)) + ADMINS, PYTHONPATH=ROOT) as world:
        yield world


@pytest.fixture
def world(admins: World) -> Iterator[World]:
    try:
        yield admins
        admins.assert_nothing_runs()
    finally:
        admins.stop_all()


def noted(world: World, text: str) -> int:
    """How often the admin's classes noted this."""
    return world.server.log.read_text().count(f"admin: {text}\n")


@pytest.mark.parametrize("name", ["work", "python3"])
def test_the_admins_managers_are_asked_for_every_kernel(world: World, name: str) -> None:
    path = world.notebook(f"{name}.ipynb")
    starts, ends = noted(world, f"start of {name}"), noted(world, f"process of {name}")
    session = world.post("/api/sessions", world.session(path, {"name": name}))
    kernel_id = session["kernel"]["id"]
    assert session["kernel"]["admin"] == "was here"
    assert noted(world, f"session of {path}") == 1
    assert noted(world, f"start of {name}") == starts + 1
    assert noted(world, f"process of {name}") == ends + 1
    assert world.execute(kernel_id, "x = 1; x") == "1"
    assert interrupted(world, kernel_id) == "1"
    world.post(f"/api/kernels/{kernel_id}/restart")
    assert noted(world, f"restart of {name}") == 1
    assert world.execute(kernel_id, "'x' in globals()") == "False"
    assert len(world.plain_kernels()) == (name == "python3")
    world.delete(f"/api/sessions/{session['id']}")
    assert noted(world, f"end of {kernel_id}") == 1


@pytest.mark.parametrize("name", ["work", "python3"])
def test_what_the_admin_forbids_is_forbidden(world: World, name: str) -> None:
    (world.home / "work" / "forbidden").mkdir(exist_ok=True)
    body = {"name": name, "path": "forbidden"}
    reply = world.run(world.ask("POST", "/api/kernels", body))
    assert reply.status == 403
    assert "says the admin" in reply.json["message"]
    if name == "work":
        body = {"template": name, "path": "forbidden/a.ipynb"}
        problem = world.refused("POST", "/elastic/api/kernels", body)
        assert problem["status"] == 403
        assert "says the admin" in problem["title"]


def test_our_own_api_works_with_the_admins_managers(world: World) -> None:
    starts = noted(world, "start of work")
    kernel_id = world.post("/elastic/api/kernels", {"template": "work"})["kernel_id"]
    assert noted(world, "start of work") == starts + 1
    world.phase(kernel_id, "Running")
    assert world.execute(kernel_id, "1 + 1") == "2"
    assert noted(world, f"end of {kernel_id}") == 0
    world.delete(f"/elastic/api/kernels/{kernel_id}")
    assert noted(world, f"end of {kernel_id}") == 1


def test_the_admins_kernelspecs_stay(world: World) -> None:
    specs = world.get("/api/kernelspecs")["kernelspecs"]
    assert {"work", "python3", "of-the-admin"} <= set(specs)
    assert specs["of-the-admin"]["spec"]["display_name"] == "Of the admin"
    model = world.post("/api/kernels", {"name": "of-the-admin"})
    assert world.execute(model["id"], "1 + 1") == "2"
    assert len(world.plain_kernels()) == 1
    world.delete(f"/api/kernels/{model['id']}")


# -- kernels of other environments ------------------------------------------------------------


def test_beside_a_manager_of_conda_environments() -> None:
    """Its kernelspecs work as plain kernels and, with no template configured, as elastic ones."""
    config = "c.ElasticLocal.memory = '4Gi'\n"
    chosen = {"ServerApp": {"kernel_spec_manager_class": f"{ROOT}"}}
    chosen["ServerApp"]["kernel_spec_manager_class"] = "tests.server.admin.EnvironmentSpecManager"

    def make_config(home: Path) -> str:
        # As that package's installer sets it: in a file of its own, for every Jupyter program.
        (home / "config").mkdir()
        (home / "config" / "jupyter_config.json").write_text(json.dumps(chosen))
        return config

    with world_of(make_config, PYTHONPATH=ROOT) as world:
        specs = world.get("/api/kernelspecs")["kernelspecs"]
        assert {"conda-env-x-py", "elastic-conda-env-x-py", "python3", "elastic-python3"} <= set(
            specs
        )
        for name in ("conda-env-x-py", "elastic-conda-env-x-py"):
            model = world.post("/api/kernels", {"name": name})
            value = world.execute(model["id"], "import os; os.environ['CONDA_PREFIX']")
            assert value == world.execute(model["id"], "import sys; sys.prefix")
            assert world.execute(model["id"], "x = 1; x") == "1"
            assert interrupted(world, model["id"]) == "1"
            world.post(f"/api/kernels/{model['id']}/restart")
            assert world.execute(model["id"], "'x' in globals()") == "False"
            elastic = world.get("/elastic/api/kernels")["kernels"]
            assert len(elastic) == (name == "elastic-conda-env-x-py")
            world.delete(f"/api/kernels/{model['id']}")
        world.assert_nothing_runs()


# -- a gateway --------------------------------------------------------------------------------


def test_behind_a_gateway_nothing_is_changed(tmp_path: Path) -> None:
    """Kernels are the gateway's, and so is the API: no composed class, no pool, no state."""
    port, log = free_port(), tmp_path / "log"
    command = [sys.executable, "-m", "jupyter_server", "--no-browser", f"--port={port}"]
    command += ["--allow-root", "--ServerApp.port_retries=0", f"--ServerApp.root_dir={tmp_path}"]
    command += ["--ServerApp.jpserver_extensions={'jupyter_elastic': True}"]
    command += [f"--ElasticLocal.state_dir={tmp_path / 'state'}"]
    command += [f"--gateway-url=http://127.0.0.1:{free_port()}"]
    with log.open("wb") as out:
        env = {**os.environ, "JUPYTER_TOKEN": "secret", "JUPYTER_RUNTIME_DIR": str(tmp_path)}
        process = subprocess.Popen(command, stdout=out, stderr=out, env=env, cwd=tmp_path)
    try:

        async def status(path: str) -> int:
            headers = {"Authorization": "token secret"}
            request = HTTPRequest(f"http://127.0.0.1:{port}{path}", headers=headers)
            return (await AsyncHTTPClient().fetch(request, raise_error=False)).code

        async def scenario() -> int:
            async def up() -> bool:
                assert process.poll() is None, log.read_text()
                try:
                    return await status("/api") == 200
                except OSError:
                    return False

            await eventually(up, "the server answering", 120)
            return await status("/elastic/api/status")

        assert asyncio.run(scenario()) == 502
    finally:
        process.terminate()
        process.wait(60)
    text = log.read_text()
    assert "kernels come from a gateway" in text
    assert "jupyter_elastic | extension was successfully loaded" in text
    assert not (tmp_path / "state").exists()


@pytest.mark.newest
def test_the_panel_starts_kernels_of_a_gateway(home: Path) -> None:
    async def scenario() -> None:
        gateway = await start_server(home, config(pool=1))
        try:
            async with in_front_of(gateway, home / "front") as front:
                await use_by_panel(front, gateway)
        finally:
            await gateway.stop()

    asyncio.run(scenario())


def test_a_gateway_is_used_through_a_server_in_front(home: Path) -> None:
    """As ``jupyter lab --gateway-url``: kernels, sessions and our API are the gateway's."""

    async def scenario() -> None:
        gateway = await start_server(home, config(pool=1))
        try:
            async with in_front_of(gateway, home / "front") as front:
                await use(front, gateway)
                await protects(front)
            async with in_front_of(gateway, home / "wrong", "/not/there") as front:
                refused = await ask(front, "/elastic/api/kernels")
                assert json.loads(refused.body)["reason"] == "GatewayRefused"
        finally:
            await gateway.stop()

    asyncio.run(scenario())
