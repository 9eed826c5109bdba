"""The ConfigMap with the agent's code, which every pod mounts: made, and made again.

It is in nobody's hands: whoever tidies up a namespace may delete it, and then pods wait for it as
long as it does not come back.
"""

from __future__ import annotations

import asyncio
import functools
import math
import time
from collections.abc import Callable
from typing import Any

from ...agent import pack
from . import manifests
from .api import KubeApi
from .creation import Creator

TRUSTED = 30.0
"""Seconds for which it is believed to be there, once it was."""


@functools.cache
def _body() -> dict[str, Any]:
    """The same in each namespace; packing takes its time, in which the loop waits."""
    return manifests.make_agent_map(pack.build())


class AgentMap:
    """See the module."""

    def __init__(
        self, api: KubeApi, creator: Creator, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._api = api
        self._creator = creator
        self._clock = clock
        self._lock = asyncio.Lock()
        self._body: dict[str, Any] = {}
        self._seen = -math.inf

    async def ensure(self, trusted: float = TRUSTED) -> str:
        """Have it in the namespace, and return its name, which follows from its content.

        Parameters
        ----------
        trusted
            Asks nobody when it was there so many seconds ago.

        Raises
        ------
        ElasticError
            It could not be made.
        """
        async with self._lock:
            if not self._body:
                self._body = _body()
            if self._clock() - self._seen >= trusted:
                await self._creator.ensure(self._api.path("configmaps"), self._body)
                self._seen = self._clock()
            name: str = self._body["metadata"]["name"]
            return name
