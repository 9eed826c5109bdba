"""Where benchmarks on Kubernetes happen: a namespace of the test cluster, or of any other.

``make cluster-up`` starts a real one on this machine; ``JUPYTER_ELASTIC_TEST_KUBECONFIG`` and
``JUPYTER_ELASTIC_TEST_IMAGE`` name another.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from tests.kubernetes.desk import Desk
from tests.kubernetes.world import install
from tests.testcluster.cluster import Cluster
from tests.testcluster.world import Kube

from .server import Server, start_server, until_warm
from .stats import figures, table

POOLED = "pooled"
PARTS = ("begun", "recorded", "claimed", "sized", "answered", "running")
_TRACE = """
import logging
_timing = logging.getLogger("jupyter_elastic.timing")
_timing.setLevel(logging.DEBUG)
_timing.propagate = False
_handler = logging.FileHandler({path!r})
_handler.setFormatter(logging.Formatter("%(created).6f %(message)s"))
_timing.addHandler(_handler)
"""
MIB = 2**20


def open_kube() -> Kube:
    """The Kubernetes to measure on; ends the program with a sentence where there is none."""
    chosen = os.environ.get("JUPYTER_ELASTIC_TEST_KUBECONFIG")
    if chosen:
        return Kube(Path(chosen), os.environ.get("JUPYTER_ELASTIC_TEST_IMAGE", ""), None)
    cluster = Cluster()
    if not cluster.runs():
        sys.exit("There is no Kubernetes to measure on: make cluster-up starts one.")
    return Kube(cluster.kubeconfig, "", cluster)


class Place:
    """A namespace with a pooled template, and servers on it."""

    def __init__(self, pool: int = 1) -> None:
        self._stack = contextlib.ExitStack()
        self._pool = pool

    def __enter__(self) -> Place:
        self.kube = open_kube()
        self._stack.callback(self.kube.close)
        install(self.kube)
        namespace = self._stack.enter_context(self.kube.namespace())
        self.home = Path(tempfile.mkdtemp(prefix="elastic-bench-"))
        self._stack.callback(shutil.rmtree, self.home, True)
        self.desk = Desk(self.kube, namespace, self.home)
        self.trace = self.home / "timing.log"
        self.offer(self._pool)
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)  # should leaving fail as well, both are told

    def offer(self, pool: int) -> None:
        """Offer the template with a pool of this size."""
        self.desk.offer(
            POOLED,
            pool=pool,
            resources={
                "cpu": {"minimum": "50m", "default": "1", "maximum": "2"},
                "memory": {"minimum": "64Mi", "default": "1Gi", "maximum": "4Gi"},
            },
        )

    @contextlib.asynccontextmanager
    async def server(self) -> AsyncIterator[Server]:
        """A server here; its kernels end with it."""
        config = "c.ElasticKernels.stop_with_server = True\n" + _TRACE.format(path=str(self.trace))
        running = await start_server(self.home, self.desk.config() + config)
        try:
            yield running
        finally:
            await running.stop()

    # -- what is measured only here --------------------------------------------------------

    async def more(self, results: dict[str, Any], runs: int) -> None:
        """Parts of a warm start, cold start, attach, and the server's own latency."""
        self._parts(results)
        await self._attach_and_cold(results, max(5, runs // 4))
        await self._latency(results)

    def _parts(self, results: dict[str, Any]) -> None:
        starts: dict[str, dict[str, float]] = {}
        for line in self.trace.read_text().splitlines():
            if found := re.match(r"([\d.]+) (\S+) (\w+)$", line):
                starts.setdefault(found[2], {})[found[3]] = float(found[1])
        whole = [one for one in starts.values() if all(part in one for part in PARTS)]
        names = {
            "recorded": "create the record",
            "claimed": "claim a pod",
            "sized": "dial, resize accepted, pod recorded",
            "answered": "agent: kernel answers",
            "running": "record says Running",
        }
        rows = []
        for before, after in itertools.pairwise(PARTS):
            values = figures([one[after] - one[before] for one in whole])
            results.setdefault("parts", {})[after] = values
            rows.append([names[after], values["median"], values["p5"], values["p95"]])
        table(
            f"Parts of a warm start, seconds ({len(whole)} starts)", ["", "med", "p5", "p95"], rows
        )

    async def _attach_and_cold(self, results: dict[str, Any], runs: int) -> None:
        from .launch import first_result

        cold, attach = [], []
        self.offer(0)
        async with self.server() as running:
            await asyncio.sleep(3)
            for _ in range(runs):
                taken = await first_result(running, POOLED)
                cold.append(taken["result"])
                start = time.perf_counter()
                channel = await running.connect(str(taken["id"]))
                assert await channel.execute("1+1") == "2"
                attach.append(time.perf_counter() - start)
                channel.close()
                await running.request("DELETE", f"/api/kernels/{taken['id']}")
        self.offer(self._pool)
        results["cold"], results["attach"] = figures(cold), figures(attach)
        rows = [
            [name, one["median"], one["p5"], one["p95"]]
            for name, one in (("cold start", results["cold"]), ("attach", results["attach"]))
        ]
        table(f"Seconds to the first result, {runs} runs", ["", "med", "p5", "p95"], rows)

    async def _latency(self, results: dict[str, Any], kernels: int = 20, asks: int = 200) -> None:
        """``GET /api/status`` with no kernel and with many, of one server."""
        rows = []
        async with self.server() as running:
            await until_warm(running, POOLED)
            for count in (0, kernels):
                for _ in range(count):
                    await running.request(
                        "POST",
                        "/elastic/api/kernels",
                        {"template": POOLED, "resources": {"cpu": "50m", "memory": "96Mi"}},
                    )
                while count:
                    listed = await running.request("GET", "/elastic/api/kernels")
                    phases = [one["phase"] for one in listed["kernels"]]
                    if phases.count("Running") == count:
                        break
                    assert "Failed" not in phases, listed
                    await asyncio.sleep(0.5)
                await asyncio.sleep(5)
                taken = []
                for _ in range(asks):
                    start = time.perf_counter()
                    await running.request("GET", "/api/status")
                    taken.append(time.perf_counter() - start)
                values = figures(taken)
                results.setdefault("status_latency", {})[str(count)] = values
                rows.append(
                    [f"{count} kernels", *(1000 * values[k] for k in ("median", "p5", "p95"))]
                )
        table(f"GET /api/status, milliseconds ({asks} requests)", ["", "med", "p5", "p95"], rows)
