"""Several tabs and several servers of one owner on one kernel; other owners see nothing of it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tornado.httpclient import HTTPClientError

from benchmarks.server import Channel, Server, start_server

from .tools import (
    MIB,
    Cell,
    agent_of,
    config,
    eventually,
    kernel,
    kill,
    phase,
    processes_of,
    start,
)


def test_two_tabs_share_variables_and_output(home: Path) -> None:
    """Two websockets on one kernel: both see the output of a cell that one of them sent."""

    async def scenario() -> None:
        server = await start_server(home, config())
        try:
            kernel_id = await start(server)
            one, two = await server.connect(kernel_id), await server.connect(kernel_id)
            watching = Cell(two, "y = 2")
            await watching.done()
            cell = Cell(one, "x = 1; print('from one')")
            await cell.prints("from one")
            await watching.until(
                lambda m: m["msg_type"] == "stream" and "from one" in m["content"]["text"]
            )
            assert await two.execute("x + y") == "3"
        finally:
            await server.stop()

    asyncio.run(scenario())


def test_two_servers_of_one_owner_share_a_kernel(home: Path) -> None:
    """Started in one, it appears in the other with its session; ended there, it is gone in both."""

    async def scenario() -> None:
        one = await start_server(home, config())
        two = await start_server(home, config())
        try:
            session = await one.request(
                "POST",
                "/api/sessions",
                {"path": "a.ipynb", "name": "a", "type": "notebook", "kernel": {"name": "work"}},
            )
            kernel_id = session["kernel"]["id"]

            async def seen() -> bool:
                sessions = await two.request("GET", "/api/sessions")
                return [s["id"] for s in sessions] == [session["id"]]

            await eventually(seen, "the session in the second server")
            first, second = await one.connect(kernel_id), await two.connect(kernel_id)
            assert await first.execute("x = 5; x") == "5"
            assert await second.execute("x + 1") == "6"

            # A restart by one is told to the other's browser.
            cell = Cell(second, "print('begun'); import time; time.sleep(600)")
            await cell.prints("begun")
            await one.request("POST", f"/api/kernels/{kernel_id}/restart", {})
            await cell.status("restarting")
            second = await two.connect(kernel_id)
            assert await second.execute("'x' in globals()") == "False"

            pod = (await kernel(one, kernel_id))["pod"]
            await two.request("DELETE", f"/api/kernels/{kernel_id}")

            async def gone() -> bool:
                kernels = await one.request("GET", "/api/kernels")
                sessions = await one.request("GET", "/api/sessions")
                return not kernels and not sessions and not processes_of(pod)

            await eventually(gone, "kernel and session gone in the first server")
        finally:
            await one.stop()
            await two.stop()

    asyncio.run(scenario())


def test_two_servers_restart_a_lost_kernel_at_once(home: Path) -> None:
    """One gives it a pod and the other is told so; it does not end what the first one does."""

    async def scenario() -> None:
        one = await start_server(home, config(pool=0))
        two = await start_server(home, config(pool=0))
        try:
            kernel_id = await start(one)
            for server in (one, two):
                await (await until_connected(server, kernel_id)).execute("x = 1; x")
            kill([agent_of((await kernel(one, kernel_id))["pod"])])
            for server in (one, two):
                await phase(server, kernel_id, "Failed")

            async def restart(server: Server) -> int:
                try:
                    await server.request("POST", f"/api/kernels/{kernel_id}/restart", {})
                except HTTPClientError as error:
                    return error.code
                return 200

            statuses = set(await asyncio.gather(restart(one), restart(two)))
            assert 200 in statuses
            assert statuses <= {200, 409}
            for server in (one, two):
                await phase(server, kernel_id, "Running")
                channel = await until_connected(server, kernel_id)
                assert await channel.execute("'x' in globals()") == "False"
        finally:
            await one.stop()
            await two.stop()

    asyncio.run(scenario())


async def until_connected(server: Server, kernel_id: str) -> Channel:
    """A websocket to a kernel, once the server knows it."""

    async def connected() -> Channel | None:
        try:
            return await server.connect(kernel_id)
        except HTTPClientError as error:
            if error.code != 404:
                raise
            return None

    channel: Channel = await eventually(connected, "a websocket")
    return channel


def test_resize_by_one_server_is_seen_by_the_other(home: Path) -> None:
    """The record is the cluster's, not a server's."""

    async def scenario() -> None:
        one = await start_server(home, config())
        two = await start_server(home, config())
        try:
            kernel_id = await start(one)
            await two.request(
                "PATCH", f"/elastic/api/kernels/{kernel_id}", {"resources": {"memory": "384Mi"}}
            )

            async def seen() -> bool:
                view = await kernel(one, kernel_id)
                return bool(view["actual"]["memory"] == "384Mi")

            await eventually(seen, "the new size in the first server")
            view = await kernel(one, kernel_id)
            assert view["resources"]["memory"] == "384Mi"
            assert view["resize"]["state"] == "Done"
            usage = await one.request("GET", f"/elastic/api/kernels/{kernel_id}/usage")
            assert usage["memory_limit"] == 384 * MIB
        finally:
            await one.stop()
            await two.stop()

    asyncio.run(scenario())


def test_other_owners_see_and_reach_nothing(home: Path) -> None:
    """A server of another owner on the same directory: 404, and nothing in Jupyter's own lists."""

    async def scenario() -> None:
        one = await start_server(home, config(extra="c.ElasticKernels.owner = 'ada'"))
        two = await start_server(home, config(extra="c.ElasticKernels.owner = 'bob'"))
        try:
            kernel_id = await start(one)
            assert (await kernel(one, kernel_id))["owner"] == "ada"
            assert await two.request("GET", "/elastic/api/kernels") == {"kernels": []}
            assert await two.request("GET", "/api/kernels") == []
            for method, path, body in (
                ("GET", "", None),
                ("DELETE", "", None),
                ("PATCH", "", {"name": "mine"}),
                ("GET", "/usage", None),
                ("GET", "/progress", None),
                ("POST", "/keepalive", {}),
            ):
                with pytest.raises(HTTPClientError) as caught:
                    await two.request(method, f"/elastic/api/kernels/{kernel_id}{path}", body)
                assert caught.value.code == 404, (method, path)
            assert (await kernel(one, kernel_id))["name"] == ""
        finally:
            await one.stop()
            await two.stop()

    asyncio.run(scenario())


def test_the_pool_is_kept_by_one_and_taken_over(home: Path) -> None:
    """Two servers, one target: no pod too many; the second takes over when the first ends."""

    async def scenario() -> None:
        one = await start_server(home, config(pool=2))
        two = await start_server(home, config(pool=2))
        try:

            async def full() -> bool:
                pool = await two.request("GET", "/elastic/api/pool")
                return bool(pool["templates"][0]["warm"] == 2)

            await eventually(full, "two warm pods", 120)

            async def both() -> bool:
                return len((await one.request("GET", "/elastic/api/pool"))["pods"]) == 2

            await eventually(both, "the other server sees them, and no more")
            leaders = [
                (await s.request("GET", "/elastic/api/pool"))["controller"] for s in (one, two)
            ]
            assert sorted(leaders) == [False, True]
            await (one if leaders[0] else two).stop()
            survivor = two if leaders[0] else one

            async def leads() -> bool:
                return bool((await survivor.request("GET", "/elastic/api/pool"))["controller"])

            await eventually(leads, "the other server keeps the pool")
            assert len((await survivor.request("GET", "/elastic/api/pool"))["pods"]) == 2
        finally:
            await one.stop()
            await two.stop()

    asyncio.run(scenario())
