"""``python -m benchmarks.resize``: how soon a resize holds, on a real Kubernetes.

``PATCH /elastic/api/kernels/ID`` through a real Jupyter server; from sending it until the control
group of the kernel's container has the new memory limit, until the kubelet says so in the pod's
status, and until REST says Done. Beside it, alternating, the bare ``pods/resize`` of a pod of the
same node, as ``kubectl`` would send it: what the cluster itself takes is the baseline.
"""

from __future__ import annotations

import argparse
import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

from tests.testcluster.world import Kube

from .kubernetes import MIB, POOLED, Place
from .server import Server, until_warm
from .stats import figures, table, write

LOOK = 0.002
"""Seconds between two looks into the control group."""
STATUS_LOOK = 0.02
SIZES = (768, 512)
"""MiB, in turn."""


class Stopwatch:
    """When the control group and the kubelet's status first show a limit of memory."""

    def __init__(self, kube: Kube, namespace: str, pod: str, uid: str, limit: int) -> None:
        self.enforced: float | None = None
        self.shown: float | None = None
        self._begun = time.perf_counter()
        self._threads = [
            threading.Thread(target=self._until, args=(look, pause, name), daemon=True)
            for name, pause, look in (
                ("enforced", LOOK, lambda: _in_force(kube, uid) == limit),
                ("shown", STATUS_LOOK, lambda: _in_status(kube, namespace, pod) == limit),
            )
        ]
        for thread in self._threads:
            thread.start()

    def _until(self, look: Callable[[], bool], pause: float, name: str) -> None:
        while time.perf_counter() - self._begun < 30:
            if look():
                setattr(self, name, time.perf_counter() - self._begun)
                return
            time.sleep(pause)

    async def done(self) -> dict[str, float]:
        """Both, once both have been seen."""
        for thread in self._threads:
            await asyncio.to_thread(thread.join)
        assert self.enforced is not None, "the control group never showed the new limit"
        assert self.shown is not None, "the pod's status never showed the new limit"
        return {"enforced": self.enforced, "status": self.shown}


def _in_force(kube: Kube, uid: str) -> int | None:
    limits = kube.limits(uid)
    return limits.memory if limits is not None else None


def _in_status(kube: Kube, namespace: str, pod: str) -> int | None:
    found = kube.admin.get(f"/api/v1/namespaces/{namespace}/pods/{pod}")
    for status in found["status"].get("containerStatuses", ()):
        text = str(status.get("resources", {}).get("limits", {}).get("memory", ""))
        if text.endswith("Mi"):
            return int(text[:-2]) * MIB
        if text.isdigit():
            return int(text)
    return None


async def ours(place: Place, running: Server, kernel_id: str, memory: int) -> dict[str, float]:
    """One resize through REST."""
    view = await running.request("GET", f"/elastic/api/kernels/{kernel_id}")
    pod = place.desk.pod(view["pod"])
    overhead = int(pod["metadata"]["annotations"]["elastic.jupyter.org/overhead"])
    watch = Stopwatch(
        place.kube,
        place.desk.namespace,
        view["pod"],
        pod["metadata"]["uid"],
        memory * MIB + overhead,
    )
    start = time.perf_counter()
    body = {"resources": {"memory": f"{memory}Mi"}}
    answer = await running.request("PATCH", f"/elastic/api/kernels/{kernel_id}", body)
    rest = time.perf_counter() - start
    assert answer["resize"]["state"] == "Done", answer
    return {**await watch.done(), "rest": rest}


async def bare(place: Place, pod: str, uid: str, memory: int) -> dict[str, float]:
    """One resize as kubectl sends it."""
    watch = Stopwatch(place.kube, place.desk.namespace, pod, uid, memory * MIB)
    size = {"cpu": "100m", "memory": f"{memory}Mi"}
    resources = {"requests": size, "limits": {**size, "cpu": "200m"}}
    await asyncio.to_thread(
        place.kube.admin.patch,
        f"/api/v1/namespaces/{place.desk.namespace}/pods/{pod}/resize",
        {"spec": {"containers": [{"name": "kernel", "resources": resources}]}},
        "application/strategic-merge-patch+json",
    )
    return await watch.done()


def make_bare(place: Place) -> tuple[str, str]:
    """A pod that only sleeps; its name and uid."""
    size = {"cpu": "100m", "memory": "512Mi"}
    container = {
        "name": "kernel",
        "image": place.kube.image,
        "command": ["sleep", "100000"],
        "resources": {"requests": size, "limits": {**size, "cpu": "200m"}},
    }
    body = {
        "metadata": {"name": "bare"},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 0},
    }
    place.kube.admin.post(f"/api/v1/namespaces/{place.desk.namespace}/pods", body)
    pod = place.kube.await_pod(
        place.desk.namespace, "bare", lambda one: one["status"].get("phase") == "Running"
    )
    return "bare", str(pod["metadata"]["uid"])


async def measure(place: Place, runs: int, settle: float) -> dict[str, list[dict[str, float]]]:
    """Alternating runs; the first pair is a warm-up and not counted."""
    found: dict[str, list[dict[str, float]]] = {"ours": [], "bare": []}
    pod, uid = make_bare(place)
    async with place.server() as running:
        await until_warm(running, POOLED)
        model = await running.request("POST", "/api/kernels", {"name": POOLED})
        for run in range(runs + 1):
            memory = SIZES[run % 2]
            for name in ("ours", "bare") if run % 2 else ("bare", "ours"):
                await asyncio.sleep(settle)
                taken = (
                    await ours(place, running, model["id"], memory)
                    if name == "ours"
                    else await bare(place, pod, uid, memory)
                )
                if run:
                    found[name].append(taken)
    return found


def main() -> None:
    """Run it and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=40)
    parser.add_argument("--settle", type=float, default=1.0, help="quiet seconds before a run")
    parser.add_argument("--out", help="also write the JSON to this file")
    args = parser.parse_args()
    with Place() as place:
        assert place.kube.cluster is not None, "reads control groups of the tree's own cluster"
        found = asyncio.run(measure(place, args.runs, args.settle))
    results: dict[str, Any] = {"runs": args.runs}
    rows = []
    for key, title in (("enforced", "control group"), ("status", "kubelet's status")):
        mine, base = (figures([one[key] for one in found[name]]) for name in ("ours", "bare"))
        ratio = mine["median"] / base["median"]
        results[key] = {"ours": mine, "bare": base, "ratio_median": ratio}
        rows.append([title, *(mine[k] for k in ("median", "p5", "p95")), base["median"], ratio])
    rest = figures([one["rest"] for one in found["ours"]])
    results["rest"] = rest
    rows.append(["REST says Done", *(rest[k] for k in ("median", "p5", "p95")), "-", "-"])
    table(
        f"Seconds after the PATCH, {args.runs} interleaved runs",
        ["", "med", "p5", "p95", "bare pods/resize med", "ratio"],
        rows,
    )
    write("resize", results, args.out)


if __name__ == "__main__":
    main()
