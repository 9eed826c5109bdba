"""Servers before and after an upgrade, as configuration: an older agent, and a newer protocol."""

from __future__ import annotations

import shutil
from pathlib import Path

from benchmarks.server import Server
from jupyter_elastic import agent

from .tools import eventually, kernel, start, warm

NEWER = "from jupyter_elastic.agent import protocol\nprotocol.VERSION = 2\n"
"""For a server of the next protocol; its pods, made from this tree, speak this one."""


def older(folder: Path) -> str:
    """For a server whose pods have an agent that does not know ``prepare`` yet."""
    shutil.copytree(Path(agent.__file__).parent, folder)
    words = (folder / "protocol.py").read_text()
    assert 'PREPARE = "prepare"' in words
    (folder / "protocol.py").write_text(words.replace('PREPARE = "prepare"', 'PREPARE = "-"'))
    return f"from jupyter_elastic.agent import pack\npack.__file__ = {str(folder / 'pack.py')!r}\n"


async def begin(server: Server) -> str:
    """Under the older server: a warm start; returns the kernel's id."""
    await warm(server)
    kernel_id = await start(server)
    assert (await kernel(server, kernel_id))["start"] == "warm"
    channel = await server.connect(kernel_id)
    assert await channel.execute("x = 6 * 7; x") == "42"
    channel.close()
    return kernel_id


async def go_on(server: Server, kernel_id: str) -> None:
    """Under the newer server: the kernel is all it was, and others can be started."""

    async def adopted() -> bool:
        return any(one["id"] == kernel_id for one in await server.request("GET", "/api/kernels"))

    await eventually(adopted, "the kernel is adopted")
    channel = await server.connect(kernel_id)
    assert await channel.execute("x") == "42"
    change = {"resources": {"memory": "300Mi"}}
    await server.request("PATCH", f"/elastic/api/kernels/{kernel_id}", change)
    assert (await kernel(server, kernel_id))["actual"]["memory"] == "300Mi"
    assert await channel.execute("x") == "42"
    await server.request("POST", f"/api/kernels/{kernel_id}/restart", {})
    channel.close()
    channel = await server.connect(kernel_id)
    assert await channel.execute("'x' in globals()") == "False"
    channel.close()
    await warm(server)
    another = await start(server)
    channel = await server.connect(another)
    assert await channel.execute("6 * 7") == "42"
    channel.close()
    for one in (kernel_id, another):
        await server.request("DELETE", f"/api/kernels/{one}")
    assert (await server.request("GET", "/elastic/api/kernels"))["kernels"] == []
