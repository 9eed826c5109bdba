"""``python -m benchmarks.launch``: how soon a pooled kernel answers, against a plain one.

Through a real Jupyter server, as a browser does it: ``POST /api/kernels``, websocket,
``execute_request`` of ``1+1``, until its result. Pooled and plain kernels of the same interpreter
alternate in the same server; a run begins only when a pod is warm and the machine is quiet.
Restart likewise: ``POST /api/kernels/ID/restart`` until the next result on a new websocket. Then
the memory and CPU of 0, 1 and 4 warm pods (PSS of all their processes, CPU seconds per 20 s).

With ``--cluster kubernetes`` the pooled kernels run on the Kubernetes of ``make cluster-up`` (or of
``JUPYTER_ELASTIC_TEST_KUBECONFIG``), the plain ones beside the server as before. Then also a cold
start, an attach to a kernel that runs, the parts of a warm start, and what the server takes to
answer ``GET /api/status`` with 0 and 20 elastic kernels.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

from .server import Server, server, until_warm
from .stats import figures, table, write

PLAIN, POOLED = "python3", "pooled"


def template(size: int, preload: list[str]) -> str:
    """Configuration with one pooled template."""
    return (
        f"c.ElasticKernels.templates = [dict(name='{POOLED}', display_name='Pooled', "
        f"preload={preload!r}, pool=dict(size={size}), "
        "resources=dict(memory=dict(minimum='128Mi', default='1Gi', maximum='4Gi'), "
        "cpu=dict(minimum='100m', default='1', maximum='2')))]\n"
    )


async def first_result(running: Server, name: str) -> dict[str, float]:
    """Seconds from POST to its reply, to the open websocket and to the first result."""
    start = time.perf_counter()
    model = await running.request("POST", "/api/kernels", {"name": name})
    posted = time.perf_counter()
    channel = await running.connect(model["id"])
    opened = time.perf_counter()
    assert await channel.execute("1+1") == "2"
    done = time.perf_counter()
    channel.close()
    return {
        "id": model["id"],
        "posted": posted - start,
        "opened": opened - start,
        "result": done - start,
    }


async def restart(running: Server, kernel_id: str) -> float:
    """Seconds from the POST of a restart to the next result."""
    start = time.perf_counter()
    await running.request("POST", f"/api/kernels/{kernel_id}/restart", {})
    channel = await running.connect(kernel_id)
    assert await channel.execute("1+1") == "2"
    channel.close()
    return time.perf_counter() - start


@contextlib.asynccontextmanager
async def on_local() -> AsyncIterator[Server]:
    """A server with its pool on this machine."""
    async with server(template(1, [])) as running:
        yield running


async def measure(
    runs: int, settle: float, place: Callable[[], AbstractAsyncContextManager[Server]] = on_local
) -> dict[str, Any]:
    """Alternating runs; the first pair is a warm-up and not counted."""
    launch: dict[str, list[dict[str, float]]] = {PLAIN: [], POOLED: []}
    again: dict[str, list[float]] = {PLAIN: [], POOLED: []}
    async with place() as running:
        for run in range(runs + 1):
            order = (PLAIN, POOLED) if run % 2 else (POOLED, PLAIN)
            for name in order:
                await until_warm(running, POOLED)
                await asyncio.sleep(settle)
                taken = await first_result(running, name)
                kernel_id = str(taken.pop("id"))
                # The agent forks the next spare once the kernel is idle.
                await asyncio.sleep(settle + 1.5)
                restarted = await restart(running, kernel_id)
                await running.request("DELETE", f"/api/kernels/{kernel_id}")
                if run:
                    launch[name].append(taken)
                    again[name].append(restarted)
    return {"launch": launch, "restart": again}


def processes_of(state_dir: Path) -> list[int]:
    """Pids of all agents and their descendants that belong to pods in ``state_dir``."""
    pods = [f"JUPYTER_ELASTIC_POD={p.stem}".encode() for p in (state_dir / "pods").glob("*.json")]
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            environment = (entry / "environ").read_bytes().split(b"\0")
            if any(pod in environment for pod in pods):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def memory_of(pids: list[int]) -> tuple[int, int]:
    """PSS and private bytes of the processes together."""
    pss = private = 0
    for pid in pids:
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        for line in text.splitlines():
            if line.startswith("Pss:"):
                pss += int(line.split()[1]) * 1024
            elif line.startswith(("Private_Clean:", "Private_Dirty:")):
                private += int(line.split()[1]) * 1024
    return pss, private


def cpu_of(pids: list[int]) -> float:
    """CPU seconds the processes used so far."""
    ticks = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


async def idle(size: int, preload: list[str], seconds: float) -> dict[str, Any]:
    """Memory and CPU of ``size`` warm pods, and of the server that keeps them."""
    async with server(template(size, preload)) as running:
        if size:
            await until_warm(running, POOLED, size)
        await asyncio.sleep(5)
        pods = processes_of(running.state_dir)
        before = cpu_of(pods), cpu_of([running.pid])
        await asyncio.sleep(seconds)
        after = cpu_of(pods), cpu_of([running.pid])
        pss, private = memory_of(pods)
        return {
            "warm": size,
            "preload": preload,
            "processes": len(pods),
            "pss": pss,
            "private": private,
            "cpu_percent": 100 * (after[0] - before[0]) / seconds,
            "server_cpu_percent": 100 * (after[1] - before[1]) / seconds,
        }


def main() -> None:
    """Run it all and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=40)
    parser.add_argument("--settle", type=float, default=1.0, help="quiet seconds before a run")
    parser.add_argument("--idle-seconds", type=float, default=20.0)
    parser.add_argument("--no-idle", action="store_true", help="skip memory and CPU of warm pods")
    parser.add_argument("--out", help="also write the JSON to this file")
    parser.add_argument("--cluster", choices=("local", "kubernetes"), default="local")
    args = parser.parse_args()
    results: dict[str, Any] = {"runs": args.runs, "cluster": args.cluster}
    if args.cluster == "kubernetes":
        from .kubernetes import Place

        with Place() as place:
            measured = asyncio.run(measure(args.runs, args.settle, place.server))
            compare(measured, results, args.runs)
            asyncio.run(place.more(results, args.runs))
    else:
        measured = asyncio.run(measure(args.runs, args.settle))
        compare(measured, results, args.runs)
        if not args.no_idle:
            at_rest(results, args.idle_seconds)
    write("launch", results, args.out)


def compare(measured: dict[str, Any], results: dict[str, Any], runs: int) -> None:
    """Print pooled beside plain, and keep the figures."""
    rows = []
    for key in ("posted", "opened", "result"):
        plain = figures([r[key] for r in measured["launch"][PLAIN]])
        pooled = figures([r[key] for r in measured["launch"][POOLED]])
        results[key] = {"plain": plain, "pooled": pooled, **ratios(pooled, plain)}
        rows.append(row(f"launch: {key}", plain, pooled))
    plain, pooled = figures(measured["restart"][PLAIN]), figures(measured["restart"][POOLED])
    results["restart"] = {"plain": plain, "pooled": pooled, **ratios(pooled, plain)}
    rows.append(row("restart: result", plain, pooled))
    table(
        f"Seconds, {runs} interleaved runs (ratio = pooled / plain)",
        ["", "plain med", "p5", "p95", "pooled med", "p5", "p95", "ratio med", "ratio p95"],
        rows,
    )


def at_rest(results: dict[str, Any], seconds: float) -> None:
    """Print what warm pods cost while nobody uses them, and keep the figures."""
    pools = [
        asyncio.run(idle(size, preload, seconds))
        for size, preload in ((0, []), (1, []), (1, ["pandas"]), (4, []))
    ]
    results["idle"] = pools
    table(
        "Warm pods at rest",
        ["warm", "preload", "processes", "PSS MB", "private MB", "CPU %", "server CPU %"],
        [
            [
                p["warm"],
                ",".join(p["preload"]) or "-",
                p["processes"],
                f"{p['pss'] / 1e6:.0f}",
                f"{p['private'] / 1e6:.0f}",
                f"{p['cpu_percent']:.2f}",
                f"{p['server_cpu_percent']:.2f}",
            ]
            for p in pools
        ],
    )


def ratios(a: dict[str, float], b: dict[str, float]) -> dict[str, float]:
    """``a`` to ``b``, median and 95th percentile."""
    return {"ratio_median": a["median"] / b["median"], "ratio_p95": a["p95"] / b["p95"]}


def row(name: str, plain: dict[str, float], pooled: dict[str, float]) -> list[Any]:
    """A line of the table."""
    ratio = ratios(pooled, plain)
    return [
        name,
        *(plain[k] for k in ("median", "p5", "p95")),
        *(pooled[k] for k in ("median", "p5", "p95")),
        ratio["ratio_median"],
        ratio["ratio_p95"],
    ]


if __name__ == "__main__":
    main()
