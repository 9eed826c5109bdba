"""A newer server goes on with the kernels of an older one."""

from __future__ import annotations

import asyncio
from pathlib import Path

from benchmarks.server import start_server

from .tools import config
from .upgrade import NEWER, begin, go_on, older


def test_kernels_of_the_previous_protocol_go_on_under_a_newer_server(home: Path) -> None:
    async def scenario() -> None:
        server = await start_server(home, config() + older(home / "older"))
        try:
            kernel_id = await begin(server)
        finally:
            await server.stop()
        server = await start_server(home, config() + NEWER)
        try:
            await go_on(server, kernel_id)
        finally:
            await server.stop()

    asyncio.run(scenario())
