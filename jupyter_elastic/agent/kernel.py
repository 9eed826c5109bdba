"""The kernel's life as the agent sees it: start, restart in place, death and its reason."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from typing import Any, Awaitable, Callable, Coroutine, Dict, List, Optional

import zmq.asyncio

from . import identity, ports, processes, protocol, state, words
from .channels import Channels
from .control import Refused
from .meter import Meter
from .nursery import Log, Nursery, ZygoteLost
from .ports import PortInUse, Ports
from .stir import Stir
from .task import check_env, find_cwd, make_task, substitute

ANSWER_PATIENCE = 120.0
"""Seconds a kernel may take to answer; start-up files run in it. Servers have their own limits."""
PORTS_PATIENCE = 5.0
DEATHS, DEATHS_WITHIN = 5, 60.0
"""A kernel that dies more often than so many times within so many seconds stays dead."""
SPARE_DELAY = 5.0
"""Seconds after a start when the next spare is made, if the first cell has not ended before."""

Tell = Callable[..., Awaitable[None]]


class Kernel:
    """One pod's kernel. All methods belong to the agent's loop.

    Parameters
    ----------
    tell
        Sends an event to servers.
    changed
        Called when what ``status.json`` shows has changed.
    spawn
        Runs a task whose failure ends the pod.
    """

    def __init__(
        self,
        config: Dict[str, Any],
        context: zmq.asyncio.Context,
        nursery: Nursery,
        meter: Meter,
        log: Log,
        tell: Tell,
        changed: Callable[[], None],
        spawn: Callable[[Coroutine[Any, Any, None]], "asyncio.Task[None]"],
    ) -> None:
        self._spawn = spawn
        self._config = config
        self._context = context
        self.nursery = nursery
        self._meter = meter
        self._log = log
        self._tell = tell
        self._changed = changed
        self._lock = asyncio.Lock()
        self._ports: Optional[Ports] = None
        self._channels: Optional[Channels] = None
        self._ended: Optional["asyncio.Future[int]"] = None
        self._spare_task: Optional["asyncio.Task[None]"] = None
        self._revival: Optional["asyncio.Task[None]"] = None
        self._deaths: List[float] = []
        self._kept_alive = 0.0
        self.task: Optional[Dict[str, Any]] = None
        self.connection: Dict[str, Any] = {}
        self.answer: Optional[Dict[str, Any]] = None
        self.pid: Optional[int] = None
        self.alive = False
        self.starting = False
        self._held = False
        """Whether a process is bound for the task and waits for the ``start``."""
        self.ending = False
        self.over_memory = False
        self.started = 0.0
        self.claimed = 0.0
        """When the pod was first claimed: kept over a restore, for the maximum age."""
        self.restarts = 0
        self.exit: Optional[Dict[str, Any]] = None
        self.stirred = Stir()
        """Stirred whenever the kernel becomes busy or idle, starts, dies or is kept alive."""

    # -- facts -----------------------------------------------------------------------------

    @property
    def kernel_id(self) -> Optional[str]:
        """Whose pod this is; None while warm."""
        return str(self.task["kernel_id"]) if self.task else None

    @property
    def execution_state(self) -> str:
        """``starting``, ``idle``, ``busy`` or ``dead``."""
        if self.starting:
            return "starting"
        if not self.alive or self._channels is None:
            return "dead"
        return self._channels.state

    @property
    def last_activity(self) -> float:
        """When the kernel last worked for somebody, or was kept alive."""
        seen = self._channels.last_activity if self._channels else 0.0
        return max(seen, self.started, self._kept_alive)

    def keepalive(self) -> None:
        """Restart the idle clock."""
        self._kept_alive = time.time()
        self.stirred.set()

    def ask_whether_busy(self) -> None:
        """Have the kernel say whether it still works; stirs when it turns out not to."""
        if self.alive and self._channels is not None:
            self._channels.ask_whether_busy()

    def connected(self) -> bool:
        """Whether any client has the kernel's shell channel open."""
        if self._ports is None or self.pid is None:
            return False
        return ports.clients(self._ports.numbers["shell_port"], [self.pid]) > 0

    def set_limits(self, memory: int, cpu: int) -> None:
        """Remember new limits, also for an agent that is brought back."""
        if self.task is not None and not self._held:
            self.task.update(memory=memory, cpu=cpu)
            self._save_claim()
        self.stirred.set()

    def describe(self) -> Dict[str, Any]:
        """Fields of ``status``."""
        return {
            "kernel_id": self.kernel_id,
            "pid": self.pid if self.alive else None,
            "alive": self.alive,
            "execution_state": self.execution_state,
            "last_activity": self.last_activity,
            "started": self.started,
            "touched": self._channels is not None and self._channels.worked,
            "restarts": self.restarts,
            "exit": self.exit,
        }

    # -- start -----------------------------------------------------------------------------

    async def start(self, request: Dict[str, Any]) -> Dict[str, Any]:
        """Give the pod its kernel; see the protocol. Raises Refused."""
        self._check_mine(request["kernel_id"])
        async with self._lock:
            self._check_mine(request["kernel_id"])
            if self.answer is not None:
                return self.answer
            task = make_task(request)
            held = await self._is_held_for(task)
            self._take(task)
            self._save_claim()
            self._changed()
            try:
                self.answer = await self._bring_up(held)
            finally:
                self._changed()
            return self.answer

    async def prepare(self, request: Dict[str, Any]) -> bool:
        """Have a process bound for the ``start`` that will follow; see the protocol.

        What is prepared is not saved: should the pod be killed now, it is warm again after it.
        Raises Refused.
        """
        self._check_mine(request["kernel_id"])
        async with self._lock:
            self._check_mine(request["kernel_id"])
            if self.answer is not None or self.pid is not None:
                return self._held
            self._take(make_task(request))
            self.starting = True
            try:
                self._held = await self._launch(hold=True)
            finally:
                self.starting = self._held
            return self._held

    async def _is_held_for(self, task: Dict[str, Any]) -> bool:
        """Whether what was prepared is for this task; something else is ended."""
        held, self._held = self._held, False
        if not held:
            return False
        if task == self.task and self._ended is not None and not self._ended.done():
            return True
        await self._clear()
        return False

    def _take(self, task: Dict[str, Any]) -> None:
        if not self.claimed:
            self.claimed = time.time()
        self.task = task
        self._meter.memory = int(task["memory"])
        self._meter.cpu = int(task["cpu"])
        self._reserve_ports()

    def _check_mine(self, kernel_id: str) -> None:
        if self.task is not None and self.task["kernel_id"] != kernel_id:
            raise Refused("Claimed", f"The pod has the kernel {self.task['kernel_id']} already.")

    async def restore(self, claim: Dict[str, Any]) -> None:
        """Start the kernel again that this pod had before everything in it was killed."""
        self.restarts = int(claim.get("restarts", 0)) + 1
        self.claimed = float(claim.get("claimed") or 0)
        await self.start(claim["request"])

    def _save_claim(self) -> None:
        assert self.task is not None
        request = {**self.task, "ports": self._ports.numbers if self._ports else None}
        claim = {
            "request": request,
            "restarts": self.restarts,
            "claimed": self.claimed,
            "overhead": self._meter.overhead,
        }
        state.write(self._config["run_dir"], state.CLAIM, claim)

    def _reserve_ports(self) -> None:
        assert self.task is not None
        if self._ports is None:
            try:
                self._ports = Ports(self.task["ip"], self.task["ports"])
            except PortInUse as error:
                raise Refused("StartFailed", f"The kernel's ports are taken: {error}.") from error

    async def _bring_up(self, held: bool = False) -> Dict[str, Any]:
        """Make a process, or let the one that is held go on, until it answers. Raises Refused."""
        self.starting, self.exit = True, None
        self.over_memory = False
        try:
            if held:
                self.nursery.go()
            else:
                await self._launch()
            await self._answers()
        except ZygoteLost as error:
            raise Refused("StartFailed", "The pod's zygote was killed during the start.") from error
        finally:
            self.starting = False
        self.alive = True
        self.started = time.time()
        self.stirred.set()
        self._plan_spare()
        return {"connection": self.connection, "pid": self.pid, "how": self.nursery.how}

    async def _launch(self, hold: bool = False) -> bool:
        """Make a process and open its channels; false where there is none that can be held."""
        await self.nursery.preloaded
        await self._ports_free()
        job = self._make_job()
        self._log.forget()
        self._ended = asyncio.get_running_loop().create_future()
        _, how = await self.nursery.launch(job, hold)
        warning = self._meter.set_affinity() if how else ""
        if warning:
            await self._tell(protocol.WARNING, message=warning)
        if how == identity.SPARE:
            # Connecting before there is a listener costs a reconnect; this is sooner.
            waiting: List["asyncio.Future[Any]"] = [self.nursery.bound, self._ended]
            patience = PORTS_PATIENCE if hold else 1.0
            await asyncio.wait(waiting, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
        if hold and not (self.nursery.bound.done() and self.nursery.bound.result()):
            await self._clear()
            return False
        self._open_channels()
        return True

    async def _ports_free(self) -> None:
        assert self._ports is not None
        until = time.monotonic() + PORTS_PATIENCE
        pause = 0.002
        while True:
            name = self._ports.taken()
            if name is None:
                return
            if time.monotonic() > until:
                raise Refused(
                    "StartFailed",
                    f"Another process listens on the kernel's {name} "
                    f"({self._ports.numbers[name]}).",
                )
            await asyncio.sleep(pause)
            pause = min(2 * pause, 0.1)

    def _make_job(self) -> Dict[str, Any]:
        """What the zygote needs to know: connection file, environment, directory, command."""
        assert self.task is not None
        assert self._ports is not None
        task, config = self.task, self._config
        self.connection = {
            "transport": "tcp",
            "ip": task["ip"],
            **self._ports.numbers,
            "key": task["key"],
            "signature_scheme": task["signature_scheme"],
            "kernel_name": task["kernel_name"],
        }
        if task["curve"] and self.nursery.facts.get("curve") and config["argv"] is None:
            self.connection["curve_publickey"] = task["curve"]["publickey"]
            self.connection["curve_secretkey"] = task["curve"]["secretkey"]
        state.write(config["run_dir"], state.CONNECTION, self.connection)
        path = os.path.join(config["run_dir"], state.CONNECTION)
        env, _ = identity.make_environment(os.environ, task, config["pod"])
        cwd = find_cwd(task, env)
        argv = None
        if config["argv"] is not None:
            context = {**task["argv_context"], "connection_file": path}
            argv = [substitute(word, context) for word in config["argv"]]
        return {"connection_file": path, "env": env, "cwd": cwd, "argv": argv}

    def _open_channels(self) -> None:
        self._close_channels()
        python = self._config["argv"] is None
        self._channels = Channels(
            self._context, self.connection, python, lambda _: self.stirred.set()
        )

    def _close_channels(self) -> None:
        if self._channels is not None:
            self._channels.close()
            self._channels = None

    async def _answers(self) -> None:
        """Wait until the kernel answers or ends. Raises Refused with its last words."""
        assert self._channels is not None
        assert self._ended is not None
        answered = asyncio.ensure_future(self._channels.answered(ANSWER_PATIENCE))
        both: List["asyncio.Future[Any]"] = [answered, self._ended]
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        # A kernel that answered and ended at once is none.
        if not self._ended.done() and answered.done() and answered.exception() is None:
            return
        answered.cancel()
        if self._ended.done():
            code, signum = processes.describe_status(self._ended.result())
            what = f"by signal {signum}" if signum else f"with exit code {code}"
            message = f"The kernel ended {what} before it answered."
        else:
            message = f"The kernel did not answer within {ANSWER_PATIENCE:.0f} s."
        await self._clear()
        last = self._log.last_words()
        raise Refused("StartFailed", f"{message} {last}".strip())

    async def _clear(self) -> None:
        """Kill whatever there is of the kernel."""
        pid, self.pid, self.alive, self._held = self.pid, None, False, False
        self._close_channels()
        if pid is not None:
            await self.nursery.kill()

    # -- spare -----------------------------------------------------------------------------

    def _plan_spare(self) -> None:
        if self._spare_task is not None:
            self._spare_task.cancel()
        self._spare_task = self._spawn(self._spare_later())

    async def _spare_later(self) -> None:
        """Make the next spare when it does not compete with the first cell."""
        channels = self._channels
        until = time.monotonic() + SPARE_DELAY
        worked = False
        while channels is not None and time.monotonic() < until:
            await self.stirred.wait(until - time.monotonic())
            if channels.state == "busy":
                worked = True
            elif worked:
                break
        if self.alive and not self.ending:
            self.nursery.request_spare()
            self._meter.has_spare = bool(self.nursery.facts.get("spares"))

    # -- restart ---------------------------------------------------------------------------

    async def restart(
        self,
        env: Optional[Dict[str, str]] = None,
        cwd: Optional[str] = None,
        grace: float = 0.0,
    ) -> Dict[str, Any]:
        """End the kernel with all that came from it and start the next one in its place.

        Raises Refused: with ``BadRequest`` and ``BadWorkingDirectory`` the kernel is as it was;
        otherwise it is dead, and ``exit`` says why.
        """
        if self.task is None:
            raise Refused("NotRunning", "The pod has no kernel yet.")
        async with self._lock:
            task = dict(self.task)
            if env is not None:
                check_env(env)
                task["env"] = dict(env)
            if cwd is not None:
                task["cwd"] = cwd
            # Before the old kernel ends: its variables are not to be lost for a folder.
            find_cwd(task, identity.make_environment(os.environ, task, self._config["pod"])[0])
            self.task = task
            try:
                await self._take_leave(grace, restart=True)
                await self._clear()
                self._save_claim()
                self.answer = await self._bring_up()
            except Exception as error:
                await self._restart_failed(error)
                raise
            self._changed()
            # Other servers' clients have to learn of it as well.
            await self._tell(
                protocol.RESTARTED,
                connection=self.connection,
                restarts=self.restarts,
                asked=True,
            )
            return self.answer

    async def _restart_failed(self, error: Exception) -> None:
        """The old kernel is gone and there is no new one: let nobody take it for alive."""
        status = self._ended.result() if self._ended is not None and self._ended.done() else None
        code, signum = (None, None) if status is None else processes.describe_status(status)
        end = words.make_start_failed(time.time(), code, signum, words.of_error(error))
        await self._stay_dead(end)

    async def _stay_dead(self, end: Dict[str, Any]) -> None:
        """Note and tell that there is no kernel, and that the agent starts none by itself."""
        try:
            await self._clear()
        except ZygoteLost as lost:  # and with it all that it had made
            sys.stderr.write(f"agent: {lost}\n")
        self.answer, self.exit = None, end
        sys.stderr.write(f"agent: {end['message']}\n")
        self._changed()
        self.stirred.set()
        await self._tell(protocol.EXITED, exit=end, restarting=False)

    # -- death -----------------------------------------------------------------------------

    def on_born(self, pid: int) -> None:
        """Note the kernel's process (a second one when a spare turned out not to serve)."""
        self.pid = pid
        self._meter.began(pid)
        self._meter.has_spare = False

    def on_exit(self, pid: int, status: int) -> None:
        """Note that the kernel's process ended (called by the nursery)."""
        if pid != self.pid:
            return
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(status)
        if self.alive and not self.ending:
            self.alive = False
            self._died(status)

    def on_zygote_lost(self) -> None:
        """Note that the kernel was killed together with, or because of, its zygote."""
        self.pid = None
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(signal.SIGKILL)
        if self.alive and not self.ending:
            self.alive = False
            self._died(signal.SIGKILL)

    def _died(self, status: int) -> None:
        code, signum = processes.describe_status(status)
        oom = self.over_memory or (signum == signal.SIGKILL and self._meter.killed_by_system())
        self.exit = words.make_exit(
            time.time(),
            {"code": code, "signal": signum},
            oom,
            self._meter.memory_limit() if oom else None,
            self._meter.memory_peak() if oom else None,
            self._log.last_words(),
        )
        self.stirred.set()
        sys.stderr.write(f"agent: {self.exit['message']}\n")
        self._revival = self._spawn(self._after_death(self.exit))

    async def _after_death(self, end: Dict[str, Any]) -> None:
        """Bring the kernel back in place, or leave it dead, as its claim and its end say."""
        assert self.task is not None
        now = time.monotonic()
        self._deaths = [when for when in self._deaths if when > now - DEATHS_WITHIN] + [now]
        again = self.task["on_death"] == "restart"
        if again and len(self._deaths) > DEATHS:
            again = False
            end["message"] += (
                f" It died {len(self._deaths)} times within {DEATHS_WITHIN:.0f} s"
                " and was not started again."
            )
        self._changed()
        await self._tell(protocol.EXITED, exit=end, restarting=again)
        async with self._lock:
            if self.alive or self.ending:
                return  # a restart was faster
            try:
                await self._clear()
                if not again:
                    return
                self.restarts += 1
                self._save_claim()
                self.answer = await self._bring_up()
            except (Refused, ZygoteLost, OSError) as error:
                end["message"] += f" Starting it again failed: {words.of_error(error)}"
                await self._stay_dead(end)
                return
            self.exit = end
            self._changed()
            await self._tell(protocol.RESTARTED, connection=self.connection, restarts=self.restarts)

    # -- end -------------------------------------------------------------------------------

    def signal(self, signum: int) -> None:
        """Send a signal to the kernel's process group. Raises Refused."""
        if not 0 < signum < signal.NSIG:
            raise Refused("BadRequest", f"{signum} is no signal.")
        if self.pid is None:
            raise Refused("NotRunning", "The kernel is not running.")
        self.nursery.signal(signum)

    async def _take_leave(self, grace: float, restart: bool) -> None:
        """Let the kernel run its exit handlers for ``grace`` seconds, as Jupyter asks it to."""
        if (
            grace <= 0
            or self._held
            or self.pid is None
            or self._ended is None
            or self._channels is None
        ):
            return
        self.alive = False  # what follows is no death
        if self._channels.state == "busy":
            self.nursery.signal(signal.SIGINT)
        await self._channels.ask_to_end(restart)
        await asyncio.wait([self._ended], timeout=grace)

    async def end(self, grace: float) -> None:
        """Terminate politely for ``grace`` seconds, then kill everything in the pod."""
        self.ending = True
        for task in (self._spare_task, self._revival):
            if task is not None and task is not asyncio.current_task():
                task.cancel()
        try:
            await self._take_leave(grace, restart=False)
            await self.nursery.kill(everything=True)
        except ZygoteLost:
            processes.kill_below()
        self._close_channels()
        self.alive = False
        if self._ports is not None:
            self._ports.close()
