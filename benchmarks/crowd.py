"""``python -m benchmarks.crowd``: thousands of kernels in one namespace of the test cluster.

On the Kubernetes of ``make cluster-up``, with pods of nodes that only pretend (kwok) and stand-ins
for their agents; everything else is real: API server, scheduler, three ``jupyter elastic
controller``, and three servers' launchers, each in a process of its own.

1. Fill: so many kernels are started (cold), and run idle from then on.
2. The controllers fill the pool.
3. Rest: for a minute nothing is asked for. What the API server counted meanwhile, what the
   processes used.
4. Burst: as many starts as there are warm pods, at 75/s.
5. Sustained: starts at a steady rate with refill, while every 20 s the controller that leads is
   killed (and started anew).
6. Hand-over: the leader is killed, and then stopped, when pods of the pool have just been deleted:
   seconds until the first new pod.

7. Outage: the API server is down for a minute in the middle of a burst. How starts end that were
   asked for meanwhile, and when the pool is full again.

All the while a second template wants as many pods, and no node takes them: how many there are.

At the end each kernel must have exactly one pod, and each pod at most one kernel.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import logging
import os
import re
import resource
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from jupyter_elastic.errors import ElasticError
from jupyter_elastic.model import Kernel, PodPhase
from jupyter_elastic.resources import MIB, Resources
from tests.kubernetes.contestants import Contestant, Hand, contestant
from tests.kubernetes.desk import Desk
from tests.testcluster.nodes import FAKE_SELECTOR, TOLERATION

from .kubernetes import Place
from .stats import figures, table, write

NAME, BROKEN = "crowd", "broken"
SIZE = Resources(cpu=100, memory=64 * MIB)
SERVERS = CONTROLLERS = 3
OWN = ("kernels", "kernelpools", "kerneltemplates", "pods", "secrets", "configmaps")
"""Resources that servers and controllers ask for; nobody else asks for these of idle kernels."""
HOLDER = "/apis/coordination.k8s.io/v1/namespaces/{}/leases"


# -- a server's process ----------------------------------------------------------------------------


class Seat:
    """What a server's process does, told by lines of JSON."""

    def __init__(self, who: Contestant) -> None:
        self.who = who
        self.times: dict[str, dict[str, float]] = {}
        self.longest = 0.0
        self.collecting = 0.0

    def watch(self) -> None:
        """Note the longest time that one callback keeps the loop, in CPU seconds.

        Also of one collection of garbage, which is part of whatever callback it comes in.
        """
        handles: Any = asyncio.Handle
        run = handles._run

        def timed(handle: asyncio.Handle) -> None:
            begun = time.thread_time()
            run(handle)
            self.longest = max(self.longest, time.thread_time() - begun)

        begun = 0.0

        def collected(phase: str, _: dict[str, int]) -> None:
            nonlocal begun
            if phase == "start":
                begun = time.thread_time()
            else:
                self.collecting = max(self.collecting, time.thread_time() - begun)

        handles._run = timed
        gc.callbacks.append(collected)

    async def start(self, number: int) -> dict[str, Any]:
        """Start a kernel; how that went, in seconds."""
        [template] = [one for name, one in self._offered().items() if name == NAME]
        kernel = Kernel(
            kernel_id=str(uuid.uuid4()),
            owner=f"user-{number % 500}",
            template=NAME,
            created=time.time(),
            resources=SIZE,
        )
        begun = time.perf_counter()
        try:
            launched = await self.who.start(kernel, template)
        except ElasticError as error:
            return {"id": kernel.kernel_id, "how": error.reason, "all": time.perf_counter() - begun}
        parts = self.times.pop(kernel.kernel_id)
        return {
            "id": kernel.kernel_id,
            "how": launched.kernel.start,
            "claim": parts["claimed"] - parts["begun"],
            "all": time.perf_counter() - begun,
        }

    def _offered(self) -> Any:
        offered = self.who.cluster.offered()
        assert offered is not None
        return offered[0]

    async def many(self, count: int, rate: float, at_once: int) -> list[dict[str, Any]]:
        """Start kernels at a rate (0: as fast as ``at_once`` at a time will)."""
        gate = asyncio.Semaphore(at_once)

        async def one(number: int) -> dict[str, Any]:
            async with gate:
                return await self.start(number)

        begun, tasks = time.perf_counter(), []
        for number in range(count):
            if rate:
                await asyncio.sleep(max(0.0, begun + number / rate - time.perf_counter()))
            tasks.append(asyncio.ensure_future(one(number)))
        return list(await asyncio.gather(*tasks))

    def figures(self) -> dict[str, float]:
        """Memory in MiB, CPU seconds so far, longest callback since the last look, what is seen."""
        longest, self.longest = self.longest, 0.0
        collecting, self.collecting = self.collecting, 0.0
        used = resource.getrusage(resource.RUSAGE_SELF)
        pods = self.who.cluster.pods().values()
        return {
            "memory": rss(os.getpid()),
            "cpu": used.ru_utime + used.ru_stime,
            "longest": longest,
            "collecting": collecting,
            "warm": sum(pod.phase is PodPhase.WARM for pod in pods),
            "pods": len(pods),
            "kernels": len(self.who.cluster.kernels()),
        }


async def serve(namespace: str, kubeconfig: Path) -> None:
    """Be a server until standard input ends."""
    logging.getLogger("jupyter_elastic").setLevel(logging.ERROR)  # an outage is told by figures
    hands: dict[str, Hand] = {}
    who = await contestant(namespace, kubeconfig, hands)
    seat = Seat(who)

    class Note(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            kernel_id, part = record.getMessage().split()
            seat.times.setdefault(kernel_id, {})[part] = record.created

    timing = logging.getLogger("jupyter_elastic.timing")
    timing.setLevel(logging.DEBUG)
    timing.addHandler(Note())
    loop = asyncio.get_running_loop()
    seat.watch()
    print(json.dumps("ready"), flush=True)
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        ask = json.loads(line)
        answer = await seat.many(**ask) if ask else seat.figures()
        print(json.dumps(answer), flush=True)
    await who.close()


def rss(pid: int) -> float:
    """Resident memory of a process, MiB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MIB


def cpu(pid: int) -> float:
    """CPU seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# -- what is measured ------------------------------------------------------------------------------


class Child:
    """A server's process, asked and answering in lines."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def heard(self) -> Any:
        """Its next line."""
        assert self.process.stdout is not None
        line = await self.process.stdout.readline()
        if not line:
            raise RuntimeError("a server's process ended")
        return json.loads(line)

    async def ask(self, **what: Any) -> Any:
        """Have it do something (nothing: give its figures)."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(what).encode() + b"\n")
        return await self.heard()


class Controllers:
    """The replicas of ``jupyter elastic controller``."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.config = desk.home / "controller.py"
        self.config.write_text(desk.config(access="direct"))
        self.all: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """One more."""
        command = [sys.executable, "-m", "benchmarks.pretend", "controller"]
        command += ["--config", str(self.config)]
        log = (self.desk.home / f"controller-{len(self.all)}.log").open("wb")
        with log:
            self.all.append(subprocess.Popen(command, stdout=log, stderr=log))

    def alive(self) -> list[subprocess.Popen[bytes]]:
        """Those that run."""
        return [one for one in self.all if one.poll() is None]

    def leader(self) -> subprocess.Popen[bytes] | None:
        """The one that holds the lease."""
        leases = self.desk.kube.admin.get(HOLDER.format(self.desk.namespace))["items"]
        holders = [one["spec"].get("holderIdentity", "") for one in leases]
        for one in self.alive():
            if any(f"-{one.pid}-" in holder for holder in holders):
                return one
        return None

    async def end_leader(self, how: signal.Signals) -> subprocess.Popen[bytes]:
        """Tell it to end, or make it; which one it was."""
        leader = None
        while leader is None:
            leader = await asyncio.to_thread(self.leader)
            await asyncio.sleep(0.1)
        leader.send_signal(how)
        return leader

    async def replace(self, leader: subprocess.Popen[bytes]) -> None:
        """Have another one in the place of one that ends."""
        await asyncio.to_thread(leader.wait, 30)
        self.start()

    def close(self) -> None:
        """End all."""
        for one in self.alive():
            one.terminate()
        for one in self.all:
            try:
                one.wait(20)
            except subprocess.TimeoutExpired:
                one.kill()
                one.wait()


@contextlib.asynccontextmanager
async def children(desk: Desk) -> AsyncIterator[list[Child]]:
    """The servers."""
    found = []
    command = [sys.executable, "-m", "benchmarks.crowd", "--server"]
    command += [desk.namespace, str(desk.kubeconfig)]
    try:
        for _ in range(SERVERS):
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=2**26,
            )
            found.append(Child(process))
        for one in found:
            await one.heard()
        yield found
    finally:
        for one in found:
            assert one.process.stdin is not None
            one.process.stdin.close()
        for one in found:
            try:
                await asyncio.wait_for(one.process.wait(), 30)
            except asyncio.TimeoutError:
                one.process.kill()
                await one.process.wait()


def counted(desk: Desk) -> Counter[tuple[str, str]]:
    """Requests that the API server has answered so far, by resource and verb; no watches."""
    found: Counter[tuple[str, str]] = Counter()
    for line in desk.kube.admin.text("/metrics").splitlines():
        if not line.startswith("apiserver_request_total{"):
            continue
        labels = dict(re.findall(r'(\w+)="([^"]*)"', line))
        if labels["verb"] not in ("WATCH", "CONNECT"):
            found[labels["resource"], labels["verb"]] += int(float(line.rsplit(" ", 1)[1]))
    return found


class Run:
    """One measurement of everything."""

    def __init__(self, desk: Desk, servers: list[Child], results: dict[str, Any]) -> None:
        self.desk = desk
        self.servers = servers
        self.controllers = Controllers(desk)
        self.results = results
        self.started: list[dict[str, Any]] = []

    async def starts(self, count: int, rate: float, at_once: int) -> list[dict[str, Any]]:
        """Starts, divided among the servers."""
        shares = [count // SERVERS + (n < count % SERVERS) for n in range(SERVERS)]
        asked = (
            one.ask(count=share, rate=rate / SERVERS, at_once=at_once)
            for one, share in zip(self.servers, shares, strict=True)
        )
        done = [one for part in await asyncio.gather(*asked) for one in part]
        self.started += done
        return done

    async def figures(self) -> list[dict[str, float]]:
        """Of all servers."""
        return list(await asyncio.gather(*(one.ask() for one in self.servers)))

    async def warm(self, count: int) -> float:
        """Wait until every server sees so many warm pods; seconds that took."""
        begun = time.monotonic()
        while any(one["warm"] < count for one in await self.figures()):
            if time.monotonic() - begun > 600:
                raise RuntimeError(f"there are no {count} warm pods after ten minutes")
            await asyncio.sleep(0.5)
        return time.monotonic() - begun

    async def fill(self, kernels: int) -> None:
        """Step 1."""
        begun = time.monotonic()
        done = await self.starts(kernels, 0, 12)
        taken = time.monotonic() - begun
        how = Counter(one["how"] for one in done)
        self.results["fill"] = {"kernels": kernels, "seconds": taken, "how": how}
        table("Fill", ["kernels", "s", "starts/s"], [[kernels, taken, kernels / taken]])

    async def pool(self, size: int) -> None:
        """Step 2."""
        for _ in range(CONTROLLERS):
            self.controllers.start()
        self.desk.change(NAME, {"pool": {"size": size}})
        nowhere = self.desk.pod_options(nodeSelector={"elastic.test/nowhere": "true"})
        self.desk.offer(BROKEN, pool=size, memory="64Mi", pod=nowhere)
        taken = await self.warm(size)
        self.results["pool"] = {"pods": size, "seconds": taken}
        table("Pool filled (with the start of controllers)", ["pods", "s"], [[size, taken]])

    async def rest(self, seconds: float) -> None:
        """Step 3."""
        await asyncio.sleep(5)
        before, at = await asyncio.to_thread(counted, self.desk), time.monotonic()
        servers = await self.figures()
        controllers = {one.pid: cpu(one.pid) for one in self.controllers.alive()}
        await asyncio.sleep(seconds)
        after = await asyncio.to_thread(counted, self.desk)
        passed = time.monotonic() - at
        now = await self.figures()
        kernels = now[0]["kernels"]
        grown = {key: after[key] - before[key] for key in after if after[key] > before[key]}
        own = sum(number for (kind, _), number in grown.items() if kind in OWN)
        leases = grown.get(("leases", "PUT"), 0) + grown.get(("leases", "PATCH"), 0)
        rows: list[list[Any]] = []
        for index, (a, b) in enumerate(zip(servers, now, strict=True)):
            busy = 100 * (b["cpu"] - a["cpu"]) / passed
            rows.append([f"server {index}", b["memory"], busy, 1000 * b["longest"]])
        for index, one in enumerate(self.controllers.alive()):
            busy = 100 * (cpu(one.pid) - controllers[one.pid]) / passed
            rows.append([f"controller {index}", rss(one.pid), busy, "-"])
        asked = own / kernels * 3600 / passed
        self.results["rest"] = {
            "kernels": kernels,
            "seconds": passed,
            "requests": {" ".join(key): number for key, number in grown.items()},
            "per_kernel_hour": asked,
            "lease_writes_per_second": leases / passed,
            "processes": rows,
        }
        table(
            f"At rest, {kernels} kernels and the pool, {passed:.0f} s",
            ["process", "MiB", "CPU %", "longest callback, ms"],
            rows,
        )
        print(
            f"\nRequests per idle kernel and hour, by servers and controllers: {asked:.4f} "
            f"({own} in all); lease writes, the cluster's own included: {leases / passed:.2f}/s"
        )

    async def burst(self, count: int, rate: float) -> None:
        """Step 4."""
        await self.figures()
        done = await self.starts(count, rate, 1000)
        self.told("burst", f"Burst: {count} starts at {rate:.0f}/s", done, await self.figures())

    async def sustained(self, rate: float, seconds: float) -> None:
        """Step 5."""

        async def trouble() -> int:
            kills = 0
            while True:
                await asyncio.sleep(20)
                leader = await self.controllers.end_leader(signal.SIGKILL)
                await self.controllers.replace(leader)
                kills += 1
                self.results["kills"] = kills

        await self.figures()
        killing = asyncio.ensure_future(trouble())
        try:
            done = await self.starts(int(rate * seconds), rate, 1000)
        finally:
            killing.cancel()
            await asyncio.gather(killing, return_exceptions=True)
        title = f"Sustained: {rate:.0f}/s for {seconds:.0f} s, a leader killed every 20 s"
        self.told("sustained", title, done, await self.figures())

    def told(
        self, key: str, title: str, done: list[dict[str, Any]], servers: list[dict[str, float]]
    ) -> None:
        """Print how starts went, and keep it."""
        how = Counter(one["how"] for one in done)
        rows: list[list[Any]] = []
        kept: dict[str, Any] = {"how": how, "longest": max(one["longest"] for one in servers)}
        for name, part in (("create + claim", "claim"), ("until the kernel runs", "all")):
            values = sorted(one[part] for one in done if one["how"] == "warm")
            if values:
                found = figures(values)
                p99 = values[min(len(values) - 1, round(0.99 * (len(values) - 1)))]
                rows.append([name, found["median"], found["p95"], p99, found["max"]])
                kept[part] = {**found, "p99": p99}
        self.results[key] = kept
        table(f"{title}; {dict(how)}", ["warm starts, s", "p50", "p95", "p99", "max"], rows)
        kept["collecting"] = max(one["collecting"] for one in servers)
        print(
            f"Longest callback on a server's loop: {1000 * kept['longest']:.0f} ms (CPU);"
            f" longest collection of garbage: {1000 * kept['collecting']:.0f} ms"
        )

    async def hand_over(self, how: signal.Signals) -> float:
        """Step 6: seconds from the end of the leader to the next pod."""
        await self.warm(self.results["pool"]["pods"])
        path = f"/api/v1/namespaces/{self.desk.namespace}/pods"
        waiting = f"!elastic.jupyter.org/kernel,elastic.jupyter.org/template={NAME}"

        def names() -> set[str]:
            """Pods of the pool; to read all the others would take seconds."""
            found = self.desk.kube.admin.get(path, labelSelector=waiting)["items"]
            return {one["metadata"]["name"] for one in found}

        there = await asyncio.to_thread(names)
        leader = await self.controllers.end_leader(how)
        told = time.time()
        for name in sorted(there)[:3]:
            await asyncio.to_thread(self.desk.kube.admin.delete, f"{path}/{name}")
        while True:
            if await asyncio.to_thread(names) - there:
                break
            await asyncio.sleep(0.2)
        taken = time.time() - told
        await self.controllers.replace(leader)
        return taken

    async def handed(self) -> None:
        """Step 6, both ways."""
        rows: list[list[Any]] = []
        for how, word in ((signal.SIGKILL, "killed"), (signal.SIGTERM, "stopped")):
            taken = await self.hand_over(how)
            rows.append([word, taken])
            self.results.setdefault("hand_over", {})[word] = taken
        table("The leader ends: seconds until the first new pod", ["how", "s"], rows)

    async def outage(self, rate: float, seconds: float) -> None:
        """Step 7."""
        pool, cluster = self.results["pool"]["pods"], self.desk.kube.cluster
        assert cluster is not None
        await self.warm(pool)
        burst = asyncio.ensure_future(self.starts(int(rate * (seconds + 20)), rate, 1000))
        await asyncio.sleep(5)

        def down() -> None:
            with cluster.without("apiserver"):
                time.sleep(seconds)

        await asyncio.to_thread(down)
        back = time.monotonic()
        how = Counter(one["how"] for one in await burst)
        over = time.monotonic() - back
        await self.warm(pool)
        full = time.monotonic() - back
        self.results["outage"] = {"seconds": seconds, "how": how, "over": over, "full": full}
        table(
            f"The API server is down for {seconds:.0f} s, {rate:.0f} starts/s; {dict(how)}",
            ["after it is back", "s"],
            [["all starts have ended", over], ["the pool is full", full]],
        )

    def check(self) -> None:
        """Nothing doubled, nothing lost. Raises RuntimeError otherwise."""
        pods = [
            one["metadata"]["labels"].get("elastic.jupyter.org/kernel")
            for one in self.desk.pods()
            if not one["metadata"].get("deletionTimestamp")
        ]
        taken = Counter(one for one in pods if one)
        ids = {one["id"] for one in self.started if one["how"] in ("warm", "cold")}
        doubled = [name for name, number in taken.items() if number > 1]
        lost = ids - taken.keys()
        self.results["doubled"], self.results["lost"] = len(doubled), len(lost)
        self.results["broken"] = sum(
            one["metadata"]["labels"].get("elastic.jupyter.org/template") == BROKEN
            for one in self.desk.pods()
        )
        print(f"\nPods of the template that no node takes: {self.results['broken']}")
        print(f"Kernels with two pods: {len(doubled)}; without one: {len(lost)}, of {len(ids)}")
        if doubled or lost:
            raise RuntimeError(f"doubled: {doubled[:5]}, lost: {sorted(lost)[:5]}")


@contextlib.contextmanager
def place(nodes: int) -> Iterator[Desk]:
    """A namespace with the template, and nodes that pretend."""
    with Place(pool=0) as where:
        desk = where.desk
        if desk.kube.cluster is None:
            sys.exit("This needs the test cluster of this tree: make cluster-up.")
        key, value = FAKE_SELECTOR.split("=")
        desk.offer(
            NAME,
            pool=0,
            memory="64Mi",
            pod=desk.pod_options(nodeSelector={key: value}, tolerations=[TOLERATION]),
        )
        with desk.kube.fake_nodes(nodes):
            yield desk


async def measure(arguments: argparse.Namespace, desk: Desk, results: dict[str, Any]) -> None:
    """All steps."""
    async with children(desk) as servers:
        run = Run(desk, servers, results)
        try:
            await run.fill(arguments.kernels)
            await run.pool(arguments.pool)
            await run.rest(arguments.rest)
            await run.burst(arguments.pool, 75)
            await run.warm(arguments.pool)
            await run.sustained(arguments.rate, arguments.sustained)
            await run.handed()
            await run.outage(arguments.rate, arguments.outage)
            run.check()
        finally:
            run.controllers.close()


def main() -> None:
    """Run it all and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--kernels", type=int, default=5000)
    parser.add_argument("--pool", type=int, default=300)
    parser.add_argument("--rest", type=float, default=60, help="seconds")
    parser.add_argument("--rate", type=float, default=5, help="sustained starts per second")
    parser.add_argument("--sustained", type=float, default=90, help="seconds")
    parser.add_argument("--outage", type=float, default=60, help="seconds")
    parser.add_argument("--out", help="also write the JSON to this file")
    parser.add_argument("--server", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.server:
        asyncio.run(serve(arguments.server[0], Path(arguments.server[1])))
        return
    results: dict[str, Any] = {"kernels": arguments.kernels, "pool": arguments.pool}
    with place(2 + (arguments.kernels + 2 * arguments.pool) // 600) as desk:
        asyncio.run(measure(arguments, desk, results))
    write("crowd", results, arguments.out)


if __name__ == "__main__":
    main()
