"""The agent's side of the zygote: order births and deaths, hear of ends."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from typing import Any, Callable, List, Optional, Tuple

from .link import AsyncLink, Message

OnExit = Callable[[int, int], None]
LAST_WORDS = 2000
FORWARDED = 2**20
"""Bytes of output of zygote and kernels that go on to the agent's log, in a pod's whole life."""


class ZygoteLost(Exception):
    """The zygote was killed."""


class Nursery:
    """Speaks with the zygote.

    Parameters
    ----------
    on_born
        Called with the pid of a process that is to be the kernel.
    on_exit
        Called with (pid, wait status) when the kernel's process ended.
    on_lost
        Called when the zygote is gone.
    on_spare
        Called when the first spare is ready, or it is known that there will be none.
    """

    def __init__(
        self,
        on_born: Callable[[int], None],
        on_exit: OnExit,
        on_lost: Callable[[], None],
        on_spare: Callable[[], None],
    ) -> None:
        self._on_born = on_born
        self._on_exit = on_exit
        self._on_lost = on_lost
        self._on_spare = on_spare
        self._link: Optional[AsyncLink] = None
        self._task: Optional["asyncio.Task[None]"] = None
        self._born: Optional["asyncio.Future[Tuple[int, str]]"] = None
        self.bound: "asyncio.Future[bool]" = asyncio.get_running_loop().create_future()
        """Whether the spare that was last launched listens on its ports, once that is known."""
        self._killed: List["asyncio.Future[None]"] = []
        self.pid = 0
        self.spare: Optional[int] = None
        self.kernel: Optional[int] = None
        self.how = ""
        self.facts: Message = {}
        self.preloaded: "asyncio.Future[Message]" = asyncio.get_running_loop().create_future()

    async def attach(self, pid: int, sock: socket.socket) -> None:
        """Begin to listen to a zygote."""
        self.pid = pid
        self._link = await AsyncLink.open(sock)
        self._task = asyncio.ensure_future(self._listen(self._link))

    async def _listen(self, link: AsyncLink) -> None:
        while True:
            message = await link.receive()
            if message is None:
                break
            self._hear(message)
        self.spare = self.kernel = None
        lost = ZygoteLost("the zygote was killed")
        for future in [self._born, self.preloaded, *self._killed]:
            if future is not None and not future.done():
                future.set_exception(lost)
                future.exception()  # it is no news if nobody waits
        self._killed.clear()
        self.preloaded = asyncio.get_running_loop().create_future()  # of the next zygote
        self._link = None
        link.close()
        self._on_lost()

    def _hear(self, message: Message) -> None:
        event = message["event"]
        if event == "preloaded":
            self.facts = message
            if not self.preloaded.done():
                self.preloaded.set_result(message)
            if message["spares"]:
                self.request_spare()
            else:
                self._on_spare()
        elif event == "spare":
            self.spare = message["pid"]
            self._on_spare()
        elif event == "spare-failed":
            self.spare = None
            sys.stderr.write(f"agent: no spare: {message['message']}\n")
            self._on_spare()
        elif event == "born":
            self.kernel, self.how = message["pid"], message["how"]
            if self.kernel == self.spare:
                self.spare = None
            self._on_born(message["pid"])
            if self._born is not None and not self._born.done():
                self._born.set_result((message["pid"], message["how"]))
        elif event == "bound":
            if not self.bound.done():
                self.bound.set_result(True)
        elif event == "not-held":
            self.kernel = None
            if self._born is not None and not self._born.done():
                self._born.set_result((0, ""))
            if not self.bound.done():
                self.bound.set_result(False)
        elif event == "exit":
            if self.kernel == message["pid"]:
                self.kernel = None
            self._on_exit(message["pid"], message["status"])
        elif event == "killed" and self._killed:
            future = self._killed.pop(0)
            if not future.done():
                future.set_result(None)

    def _send(self, **message: Any) -> None:
        if self._link is None:
            raise ZygoteLost("there is no zygote")
        self._link.send(message)

    def request_spare(self) -> None:
        """Have a spare made, unless there is one."""
        if self.spare is None and self.facts.get("spares"):
            self._send(op="spare")

    async def launch(self, task: Message, hold: bool = False) -> Tuple[int, str]:
        """Make a kernel; returns (pid, how). Raises ZygoteLost.

        With ``hold`` it runs nothing of the user's until :meth:`go`; ``how`` is empty, and there
        is no kernel, where no spare serves for that.
        """
        self._born = asyncio.get_running_loop().create_future()
        self.bound = asyncio.get_running_loop().create_future()
        self._send(op="start", task=task, hold=hold)
        return await self._born

    def go(self) -> None:
        """Let the kernel that is held go on. Raises ZygoteLost."""
        self._send(op="go")

    def signal(self, signum: int) -> None:
        """Signal the kernel's process group."""
        self._send(op="signal", signum=signum)

    async def kill(self, everything: bool = False) -> None:
        """Kill and reap the kernel and all that came from it (``everything``: the spare too)."""
        future: "asyncio.Future[None]" = asyncio.get_running_loop().create_future()
        self._killed.append(future)
        self._send(op="kill", everything=everything)
        await future

    def goodbye(self) -> None:
        """Let the zygote end everything and itself."""
        if self._task is not None:
            self._task.cancel()
        if self._link is not None:
            self._link.send({"op": "bye"})
            self._link.close()


class Log:
    """Reads what zygote and kernels write to standard error: forwards it, and keeps the end."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._last = b""
        self._budget = FORWARDED
        os.set_blocking(descriptor, False)
        asyncio.get_running_loop().add_reader(descriptor, self._read)

    def _read(self) -> None:
        try:
            data = os.read(self._descriptor, 65536)
        except BlockingIOError:
            return
        if not data:
            asyncio.get_running_loop().remove_reader(self._descriptor)
            return
        self._last = (self._last + data)[-LAST_WORDS:]
        if self._budget > 0:
            self._budget -= len(data)
            os.write(2, data if self._budget > 0 else data + b"\n[further output left out]\n")

    def forget(self) -> None:
        """Begin anew: what follows belongs to another process."""
        self._read()
        self._last = b""

    def last_words(self) -> str:
        """The last lines, as one short text."""
        self._read()
        lines = [line.strip() for line in self._last.decode("utf-8", "replace").splitlines()]
        return " | ".join([line for line in lines if line][-4:])[-400:]


def respawn_arguments(package: str, here: str) -> List[str]:
    """The command that runs this agent's code anew (zipapp or installed package)."""
    from subprocess import _args_from_interpreter_flags  # type: ignore[attr-defined]

    flags: List[str] = _args_from_interpreter_flags()
    root = os.path.dirname(os.path.dirname(here))
    if os.path.isfile(root):  # inside a zipapp
        return [sys.executable, *flags, root]
    return [sys.executable, *flags, "-m", package]


def respawn(package: str, config_path: str, log: int) -> Tuple[int, socket.socket]:
    """Start a zygote as a fresh process (this one has threads: it may not fork any more)."""
    ours, theirs = socket.socketpair()
    theirs.set_inheritable(True)
    argv = [
        *respawn_arguments(package, os.path.abspath(__file__)),
        "--zygote",
        str(theirs.fileno()),
        config_path,
    ]
    actions = [(os.POSIX_SPAWN_DUP2, log, 1), (os.POSIX_SPAWN_DUP2, log, 2)]
    pid = os.posix_spawn(sys.executable, argv, dict(os.environ), file_actions=actions)
    theirs.close()
    return pid, ours
