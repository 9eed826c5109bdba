"""Clients without a server, and a server that starts while the API does not answer."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
import yaml
from tornado.httpclient import HTTPClientError

from benchmarks.server import free_port, start_server

from ..server.console import console
from ..server.gateway import in_front_of, use, use_by_panel
from ..server.tools import eventually, start, warm
from ..testcluster.api import until
from ..testcluster.world import Kube
from .desk import Desk, home_directory
from .world import install


@pytest.fixture
def desk(kube: Kube) -> Iterator[Desk]:
    install(kube)
    with kube.namespace() as namespace, home_directory() as home:
        yield Desk(kube, namespace, home)


def shell(desk: Desk) -> dict[str, str]:
    """The environment of somebody whose Jupyter is configured for the desk."""
    (desk.home / "config").mkdir(exist_ok=True)
    (desk.home / "config" / "jupyter_server_config.py").write_text(desk.config())
    return {
        **os.environ,
        "JUPYTER_CONFIG_DIR": str(desk.home / "config"),
        "JUPYTER_DATA_DIR": str(desk.home / "data"),
        "JUPYTER_RUNTIME_DIR": str(desk.home / "runtime"),
        "IPYTHONDIR": str(desk.home / "ipython"),
    }


def run(desk: Desk, *command: str) -> str:
    """Run a program of this environment there; its output."""
    done = subprocess.run(
        [sys.executable, "-m", *command],
        env=shell(desk),
        cwd=desk.home,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def install_kernelspecs(desk: Desk) -> None:
    """By our command, to where clients of :func:`shell` look."""
    run(desk, "jupyter_elastic.cli", "kernelspecs", "install", f"--prefix={desk.home}")
    specs = list(Path(desk.home, "share", "jupyter", "kernels").iterdir())
    assert [one.name for one in specs] == ["work"]
    (desk.home / "data").mkdir(exist_ok=True)
    (desk.home / "data" / "kernels").symlink_to(desk.home / "share" / "jupyter" / "kernels")


def nothing_is_left(desk: Desk) -> None:
    """The kernel ends with its client, or a moment after it."""
    until("no kernel and no pod", lambda: not desk.kernels() and not desk.pods())


NBCONVERT = ("nbconvert", "--to", "notebook", "--execute", "--output", "out.ipynb", "in.ipynb")
EXECUTE = ("jupyter", "execute", "--output=out.ipynb", "in.ipynb")
PAPERMILL = ("papermill", "--no-progress-bar", "in.ipynb", "out.ipynb")


@pytest.mark.parametrize("client", [NBCONVERT, EXECUTE, PAPERMILL], ids=lambda words: words[0])
def test_a_notebook_without_a_server_runs_in_the_cluster(
    desk: Desk, client: tuple[str, ...]
) -> None:
    desk.offer(pool=0)
    install_kernelspecs(desk)
    notebook = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_code_cell(
                "import os; print(os.environ['JUPYTER_ELASTIC_POD'], os.getuid())"
            )
        ],
        metadata={"kernelspec": {"name": "work", "display_name": "Work", "language": "python"}},
    )
    nbformat.write(notebook, desk.home / "in.ipynb")
    run(desk, *client)
    done = nbformat.read(desk.home / "out.ipynb", 4)
    words = done.cells[0].outputs[0].text.split()
    assert words[0].startswith("work-")
    assert words[1] == "1000"
    nothing_is_left(desk)


def test_a_console_without_a_server_has_its_kernel_in_the_cluster(desk: Desk) -> None:
    desk.offer(pool=0)
    install_kernelspecs(desk)
    with console(desk.home, shell(desk), "--kernel=work") as terminal:
        terminal.read("In [1]")
        terminal.type("import os; print('in', os.environ['JUPYTER_ELASTIC_POD'])")
        terminal.read("in work-")
        terminal.type("exit")
        assert terminal.end() == 0
    nothing_is_left(desk)


def test_a_server_with_a_gateway_url_uses_a_warm_pod_of_the_gateway(desk: Desk) -> None:
    async def scenario() -> None:
        desk.offer()
        async with desk.server() as gateway:
            await warm(gateway)
            async with in_front_of(gateway, desk.home / "front") as front:
                await use(front, gateway)
                await use_by_panel(front, gateway)

    asyncio.run(scenario())


def test_a_kernel_of_the_command_line(desk: Desk) -> None:
    desk.offer(pool=0)
    told = run(desk, "jupyter_elastic.cli", "kernels", "start", "work", "--memory", "200Mi")
    assert "Running" in told
    [record] = desk.kernels()
    assert record["status"]["actual"]["memory"] == "200Mi"
    kernel_id = record["metadata"]["name"]
    resized = run(
        desk, "jupyter_elastic.cli", "kernels", "resize", kernel_id[:8], "--memory", "300Mi"
    )
    assert "300 MiB" in resized
    assert kernel_id[:8] in run(desk, "jupyter_elastic.cli", "kernels", "list")
    run(desk, "jupyter_elastic.cli", "kernels", "stop", kernel_id[:8])
    assert desk.kernels() == []


def test_an_api_that_comes_later(desk: Desk) -> None:
    """The server serves plain kernels meanwhile, says what is wrong, and goes on by itself."""
    desk.offer(pool=0)
    kubeconfig = yaml.safe_load(Path(desk.kubeconfig).read_text())
    there = kubeconfig["clusters"][0]["cluster"]["server"]
    port = free_port()
    kubeconfig["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{port}"
    kubeconfig["clusters"][0]["cluster"]["tls-server-name"] = there.split("//")[1].split(":")[0]
    later = desk.home / "later.conf"
    later.write_text(yaml.safe_dump(kubeconfig))

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, _, number = there.split("//")[1].partition(":")
        theirs, ours = await asyncio.open_connection(host, int(number))

        async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            try:
                while data := await source.read(65536):
                    target.write(data)
                    await target.drain()
            except ConnectionError:
                pass
            target.close()

        await asyncio.gather(copy(reader, ours), copy(theirs, writer))

    async def scenario() -> None:
        config = desk.config(kubeconfig=str(later))
        server = await start_server(desk.home, config, until="/api/status")
        try:

            async def refused() -> bool:
                try:
                    await server.request("GET", "/elastic/api/kernels")
                except HTTPClientError as error:
                    return error.code == 503
                return False

            await eventually(refused, "the API is missed")
            plain = await server.request("POST", "/api/kernels", {"name": "python3"})
            assert plain["name"] == "python3"
            await server.request("DELETE", f"/api/kernels/{plain['id']}")
            door = await asyncio.start_server(forward, "127.0.0.1", port)

            async def there_now() -> bool:
                try:
                    return "kernels" in await server.request("GET", "/elastic/api/kernels")
                except HTTPClientError:
                    return False

            await eventually(there_now, "the server has found the API", 120)
            kernel_id = await start(server)
            assert [one["metadata"]["name"] for one in desk.kernels()] == [kernel_id]
            door.close()
        finally:
            await server.stop()

    asyncio.run(scenario())
