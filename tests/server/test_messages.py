"""What notebooks use beyond plain cells: interrupts, input, the debugger, widgets, completion."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from benchmarks.server import Channel, start_server

from .tools import Cell, config, start


async def ask(
    channel: Channel, kind: str, content: dict[str, Any], on: str = "shell"
) -> dict[str, Any]:
    """Send a request and return its reply's content."""
    message_id = channel.message(kind, content, on)

    async def reply() -> dict[str, Any]:
        wanted = kind.replace("_request", "_reply")
        while True:
            message = await channel.receive()
            if message["msg_type"] == wanted and message["parent_header"]["msg_id"] == message_id:
                content: dict[str, Any] = message["content"]
                return content

    return await asyncio.wait_for(reply(), 60)


def test_interrupt_ends_the_cell_and_keeps_the_variables(home: Path) -> None:
    async def scenario() -> None:
        server = await start_server(home, config())
        try:
            kernel_id = await start(server)
            channel = await server.connect(kernel_id)
            cell = Cell(channel, "x = 3; print('begun')\nimport time; time.sleep(600)")
            await cell.prints("begun")
            await server.request("POST", f"/api/kernels/{kernel_id}/interrupt", {})
            assert (await cell.done())["content"]["ename"] == "KeyboardInterrupt"
            assert await channel.execute("x") == "3"
        finally:
            await server.stop()

    asyncio.run(scenario())


def test_input_completion_and_inspection(home: Path) -> None:
    async def scenario() -> None:
        server = await start_server(home, config())
        try:
            kernel_id = await start(server)
            channel = await server.connect(kernel_id)
            cell = Cell(channel, "name = input('who? ')", allow_stdin=True)
            asked = await cell.until(lambda m: m["msg_type"] == "input_request")
            assert asked["content"]["prompt"] == "who? "
            answer = {"value": "ada", "status": "ok"}
            channel.message("input_reply", answer, "stdin", parent=asked["header"])
            await cell.done()
            assert await channel.execute("name") == "'ada'"
            found = await ask(channel, "complete_request", {"code": "name.upp", "cursor_pos": 8})
            assert any("upper" in match for match in found["matches"])
            shown = await ask(
                channel,
                "inspect_request",
                {"code": "name", "cursor_pos": 4, "detail_level": 0},
            )
            assert shown["found"]
        finally:
            await server.stop()

    asyncio.run(scenario())


def test_breakpoint_of_the_debugger_stops_the_cell(home: Path) -> None:
    """What Lab's debugger does: initialize, attach, set a breakpoint in a cell, run, continue."""

    async def scenario() -> None:
        server = await start_server(home, config())
        try:
            kernel_id = await start(server)
            channel = await server.connect(kernel_id)
            seq = 0

            async def debug(command: str, **arguments: Any) -> dict[str, Any]:
                nonlocal seq
                seq += 1
                request = {
                    "type": "request",
                    "seq": seq,
                    "command": command,
                    "arguments": arguments,
                }
                return await ask(channel, "debug_request", request, on="control")

            started = await debug(
                "initialize",
                clientID="test",
                clientName="test",
                adapterID="",
                pathFormat="path",
                linesStartAt1=True,
                columnsStartAt1=True,
            )
            assert started["success"], started
            await debug("attach")
            code = "def f(n):\n    m = n + 1\n    return m\nprint(f(41))"
            dumped = await debug("dumpCell", code=code)
            source = dumped["body"]["sourcePath"]
            placed = await debug(
                "setBreakpoints",
                breakpoints=[{"line": 3}],
                source={"path": source},
                sourceModified=False,
            )
            assert placed["body"]["breakpoints"][0]["verified"]
            await debug("configurationDone")
            cell = Cell(channel, code)
            stopped = await cell.until(
                lambda m: m["msg_type"] == "debug_event" and m["content"]["event"] == "stopped"
            )
            assert stopped["content"]["body"]["reason"] == "breakpoint"
            go_on = {
                "type": "request",
                "seq": seq + 1,
                "command": "continue",
                "arguments": {"threadId": stopped["content"]["body"]["threadId"]},
            }
            channel.message("debug_request", go_on, "control")  # its reply comes among the output
            await cell.prints("42")
        finally:
            await server.stop()

    asyncio.run(scenario())


def test_widgets_speak_over_comms(home: Path) -> None:
    """A slider's model opens a comm; what the front end sends back reaches its observers."""

    async def scenario() -> None:
        server = await start_server(home, config())
        try:
            kernel_id = await start(server)
            channel = await server.connect(kernel_id)
            cell = Cell(
                channel,
                "import ipywidgets\nseen = []\ns = ipywidgets.IntSlider(value=1)\n"
                "s.observe(lambda change: seen.append(change['new']), 'value')\nprint(s.model_id)",
            )
            await cell.until(lambda m: m["msg_type"] == "stream")  # IOPub keeps its order
            opened = [m for m in cell.messages if m["msg_type"] == "comm_open"]
            assert opened
            comm_id = (await channel.execute("s.model_id")).strip("'")
            assert comm_id in {m["content"]["comm_id"] for m in opened}
            data = {"method": "update", "state": {"value": 7}, "buffer_paths": []}
            channel.message("comm_msg", {"comm_id": comm_id, "data": data})
            assert await channel.execute("seen") == "[7]"
        finally:
            await server.stop()

    asyncio.run(scenario())
