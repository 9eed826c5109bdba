"""Servers of ``python -m benchmarks.crowd``, each in a process of its own, asked in lines of JSON.

A server does not end by anything that goes wrong in it: what a start ended with is part of the
answer. Should a process be gone all the same, whoever asks is told how it ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import json
import logging
import os
import resource
import sys
import time
import traceback
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from jupyter_elastic.errors import ElasticError
from jupyter_elastic.model import Kernel, PodPhase
from jupyter_elastic.resources import MIB, Resources
from tests.kubernetes.contestants import Contestant, Hand, contestant
from tests.kubernetes.desk import Desk

from .processes import rss

NAME = "crowd"
SIZE = Resources(cpu=100, memory=64 * MIB)
PATIENCE = 900.0
"""Seconds beyond those that its starts must take for which an answer of a server is waited for."""


class Seat:
    """What a server's process does."""

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
        """Start a kernel; how that went, in seconds. Says what it failed with and never raises."""
        kernel = Kernel(
            kernel_id=str(uuid.uuid4()),
            owner=f"user-{number % 500}",
            template=NAME,
            created=time.time(),
            resources=SIZE,
        )
        begun = time.perf_counter()
        told: dict[str, Any] = {"id": kernel.kernel_id}
        # In a task of its own, so that a cancellation that is not of this one is told as well.
        task = asyncio.ensure_future(self._launch(kernel))
        await asyncio.wait([task])
        told["all"] = time.perf_counter() - begun
        parts = self.times.pop(kernel.kernel_id, {})
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is None:
            told["how"] = task.result()
            told["claim"] = parts["claimed"] - parts["begun"]
        elif isinstance(error, ElasticError):
            told["how"] = error.reason
        else:
            told["how"] = f"{type(error).__name__} (a bug)"
            traceback.print_exception(type(error), error, error.__traceback__)
        return told

    async def _launch(self, kernel: Kernel) -> str:
        offered = self.who.cluster.offered()
        assert offered is not None
        launched = await self.who.start(kernel, offered[0][NAME])
        return str(launched.kernel.start)

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
    timing.propagate = False
    timing.addHandler(Note())
    loop = asyncio.get_running_loop()
    seat.watch()
    print(json.dumps("ready"), flush=True)
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        number, ask = json.loads(line)
        answer = await seat.many(**ask) if ask else seat.figures()
        print(json.dumps([number, answer]), flush=True)
    await who.close()


# -- whoever asks ----------------------------------------------------------------------------------


class Child:
    """A server's process, asked and answering in lines."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self._numbers = itertools.count(1)

    @classmethod
    async def start(cls, desk: Desk) -> Child:
        """A server that has read what there is."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "benchmarks.crowd", "--server"),
            *(desk.namespace, str(desk.kubeconfig)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=2**26,
        )
        child = cls(process)
        await child._heard(PATIENCE)
        return child

    async def ask(self, **what: Any) -> Any:
        """Have it do something (nothing: give its figures).

        Raises
        ------
        RuntimeError
            It has ended, or does not answer in time.
        """
        number = next(self._numbers)
        seconds = what["count"] / (what["rate"] or 1) if what else 0.0
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([number, what]).encode() + b"\n")
        while True:
            told, answer = await self._heard(seconds + PATIENCE)
            if told == number:  # and not to what nobody waits for any more
                return answer

    async def _heard(self, seconds: float) -> Any:
        assert self.process.stdout is not None
        try:
            line = await asyncio.wait_for(self.process.stdout.readline(), seconds)
        except asyncio.TimeoutError:
            raise RuntimeError(f"a server says nothing for {seconds:.0f} s") from None
        if not line:
            code = await self.process.wait()
            raise RuntimeError(f"a server's process ended with status {code}")
        return json.loads(line)

    @property
    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self.process.returncode is None

    async def close(self) -> None:
        """End it."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            await asyncio.wait_for(self.process.wait(), 30)
        except asyncio.TimeoutError:
            self.process.kill()
            await self.process.wait()


@contextlib.asynccontextmanager
async def seats(desk: Desk, number: int) -> AsyncIterator[list[Child]]:
    """So many servers; those that the list has at the end are ended."""
    found: list[Child] = []
    try:
        for _ in range(number):
            found.append(await Child.start(desk))
        yield found
    finally:
        await asyncio.gather(*(one.close() for one in found))
