"""Looks after agents: notices that one died, finds out what it means, and cleans up behind it.

The part of a kubelet that waits and kills; what is decided is decided by :mod:`.fate`, under the
ledger's lock, so that several servers may look after the same pod and each thing happens once.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import Any

from ...model import PodPhase
from ...threads import in_thread
from . import cgroups, fate, process
from .cache import Cache
from .ledger import Ledger
from .state import PodRecord, StateDir

WITNESS = 3.0
"""Seconds that a dead agent's zygote has to write down what happened and to end."""
LINGER = 1.0
"""Seconds for which a pod that ended unclaimed can still be read, so that all servers see why."""
GRACE = 2.5
"""Seconds between SIGTERM and SIGKILL when a claimed pod is deleted; an agent needs up to 2."""

Do = Callable[..., Awaitable[Any]]
"""Runs a function in the ledger's thread."""


class Keeper:
    """One per open cluster object, on its loop."""

    def __init__(
        self, state: StateDir, ledger: Ledger, cache: Cache, do: Do, log: logging.Logger
    ) -> None:
        self._state = state
        self._ledger = ledger
        self._cache = cache
        self._do = do
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._watched: dict[str, tuple[process.Process, int | None]] = {}
        self._settling: dict[str, asyncio.Task[None]] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._closed = False

    async def close(self) -> None:
        """Stop looking; what is being ended is ended first (that takes bounded time)."""
        self._closed = True
        settling = list(self._settling.values())
        for task in settling:
            task.cancel()
        await asyncio.gather(*settling, return_exceptions=True)
        await asyncio.gather(*self._ending, return_exceptions=True)
        for name in tuple(self._watched):
            self._unwatch(name)

    async def settled(self, timeout: float) -> None:
        """Wait, within a bound in seconds, until what has ended already is recorded as gone."""
        if self._settling:
            await asyncio.wait(list(self._settling.values()), timeout=timeout)

    # -- noticing --------------------------------------------------------------------------

    def follow(self, name: str) -> None:
        """Watch the agent of a pod while it lives. Called whenever the pod changed."""
        record = self._cache.records.get(name)
        if record is None or record.pod.phase is PodPhase.GONE or self._closed:
            self._unwatch(name)
            return
        watched = self._watched.get(name)
        if watched is not None and watched[0] == record.process:
            return
        self._unwatch(name)
        try:
            descriptor = process.open_pidfd(record.process)
        except OSError as error:
            self._log.debug("No pidfd (%s): the agent of %s is watched by polling.", error, name)
            self._watched[name] = (record.process, None)
            return
        if descriptor is None:
            self._bury(name)
            return
        self._watched[name] = (record.process, descriptor)
        self._loop.add_reader(descriptor, self._bury, name)

    def poll(self) -> None:
        """Look at those agents whose end does not announce itself."""
        for name, (agent, descriptor) in tuple(self._watched.items()):
            if descriptor is None and not process.alive(agent):
                self._bury(name)

    async def look(self) -> None:
        """Begin to bury pods whose agent wrote that it ended, should it not end by itself."""
        live = self._cache.live()

        def find() -> list[str]:
            return [name for name in live if fate.ended(self._state.status(name))]

        for name in await self._do(find):
            self._bury(name)

    def _unwatch(self, name: str) -> None:
        _, descriptor = self._watched.pop(name, (None, None))
        if descriptor is not None:
            self._loop.remove_reader(descriptor)
            os.close(descriptor)

    # -- settling --------------------------------------------------------------------------

    def _bury(self, name: str) -> None:
        """An agent is dead or says so: find out what that means, once at a time."""
        self._unwatch(name)
        if name in self._settling or self._closed:
            return
        task = asyncio.create_task(self._settle(name), name=f"settle {name}")
        self._settling[name] = task

        def done(task: asyncio.Task[None]) -> None:
            self._settling.pop(name, None)
            if task.cancelled():
                return
            if error := task.exception():
                self._log.error("Pod %s could not be settled; tried again", name, exc_info=error)
                self._loop.call_later(5.0, self.follow, name)
            else:
                self.follow(name)  # brought back meanwhile

        task.add_done_callback(done)

    async def _settle(self, name: str) -> None:
        record = self._cache.records.get(name)
        if record is None or record.pod.phase is PodPhase.GONE:
            return
        agent = record.process
        until = self._loop.time() + WITNESS
        pause = 0.01
        while left := await in_thread(None, process.members, name, agent, record.group):
            present = self._cache.records.get(name)
            if present is None or present.process != agent:
                return  # another server has settled it; these may be the pod's next processes
            # The zygote outlives its agent for a moment, to write down what happened. What has
            # been written needs no more witnesses.
            said = fate.ended(await self._do(self._state.status, name))
            if (said and not process.alive(agent)) or self._loop.time() > until:
                break
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, 0.1)
        process.reap()
        # Nothing is killed before it is recorded that the pod is gone: until then another server
        # may bring it back, and what we would kill is not what we saw.
        settled = await self._do(self._ledger.settle, name, agent, bool(left))
        if settled is not None and settled.pod.phase is PodPhase.GONE:
            pod = settled.pod
            self._log.info("Pod %s ended: %s: %s", name, pod.reason, pod.message)
            self.finish([settled])

    # -- cleaning up -----------------------------------------------------------------------

    def finish(self, records: Iterable[PodRecord]) -> None:
        """Clean up after pods that are recorded as gone, in the background."""
        for record in records:
            self._begin(self._clean(record, linger=LINGER), f"clean {record.pod.name}")

    async def finish_now(self, records: Sequence[PodRecord]) -> None:
        """Clean up, and forget also what belonged to a kernel; goes on if we are cancelled."""
        tasks = [
            self._begin(self._clean(one, forget=True), f"end {one.pod.name}") for one in records
        ]
        if tasks:
            await asyncio.shield(asyncio.gather(*tasks))

    def _begin(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self._ending.add(task)

        def done(task: asyncio.Task[None]) -> None:
            self._ending.discard(task)
            if not task.cancelled() and task.exception() is not None:
                self._log.error("%s failed", name, exc_info=task.exception())

        task.add_done_callback(done)
        return task

    def finish_strays(self, names: Iterable[str]) -> None:
        """Clean up run directories that no record knows."""
        for name in names:
            self._begin(self._clean_stray(name), f"clean {name}")

    async def _clean_stray(self, name: str) -> None:
        group = await self._do(self._ledger.group_of_stray, name)
        await in_thread(None, self._end, name, None, group, 0.0)

    async def _clean(self, record: PodRecord, *, linger: float = 0.0, forget: bool = False) -> None:
        """End what is left of a pod, remove its files and, unless a kernel needs it, its record.

        A record with a kernel stays until somebody deletes it, so that a server that starts
        later can read the reason; others only long enough for all servers to see them.
        """
        pod = record.pod
        grace = GRACE if pod.kernel_id is not None else 0.0
        ended = await in_thread(None, self._end, pod.name, record.process, record.group, grace)
        if not ended:
            return  # something cannot be killed; the sweep tries again
        if not forget and pod.kernel_id is not None and pod.kernel_id in self._cache.kernels:
            return
        if linger and not self._closed:
            await asyncio.sleep(linger)
        await self._do(self._ledger.forget, pod.name)

    def _end(
        self, name: str, agent: process.Process | None, group: cgroups.Group | None, grace: float
    ) -> bool:
        """End processes, then remove the group, then the files: these show what is to be done."""
        if process.end(name, agent, group, grace=grace):
            return False
        until = time.monotonic() + 2.0
        while group is not None and not cgroups.remove(group):
            if time.monotonic() > until:  # the system needs a moment after the last exit
                self._log.warning("The control group %s is still busy.", group.memory)
                return False
            time.sleep(0.005)
        self._state.drop_run(name)
        return True
