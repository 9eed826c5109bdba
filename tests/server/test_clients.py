"""Other clients than a browser, other languages, other environments than the server's."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import sysconfig
import tempfile
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.blocking.client import BlockingKernelClient

from benchmarks.server import Channel

from .conftest import end_all
from .test_starts import executes_again, interrupted
from .tools import Cell
from .world import MARK, World, template, templates, world_of

BASH = [sys.executable, "-m", "bash_kernel", "-f", "{connection_file}"]
REPORT = """
import json, os, pathlib
[path] = pathlib.Path(os.environ["JE_STATE"], "kernels").glob("*.json")
print(json.loads(path.read_text())["start"], os.environ["JUPYTER_ELASTIC_POD"], os.getcwd())
"""
"""How this kernel was started, from its record."""


def make_config(home: Path) -> str:
    """Templates for Python, for bash, and for another environment's Python."""
    return templates(
        template("work", pool=1),
        template("bash", argv=BASH, language="bash"),
        template("other", interpreter=str(other_environment(home / "other"))),
    )


def other_environment(path: Path) -> Path:
    """A virtual environment's interpreter; it borrows ipykernel from here, to need no network."""
    venv.create(path, symlinks=True)
    packages = path / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    (packages / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return path / "bin" / "python"


@pytest.fixture(scope="module")
def server() -> Iterator[World]:
    with world_of(make_config) as world:
        yield world


@pytest.fixture
def world(server: World) -> Iterator[World]:
    """The module's server; each test must leave it as it found it."""
    try:
        yield server
        server.assert_nothing_runs()
    finally:
        server.stop_all()


class Desk:
    """Someone's shell: directories with kernelspecs that our command wrote, and no server."""

    def __init__(self, home: Path, **environment: str) -> None:
        self.home = home
        self.environment = {
            **os.environ,
            "JUPYTER_CONFIG_DIR": str(home / "config"),
            "JUPYTER_DATA_DIR": str(home / "desk"),
            "JUPYTER_RUNTIME_DIR": str(home / "desk-runtime"),
            "JUPYTER_PATH": str(home / "prefix" / "share" / "jupyter"),
            "JE_STATE": str(home / "state"),
            **environment,
        }
        (home / "desk-work").mkdir(exist_ok=True)

    def run(self, *arguments: str, timeout: float = 200) -> subprocess.CompletedProcess[str]:
        """``python -m ...`` in the shell's directory."""
        return subprocess.run(
            [sys.executable, "-m", *arguments],
            env=self.environment,
            cwd=self.home / "desk-work",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
        )

    def install(self, *options: str) -> None:
        """Write the kernelspecs."""
        done = self.run("jupyter_elastic.cli", "kernelspecs", "install", *options)
        assert done.returncode == 0, done.stdout

    def notebook(self, *sources: str, kernel: str = "work") -> Path:
        """Write ``in.ipynb``."""
        cells: list[dict[str, Any]] = [
            {
                "cell_type": "code",
                "id": f"cell{i}",
                "metadata": {},
                "execution_count": None,
                "outputs": [],
                "source": source,
            }
            for i, source in enumerate(sources)
        ]
        spec = {"name": kernel, "display_name": kernel, "language": "python"}
        path = self.home / "desk-work" / "in.ipynb"
        path.write_text(
            json.dumps(
                {
                    "cells": cells,
                    "metadata": {"kernelspec": spec},
                    "nbformat": 4,
                    "nbformat_minor": 5,
                }
            )
        )
        return path

    def outputs(self, name: str = "out.ipynb") -> list[str]:
        """What each cell printed."""
        notebook = json.loads((self.home / "desk-work" / name).read_text())
        return ["".join(text(output) for output in cell["outputs"]) for cell in notebook["cells"]]

    def left(self) -> list[str]:
        """Records and directories of kernels and pods."""
        state = self.home / "state"
        return [
            str(path)
            for what in ("kernels", "pods", "run")
            for path in (state / what).iterdir()
            if not path.name.startswith(".")
        ]


def text(output: dict[str, Any]) -> str:
    """The text of a cell's output."""
    return "".join(output.get("text", output.get("traceback", "")))


NBCLIENT = ("jupyter", "execute", "--output=out.ipynb", "in.ipynb")
PAPERMILL = ("papermill", "--no-progress-bar", "in.ipynb", "out.ipynb")


# -- beside a running server ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("client", "place"),
    [(NBCLIENT, "--prefix"), (PAPERMILL, "--user")],
    ids=["nbclient", "papermill"],
)
def test_a_client_claims_a_warm_pod_of_the_servers_pool(
    world: World, client: tuple[str, ...], place: str
) -> None:
    pytest.importorskip(client[0] if client[0] == "papermill" else "nbclient")
    desk = Desk(world.home, **{MARK: world.mark})
    desk.install(f"--prefix={world.home / 'prefix'}" if place == "--prefix" else place)
    world.warm("work")
    desk.notebook("x = 20", REPORT, "print(x + 22)")
    done = desk.run(*client)
    assert done.returncode == 0, done.stdout
    report, result = desk.outputs()[1:]
    start, pod, directory = report.split()
    assert start == "warm"
    assert pod.startswith("work-")
    assert directory == str((world.home / "desk-work").resolve())
    assert result == "42\n"


def test_a_console_attaches_by_the_connection_file(world: World) -> None:
    """As ``jupyter console --existing`` does."""
    kernel_id = world.post("/api/kernels", {"name": "work"})["id"]
    assert world.execute(kernel_id, "x = 42; x") == "42"
    client = BlockingKernelClient()
    client.load_connection_file(str(world.home / "runtime" / f"kernel-{kernel_id}.json"))
    client.start_channels()
    try:
        client.wait_for_ready(timeout=60)
        reply = client.execute("y = x + 1", reply=True, timeout=60)
        assert reply["content"]["status"] == "ok"
    finally:
        client.stop_channels()
    assert world.execute(kernel_id, "y") == "43"
    world.delete(f"/api/kernels/{kernel_id}")


def test_a_kernelspec_whose_template_is_not_offered_any_more(world: World) -> None:
    """It was installed, and then the admin took the template away."""
    directory = world.home / "data" / "kernels" / "former"
    directory.mkdir(parents=True)
    config = {"template": "former"}
    provisioner = {"provisioner_name": "elastic-provisioner", "config": config}
    spec = {
        "argv": ["python", "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "display_name": "Former",
        "language": "python",
        "metadata": {"kernel_provisioner": provisioner},
    }
    (directory / "kernel.json").write_text(json.dumps(spec))
    reply = world.run(world.ask("POST", "/api/kernels", {"name": "former"}))
    assert reply.status == 404, reply
    assert "'former'" in reply.json["message"]
    assert "Choose one of" in reply.json["message"]


# -- with no server at all --------------------------------------------------------------------


@pytest.fixture(scope="module")
def desk() -> Iterator[Desk]:
    """Configured as the server would be, but there is none."""
    import asyncio

    with tempfile.TemporaryDirectory(prefix="je-desk-") as directory:
        home = Path(directory)
        (home / "config").mkdir()
        (home / "config" / "jupyter_server_config.py").write_text(
            make_config(home)
            + f"c.ElasticLocal.state_dir = {str(home / 'state')!r}\n"
            + "c.ElasticLocal.memory = '700Mi'\n"
        )
        desk = Desk(home)
        desk.install(f"--prefix={home / 'prefix'}")
        try:
            yield desk
        finally:
            asyncio.run(end_all(home / "state"))


def test_without_a_server_the_start_is_cold(desk: Desk) -> None:
    desk.notebook(REPORT)
    done = desk.run(*NBCLIENT)
    assert done.returncode == 0, done.stdout
    assert desk.outputs()[0].startswith("cold work-")
    assert desk.left() == []


def test_a_cell_that_fails_ends_the_run_and_leaves_nothing(desk: Desk) -> None:
    desk.notebook("1 / 0")
    done = desk.run(*NBCLIENT)
    assert done.returncode != 0
    assert "ZeroDivisionError" in done.stdout
    assert desk.left() == []


def test_out_of_memory_ends_the_run_and_leaves_nothing(desk: Desk) -> None:
    desk.notebook("print('begun')", "held = bytearray(2 * 2**30)", "print('never')")
    done = desk.run(*NBCLIENT)
    assert done.returncode != 0
    assert "DeadKernelError" in done.stdout
    assert "256 MiB" in done.stdout, done.stdout  # the limit, in the sentence that says why
    assert desk.left() == []


def test_no_room_is_said_by_name(desk: Desk) -> None:
    """The capacity that the admin configured holds without a server as well."""
    desk.install(f"--prefix={desk.home / 'prefix'}")
    kernel = desk.home / "prefix" / "share" / "jupyter" / "kernels" / "work" / "kernel.json"
    spec = json.loads(kernel.read_text())
    definition = spec["metadata"]["kernel_provisioner"]["config"]["definition"]
    definition["resources"]["memory"]["default"] = "1Gi"
    kernel.write_text(json.dumps(spec))
    desk.notebook("print('never')")
    done = desk.run(*NBCLIENT)
    assert done.returncode != 0
    assert "1 GiB of memory were asked for" in done.stdout
    assert "700 MiB are free" in done.stdout
    assert desk.left() == []


# -- other languages and environments ---------------------------------------------------------


@pytest.mark.skipif(importlib.util.find_spec("bash_kernel") is None, reason="needs bash_kernel")
def test_bash(world: World) -> None:
    kernel_id = world.post("/api/kernels", {"name": "bash"})["id"]

    async def scenario() -> None:
        channel: Channel = await world.server.connect(kernel_id)
        cell = Cell(channel, "kept=41; echo $((kept + 1)) $JUPYTER_ELASTIC_POD")
        await cell.prints("42 bash-")
        cell = Cell(channel, "echo begun; sleep 60")
        await cell.prints("begun")
        await world.server.request("POST", f"/api/kernels/{kernel_id}/interrupt", {})
        await cell.done()
        await executes_again(channel)
        cell = Cell(channel, "echo kept is $kept")
        await cell.prints("kept is 41")
        await world.server.request("POST", f"/api/kernels/{kernel_id}/restart", {})
        channel.close()
        channel = await world.server.connect(kernel_id)
        cell = Cell(channel, 'echo "kept is ${kept:-gone}"')
        await cell.prints("kept is gone")
        channel.close()

    world.run(scenario())
    assert len(world.processes()[world.elastic(kernel_id)["pod"]]) > 1
    world.delete(f"/api/kernels/{kernel_id}")


def test_python_of_another_environment(world: World) -> None:
    kernel_id = world.post("/api/kernels", {"name": "other"})["id"]
    prefix = world.execute(kernel_id, "import sys; sys.prefix")
    assert prefix == repr(str(world.home / "other"))
    executable = world.execute(kernel_id, "sys.executable")
    assert executable == repr(str(world.home / "other" / "bin" / "python"))
    assert world.execute(kernel_id, "x = 1; x") == "1"
    assert interrupted(world, kernel_id) == "1"
    world.post(f"/api/kernels/{kernel_id}/restart")
    assert (
        world.execute(kernel_id, "import sys; sys.prefix, 'x' in globals()") == f"({prefix}, False)"
    )
    world.delete(f"/api/kernels/{kernel_id}")
