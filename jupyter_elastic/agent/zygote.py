"""The zygote: imports once, forks spares and kernels, reaps them, and outlives a killed agent.

It has no threads and no zmq context, for only such a process can fork safely. It obeys the
agent over a socket pair; when that ends without a word the agent was killed, and the zygote ends
everything in the pod and says so in ``status.json``.

Messages to the zygote: ``spare``; ``start {task, hold: bool}``, ``go``; ``kill {everything:
bool}``; ``signal {signum}``; ``bye``. From it: ``preloaded {ipykernel, curve, spares, warnings}``;
``spare {pid}``, ``spare-failed {message}``; ``born {pid, how}``, ``bound {pid}``, ``not-held``;
``exit {pid, status}``; ``killed``.
"""

from __future__ import annotations

import gc
import importlib
import os
import select
import signal
import socket
import sys
from typing import Any, Dict, List, NoReturn, Optional

from . import birth, identity, processes
from .home import make_home
from .link import Link, Message
from .state import write_status

PACKAGE = __name__.rpartition(".")[0]


KERNEL = ("ipykernel.kernelapp", "ipykernel.ipkernel", "ipykernel.zmqshell", "ipykernel_launcher")
LAZY = (
    # What a kernel imports while it is initialised: shared, when the zygote has it already.
    "ipykernel.debugger",
    "IPython.core.completerlib",
    "IPython.core.debugger",
    "IPython.core.logger",
    "IPython.core.oinspect",
    "IPython.extensions.storemagic",
    "encodings.idna",
    "http.server",
    "psutil",
    "sqlite3",
    "tornado.platform.asyncio",
    "tornado.queues",
)


class Zygote:
    """See the module. :meth:`run` never returns."""

    def __init__(self, sock: socket.socket, config: Dict[str, Any]) -> None:
        self.link = Link(sock)
        self.config = config
        self.python = config["argv"] is None
        self.warm = dict(os.environ)
        self.installed: Dict[str, int] = {}
        self.spares_possible = False
        self.spare: Optional[int] = None
        self.spare_link: Optional[Link] = None
        self.held: Optional[Link] = None
        """Leads to a kernel that is bound and waits for ``go``."""
        self.kernel: Optional[int] = None
        self.task: Optional[Message] = None
        self.hold = False
        self.wake_in, self.wake_out = os.pipe()
        for end in (self.wake_in, self.wake_out):
            os.set_blocking(end, False)

    # -- life ------------------------------------------------------------------------------

    def run(self) -> NoReturn:
        """Warm up, then obey until the agent says goodbye or vanishes."""
        processes.become_subreaper()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self.wake_out, warn_on_full_buffer=False)
        birth.redirect_input()
        warnings = self.join_cgroup()
        if self.config["init"] and (failure := make_home(os.environ)):
            # Before IPython is imported: without a HOME it keeps a profile for this process alone.
            warnings.append(f"{failure} Kernels that would start there start in {os.getcwd()}.")
        if self.python:
            warnings += self.preload()
        gc.collect()
        gc.freeze()  # shared pages stay shared: the collector does not touch what is in them
        try:
            self.send(event="preloaded", warnings=warnings, **self.describe())
            while True:
                self.turn()
        except (BrokenPipeError, ConnectionResetError):
            self.agent_lost()

    def join_cgroup(self) -> List[str]:
        """Enter the pod's cgroup, so that all that is imported and forked is born inside."""
        failures = []
        cgroup = self.config["cgroup"]
        for path in cgroup.get("join", ()) if isinstance(cgroup, dict) else ():
            try:
                with open(path, "w", encoding="ascii") as file:
                    file.write(str(os.getpid()))
            except OSError as error:
                failures.append(f"The pod could not enter its cgroup: {error}.")
        return failures

    def preload(self) -> List[str]:
        """Import ipykernel and the template's modules; return warnings about those that fail."""
        own = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        sys.path[:] = [path for path in sys.path if path not in ("", own)]
        failures = []
        for name in (*KERNEL, *LAZY, *self.config["preload"]):
            try:
                importlib.import_module(name)
            except (Exception, SystemExit) as error:  # noqa: BLE001 - any module may do anything
                if name in LAZY and isinstance(error, ImportError):
                    continue  # another version has it elsewhere; it costs memory only
                failures.append(f"Preloading {name} failed: {type(error).__name__}: {error}"[:500])
        self.installed = identity.installed()
        self.spares_possible = "ipykernel.kernelapp" in sys.modules and birth.spare_possible()
        return failures

    def describe(self) -> Message:
        """What the agent tells servers about this interpreter."""
        if "ipykernel" not in sys.modules:
            return {"ipykernel": None, "curve": False, "spares": False}
        import zmq
        from ipykernel.kernelapp import IPKernelApp

        curve = hasattr(IPKernelApp, "curve_secretkey") and bool(zmq.has("curve"))
        version = getattr(sys.modules["ipykernel"], "__version__", "?")
        return {"ipykernel": version, "curve": curve, "spares": self.spares_possible}

    def send(self, **message: Any) -> None:
        """Tell the agent."""
        self.link.send(message)

    # -- loop ------------------------------------------------------------------------------

    def turn(self) -> None:
        """Wait for the agent, the spare or the end of a child, and deal with it."""
        poll = select.poll()
        poll.register(self.link.sock, select.POLLIN)
        poll.register(self.wake_in, select.POLLIN)
        spare_link = self.spare_link
        if spare_link is not None:
            poll.register(spare_link.sock, select.POLLIN)
        ready = {descriptor for descriptor, _ in poll.poll()}
        if spare_link is not None and spare_link.sock.fileno() in ready:
            self.hear_spare(spare_link)
        if self.wake_in in ready:
            os.read(self.wake_in, 4096)
            ended = processes.reap()
            # What a child said before it ended comes first: it may change what its end means.
            if self.spare_link is not None and self.spare_link.readable():
                self.hear_spare(self.spare_link)
            self.report(ended)
        if self.link.sock.fileno() in ready:
            messages = self.link.receive()
            if messages is None:
                self.agent_lost()
            for message in messages:
                self.obey(message)

    def obey(self, message: Message) -> None:
        """Carry out one order of the agent."""
        op = message["op"]
        if op == "spare":
            self.make_spare()
        elif op == "start":
            self.start(message["task"], hold=bool(message.get("hold")))
        elif op == "go":
            if self.held is not None:
                self.held.send({"op": "go"})
            self.let_go()
        elif op == "signal":
            self.signal(message["signum"])
        elif op == "kill":
            self.let_go()
            keep = () if message.get("everything") or self.spare is None else (self.spare,)
            self.report(processes.kill_below(keep))
            self.send(event="killed")
        elif op == "bye":
            processes.kill_below()
            os._exit(0)

    def report(self, ended: Dict[int, int]) -> None:
        """Tell the agent which of its processes ended; orphans that came here are nobody's."""
        for pid, status in ended.items():
            if pid == self.spare:
                self.drop_spare()
                self.send(event="spare-failed", message="The spare ended.")
            elif pid == self.kernel:
                self.kernel = None
                self.let_go()
                self.send(event="exit", pid=pid, status=status)

    def signal(self, signum: int) -> None:
        """Signal the kernel's process group. A kernel that just ended is no error."""
        if self.kernel is not None:
            try:
                os.killpg(self.kernel, signum)
            except ProcessLookupError:
                return

    def agent_lost(self) -> NoReturn:
        """End the pod: nobody is left who could speak for it."""
        processes.kill_below()
        processes.kill(processes.marked(self.config["pod"]))
        write_status(
            self.config["run_dir"],
            phase="gone",
            reason="AgentLost",
            message="The pod's agent was killed, so its kernel was ended; its variables are lost.",
        )
        os._exit(1)

    # -- births ----------------------------------------------------------------------------

    def fork(self, mine: Optional[socket.socket] = None) -> int:
        """Fork; the child is left with the descriptors of a kernel, and ``mine``."""
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            birth.become_child()
            self.link.close()
            os.close(self.wake_in)
            os.close(self.wake_out)
            if self.spare_link is not None and self.spare_link.sock is not mine:
                self.spare_link.close()
            if self.held is not None:
                self.held.close()
        return pid

    def make_spare(self) -> None:
        """Fork a spare, unless there is one or there cannot be any."""
        if self.spare_link is not None or not self.spares_possible:
            return
        ours, theirs = socket.socketpair()
        pid = self.fork(theirs)
        if pid == 0:
            ours.close()
            birth.run_spare(Link(theirs), self.warm, PACKAGE)
            os._exit(1)  # not reached
        theirs.close()
        self.spare, self.spare_link = pid, Link(ours)

    def let_go(self) -> None:
        """Forget the kernel that is held; it ends by itself unless it was told to go on."""
        if self.held is not None:
            self.held.close()
        self.held = None

    def drop_spare(self) -> None:
        """Forget the spare; it ends by itself when its socket closes."""
        if self.spare_link is not None:
            self.spare_link.close()
        self.spare = self.spare_link = None

    def hear_spare(self, link: Link) -> None:
        """What the spare, or the kernel that was one, has to say."""
        for message in link.receive() or [{"event": "end"}]:
            event = message["event"]
            if event == "spare-ready":
                self.send(event="spare", pid=self.spare)
            elif event == "spare-failed":
                self.spares_possible = False  # it would fail again: initialise after the fork
                self.drop_spare()
                self.send(event="spare-failed", message=message["message"])
            elif event == "bound":
                self.send(event="bound", pid=self.kernel)
                if self.hold:
                    self.held, self.spare_link = link, None
                self.drop_spare()
            elif event == "refused":
                # Nothing of the user's has run: the plain way may still work.
                sys.stderr.write(f"The spare could not serve: {message['message']}\n")
                self.drop_spare()
                if self.hold:
                    self.kernel = None
                    self.send(event="not-held")
                elif self.task is not None:
                    self.start(self.task, identity.FORK)
            else:
                self.drop_spare()

    def start(self, task: Message, at_best: str = identity.SPARE, hold: bool = False) -> None:
        """Make a kernel in the best way that is true to its identity; to ``hold`` only a spare."""
        self.let_go()
        self.task, self.hold = task, hold
        how = self.choose(task, at_best)
        if hold and how != identity.SPARE:
            self.send(event="not-held")
            return
        if how == identity.SPARE and self.spare is not None and self.spare_link is not None:
            self.kernel, self.spare = self.spare, None
            self.send(event="born", pid=self.kernel, how=how)
            self.spare_link.send({**task, "hold": hold})
            return
        pid = self.fork()
        if pid == 0:
            try:
                if how == identity.FORK:
                    birth.run_fork(task, self.warm, PACKAGE)
                argv = task["argv"] or birth.python_argv(task["connection_file"])
                birth.run_exec(argv, task["env"], task["cwd"])
            except OSError as error:
                sys.stderr.write(f"{error}\n")
            os._exit(127)
        self.kernel = pid
        self.send(event="born", pid=pid, how=how)

    def choose(self, task: Message, at_best: str) -> str:
        """Spare, fork or exec: see :mod:`identity`."""
        if task["argv"] or "ipykernel.kernelapp" not in sys.modules:
            return identity.EXEC
        if identity.installed() != self.installed:
            return identity.EXEC
        how = identity.way(self.warm, task["env"])
        if how == identity.SPARE and (self.spare is None or at_best != identity.SPARE):
            return identity.FORK
        return how
