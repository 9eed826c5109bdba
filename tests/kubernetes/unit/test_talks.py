"""Ways to pods stay as long as the pods do."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from jupyter_elastic.cluster.kubernetes.fate import pod_from_object
from jupyter_elastic.cluster.kubernetes.objects import PodObject
from jupyter_elastic.cluster.kubernetes.talks import Talks
from jupyter_elastic.errors import Forbidden
from jupyter_elastic.model import Pod

from .fakeapi import connected, until
from .objects import ended, pod, running


class Tunnels:
    """Notes what it is asked for."""

    on_refused: Callable[[str, Forbidden], None]

    def __init__(self) -> None:
        self.did: list[str] = []

    async def local_port(self, pod: str, port: int) -> int:
        return port

    def retry(self, pod: str) -> None:
        self.did.append("retry")

    async def rejoined(self, pod: str) -> None:
        self.did.append("rejoin")

    async def close_pod(self, pod: str) -> None:
        self.did.append("close")


class World:
    def __init__(self, talks: Talks, tunnels: Tunnels, shown: dict[str, Pod]) -> None:
        self.tunnels, self._talks, self._shown = tunnels, talks, shown

    def shows(self, obj: PodObject | None) -> None:
        if obj is None:
            del self._shown["p"]
        else:
            self._shown["p"] = pod_from_object(obj)
        self._talks.follow("p")


@contextlib.asynccontextmanager
async def world(folder: Path) -> AsyncIterator[World]:
    async with connected(folder) as (_, api):
        tunnels, shown = Tunnels(), dict[str, Pod]()
        talks = Talks(api, shown.get, tunnels, logging.getLogger("test"))
        try:
            yield World(talks, tunnels, shown)
        finally:
            await talks.close()


async def test_ports_stay_while_a_container_is_started_again(tmp_path: Path) -> None:
    """A notebook's connection file names them, and is not written again."""
    async with world(tmp_path) as it:
        it.shows(pod())
        it.tunnels.did.clear()
        it.shows(pod(container=ended()))
        it.shows(pod(container=running(1, {"exitCode": 137})))
        it.shows(pod(container=running(1, {"exitCode": 137}), annotations={"version": "8"}))
        assert it.tunnels.did == ["retry"]  # at once, when there is an agent again


async def test_ports_are_closed_with_their_pod(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        it.shows(pod())
        it.tunnels.did.clear()
        it.shows(pod(metadata={"deletionTimestamp": "2026-01-01T00:01:00Z"}))
        await until(lambda: it.tunnels.did == ["close"], "its ways are closed")
        it.shows(None)
        await until(lambda: it.tunnels.did == ["close", "close"], "and closed for good")
