"""Conversations with agents, and the ways to pods: direct, or through the API server.

One conversation per pod, made of the pod's address and the client key in its Secret. The key is
fetched once; whoever created the pod has it already.
"""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import Callable
from typing import Any, Protocol
from urllib.parse import urlsplit

import msgspec
import zmq.asyncio

from ...errors import Forbidden, Gone
from ...model import AgentAddress, Pod, PodPhase
from ..client import AgentClient
from .api import KubeApi
from .manifests import AGENT_PORT, KERNEL_PORTS
from .problems import ApiNotFound

MOST_KEYS = 1000
"""Keys kept of pods that are not spoken with yet."""


class ClientKeys(msgspec.Struct, frozen=True):
    """``client.json`` of a pod's Secret."""

    public_key: str
    secret_key: str


class _Secret(msgspec.Struct):
    data: dict[str, str] = {}


class Tunnels(Protocol):
    """What :class:`.portforward.PortForwards` does."""

    on_refused: Callable[[str, Forbidden], None]
    """Called with a pod's name when it may not be reached."""

    async def local_port(self, pod: str, port: int) -> int:
        """A port of this machine that leads to one of the pod's."""

    def retry(self, pod: str) -> None:
        """Something may answer in a pod where nothing did."""

    async def rejoined(self, pod: str) -> None:
        """Return once clients that want to be connected to a pod are; within seconds."""

    async def close_pod(self, pod: str) -> None:
        """Close what leads to a pod."""


class Talks:
    """See the module. Belongs to the running loop.

    Parameters
    ----------
    find
        Returns the pod of a name as it is now, or None.
    tunnels
        None: pods are reached by their addresses.
    context
        One that others use as well; by default one of our own.
    """

    def __init__(
        self,
        api: KubeApi,
        find: Callable[[str], Pod | None],
        tunnels: Tunnels | None,
        log: logging.Logger,
        context: zmq.asyncio.Context | None = None,
    ) -> None:
        self._api = api
        self._find = find
        self._tunnels = tunnels
        if tunnels is not None:
            tunnels.on_refused = self._refused
        self._log = log
        self._context = context or zmq.asyncio.Context()
        self._shares_context = context is not None
        self._clients: dict[str, tuple[AgentAddress, AgentClient]] = {}
        self._keys: dict[str, ClientKeys] = {}
        self._addresses: dict[str, AgentAddress] = {}
        """Of agents that may be dialled, as last seen."""
        self._fetching: dict[str, asyncio.Task[ClientKeys]] = {}
        self._chores: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """End all conversations; agents go on."""
        for _, client in self._clients.values():
            client.close()
        self._clients.clear()
        for task in (*self._fetching.values(), *self._chores):
            task.cancel()
        await asyncio.gather(*self._fetching.values(), *self._chores, return_exceptions=True)
        if not self._shares_context:
            self._context.destroy(linger=0)

    # -- keys ------------------------------------------------------------------------------

    def know(self, pod: str, keys: ClientKeys) -> None:
        """Remember the keys of a pod that we have created."""
        while len(self._keys) >= MOST_KEYS:
            del self._keys[next(iter(self._keys))]
        self._keys[pod] = keys

    async def _keys_of(self, pod: str) -> ClientKeys:
        keys = self._keys.get(pod)
        if keys is not None:
            return keys
        task = self._fetching.get(pod)
        if task is None:
            task = self._fetching[pod] = asyncio.ensure_future(self._fetch(pod))
            task.add_done_callback(lambda _: self._fetching.pop(pod, None))
        return await asyncio.shield(task)

    async def _fetch(self, pod: str) -> ClientKeys:
        try:
            answer = await self._api.request("GET", self._api.path("secrets", pod))
        except ApiNotFound:
            raise Gone(f"Pod {pod} is gone.") from None
        data = msgspec.json.decode(answer, type=_Secret).data.get("client.json", "")
        keys = msgspec.json.decode(base64.b64decode(data), type=ClientKeys)
        self.know(pod, keys)
        return keys

    def prefetch(self, pod: str) -> None:
        """Have the keys at hand for a claim that may come, so that it need not wait for them."""
        if pod not in self._keys and pod not in self._fetching:
            task = asyncio.ensure_future(self._prefetch(pod))
            self._chores.add(task)
            task.add_done_callback(self._chores.discard)

    async def _prefetch(self, pod: str) -> None:
        try:
            known = self._find(pod)
            if known is not None and known.agent is not None:
                await self.dial(known)
        except Exception as error:  # noqa: BLE001 - whoever needs the pod is told
            self._log.debug("Pod %s could not be dialled ahead: %s", pod, error)

    # -- conversations ---------------------------------------------------------------------

    async def dial(self, pod: Pod) -> AgentClient:
        """See :meth:`..base.Cluster.dial`."""
        now = self._find(pod.name)
        address = now.agent if now is not None else None
        if now is None or address is None:
            why = f" {now.message}" if now is not None and now.message else ""
            raise Gone(f"Pod {pod.name} has no agent now.{why}")
        known = self._clients.get(pod.name)
        if known is not None and known[0] == address and not known[1].closed:
            return known[1]
        keys = await self._keys_of(pod.name)
        endpoint = address.endpoint
        if self._tunnels is not None:
            port = await self._tunnels.local_port(pod.name, AGENT_PORT)
            endpoint = f"tcp://127.0.0.1:{port}"
        now = self._find(pod.name)
        if now is None or now.agent != address:
            raise Gone(f"Pod {pod.name} changed while it was dialled.")
        known = self._clients.get(pod.name)
        if known is not None:  # somebody else was as fast
            if known[0] == address and not known[1].closed:
                return known[1]
            known[1].close()
        client = AgentClient(
            self._context,
            AgentAddress(endpoint, address.public_key, address.incarnation),
            public_key=keys.public_key,
            secret_key=keys.secret_key,
            pod=pod.name,
        )
        self._clients[pod.name] = (address, client)
        return client

    def _refused(self, pod: str, error: Forbidden) -> None:
        """Nobody answers where we may not go: say so at once to whoever waits for an answer."""
        known = self._clients.pop(pod, None)
        if known is not None:
            known[1].close(error)

    def follow(self, name: str) -> None:
        """A pod changed: let go of a conversation that is over."""
        known = self._clients.get(name)
        pod = self._find(name)
        if pod is None:
            self._keys.pop(name, None)
        if self._tunnels is not None:
            self._keep_ways(self._tunnels, name, pod)
        if known is None or (pod is not None and pod.agent == known[0]):
            return
        del self._clients[name]
        if pod is None or pod.agent is None:
            known[1].close(Gone(f"Pod {name} is gone. {pod.message if pod else ''}".strip()))
        else:
            known[1].close()  # brought back in place

    def _keep_ways(self, tunnels: Tunnels, name: str, pod: Pod | None) -> None:
        """Ways to a pod stay as long as it does: clients keep the ports that they were told.

        Also while its container is started again.
        """
        if pod is None or pod.phase is PodPhase.GONE:
            self._addresses.pop(name, None)
            task = asyncio.ensure_future(tunnels.close_pod(name))
            self._chores.add(task)
            task.add_done_callback(self._chores.discard)
        elif pod.agent is not None and self._addresses.get(name) != pod.agent:
            self._addresses[name] = pod.agent
            tunnels.retry(name)

    async def reach(self, pod: Pod, connection: dict[str, Any]) -> dict[str, Any]:
        """See :meth:`..base.Cluster.reach`."""
        now = self._find(pod.name)
        if now is None or now.agent is None:
            raise Gone(f"Pod {pod.name} is gone.")
        if self._tunnels is None:
            return {**connection, "ip": urlsplit(now.agent.endpoint).hostname}
        ways = await asyncio.gather(
            *(self._tunnels.local_port(pod.name, port) for port in KERNEL_PORTS.values())
        )
        return {**connection, "ip": "127.0.0.1", **dict(zip(KERNEL_PORTS, ways, strict=True))}

    async def rejoined(self, pod: Pod) -> None:
        """See :meth:`..base.Cluster.rejoined`."""
        if self._tunnels is not None:
            await self._tunnels.rejoined(pod.name)
