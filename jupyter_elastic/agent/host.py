"""The agent proper: one pod's host. Ties control socket, zygote, kernel and meter together."""

from __future__ import annotations

import asyncio
import os
import platform
import signal
import socket
import sys
import time
from typing import Any, Coroutine, Dict, List, Optional, Set

import zmq.asyncio

from . import __version__, client, idle, processes, protocol, state
from .config import load_keys
from .control import Control, Refused
from .kernel import Kernel
from .meter import Meter
from .nursery import Log, Nursery, ZygoteLost, respawn
from .watch import watch_memory

PACKAGE = __name__.rpartition(".")[0]
USAGE_EVERY = 10.0
"""Seconds between two notes of the usage in ``status.json``, while the kernel is busy."""
TERM_GRACE = 2.0
"""Seconds a kernel has to end when the agent itself is told to (SIGTERM)."""


class Host:
    """See the module. :meth:`run` returns the agent's exit status when the pod has ended."""

    def __init__(self, config: Dict[str, Any], path: str, log: int, log_write: int) -> None:
        self._config = config
        self._path = path
        self._log_write = log_write
        self._context = zmq.asyncio.Context()
        self._log = Log(log)
        self._warnings: List[str] = []
        self._over: "asyncio.Future[int]" = asyncio.get_running_loop().create_future()
        self._stage = "warming"
        self._tended = False
        self._begun = time.time()
        self._last: Dict[str, Any] = {}
        self._tasks: "Set[asyncio.Task[None]]" = set()
        self._respawns = 0
        self.meter = Meter(config)
        self.nursery = Nursery(self._on_born, self._on_exit, self._on_lost, self._on_spare)
        self.control = Control(
            self._context, config["bind"], load_keys(config["keys"]), self._handle
        )
        self.kernel = Kernel(
            config,
            self._context,
            self.nursery,
            self.meter,
            self._log,
            self.control.tell,
            self._write_status,
            self._spawn,
        )

    # -- life ------------------------------------------------------------------------------

    @property
    def _phase(self) -> str:
        if self._stage != "gone" and self.kernel.task is not None:
            return "claimed"
        return self._stage

    async def run(self, pid: int, sock: socket.socket) -> int:
        """Serve until the pod is over."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGCHLD, processes.reap)
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, self._on_term)
        self._write_status()
        await self.nursery.attach(pid, sock)
        self._spawn(self.control.serve())
        self._spawn(self._stay_warm())
        claim = state.read(self._config["run_dir"], state.CLAIM)
        if claim is not None:
            self.meter.overhead = int(claim.get("overhead", 0))
            self._spawn(self._restore(claim))
        status = await self._over
        for task in list(self._tasks):
            task.cancel()
        await self.control.close()
        return status

    def _spawn(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._check)
        return task

    def _check(self, task: "asyncio.Task[None]") -> None:
        """A part of the agent that fails ends the pod: half an agent is worse than none."""
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None and not self._over.done():
            self._over.set_exception(task.exception() or RuntimeError())

    async def end(self, reason: str, message: str, grace: float = 0.0, status: int = 0) -> None:
        """End everything in the pod, say why, and let the agent exit."""
        await self.kernel.end(grace)
        self._stage = "gone"
        self._write_status(reason=reason, message=message)
        if status == 0:  # else the kubelet starts the container again
            state.write_termination(self._config["termination_log"], reason, message)
        state.remove(self._config["run_dir"], state.CLAIM)
        self.nursery.goodbye()
        if not self._over.done():
            self._over.set_result(status)

    def _on_term(self) -> None:
        if self._phase != "gone":
            self._spawn(self.end("Terminated", "The pod was told to end.", TERM_GRACE))

    def _write_status(self, **changes: Any) -> None:
        self._last.update(
            pid=os.getpid(),
            start_ticks=processes.start_ticks(os.getpid()),
            endpoint=self.control.endpoint,
            public_key=self.control.public_key,
            phase=self._phase,
            overhead=self.meter.overhead,
            warnings=self._warnings,
            kernel_id=self.kernel.kernel_id,
            exit=self.kernel.exit,
        )
        self._last.update(changes)
        for name in ("reason", "message"):
            self._last.setdefault(name, "")
        self._last.setdefault("usage", None)
        if os.path.isdir(self._config["run_dir"]):  # else the pod was deleted: nobody reads it
            state.write(self._config["run_dir"], state.STATUS, self._last)

    # -- what the zygote tells -------------------------------------------------------------

    def _on_born(self, pid: int) -> None:
        self.kernel.on_born(pid)

    def _on_exit(self, pid: int, status: int) -> None:
        self.kernel.on_exit(pid, status)

    def _on_spare(self) -> None:
        """Warm: the first spare is ready, or there will never be one."""
        if self._stage != "warming":
            return
        self._warnings = list(self.nursery.facts["warnings"])
        spare = self.nursery.spare
        pids = [os.getpid(), self.nursery.pid] + ([spare] if spare else [])
        if not self.meter.overhead:  # else a claim that is restored knows it better
            self.meter.weigh(pids, spare)
        self._stage = "warm"
        self.kernel.stirred.set()
        self._write_status()

    def _on_lost(self) -> None:
        if self._phase == "gone":
            return
        processes.kill_below()
        if self._phase != "claimed" or self._respawns >= 5:
            message = "The pod's zygote was killed."
            self._spawn(self.end("ZygoteLost", message, status=1))
            return
        self._respawns += 1
        self.kernel.on_zygote_lost()
        pid, sock = respawn(PACKAGE, self._path, self._log_write)
        self._spawn(self.nursery.attach(pid, sock))

    # -- tasks -----------------------------------------------------------------------------

    async def _stay_warm(self) -> None:
        """End a pod that nobody keeps or claims."""
        heartbeat = self._config["heartbeat"]
        limit = float(self._config["warm_timeout"] or 0)
        while (heartbeat or limit) and self._phase in ("warming", "warm"):
            waits = []
            if limit:
                waits.append(self._begun + limit - time.time())
                if waits[-1] <= 0:
                    message = f"Nobody claimed the pod within {idle.show(limit)}."
                    return await self._end_if_warm("Unclaimed", message)
            if heartbeat:
                timeout = float(heartbeat["timeout"])
                left = self._last_beat(heartbeat["path"]) + timeout - time.time()
                if left <= 0:
                    message = f"No controller has been there for {idle.show(timeout)}."
                    return await self._end_if_warm("NoController", message)
                waits.append(min(left, 60.0) + 0.05)
            await self.kernel.stirred.wait(max(0.05, min(waits)))
        return None

    async def _end_if_warm(self, reason: str, message: str) -> None:
        if self.kernel.task is None:
            await self.end(reason, message)

    def _last_beat(self, path: str) -> float:
        try:
            return max(self._begun, os.stat(path).st_mtime)
        except OSError:
            return self._begun

    async def _restore(self, claim: Dict[str, Any]) -> None:
        try:
            await self.kernel.restore(claim)
        except (Refused, KeyError, TypeError, ValueError) as error:
            await self.end("RestoreFailed", f"The kernel could not be brought back: {error}")
            return
        self._tend()

    def _tend(self) -> None:
        self._tended = True
        self._spawn(self._cull())
        self._spawn(watch_memory(self.kernel, self.meter))
        self._spawn(self._note_usage())
        if self.kernel.task is not None and self.kernel.task["client"]:
            self._spawn(self._stay_with_client(self.kernel.task["client"]))

    async def _stay_with_client(self, owner: Dict[str, int]) -> None:
        """End with the process that the kernel belongs to, as a plain kernel does."""
        await client.gone(owner["pid"], owner["start_ticks"])
        if self._phase == "gone":
            return
        message = (
            f"The program that the kernel belonged to (process {owner['pid']}) is gone, "
            "and the kernel was ended with it."
        )
        await self._end_by_itself(protocol.CLIENT_GONE, message)

    async def _end_by_itself(self, reason: str, message: str) -> None:
        await self.control.tell(protocol.CULLED, reason=reason, message=message)
        await self.end(reason, message, TERM_GRACE)

    async def _cull(self) -> None:
        """End the kernel when it was idle, or alive, for too long."""
        assert self.kernel.task is not None
        policy = idle.Policy.parse(self.kernel.task["idle"])
        while True:
            decision = idle.decide(
                policy,
                time.time(),
                self.kernel.claimed,
                self.kernel.last_activity,
                self.kernel.execution_state in ("busy", "starting"),
                policy.cull_after > 0 and not policy.cull_connected and self.kernel.connected(),
            )
            if isinstance(decision, idle.Cull):
                await self._end_by_itself(decision.reason, decision.message)
                return
            if isinstance(decision, idle.Ask):
                self.kernel.ask_whether_busy()
            seconds = decision.seconds
            await self.kernel.stirred.wait(None if seconds is None else max(0.01, seconds))

    async def _note_usage(self) -> None:
        """Leave the last usage behind for the case that everything in the pod is killed."""
        while True:
            while self.kernel.execution_state != "busy":
                await self.kernel.stirred.wait()
            await asyncio.sleep(USAGE_EVERY)
            if self.kernel.execution_state == "busy":
                self._write_status(usage=self.meter.usage(self._gpu()))

    def _gpu(self) -> List[str]:
        return list(self.kernel.task["gpu"]) if self.kernel.task else []

    # -- operations ------------------------------------------------------------------------

    async def _handle(self, op: str, request: Dict[str, Any]) -> Dict[str, Any]:
        operation = getattr(self, f"_op_{op}", None) if op.isidentifier() else None
        if operation is None:
            raise Refused("UnknownOperation", f"This agent does not know {op[:40]!r}.")
        if self._phase == "gone":
            raise Refused("Gone", "The pod is ending.")
        try:
            reply: Dict[str, Any] = await operation(request)
        except ZygoteLost as error:
            raise Refused("AgentError", "The pod's zygote was killed; try again.") from error
        return reply

    async def _op_hello(self, request: Dict[str, Any]) -> Dict[str, Any]:
        phase = await self._settled_phase(float(request.get("wait") or 0))
        facts = self.nursery.facts
        return {
            "agent": __version__,
            "protocol": protocol.VERSION,
            "pod": self._config["pod"],
            "python": platform.python_version(),
            "ipykernel": facts.get("ipykernel"),
            "phase": phase,
            "kernel_id": self.kernel.kernel_id,
            "curve": bool(facts.get("curve")),
            "overhead": self.meter.overhead,
            "warnings": self._warnings,
        }

    async def _settled_phase(self, wait: float) -> str:
        """The phase, no longer ``warming`` if that changes within ``wait`` seconds."""
        until = time.monotonic() + min(wait, 60.0)
        while self._phase == "warming" and (left := until - time.monotonic()) > 0:
            await self.kernel.stirred.wait(left)
        return self._phase

    async def _op_start(self, request: Dict[str, Any]) -> Dict[str, Any]:
        reply = await self.kernel.start(request)
        if not self._tended:
            self._tend()
        return reply

    async def _op_prepare(self, request: Dict[str, Any]) -> Dict[str, Any]:
        return {"prepared": await self.kernel.prepare(request)}

    async def _op_restart(self, request: Dict[str, Any]) -> Dict[str, Any]:
        grace = _grace(request)
        return await self.kernel.restart(request.get("env"), request.get("cwd"), grace)

    async def _op_signal(self, request: Dict[str, Any]) -> Dict[str, Any]:
        self.kernel.signal(int(request["signum"]))
        return {}

    async def _op_stop(self, request: Dict[str, Any]) -> Dict[str, Any]:
        # Answered only now: the caller may delete the pod as soon as it has the answer.
        await self.kernel.end(_grace(request))
        self._spawn(self.end("Stopped", "The kernel was stopped."))
        return {}

    async def _op_status(self, request: Dict[str, Any]) -> Dict[str, Any]:
        return {"phase": self._phase, **self.kernel.describe()}

    async def _op_connection(self, request: Dict[str, Any]) -> Dict[str, Any]:
        if not self.kernel.connection:
            raise Refused("NotRunning", "The pod has no kernel.")
        return {"connection": self.kernel.connection}

    async def _op_usage(self, request: Dict[str, Any]) -> Dict[str, Any]:
        return self.meter.usage(self._gpu())

    async def _op_limits(self, request: Dict[str, Any]) -> Dict[str, Any]:
        memory, cpu = int(request["memory"]), int(request["cpu"])
        if memory < 0 or cpu < 0:
            raise Refused("BadRequest", "Limits are 0 (none) or more.")
        self.meter.memory, self.meter.cpu = memory, cpu
        self.kernel.set_limits(memory, cpu)
        warning = self.meter.set_affinity()
        if warning:
            await self.control.tell(protocol.WARNING, message=warning)
        return self.meter.in_force()

    async def _op_check_shrink(self, request: Dict[str, Any]) -> Dict[str, Any]:
        use = self.meter.memory_used()
        return {"use": use, "fits": use <= int(request["memory"])}

    async def _op_keepalive(self, request: Dict[str, Any]) -> Dict[str, Any]:
        self.kernel.keepalive()
        return {}


async def main(
    config: Dict[str, Any], path: str, pid: int, sock: socket.socket, log: int, log_write: int
) -> int:
    """Run the agent on this loop. Returns its exit status."""
    status: Optional[int] = None
    host = Host(config, path, log, log_write)
    try:
        status = await host.run(pid, sock)
    finally:
        if status is None:
            sys.stderr.write("agent: ends by an error of its own\n")
    return status


def _grace(request: Dict[str, Any]) -> float:
    """Seconds a request gives the kernel for its exit handlers."""
    return min(300.0, max(0.0, float(request.get("grace") or 0.0)))
