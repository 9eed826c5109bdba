"""Servers, agents and kernels that die: what is lost, what is not, and what the user is told."""

from __future__ import annotations

import asyncio
import json
import os
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


def test_server_killed_in_a_cell_loses_nothing(home: Path) -> None:
    """SIGKILL of the server; the next one on the same directory has the kernel and its session."""

    async def scenario() -> None:
        one = await start_server(home, config())
        try:
            await warm(one)
            session = await one.request(
                "POST",
                "/api/sessions",
                {"path": "a.ipynb", "name": "a", "type": "notebook", "kernel": {"name": "work"}},
            )
            kernel_id = session["kernel"]["id"]
            channel = await one.connect(kernel_id)
            await channel.execute("kept = 41; kept")
            cell = Cell(channel, "import time; print('begun'); time.sleep(3); kept += 1")
            await cell.prints("begun")
        finally:
            await one.stop(signal.SIGKILL)

        two = await start_server(home, config())
        try:
            sessions = await two.request("GET", "/api/sessions")
            assert [s["id"] for s in sessions] == [session["id"]]
            assert sessions[0]["path"] == "a.ipynb"
            assert sessions[0]["kernel"]["id"] == kernel_id
            channel = await two.connect(kernel_id)
            assert await channel.execute("kept") == "42"  # waits for the cell that ran on
            await two.request("DELETE", f"/api/sessions/{session['id']}")
            assert await two.request("GET", "/elastic/api/kernels") == {"kernels": []}
        finally:
            await two.stop()

    asyncio.run(scenario())


def test_clean_stop_leaves_kernels_running(home: Path) -> None:
    """SIGTERM of the server; the kernel and its variables are there for the next one."""

    async def scenario() -> None:
        one = await start_server(home, config())
        try:
            kernel_id = await start(one)
            assert await (await one.connect(kernel_id)).execute("x = 7; x") == "7"
        finally:
            await one.stop()
        two = await start_server(home, config())
        try:
            assert await (await two.connect(kernel_id)).execute("x") == "7"
        finally:
            await two.stop()

    asyncio.run(scenario())


def test_a_kernel_whose_agent_does_not_answer_is_adopted_once_it_does(home: Path) -> None:
    """What passes is no reason to lose a kernel: its clients are told to wait, and it comes."""

    async def scenario() -> None:
        one = await start_server(home, config())
        session = await one.request(
            "POST",
            "/api/sessions",
            {"path": "a.ipynb", "name": "a", "type": "notebook", "kernel": {"name": "work"}},
        )
        kernel_id = session["kernel"]["id"]
        assert await (await one.connect(kernel_id)).execute("x = 7; x") == "7"
        agent = agent_of((await kernel(one, kernel_id))["pod"])
        await one.stop(signal.SIGKILL)
        os.kill(agent, signal.SIGSTOP)
        try:
            two = await start_server(home, config())
            try:
                assert await two.request("GET", "/api/kernels") == []
                with pytest.raises(HTTPClientError) as caught:
                    await two.request("GET", f"/api/kernels/{kernel_id}")
                assert caught.value.code == 503
                os.kill(agent, signal.SIGCONT)

                async def adopted() -> bool:
                    sessions = await two.request("GET", "/api/sessions")
                    return [s["id"] for s in sessions] == [session["id"]]

                await eventually(adopted, "the kernel adopted with its session", 120)
                assert await (await two.connect(kernel_id)).execute("x") == "7"
                assert f"Kernel {kernel_id} could be adopted now" in two.log.read_text()
            finally:
                await two.stop()
        finally:
            os.kill(agent, signal.SIGCONT)

    asyncio.run(scenario())


@pytest.mark.parametrize("came_true", [True, False])
def test_a_resize_whose_server_died_has_an_end(home: Path, came_true: bool) -> None:
    """The next server asks what is in force, and the record says that instead of InProgress."""

    async def scenario() -> None:
        one = await start_server(home, config())
        kernel_id = await start(one)
        if came_true:
            body = {"resources": {"memory": "384Mi"}}
            await one.request("PATCH", f"/elastic/api/kernels/{kernel_id}", body)
        await one.stop(signal.SIGKILL)
        # As it was a moment before the resize was done, some time ago.
        path = home / "state" / "kernels" / f"{kernel_id}.json"
        record = json.loads(path.read_text())
        for field in ("resources", "actual"):
            record[field] = {**record[field], "memory": 256 * 2**20}
        record["resize"] = {"state": "InProgress", "message": "Changing.", "time": 1.0}
        path.write_text(json.dumps(record))
        two = await start_server(home, config())
        try:

            async def ended() -> Any:
                view = await kernel(two, kernel_id)
                return view if view["resize"]["state"] != "InProgress" else None

            view = await eventually(ended, "an end of the resize")
            in_force = "384Mi" if came_true else "256Mi"
            assert view["resources"]["memory"] == view["actual"]["memory"] == in_force
            if came_true:
                assert view["resize"]["state"] == "Done"
            else:
                assert view["resize"]["state"] == "Refused"
                assert view["resize"]["reason"] == "ResizerLost"
                assert "256 MiB" in view["resize"]["message"]
        finally:
            await two.stop()

    asyncio.run(scenario())


def test_stop_with_server_ends_kernels(home: Path) -> None:
    """The setting for those who want a server's kernels to end with it."""

    async def scenario() -> None:
        server = await start_server(home, config(extra="c.ElasticKernels.stop_with_server = True"))
        try:
            kernel_id = await start(server)
            pod = (await kernel(server, kernel_id))["pod"]
            assert processes_of(pod)
        finally:
            await server.stop()

        async def gone() -> bool:
            return not processes_of(pod)

        await eventually(gone, "the pod's processes ended")
        assert not list((server.state_dir / "kernels").glob("*.json"))

    asyncio.run(scenario())


def test_agent_killed_ends_the_pod_and_says_so(home: Path) -> None:
    """SIGKILL of the agent: its children end as well, the kernel is Failed and can be restarted."""

    async def scenario() -> None:
        server = await start_server(home, config())
        try:
            kernel_id = await start(server)
            view = await kernel(server, kernel_id)
            channel = await server.connect(kernel_id)
            child = await channel.execute(
                "import subprocess; subprocess.Popen(['sleep', '600'], start_new_session=True).pid"
            )
            cell = Cell(channel, "print('begun'); import time; time.sleep(600)")
            await cell.prints("begun")
            pids = processes_of(view["pod"])
            assert int(child) in pids

            kill([agent_of(view["pod"])])
            await cell.status("dead")
            assert "agent" in cell.output.lower()
            failed = await phase(server, kernel_id, "Failed")
            assert failed["reason"] == "AgentLost"
            assert failed["message"]

            async def ended() -> bool:
                return not processes_of(view["pod"])

            await eventually(ended, "all processes of the pod ended")

            # What Lab's "Restart kernel" does: the same id, a new pod.
            await server.request("POST", f"/api/kernels/{kernel_id}/restart", {})
            again = await phase(server, kernel_id, "Running")
            assert again["pod"] != view["pod"]
            channel = await server.connect(kernel_id)
            assert await channel.execute("6 * 7") == "42"
            # What the new agent says is heard.
            cell = Cell(channel, "import os; os._exit(3)")
            await cell.status("restarting")
            assert "exit code 3" in cell.output
        finally:
            await server.stop()

    asyncio.run(scenario())


def test_all_processes_killed_comes_back_then_moves(home: Path) -> None:
    """What a kubelet's OOM kill does: first brought back in place, then moved to another pod."""

    async def scenario() -> None:
        server = await start_server(home, config(pool=1))
        try:
            kernel_id = await start(server)
            first = await kernel(server, kernel_id)
            channel = await server.connect(kernel_id)
            cell = Cell(channel, "x = 1; print('begun'); import time; time.sleep(600)")
            await cell.prints("begun")

            kill_all(first["pod"])
            await cell.status("restarting")
            assert cell.output.count("\n") > 1, "the cell says why"
            channel = await server.connect(kernel_id)
            assert await channel.execute("'x' in globals()") == "False"

            async def back() -> bool:
                view = await kernel(server, kernel_id)
                return (view["pod"], view["restarts"]) == (first["pod"], 1)

            await eventually(back, "the record says that it is back")

            await warm(server)
            cell = Cell(channel, "print('begun'); import time; time.sleep(600)")
            await cell.prints("begun")
            kill_all(first["pod"])
            await cell.status("restarting")

            async def moved() -> bool:
                view = await kernel(server, kernel_id)
                there = view["phase"] == "Running" and view["pod"] != first["pod"]
                return bool(there and view["restarts"] == 2)

            await eventually(moved, "the kernel is in another pod")
            assert await (await server.connect(kernel_id)).execute("6 * 7") == "42"
        finally:
            await server.stop()

    asyncio.run(scenario())


def test_pod_lost_while_no_server_runs(home: Path) -> None:
    """The next server tells what happened in the meantime."""

    async def scenario() -> None:
        one = await start_server(home, config())
        try:
            kernel_id = await start(one)
            pod = (await kernel(one, kernel_id))["pod"]
        finally:
            await one.stop(signal.SIGKILL)
        kill([agent_of(pod)])
        two = await start_server(home, config())
        try:
            failed = await phase(two, kernel_id, "Failed")
            assert failed["reason"] == "AgentLost"
        finally:
            await two.stop()

    asyncio.run(scenario())


def test_out_of_memory_is_told_and_a_raise_helps(home: Path) -> None:
    """Over the limit: a message with limit and peak, the kernel back; raised, the cell passes."""

    async def scenario() -> None:
        server = await start_server(home, config(memory="128Mi"))
        try:
            await warm(server)
            kernel_id = await start(server)
            pod = (await kernel(server, kernel_id))["pod"]
            code = "block = bytearray(300 * 2**20); print('passed', len(block))"
            cell = Cell(await server.connect(kernel_id), code)
            await cell.status("restarting")
            assert "128 MiB" in cell.output, cell.output
            assert "peak" in cell.output
            view = await kernel(server, kernel_id)
            assert view["phase"] == "Running"
            assert view["pod"] == pod, "the kernel is back in place"

            async def recorded() -> bool:
                return bool((await kernel(server, kernel_id))["reason"] == "OutOfMemory")

            await eventually(recorded, "the record says why")
            await server.request(
                "PATCH", f"/elastic/api/kernels/{kernel_id}", {"resources": {"memory": "512Mi"}}
            )
            cell = Cell(await server.connect(kernel_id), code)
            await cell.prints("passed 314572800")
        finally:
            await server.stop()

    asyncio.run(scenario())


def test_quit_in_a_notebook_brings_the_kernel_back(home: Path) -> None:
    """As with a plain kernel: quit() ends the process, and a new one takes its place."""

    async def scenario() -> None:
        server = await start_server(home, config())
        try:
            kernel_id = await start(server)
            cell = Cell(await server.connect(kernel_id), "quit()")
            await cell.status("restarting")
            assert await (await server.connect(kernel_id)).execute("2 + 2") == "4"
        finally:
            await server.stop()

    asyncio.run(scenario())
