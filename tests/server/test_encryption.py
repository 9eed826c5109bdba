"""The kernels' own channels: encrypted where both sides can, refused where that is required."""

from __future__ import annotations

import asyncio
import json
from importlib.metadata import version
from pathlib import Path

import pytest
from tornado.httpclient import HTTPClientError

from benchmarks.server import start_server

from .tools import config, start


def newer(package: str, wanted: tuple[int, int]) -> bool:
    return tuple(int(part) for part in version(package).split(".")[:2]) >= wanted


CAN = newer("ipykernel", (7, 3)) and newer("jupyter_client", (8, 9))


@pytest.mark.parametrize("setting", ["auto", "disabled"])
def test_channels_are_encrypted_where_both_sides_can(home: Path, setting: str) -> None:
    """The connection file says so, and cells run over it, also after a restart."""

    async def scenario() -> None:
        extra = f"c.ElasticKernels.channel_encryption = {setting!r}"
        server = await start_server(home, config(extra=extra))
        try:
            kernel_id = await start(server)
            # The record says Running a moment before this server has a client of its own.
            channel = await server.connect(kernel_id)
            file = home / "runtime" / f"kernel-{kernel_id}.json"
            assert file.stat().st_mode & 0o077 == 0
            keys = json.loads(file.read_text()).get("curve_secretkey")
            assert bool(keys) == (CAN and setting == "auto")
            assert await channel.execute("1 + 1") == "2"
            await server.request("POST", f"/api/kernels/{kernel_id}/restart", {})
            assert await (await server.connect(kernel_id)).execute("2 + 2") == "4"
            assert json.loads(file.read_text()).get("curve_secretkey") == keys
            if keys:
                assert keys not in server.log.read_text()
        finally:
            await server.stop()

    asyncio.run(scenario())


def test_required_encryption_refuses_what_cannot(home: Path) -> None:
    """With an ipykernel that can, kernels start; else a sentence says what is missing."""

    async def scenario() -> None:
        extra = "c.ElasticKernels.channel_encryption = 'required'"
        server = await start_server(home, config(extra=extra))
        try:
            if CAN:
                kernel_id = await start(server)
                assert await (await server.connect(kernel_id)).execute("1 + 1") == "2"
                return
            with pytest.raises(HTTPClientError) as caught:
                await server.request("POST", "/api/kernels", {"name": "work"})
            assert caught.value.response is not None
            assert "ipykernel 7.3" in json.loads(caught.value.response.body)["message"]
            assert await server.request("GET", "/elastic/api/kernels") == {"kernels": []}
        finally:
            await server.stop()

    asyncio.run(scenario())
