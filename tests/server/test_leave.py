"""Kernels may say good-bye: exit handlers run at a stop and at a restart, as in plain kernels."""

from __future__ import annotations

import asyncio
from pathlib import Path

from benchmarks.server import start_server

from .tools import Cell, config, start


def test_exit_handlers_run_at_restart_and_stop(home: Path) -> None:
    """Also when a cell runs: it is interrupted first."""

    async def scenario() -> None:
        server = await start_server(home, config())
        said = home / "said"

        def handler(word: str) -> str:
            return (
                "import atexit, time, pathlib\n"
                f"atexit.register(lambda: open({str(said)!r}, 'a').write('{word} '))\n"
            )

        try:
            kernel_id = await start(server)
            channel = await server.connect(kernel_id)
            await Cell(channel, handler("restart")).done()
            cell = Cell(channel, "print('begun'); time.sleep(600)")
            await cell.prints("begun")
            await server.request("POST", f"/api/kernels/{kernel_id}/restart", {})
            assert said.read_text() == "restart "

            await Cell(await server.connect(kernel_id), handler("stop")).done()
            await server.request("DELETE", f"/api/kernels/{kernel_id}")
            assert said.read_text() == "restart stop "
        finally:
            await server.stop()

    asyncio.run(scenario())
