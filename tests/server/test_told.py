"""Failures that were once told to nobody, or to the wrong cell."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from tornado.httpclient import HTTPClientError

from benchmarks.server import start_server

from .tools import (
    Cell,
    agent_of,
    config,
    eventually,
    kernel,
    kill,
    kill_all,
    phase,
    processes_of,
    start,
    warm,
)

pytestmark = pytest.mark.fault


def test_out_of_memory_is_told_in_the_guilty_cell(home: Path) -> None:
    """Also when it was killed before it echoed the cell; the cell before it is left alone."""

    async def scenario() -> None:
        server = await start_server(home, config(memory="128Mi"))
        try:
            kernel_id = await start(server)
            channel = await server.connect(kernel_id)
            innocent = Cell(channel, "x = 41")
            await innocent.done()
            guilty = Cell(channel, "b = bytearray(900 * 2**20)")
            queued = channel.send("y = 42")
            ended = await guilty.done()
            assert ended["content"]["status"] == "error", "nobody waits for it for ever"
            assert "128 MiB" in ended["content"]["evalue"]
            await guilty.status("restarting")

            def replies() -> set[str]:
                return {
                    message["parent_header"]["msg_id"]
                    for message in guilty.messages
                    if message["msg_type"] == "execute_reply"
                }

            if queued not in replies():
                await guilty.until(lambda _: queued in replies())
            assert replies() == {guilty.id, queued}
            innocent.messages += guilty.messages
            assert "128 MiB" in guilty.output
            assert innocent.output == ""
        finally:
            await server.stop()

    asyncio.run(scenario())


def test_a_kernel_killed_while_idle_writes_into_no_cell(home: Path) -> None:
    async def scenario() -> None:
        server = await start_server(home, config())
        try:
            kernel_id = await start(server)
            channel = await server.connect(kernel_id)
            cell = Cell(channel, "import os; os.getpid()")
            await cell.done()
            pid = await channel.execute("os.getpid()")
            kill([int(pid)])
            await cell.status("restarting")
            assert cell.output == ""

            async def counted() -> bool:
                return bool((await kernel(server, kernel_id))["restarts"] == 1)

            await eventually(counted, "the record counts the restart")
        finally:
            await server.stop()

    asyncio.run(scenario())


def test_a_restart_into_a_folder_that_is_gone_keeps_the_kernel(home: Path) -> None:
    """Refused before anything is killed: the variables are there."""

    async def scenario() -> None:
        server = await start_server(home, config())
        try:
            (home / "work" / "sub").mkdir()
            kernel_id = await start(server, path="sub/a.ipynb")
            assert await (await server.connect(kernel_id)).execute("x = 5; x") == "5"
            shutil.rmtree(home / "work" / "sub")
            with pytest.raises(HTTPClientError):
                await server.request("POST", f"/api/kernels/{kernel_id}/restart", {})
            assert (await kernel(server, kernel_id))["phase"] == "Running"
            assert await (await server.connect(kernel_id)).execute("x") == "5"
        finally:
            await server.stop()

    asyncio.run(scenario())


def test_a_move_that_fails_is_told(home: Path) -> None:
    """The notebook sees a dead kernel with the reason, not an idle one."""

    async def scenario() -> None:
        server = await start_server(home, config(pool=1))
        try:
            (home / "work" / "sub").mkdir()
            kernel_id = await start(server, path="sub/a.ipynb")
            pod = (await kernel(server, kernel_id))["pod"]
            channel = await server.connect(kernel_id)
            cell = Cell(channel, "x = 1")
            await cell.done()
            kill_all(pod)
            await cell.status("restarting")
            shutil.rmtree(home / "work" / "sub")
            cell = Cell(await server.connect(kernel_id), "x = 2")
            await cell.done()
            kill_all(pod)
            await cell.status("dead")
            failed = await phase(server, kernel_id, "Failed")
            assert failed["reason"] == "BadWorkingDirectory"
            model = await server.request("GET", f"/api/kernels/{kernel_id}")
            assert model["execution_state"] == "dead"
            assert model["reason"]
        finally:
            await server.stop()

    asyncio.run(scenario())


def test_two_servers_bring_a_kernel_that_quits_back_once(home: Path) -> None:
    async def scenario() -> None:
        one = await start_server(home, config())
        two = await start_server(home, config())
        try:
            kernel_id = await start(one)

            async def adopted() -> bool:
                return any(k["id"] == kernel_id for k in await two.request("GET", "/api/kernels"))

            await eventually(adopted, "the kernel in the second server")
            cell = Cell(await one.connect(kernel_id), "import os; os._exit(0)")
            await cell.status("restarting")
            assert await (await one.connect(kernel_id)).execute("y = 6; y") == "6"
            await asyncio.sleep(1)  # time for a second, wrong restart
            assert await (await two.connect(kernel_id)).execute("y") == "6"

            async def counted() -> bool:
                return bool((await kernel(one, kernel_id))["restarts"])

            await eventually(counted, "the record counts the restart")
            view = await kernel(one, kernel_id)
            assert view["restarts"] == 1
            assert view["message"]
        finally:
            await one.stop()
            await two.stop()

    asyncio.run(scenario())


def test_a_start_whose_server_dies_fails_at_its_deadline(home: Path) -> None:
    """Another server that runs notices; the pod does not keep its share for ever."""

    async def scenario() -> None:
        slow = home / "slow"
        slow.mkdir()
        (slow / "slowly.py").write_text("import time; time.sleep(600)\n")
        settings = config(
            pool=0,
            preload=["slowly"],
            env={"PYTHONPATH": str(slow)},
            extra="c.ElasticKernels.start_timeout = 10",
        )
        one = await start_server(home, settings)
        two = await start_server(home, settings)
        try:
            body = {"template": "work"}
            kernel_id = (await two.request("POST", "/elastic/api/kernels", body))["kernel_id"]

            async def seen() -> Any:
                pods = (await one.request("GET", "/elastic/api/pool"))["pods"]
                return [pod["name"] for pod in pods]

            names = await eventually(seen, "the pod in the first server")
            await two.stop(signal.SIGKILL)
            failed = await phase(one, kernel_id, "Failed")
            assert failed["reason"] == "StarterLost"

            async def gone() -> bool:
                return not any(processes_of(name) for name in names)

            await eventually(gone, "the pod's processes ended")
        finally:
            await one.stop()
            await two.stop()

    asyncio.run(scenario())


def test_a_resize_of_a_kernel_that_does_not_run_leaves_no_trace(home: Path) -> None:
    async def scenario() -> None:
        server = await start_server(home, config())
        try:
            await warm(server)
            kernel_id = await start(server)
            pod = (await kernel(server, kernel_id))["pod"]
            kill([agent_of(pod)])
            await phase(server, kernel_id, "Failed")
            with pytest.raises(HTTPClientError) as caught:
                await server.request(
                    "PATCH", f"/elastic/api/kernels/{kernel_id}", {"resources": {"cpu": "1"}}
                )
            assert caught.value.response is not None
            assert json.loads(caught.value.response.body)["reason"] == "NotRunning"
            assert (await kernel(server, kernel_id))["resize"] is None
        finally:
            await server.stop()

    asyncio.run(scenario())


WARNS = """
from jupyter_elastic.cluster.client import AgentClient

asked = AgentClient.call

async def call(self, op, *args, **fields):
    reply = await asked(self, op, *args, **fields)
    if op in ("start", "limits"):
        self._tell({"v": 1, "event": "warning", "message": f"The CPU limit: no, said {op}."})
    return reply

AgentClient.call = call
"""
"""Configuration of a server to whose agents the system refuses something."""


def test_what_an_agent_warns_of_is_told_once(home: Path) -> None:
    async def scenario() -> None:
        server = await start_server(home, config(extra=WARNS))
        try:
            kernel_id = await start(server)
            path = f"/elastic/api/kernels/{kernel_id}"
            said = "The CPU limit: no, said start."

            async def shown() -> bool:
                steps = (await server.request("GET", f"{path}/progress"))["steps"]
                warned = (await kernel(server, kernel_id))["warnings"] == [said]
                return warned and said in [step["message"] for step in steps]

            await eventually(shown, "the warning, once, and as a step")
            for cpu in ("1", "750m"):
                await server.request("PATCH", path, {"resources": {"cpu": cpu}})

            async def told() -> bool:
                warnings = (await kernel(server, kernel_id))["warnings"]
                return bool(warnings == ["The CPU limit: no, said limits."])

            await eventually(told, "what the size as it is now meets with")
        finally:
            await server.stop()

    asyncio.run(scenario())
