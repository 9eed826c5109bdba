"""``python -m benchmarks.scale``: hundreds of namespaces, one controller, and none for a moment.

On the API server of the test cluster (``make cluster-up``), with kwok's nodes: pods become Ready
without a process, so what is measured is everything but agents. Namespaces have quotas of 2 to 200
warm pods; the pool of every third has a floor of 5, which only 95 % of the quota cuts, the others
are predicted, within 10 %. Two replicas keep them, with the rights that ``--manifest`` prints.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from jupyter_elastic.cluster.kubernetes import shipped
from jupyter_elastic.cluster.kubernetes.api import MERGE_PATCH, KubeApi
from jupyter_elastic.cluster.kubernetes.lease import API as LEASES
from jupyter_elastic.cluster.kubernetes.lease import LeaseObject
from jupyter_elastic.cluster.kubernetes.manifests import OURS, label
from jupyter_elastic.cluster.kubernetes.objects import PodObject
from jupyter_elastic.cluster.kubernetes.problems import ApiNotFound
from jupyter_elastic.cluster.kubernetes.reflector import Reflector
from tests.kubernetes.test_namespaces import PLURALS
from tests.kubernetes.world import install
from tests.testcluster.nodes import FAKE_SELECTOR, TOLERATION
from tests.testcluster.world import Kube

from .kubernetes import open_kube
from .stats import figures, table, write

FLOOR = 5
SHARE, CEILING = 0.10, 0.95
WARM_CPU, WARM_MEMORY = 100, 128
"""Millicores and MiB that a warm pod asks for."""
SETTLED = 6.0
"""Seconds without a new pod: all pools are as they should be."""
TEMPLATES = "/apis/elastic.jupyter.org/v1alpha1/namespaces/{}/kerneltemplates"


class Place:
    """One namespace, and what was seen in it."""

    def __init__(self, name: str, quota: int, floor: int) -> None:
        self.name, self.quota, self.floor = name, quota, floor
        self.labelled = 0.0
        self.first_warm = 0.0
        self.most = 0
        """Pods at the same time."""

    @property
    def allowed(self) -> int:
        """The most that the guards allow."""
        share = CEILING if self.floor else SHARE
        return max(1, int(share * self.quota + 1e-9))


class Replica:
    """A controller as a process of its own."""

    def __init__(self, words: list[str], log: Path) -> None:
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            self.port = one.getsockname()[1]
        command = ["-m", "benchmarks.pretend", "controller", "--port", str(self.port), *words]
        with log.open("ab") as file:
            self.process = subprocess.Popen([sys.executable, *command], stdout=file, stderr=file)

    def ask(self, path: str) -> str:
        """What it answers; nothing when it does not."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/{path}") as answer:
                return str(answer.read().decode())
        except OSError:
            return ""

    def leads(self) -> int:
        """How many pools it keeps."""
        lines = self.ask("metrics").splitlines()
        rows = [line for line in lines if line.startswith("jupyter_elastic_pool_leader{")]
        return sum(row.endswith(" 1.0") for row in rows)

    def uses(self) -> tuple[float, float]:
        """CPU seconds so far, and MiB."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        seconds = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return seconds, int(status.split("VmRSS:")[1].split()[0]) / 1024


class Scale:
    """The whole benchmark."""

    def __init__(self, kube: Kube, api: KubeApi, options: argparse.Namespace, home: Path) -> None:
        self.kube, self.api, self.home = kube, api, home
        self.run = uuid.uuid4().hex[:6]
        self.controllers = f"scale-{self.run}-controllers"
        count = options.namespaces
        spread = [round(2 + 198 * (i / max(1, count - 1)) ** 2) for i in range(count)]
        floors = [FLOOR if i % 3 == 0 else 0 for i in range(count)]
        self.places = {
            f"scale-{self.run}-{i:03d}": Place(f"scale-{self.run}-{i:03d}", quota, floor)
            for i, (quota, floor) in enumerate(zip(spread, floors, strict=True))
        }
        self.later = {
            f"scale-{self.run}-later-{i}": Place(f"scale-{self.run}-later-{i}", 20, 0)
            for i in range(5)
        }
        self.every = {**self.places, **self.later}
        self.created: list[tuple[float, str]] = []
        """When a pod was seen for the first time, and where."""
        self.lease_writes = 0
        self.replicas: list[Replica] = []

    # -- what is seen ----------------------------------------------------------------------

    def on_pod(self, key: str, old: PodObject | None, new: PodObject | None) -> None:
        """A pod changed."""
        now = time.perf_counter()
        place = self.every.get(key.partition("/")[0])
        if place is None:
            return
        if old is None:
            self.created.append((now, place.name))
        mine = self.pods_of(place.name)
        place.most = max(place.most, len(mine))
        if not place.first_warm and any(_is_warm(pod) for pod in mine):
            place.first_warm = now

    def pods_of(self, namespace: str) -> list[PodObject]:
        """Pods that are there and stay."""
        return [
            pod
            for key, pod in self.pods.items.items()
            if key.startswith(f"{namespace}/") and pod.metadata.deletion_timestamp is None
        ]

    def on_lease(self, _name: str, _old: LeaseObject | None, new: LeaseObject | None) -> None:
        """A lease was written."""
        self.lease_writes += new is not None

    @contextlib.asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """See all of it meanwhile."""
        query = {"labelSelector": OURS}
        self.pods: Reflector[PodObject] = Reflector(
            self.api, "/api/v1/pods", PodObject, self.on_pod, query=query, everywhere=True
        )
        leases: Reflector[LeaseObject] = Reflector(
            self.api,
            f"/apis/{LEASES}/namespaces/{self.controllers}/leases",
            LeaseObject,
            self.on_lease,
        )
        await self.pods.start()
        await leases.start()
        try:
            yield
        finally:
            await self.pods.close()
            await leases.close()

    # -- what is done ----------------------------------------------------------------------

    async def prepare(self) -> None:
        """Namespaces with quota and template, no label yet; and the controllers' rights."""
        await _each([self.controllers], self._make_namespace)
        await _each(self.every, self._make_namespace)
        await _each(self.every, self._furnish)
        await _until(self._quotas_count, "the quotas count", pause=1)
        for body in yaml.safe_load_all(shipped.controller(self.controllers, "img", [], [])):
            if body["kind"] not in ("Deployment", "ConfigMap"):
                path = PLURALS[body["kind"]].format(body["metadata"].get("namespace", ""))
                self.kube.admin.delete(f"{path}/{body['metadata']['name']}")
                self.kube.admin.post(path, body)
        token = self.kube.token(self.controllers, "jupyter-elastic-controller", 7200)
        self.config = self.home / "config.py"
        self.config.write_text(
            "c.ElasticKernels.cluster = 'kubernetes'\n"
            f"c.ElasticKubernetes.kubeconfig = {str(token)!r}\n"
            f"c.ElasticKubernetes.namespace = {self.controllers!r}\n"
            "c.ElasticKubernetes.access = 'direct'\n"
        )

    async def _make_namespace(self, name: str) -> None:
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        await self.api.request("POST", "/api/v1/namespaces", body=body)

    async def _furnish(self, name: str) -> None:
        place = self.every[name]
        hard = {
            "requests.cpu": f"{place.quota * WARM_CPU}m",
            "requests.memory": f"{place.quota * WARM_MEMORY}Mi",
        }
        path = f"/api/v1/namespaces/{name}/resourcequotas"
        quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "quota"}}
        await self.api.request("POST", path, body={**quota, "spec": {"hard": hard}})
        key, value = FAKE_SELECTOR.split("=")
        spec = {
            "displayName": "Work",
            "image": "pretend",
            "resources": {
                "cpu": {"minimum": "100m", "default": "500m", "maximum": "2"},
                "memory": {"minimum": "64Mi", "default": "256Mi", "maximum": "4Gi"},
            },
            "pool": {"size": place.floor, "predict": True},
            "pod": {"runAsUser": 1000, "nodeSelector": {key: value}, "tolerations": [TOLERATION]},
        }
        body = {"apiVersion": "elastic.jupyter.org/v1alpha1", "kind": "KernelTemplate"}
        await self.api.request(
            "POST",
            TEMPLATES.format(name),
            body={**body, "metadata": {"name": "work"}, "spec": spec},
        )

    def _quotas_count(self) -> bool:
        found = self.kube.admin.get("/api/v1/resourcequotas")["items"]
        ready = {one["metadata"]["namespace"] for one in found if one["status"].get("hard")}
        return self.every.keys() <= ready

    async def start(self) -> Replica:
        """One more replica, ready."""
        words = ["--config", str(self.config), "--all-namespaces"]
        words += ["--selector", f"scale={self.run}"]
        replica = Replica(words, self.home / "log")
        self.replicas.append(replica)
        await _until(lambda: replica.ask("readyz"), "a replica that is ready", pause=0.2)
        return replica

    async def label(self, name: str) -> None:
        """Have the pool of this one kept."""
        self.every[name].labelled = time.perf_counter()
        body = {"metadata": {"labels": {"scale": self.run}}}
        path = f"/api/v1/namespaces/{name}"
        await self.api.request("PATCH", path, body=body, content_type=MERGE_PATCH)

    async def settle(self) -> None:
        """Wait until no more pods are made."""

        def is_quiet() -> bool:
            last = self.created[-1][0] if self.created else 0.0
            return time.perf_counter() - last > SETTLED

        await _until(is_quiet, "pools that have settled", seconds=900, pause=0.5)

    async def leader(self) -> Replica:
        """The one that keeps all pools."""

        def look() -> list[Replica]:
            alive = [one for one in self.replicas if one.process.poll() is None]
            return [one for one in alive if one.leads() >= len(self.every)]

        found: list[Replica] = await _until(look, "a leader of all", seconds=120, pause=0.5)
        return found[0]

    # -- what is measured ------------------------------------------------------------------

    async def fill(self) -> dict[str, Any]:
        """All at once, then one by one."""
        begun = time.perf_counter()
        await _each(self.places, self.label)
        done = lambda: all(place.first_warm for place in self.places.values())  # noqa: E731
        await _until(done, "a warm pod everywhere", seconds=900, pause=0.2)
        await self.settle()
        together = [place.first_warm - place.labelled for place in self.places.values()]
        full = max(at for at, _ in self.created) - begun
        for place in self.later.values():
            await self.label(place.name)
            await _until(partial(_has_warm, place), "a warm pod", pause=0.05)
        alone = [place.first_warm - place.labelled for place in self.later.values()]
        await self.settle()
        broken = [one.name for one in self.every.values() if one.most > one.allowed]
        return {
            "label to first warm pod, all at once": figures(together),
            "label to first warm pod, one by one": figures(alone),
            "pods": len(self.created),
            "all pools full after": full,
            "namespaces over a guard": broken,
            "pods by quota": _by_quota(self.every.values(), self.pods_of),
        }

    async def rest(self, seconds: float) -> dict[str, Any]:
        """What it costs when nothing happens."""
        leader = await self.leader()
        before = {one: one.uses()[0] for one in self.replicas}
        self.lease_writes = 0
        await asyncio.sleep(seconds)
        found: dict[str, Any] = {"lease writes per second": self.lease_writes / seconds}
        for one in self.replicas:
            cpu, memory = one.uses()
            who = "leader" if one is leader else "standby"
            found[who] = {"cores": (cpu - before[one]) / seconds, "MiB": memory}
        return found

    async def failover(self, how: signal.Signals, pools: int) -> dict[str, Any]:
        """The leader ends; at the same moment some pools lose a pod each."""
        leader = await self.leader()
        have = [name for name in self.every if self.pods_of(name)]
        hit = have[:: max(1, len(have) // pools)][:pools]
        victims = [(name, self.pods_of(name)[0].metadata.name) for name in hit]
        seen = len(self.created)
        begun = time.perf_counter()
        leader.process.send_signal(how)
        await _each([f"/api/v1/namespaces/{n}/pods/{p}" for n, p in victims], self._delete)

        def refilled() -> set[str]:
            return {name for _, name in self.created[seen:]} & set(hit)

        await _until(lambda: len(refilled()) == len(hit), "the pools are refilled", pause=0.05)
        first: dict[str, float] = {}
        for at, name in self.created[seen:]:
            first.setdefault(name, at - begun)
        leader.process.wait()
        return {
            "pools": len(hit),
            "first new pod after": min(first[name] for name in hit),
            "in all of them after": max(first[name] for name in hit),
        }

    async def _delete(self, path: str) -> None:
        with contextlib.suppress(ApiNotFound):
            await self.api.request("DELETE", path, query={"gracePeriodSeconds": "0"})

    async def tidy(self) -> None:
        """End what was started; namespaces go by and by."""
        for one in self.replicas:
            if one.process.poll() is None:
                one.process.kill()
            one.process.wait()
        names = [self.controllers, *self.every]
        await _each([f"/api/v1/namespaces/{name}" for name in names], self._delete)
        for kind in ("ClusterRoleBinding", "ClusterRole"):
            self.kube.admin.delete(f"{PLURALS[kind]}/jupyter-elastic-controller")


def _has_warm(place: Place) -> bool:
    return place.first_warm > 0


def _is_warm(pod: PodObject) -> bool:
    return pod.metadata.labels.get(label("phase")) == "warm"


def _by_quota(
    places: Iterable[Place], pods_of: Callable[[str], list[PodObject]]
) -> dict[str, dict[str, Any]]:
    """How many there are, and how many there might be, for quotas of similar size."""
    rows: dict[str, list[Place]] = defaultdict(list)
    for place in places:
        size = next(f"<= {top}" for top in (5, 20, 50, 200) if place.quota <= top)
        rows[f"{size}, {'floor 5' if place.floor else 'predicted'}"].append(place)
    return {
        name: {
            "namespaces": len(some),
            "pods": sum(len(pods_of(one.name)) for one in some),
            "most in one": max(one.most for one in some),
            "allowed there": max(one.allowed for one in some),
            "over": sum(one.most > one.allowed for one in some),
        }
        for name, some in sorted(rows.items())
    }


async def _each(names: Iterable[str], work: Callable[[str], Awaitable[None]]) -> None:
    gate = asyncio.Semaphore(16)

    async def one(name: str) -> None:
        async with gate:
            await work(name)

    await asyncio.gather(*(one(name) for name in names))


async def _until(
    condition: Callable[[], Any], what: str, seconds: float = 300, pause: float = 0.1
) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise SystemExit(f"not within {seconds:.0f} s: {what}")
        await asyncio.sleep(pause)
    return found


def show(results: dict[str, Any]) -> None:
    """Tables for people."""
    fill, rest = results["fill"], results["rest"]
    rows = [
        [name, one["median"], one["p95"], one["max"]]
        for name, one in fill.items()
        if isinstance(one, dict) and "median" in one
    ]
    table("Seconds", ["", "med", "p95", "max"], rows)
    print(f"{fill['pods']} pods, all there after {fill['all pools full after']:.1f} s")
    columns = ["namespaces", "pods", "most in one", "allowed there", "over"]
    table(
        "Quota (warm pods)",
        ["", *columns],
        [[name, *(one[c] for c in columns)] for name, one in fill["pods by quota"].items()],
    )
    table(
        "At rest",
        ["", "cores", "MiB"],
        [[who, rest[who]["cores"], rest[who]["MiB"]] for who in ("leader", "standby")],
    )
    print(f"{rest['lease writes per second']:.2f} lease writes per second")
    table(
        "Seconds without a leader",
        ["", "first new pod", "in all", "pools"],
        [
            [how, one["first new pod after"], one["in all of them after"], one["pools"]]
            for how, one in results["failover"].items()
        ],
    )


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run all of it."""
    kube = open_kube()
    install(kube)
    with contextlib.ExitStack() as stack:
        stack.callback(kube.close)
        stack.enter_context(kube.fake_nodes(2))
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="elastic-scale-")))
        api = await KubeApi.connect(kubeconfig=str(kube.kubeconfig), qps=1e4, burst=10000)
        scale = Scale(kube, api, options, home)
        try:
            await scale.prepare()
            async with scale.watched():
                await asyncio.gather(scale.start(), scale.start())
                results: dict[str, Any] = {"namespaces": len(scale.places)}
                results["fill"] = await scale.fill()
                results["rest"] = await scale.rest(options.rest)
                results["failover"] = {}
                for name, how in (("killed", signal.SIGKILL), ("stopped", signal.SIGTERM)):
                    results["failover"][name] = await scale.failover(how, 20)
                    await scale.settle()
                    await scale.start()
        finally:
            await scale.tidy()
            await api.close()
            if options.log:
                Path(options.log).write_bytes((home / "log").read_bytes())
    return results


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--namespaces", type=int, default=200, help="default: %(default)s")
    parser.add_argument("--rest", type=float, default=60, help="seconds; default: %(default)s")
    parser.add_argument("--log", help="keep what controllers say in this file")
    parser.add_argument("--out", help="also write the JSON here")
    options = parser.parse_args()
    results = asyncio.run(measure(options))
    show(results)
    write("scale", results, options.out)


if __name__ == "__main__":
    main()
