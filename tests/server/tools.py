"""What the server tests share: templates, cells that run on, processes and control groups."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from benchmarks.server import Channel, Server, until_warm
from jupyter_elastic.agent import processes
from tests.leftovers import kill_at_once

TEMPLATE = "work"
MIB = 2**20


def config(pool: int = 1, memory: str = "256Mi", extra: str = "", **template: Any) -> str:
    """Configuration with the one template ``work``."""
    data = {
        "name": TEMPLATE,
        "display_name": "Work",
        "pool": {"size": pool},
        "resources": {
            "cpu": {"minimum": "100m", "default": "500m", "maximum": "2"},
            "memory": {"minimum": "64Mi", "default": memory, "maximum": "2Gi"},
        },
        **template,
    }
    return f"c.ElasticKernels.templates = [{data!r}]\n{extra}\n"


async def start(server: Server, **body: Any) -> str:
    """Start a kernel on a warm pod (or cold, where none is kept); returns its id once Running."""
    model = await server.request("POST", "/elastic/api/kernels", {"template": TEMPLATE, **body})
    kernel_id = str(model["kernel_id"])
    await phase(server, kernel_id, "Running")
    return kernel_id


async def warm(server: Server, count: int = 1) -> None:
    """Wait for warm pods."""
    await until_warm(server, TEMPLATE, count)


async def kernel(server: Server, kernel_id: str) -> dict[str, Any]:
    """The kernel as REST shows it."""
    view: dict[str, Any] = await server.request("GET", f"/elastic/api/kernels/{kernel_id}")
    return view


async def phase(server: Server, kernel_id: str, wanted: str, timeout: float = 60) -> dict[str, Any]:
    """Wait until the kernel is in a phase; fails at once when it is Failed instead."""

    async def there() -> dict[str, Any] | None:
        view = await kernel(server, kernel_id)
        if view["phase"] == "Failed" and wanted != "Failed":
            raise AssertionError(f"the kernel is Failed: {view['message']}")
        return view if view["phase"] == wanted else None

    found: dict[str, Any] = await eventually(there, f"kernel {wanted}", timeout)
    return found


async def eventually(look: Callable[[], Awaitable[Any]], what: str, timeout: float = 60) -> Any:
    """The first truthy thing that ``look`` returns, within a bound."""
    deadline = time.monotonic() + timeout
    while True:
        found = await look()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {what}")
        await asyncio.sleep(0.05)


class Cell:
    """A cell that was sent; its messages as they come."""

    def __init__(self, channel: Channel, code: str, allow_stdin: bool = False) -> None:
        self.channel = channel
        self.id = channel.send(code, allow_stdin)
        self.messages: list[dict[str, Any]] = []

    async def until(self, wanted: Callable[[dict[str, Any]], bool], timeout: float = 60) -> Any:
        """The first message (of this cell, or a kernel-wide status) that is wanted."""

        async def look() -> dict[str, Any]:
            while True:
                message = await self.channel.receive()
                self.messages.append(message)
                if wanted(message):
                    return message

        return await asyncio.wait_for(look(), timeout)

    async def prints(self, text: str, timeout: float = 60) -> str:
        """Wait until the cell's output contains ``text``; returns the output so far."""
        await self.until(lambda _: text in self.output, timeout)
        return self.output

    async def done(self, timeout: float = 60) -> dict[str, Any]:
        """The execute_reply."""
        reply: dict[str, Any] = await self.until(
            lambda m: m["msg_type"] == "execute_reply" and m["parent_header"]["msg_id"] == self.id,
            timeout,
        )
        return reply

    async def status(self, state: str, timeout: float = 60) -> None:
        """Wait for a status of the kernel (``restarting``, ``dead``)."""
        await self.until(
            lambda m: m["msg_type"] == "status" and m["content"]["execution_state"] == state,
            timeout,
        )

    @property
    def output(self) -> str:
        """Text of the streams of this cell."""
        return "".join(
            m["content"]["text"]
            for m in self.messages
            if m["msg_type"] == "stream" and m["parent_header"].get("msg_id") == self.id
        )


def pod_record(server: Server, name: str) -> dict[str, Any]:
    """The stored record of a pod."""
    import json

    record: dict[str, Any] = json.loads((server.state_dir / "pods" / f"{name}.json").read_text())
    return record


def processes_of(pod: str) -> list[int]:
    """Pids of a pod: its agent, zygote, spare, kernel and their children."""
    marker = f"JUPYTER_ELASTIC_POD={pod}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if marker in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
            except OSError:
                continue
    return sorted(found)


def agent_of(pod: str) -> int:
    """The pid of a pod's agent: the one whose parent is not of the pod."""
    pids = processes_of(pod)
    found = [one for one in map(processes.stat, pids) if one is not None]
    return next(one.pid for one in found if one.ppid not in pids)


def kill(pids: list[int]) -> None:
    """SIGKILL."""
    processes.kill(pids)


def kill_all(pod: str) -> None:
    """Kill everything in a pod at once, as a container out of memory is."""
    kill_at_once(lambda: processes_of(pod))
