"""``python -m benchmarks.crowd``: thousands of kernels in one namespace of the test cluster.

On the Kubernetes of ``make cluster-up``, with pods of nodes that only pretend (kwok) and stand-ins
for their agents; everything else is real: API server, scheduler, three ``jupyter elastic
controller``, and three servers' launchers, each in a process of its own.

1. Fill: so many kernels are started (cold), and run idle from then on.
2. Pool: the controllers fill the pool.
3. Rest: for a minute nothing is asked for. What the API server counted meanwhile, what the
   processes used.
4. Burst: as many starts as there are warm pods, at 75/s.
5. Sustained: starts at a steady rate with refill, while every 20 s the controller that leads is
   killed (and started anew).
6. Hand-over: the leader is killed, and then stopped, when pods of the pool have just been deleted:
   seconds until the first new pod.
7. Outage: the API server is down for a minute in the middle of a burst. How starts end that were
   asked for meanwhile, and when the pool is full again.
8. Check: each kernel must have exactly one pod, and each pod at most one kernel.

All the while a second template wants as many pods, and no node takes them: how many there are.

Each phase prints its figures when it is done, and ``--out`` has them from then on. One that fails
says so, and the next ones follow, with new processes for those that are gone; then the status is 1.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import re
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

from tests.kubernetes.desk import Desk
from tests.testcluster.api import until
from tests.testcluster.nodes import FAKE_SELECTOR, TOLERATION

from .kubernetes import Place
from .processes import Controllers, cpu, rss
from .seats import NAME, Child, seats, serve
from .stats import figures, save, table, write

BROKEN = "broken"
SERVERS = CONTROLLERS = 3
OWN = ("kernels", "kernelpools", "kerneltemplates", "pods", "secrets", "configmaps")
"""Resources that servers and controllers ask for; nobody else asks for these of idle kernels."""
AT_ONCE = 500
"""Kernels of one step of the first phase, after which it says how far it is."""


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


def say(text: str) -> None:
    """What goes on, with the time, at once also where the output is a file."""
    print(f"[{time.strftime('%H:%M:%S')}] {text}", flush=True)


class Run:
    """One measurement of everything."""

    def __init__(
        self, desk: Desk, servers: list[Child], results: dict[str, Any], keep: Callable[[], None]
    ) -> None:
        self.desk = desk
        self.servers = servers
        self.controllers = Controllers(desk)
        self.results = results
        self.keep = keep
        self.started: list[dict[str, Any]] = []

    async def phase(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Do one phase; whatever it ends with, its figures are kept and the next one may follow."""
        say(f"{name} begins")
        begun = time.monotonic()
        try:
            await work()
        except Exception as error:  # noqa: BLE001 - what was measured before must not be lost
            traceback.print_exc()
            self.results.setdefault("failed", {})[name] = f"{type(error).__name__}: {error}"
            say(f"{name} FAILED after {time.monotonic() - begun:.0f} s: {error}")
            await self.mend()
        else:
            say(f"{name} took {time.monotonic() - begun:.0f} s")
        self.keep()

    async def mend(self) -> None:
        """Have as many servers and controllers as before."""
        for index, one in enumerate(self.servers):
            if not one.is_alive:
                self.servers[index] = await Child.start(self.desk)
                say(f"there is another server {index}")
        while self.controllers.all and len(self.controllers.alive()) < CONTROLLERS:
            self.controllers.start()
            say("there is another controller")

    async def starts(self, count: int, rate: float, at_once: int) -> list[dict[str, Any]]:
        """Starts, divided among the servers."""
        shares = [count // SERVERS + (n < count % SERVERS) for n in range(SERVERS)]
        asked = (
            one.ask(count=share, rate=rate / SERVERS, at_once=at_once)
            for one, share in zip(self.servers, shares, strict=True)
        )
        parts = await asyncio.gather(*asked, return_exceptions=True)
        done = [one for part in parts if isinstance(part, list) for one in part]
        self.started += done
        for part in parts:
            if isinstance(part, BaseException):
                raise part
        return done

    async def figures(self) -> list[dict[str, float]]:
        """Of all servers."""
        return list(await asyncio.gather(*(one.ask() for one in self.servers)))

    async def warm(self, count: int) -> float:
        """Wait until every server sees so many warm pods; seconds that took."""
        begun = told = time.monotonic()
        while True:
            seen = [one["warm"] for one in await self.figures()]
            now = time.monotonic()
            if min(seen) >= count:
                return now - begun
            if now - begun > 600:
                raise RuntimeError(f"warm pods after ten minutes: {seen}, and not {count}")
            if now - told > 10:
                told = now
                say(f"  warm pods, as the servers see them: {seen}")
            await asyncio.sleep(0.5)

    async def settled(self) -> None:
        """Wait for a full pool before something is measured."""
        if self.controllers.all:
            await self.warm(self.results["size"])

    async def fill(self, kernels: int) -> None:
        """Step 1."""
        begun = time.monotonic()
        how: Counter[str] = Counter()
        for done in range(0, kernels, AT_ONCE):
            part = await self.starts(min(AT_ONCE, kernels - done), 0, 12)
            how.update(one["how"] for one in part)
            say(f"  {how.total()} kernels after {time.monotonic() - begun:.0f} s; {dict(how)}")
        taken = time.monotonic() - begun
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

    def used(self) -> dict[str, float]:
        """CPU seconds so far of all that takes part, by what it is."""
        cluster = self.desk.kube.cluster
        assert cluster is not None
        pids = {f"server {index}": one.process.pid for index, one in enumerate(self.servers)}
        pids |= {f"controller {one.pid}": one.pid for one in self.controllers.alive()}
        found = {}
        for name, pid in (pids | cluster.components()).items():
            with contextlib.suppress(OSError):  # it has just ended
                found[name] = cpu(pid)
        return found

    async def burst(self, count: int, rate: float) -> None:
        """Step 4."""
        await self.settled()
        await self.figures()
        before, cost = await asyncio.to_thread(counted, self.desk), self.used()
        begun = time.monotonic()
        done = await self.starts(count, rate, 1000)
        passed, used = time.monotonic() - begun, self.used()
        after = await asyncio.to_thread(counted, self.desk)
        self.told("burst", f"Burst: {count} starts at {rate:.0f}/s", done, await self.figures())
        seconds = {name: used[name] - cost[name] for name in used if name in cost}
        requests = {" ".join(key): (after[key] - before[key]) / count for key in after}
        kept = self.results["burst"]
        kept["seconds"], kept["cpu"] = passed, seconds
        kept["requests_per_start"] = {k: v for k, v in requests.items() if v >= 0.01}
        rows = sorted(seconds.items(), key=lambda row: -row[1])
        table(
            f"CPU seconds in the {passed:.1f} s of the burst", ["process", "s"], [*map(list, rows)]
        )
        rows = sorted(kept["requests_per_start"].items(), key=lambda row: -row[1])
        title = "Requests in the burst, refill included, for each start"
        table(title, ["resource, verb", "number"], [*map(list, rows)])

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

        await self.settled()
        await self.figures()
        killing = asyncio.ensure_future(trouble())
        try:
            done = await self.starts(int(rate * seconds), rate, 1000)
        finally:
            killing.cancel()
            await asyncio.wait([killing])
        title = f"Sustained: {rate:.0f}/s for {seconds:.0f} s, a leader killed every 20 s"
        self.told("sustained", title, done, await self.figures())
        if not killing.cancelled():
            killing.result()  # why no more leaders were killed

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
        await self.settled()
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
        while not await asyncio.to_thread(names) - there:
            if time.time() > told + 120:
                raise RuntimeError("there is no new pod after two minutes")
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
        cluster = self.desk.kube.cluster
        assert cluster is not None
        await self.settled()
        burst = asyncio.ensure_future(self.starts(int(rate * (seconds + 20)), rate, 1000))
        await asyncio.sleep(5)

        def down() -> None:
            with cluster.without("apiserver"):
                time.sleep(seconds)

        try:
            await asyncio.to_thread(down)
            back = time.monotonic()
            say("  the API server is back")
        finally:
            done = await burst
        how = Counter(one["how"] for one in done)
        over = time.monotonic() - back
        kept: dict[str, Any] = {"seconds": seconds, "how": how, "over": over}
        self.results["outage"] = kept
        say(f"  all starts have ended: {dict(how)}")
        await self.settled()
        full = kept["full"] = time.monotonic() - back
        table(
            f"The API server is down for {seconds:.0f} s, {rate:.0f} starts/s; {dict(how)}",
            ["after it is back", "s"],
            [["all starts have ended", over], ["the pool is full", full]],
        )

    async def check(self) -> None:
        """Nothing doubled, nothing lost. Raises RuntimeError otherwise."""
        seen = await asyncio.to_thread(self.desk.pods)
        pods = [
            one["metadata"]["labels"].get("elastic.jupyter.org/kernel")
            for one in seen
            if not one["metadata"].get("deletionTimestamp")
        ]
        taken = Counter(one for one in pods if one)
        ids = {one["id"] for one in self.started if one["how"] in ("warm", "cold")}
        doubled = [name for name, number in taken.items() if number > 1]
        lost = ids - taken.keys()
        self.results["doubled"], self.results["lost"] = len(doubled), len(lost)
        self.results["broken"] = sum(
            one["metadata"]["labels"].get("elastic.jupyter.org/template") == BROKEN for one in seen
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
            say("removing all pods")
            pods = f"/api/v1/namespaces/{desk.namespace}/pods"

            def are_gone() -> bool:
                """Thousands may take more than one request."""
                left = desk.kube.admin.get(pods, limit="1")["items"]
                if left:
                    desk.kube.admin.delete(f"{pods}?gracePeriodSeconds=0")
                return not left

            until("the pods gone", are_gone, 900)


async def measure(
    arguments: argparse.Namespace, desk: Desk, results: dict[str, Any], keep: Callable[[], None]
) -> None:
    """All phases."""
    async with seats(desk, SERVERS) as servers:
        run = Run(desk, servers, results, keep)
        try:
            phases: dict[str, Callable[[], Awaitable[None]]] = {
                "fill": lambda: run.fill(arguments.kernels),
                "pool": lambda: run.pool(arguments.pool),
                "rest": lambda: run.rest(arguments.rest),
                "burst": lambda: run.burst(arguments.pool, 75),
                "sustained": lambda: run.sustained(arguments.rate, arguments.sustained),
                "hand-over": run.handed,
                "outage": lambda: run.outage(arguments.rate, arguments.outage),
                "check": run.check,
            }
            for name, work in phases.items():
                if name not in arguments.skip:
                    await run.phase(name, work)
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
    parser.add_argument("--skip", nargs="*", default=(), help="phases that are left out")
    parser.add_argument("--out", help="also write the JSON to this file, after each phase")
    parser.add_argument("--server", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.server:
        asyncio.run(serve(arguments.server[0], Path(arguments.server[1])))
        return
    results: dict[str, Any] = {"kernels": arguments.kernels, "size": arguments.pool}

    def keep() -> None:
        save("crowd", results, arguments.out)

    with place(2 + (arguments.kernels + 2 * arguments.pool) // 600) as desk:
        asyncio.run(measure(arguments, desk, results, keep))
        write("crowd", results, arguments.out)
    if "failed" in results:
        sys.exit(f"failed: {results['failed']}")


if __name__ == "__main__":
    main()
