"""Live resize, seen from inside a cell that runs on and from the file that enforces it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tornado.httpclient import HTTPClientError

from benchmarks.server import Server, start_server

from .tools import MIB, Cell, config, kernel, pod_record, start


async def resize(server: Server, kernel_id: str, **resources: Any) -> dict[str, Any]:
    """PATCH; returns the kernel."""
    view: dict[str, Any] = await server.request(
        "PATCH", f"/elastic/api/kernels/{kernel_id}", {"resources": resources}
    )
    return view


async def refused(server: Server, kernel_id: str, **resources: Any) -> dict[str, Any]:
    """PATCH that must be refused; returns the problem."""
    import json

    with pytest.raises(HTTPClientError) as caught:
        await resize(server, kernel_id, **resources)
    assert caught.value.response is not None
    problem: dict[str, Any] = json.loads(caught.value.response.body)
    return problem


class Limits:
    """The files that enforce a pod's limits; skipped where there are none to write."""

    def __init__(self, server: Server, pod: str) -> None:
        record = pod_record(server, pod)
        group = record["group"]
        if group is None:
            pytest.skip("no control group may be written here: run as root or in a delegated one")
        self.version = group["version"]
        self.memory_dir, self.cpu_dir = Path(group["memory"]), Path(group["cpu"])
        self.overhead = record["pod"]["overhead"]

    def memory(self) -> int:
        """Bytes the kernel may have: the file's value without the agent's overhead."""
        file = "memory.limit_in_bytes" if self.version == 1 else "memory.max"
        return int((self.memory_dir / file).read_text()) - int(self.overhead)

    def cpu(self) -> float:
        """Cores."""
        if self.version == 1:
            quota = int((self.cpu_dir / "cpu.cfs_quota_us").read_text())
            return quota / int((self.cpu_dir / "cpu.cfs_period_us").read_text())
        quota_text, period = (self.cpu_dir / "cpu.max").read_text().split()
        return int(quota_text) / int(period)


def test_resize_in_the_middle_of_a_cell(home: Path) -> None:
    """Memory and CPU, up and down, while a cell runs: it goes on, and its variables stay."""

    async def scenario() -> None:
        server = await start_server(home, config(memory="256Mi"))
        try:
            kernel_id = await start(server)
            limits = Limits(server, (await kernel(server, kernel_id))["pod"])
            assert (limits.memory(), limits.cpu()) == (256 * MIB, 0.5)
            channel = await server.connect(kernel_id)
            assert await channel.execute("kept = 1; kept") == "1"
            cell = Cell(
                channel, "import time\nprint('begun')\nwhile kept < 8: kept += 1; time.sleep(1)"
            )
            await cell.prints("begun")
            for memory, size in (("512Mi", 512 * MIB), ("192Mi", 192 * MIB)):
                view = await resize(server, kernel_id, memory=memory)
                assert limits.memory() == size
                assert view["resources"]["memory"] == view["actual"]["memory"] == memory
                assert view["resize"]["state"] == "Done"
            for cpu, cores in (("2", 2.0), ("250m", 0.25)):
                view = await resize(server, kernel_id, cpu=cpu)
                assert limits.cpu() == cores
                assert view["actual"]["cpu"] == cpu
            assert (await cell.done())["content"]["status"] == "ok"
            assert await channel.execute("kept") == "8"
            assert (await kernel(server, kernel_id))["restarts"] == 0
        finally:
            await server.stop()

    asyncio.run(scenario())


def test_lowering_under_use_is_refused_with_figures(home: Path) -> None:
    """Nothing changes, and the sentence says how much is in use."""

    async def scenario() -> None:
        server = await start_server(home, config(memory="512Mi"))
        try:
            kernel_id = await start(server)
            limits = Limits(server, (await kernel(server, kernel_id))["pod"])
            channel = await server.connect(kernel_id)
            assert await channel.execute(f"b = bytearray(200 * {MIB}); len(b)") == str(200 * MIB)
            problem = await refused(server, kernel_id, memory="128Mi")
            assert problem["reason"] == "ShrinkUnderUse"
            assert "128 MiB" in problem["message"]
            assert problem["remedy"]
            assert limits.memory() == 512 * MIB
            view = await kernel(server, kernel_id)
            assert view["resources"]["memory"] == "512Mi"
            assert view["resize"]["state"] == "Refused"
            assert view["resize"]["message"] == problem["message"]
            assert await channel.execute("len(b)") == str(200 * MIB)
        finally:
            await server.stop()

    asyncio.run(scenario())


def test_growth_beyond_the_machine_is_refused(home: Path) -> None:
    """The quota holds for resizes as well; what the template allows may still not be there."""

    async def scenario() -> None:
        server = await start_server(
            home, config(memory="256Mi", extra="c.ElasticLocal.memory = '1Gi'")
        )
        try:
            kernel_id = await start(server)
            problem = await refused(server, kernel_id, memory="2Gi")
            assert (problem["reason"], problem["retry"]) == ("QuotaFull", True)
            assert "2 GiB" in problem["message"]
            over = await refused(server, kernel_id, memory="4Gi")
            assert (over["reason"], over["field"]) == ("OutOfRange", "memory")
            gpu = await refused(server, kernel_id, gpu={"kind": "any", "count": 1})
            assert gpu["reason"] == "NoGpu"
            assert (await kernel(server, kernel_id))["resources"]["memory"] == "256Mi"
        finally:
            await server.stop()

    asyncio.run(scenario())


def test_weaker_means_are_declared_and_work(home: Path) -> None:
    """Without control groups: CPU by affinity and memory by the agent's watch, and so said."""

    async def scenario() -> None:
        server = await start_server(
            home, config(memory="256Mi", extra="c.ElasticLocal.cgroup = 'off'")
        )
        try:
            status = await server.request("GET", "/elastic/api/status")
            assert status["enforcement"]["memory"] == "watchdog"
            assert status["enforcement"]["cpu"] == "affinity"
            assert status["enforcement"]["note"]
            kernel_id = await start(server)
            channel = await server.connect(kernel_id)
            assert await channel.execute("import os; len(os.sched_getaffinity(0))") == "1"
            cell = Cell(
                channel,
                "blocks = []\nimport time\nfor i in range(64):\n"
                "    blocks.append(bytearray(16 * 2**20)); time.sleep(0.05)\nprint('all there')",
            )
            await cell.status("restarting")
            assert "256 MiB" in cell.output, cell.output
            await resize(server, kernel_id, memory="2Gi")
            cell = Cell(
                await server.connect(kernel_id), "b = bytearray(500 * 2**20); print('passed')"
            )
            await cell.prints("passed")
        finally:
            await server.stop()

    asyncio.run(scenario())


def test_another_pod_of_another_size_when_asked_for(home: Path) -> None:
    """The kernel keeps its id and its notebook, and says why its variables are gone."""

    async def scenario() -> None:
        server = await start_server(home, config(pool=1))
        try:
            kernel_id = await start(server)
            before = await kernel(server, kernel_id)
            channel = await server.connect(kernel_id)
            assert await channel.execute("x = 1; x") == "1"
            after = await server.request(
                "PATCH",
                f"/elastic/api/kernels/{kernel_id}",
                {"resources": {"memory": "300Mi"}, "replace": True},
            )
            assert after["pod"] != before["pod"]
            assert (after["phase"], after["actual"]["memory"]) == ("Running", "300Mi")
            assert after["restarts"] == 1
            channel = await server.connect(kernel_id)
            with pytest.raises(RuntimeError, match="'x' is not defined"):
                await channel.execute("x")
        finally:
            await server.stop()

    asyncio.run(scenario())
