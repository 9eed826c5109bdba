"""Starting kernels that nobody starts: those that were only written down, or whose starter is gone.

Where records are objects of a cluster, anybody may create one (``kubectl apply``), and a server
may vanish between its record and its start. Whoever holds the pool's lease starts these; a
compare-and-swap on the record makes sure that it is one, and pods that were taken for an earlier
try are ended first. The same one sees to kernels whose size somebody changed in the object
(:mod:`.edits`).
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Coroutine
from typing import Any

import zmq
from msgspec.structs import replace

from ..cluster.base import Change, Cluster
from ..errors import Conflict, ElasticError, StartCancelled, StarterLost
from ..model import Kernel, KernelPhase, Template
from ..pool.controller import PoolController
from ..resources import Resources
from ..templates import resolve_wish
from ..waits import event_or_timeout
from .edits import Edits, changes
from .launcher import Launcher
from .startargs import StartArgs

LATE = 2.0
"""Seconds after a starter's deadline before somebody else takes over."""
LOOK = 5.0
"""Seconds between two looks for starts that are overdue."""
PATIENCE = 60.0
"""Seconds after a deadline when, with no controller there, a start is taken for failed."""


class Takeover:
    """See the module.

    Parameters
    ----------
    find
        Returns a template; raises UnknownTemplate.
    encrypt
        Whether kernels that are started here get keys for their channels.
    """

    def __init__(
        self,
        cluster: Cluster,
        launcher: Launcher,
        controller: PoolController,
        find: Callable[[str], Template],
        *,
        encrypt: bool,
        require_curve: bool,
        log: logging.Logger,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._cluster = cluster
        self._launcher = launcher
        self._controller = controller
        self._find = find
        self._encrypt = encrypt
        self._require_curve = require_curve
        self._log = log
        self._clock = clock
        self._starting: dict[str, asyncio.Task[None]] = {}
        self._edits = Edits()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._dispose: Callable[[], None] | None = None

    def start(self) -> None:
        """Begin to look. Idempotent."""
        if self._task is None:
            self._dispose = self._cluster.subscribe(self._on_change)
            self._task = asyncio.create_task(self._run(), name="elastic-takeover")

    async def stop(self) -> None:
        """Stop looking; starts under way are given up, and others take over. Idempotent."""
        if self._dispose is not None:
            self._dispose()
            self._dispose = None
        tasks = [*self._starting.values(), *([self._task] if self._task else [])]
        self._task = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _on_change(self, change: Change) -> None:
        new = change.new
        edited = self._edits.see(change)
        if edited or (isinstance(new, Kernel) and new.phase is KernelPhase.QUEUED):
            self._wake.set()

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            if self._controller.leading:
                for kernel in tuple(self._cluster.kernels().values()):
                    if kernel.kernel_id in self._starting:
                        continue
                    if self.is_due(kernel):
                        self._begin(kernel.kernel_id, self._start(kernel))
                    elif wish := self._edits.take(kernel):
                        self._begin(kernel.kernel_id, self._resize(kernel, wish))
            await event_or_timeout(self._wake, LOOK)

    def _begin(self, kernel_id: str, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name=kernel_id)
        self._starting[kernel_id] = task
        task.add_done_callback(self._begun)

    def _begun(self, task: asyncio.Task[None]) -> None:
        self._starting.pop(task.get_name(), None)
        if not task.cancelled() and task.exception() is not None:
            self._log.error("Looking after a record failed", exc_info=task.exception())

    def is_due(self, kernel: Kernel) -> bool:
        """Whether nobody starts the kernel, or nobody any more."""
        if kernel.phase is KernelPhase.QUEUED:
            return not kernel.deadline or self._clock() > kernel.deadline + LATE
        if kernel.phase in (KernelPhase.STARTING, KernelPhase.MOVING):
            return bool(kernel.deadline) and self._clock() > kernel.deadline + LATE
        return False

    async def _start(self, kernel: Kernel) -> None:
        kernel_id = kernel.kernel_id
        try:
            kernel = await self._launcher.take_over(kernel)
        except ElasticError as error:
            self._log.debug("Kernel %s is not taken over: %s", kernel_id, error)
            return
        self._log.info("Starting kernel %s of %s, which nobody else does.", kernel_id, kernel.owner)
        try:
            if kernel.lone:
                raise StarterLost("The program that started this kernel ended before it was up.")
            template = self._find(kernel.template)
            # What users write into an object is held to what the template offers, as a request is.
            offered = resolve_wish(template, kernel.resources.to_json())
        except ElasticError as error:
            await self._launcher.give_up(kernel_id, error)
            return
        try:
            await self._launcher.launch(replace(kernel, resources=offered), template, self.args())
        except (Conflict, StartCancelled):
            self._log.debug("Kernel %s was ended, or started by somebody else.", kernel_id)
        except ElasticError as error:
            self._log.warning("Kernel %s could not be started: %s", kernel_id, error)

    async def _resize(self, kernel: Kernel, wish: Resources) -> None:
        """Give a kernel the size that somebody wrote into its record, or say there why not."""
        kernel_id = kernel.kernel_id
        self._log.info("Kernel %s is to have %s, as its record says.", kernel_id, wish)
        try:
            try:
                offered = self._offered(kernel, wish)
            except ElasticError as error:
                await self._launcher.running.refuse_resize(kernel_id, error, unwanted=wish)
                return
            await self._launcher.running.resize(kernel_id, offered, written=True)
        except ElasticError as error:
            self._log.info("Kernel %s does not get %s: %s", kernel_id, wish, error)
            now = self._cluster.kernels().get(kernel_id)
            if now is not None and now.resize == kernel.resize:
                self._edits.again(kernel_id)  # not even the record could be written

    def _offered(self, kernel: Kernel, wish: Resources) -> Resources:
        """As for a request: what is not changed is not held to the template again. Raises."""
        changed = changes(kernel.actual, wish)
        return resolve_wish(self._find(kernel.template), changed, kernel.actual)

    def args(self) -> StartArgs:
        """What a kernel is given that nobody has a notebook for here."""
        curve = None
        if self._encrypt and zmq.has("curve"):
            public, secret = zmq.curve_keypair()
            curve = {"publickey": public.decode(), "secretkey": secret.decode()}
        return StartArgs(
            key=secrets.token_hex(32),
            env={},
            inherit=True,
            curve=curve,
            require_curve=self._require_curve,
        )
