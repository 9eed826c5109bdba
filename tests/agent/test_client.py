"""The agent notices the end of the process that a kernel belongs to."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from jupyter_elastic.agent import client, processes


@pytest.fixture(params=["pidfd", "polling"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How the end is noticed; systems without pidfd are polled."""
    if request.param == "polling":
        monkeypatch.delattr(os, "pidfd_open", raising=False)
        monkeypatch.setattr(client, "LOOK_EVERY", 0.02)
    elif not hasattr(os, "pidfd_open"):
        pytest.skip("this Python has no pidfd_open")
    return str(request.param)


@pytest.fixture
def program() -> Iterator[subprocess.Popen[bytes]]:
    """Something that runs until it is ended."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.usefixtures("way")
def test_it_waits_until_the_process_ends(program: subprocess.Popen[bytes]) -> None:
    ticks = processes.start_ticks(program.pid)

    async def scenario() -> None:
        watch = asyncio.ensure_future(client.gone(program.pid, ticks))
        await asyncio.sleep(0.1)
        assert not watch.done()
        program.kill()  # and nobody reaps it: a zombie has ended, too
        await asyncio.wait_for(watch, 60)

    asyncio.run(scenario())


@pytest.mark.usefixtures("way")
def test_a_later_process_of_the_same_pid_is_another_one(program: subprocess.Popen[bytes]) -> None:
    earlier = processes.start_ticks(program.pid) - 1
    asyncio.run(asyncio.wait_for(client.gone(program.pid, earlier), 60))
    assert program.poll() is None  # it was not waited for, and is left alone


@pytest.mark.usefixtures("way")
def test_a_process_that_is_gone_already(program: subprocess.Popen[bytes]) -> None:
    ticks = processes.start_ticks(program.pid)
    program.kill()
    program.wait()

    async def scenario() -> None:
        before = os.listdir("/proc/self/fd")
        await asyncio.wait_for(client.gone(program.pid, ticks), 60)
        assert os.listdir("/proc/self/fd") == before

    asyncio.run(scenario())


@pytest.mark.usefixtures("way")
def test_a_watch_that_is_cancelled_leaves_no_descriptor(program: subprocess.Popen[bytes]) -> None:
    ticks = processes.start_ticks(program.pid)

    async def scenario() -> None:
        before = len(os.listdir("/proc/self/fd"))
        watch = asyncio.ensure_future(client.gone(program.pid, ticks))
        await asyncio.sleep(0.05)
        watch.cancel()
        await asyncio.gather(watch, return_exceptions=True)
        assert len(os.listdir("/proc/self/fd")) == before

    asyncio.run(scenario())
