"""Requests to the Kubernetes API: bytes in and out, a budget, retries, errors a user can read.

Bodies are encoded by msgspec and answers stay bytes, so that each caller decodes only what it
needs. The official client gives address and credentials (:mod:`.connection`); requests go over
our own connections, because its own are made for its models.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import logging
import math
import random
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Any

import msgspec

from ...errors import ApiUnreachable, ElasticError, Forbidden, Unsupported
from ...waits import within
from . import problems
from .connection import INSTALL, Connection
from .target import Target, target
from .transport import Budget, Sleep, lines, session

try:
    import aiohttp
except ModuleNotFoundError:  # an optional extra; KubeApi.connect says so
    aiohttp = None  # type: ignore[assignment]

_LOG = logging.getLogger(__name__)

MERGE_PATCH = "application/merge-patch+json"
METADATA_LIST = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"

POOL = 128
"""Requests under way at once; more wait for a connection."""

SETTLES = 10.0
"""Seconds after an outage in which a refusal is asked again: an API server that starts answers
before it has read who may do what."""
CONNECT_TIMEOUT = 5.0
LONGEST_WAIT = 5.0
"""Seconds between two attempts, at most, unless the API asks for more."""

RETRY_AFTER_CAP = 60.0
WATCH_SECONDS = 300.0
"""How long a watch may last when its query does not say."""


class KubeApi:
    """One API server and one namespace. Belongs to the loop that called :meth:`connect`.

    Attributes
    ----------
    namespace
        The namespace of this installation.
    in_cluster
        Whether this process runs in a pod of that cluster.
    requests
        How many requests were sent, by (verb, resource) as RBAC names them; retries count.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        qps: float = 50.0,
        burst: int = 100,
        clock: Callable[[], float] = time.monotonic,
        sleep: Sleep = asyncio.sleep,
        rand: Callable[[], float] = random.random,
    ) -> None:
        self.namespace = connection.namespace
        self.in_cluster = connection.in_cluster
        self.requests: Counter[tuple[str, str]] = Counter()
        self._connection = connection
        self._clock, self._sleep, self._rand = clock, sleep, rand
        self._budget = Budget(qps, burst, clock=clock, sleep=sleep)
        self._broken_at = -math.inf
        """When the connection failed last."""
        # Streams last; were they of the same pool, they could leave none for requests.
        self._session, self._streams = session(POOL), session(0)
        self._is_borrowed = False

    @classmethod
    async def connect(
        cls,
        *,
        kubeconfig: str = "",
        context: str = "",
        namespace: str = "",
        qps: float = 50.0,
        burst: int = 100,
    ) -> KubeApi:
        """Find the cluster and load credentials; see :meth:`.Connection.load`. Sends nothing.

        Raises
        ------
        Unsupported
            The Kubernetes client is not installed, or no usable configuration was found.
        """
        if aiohttp is None:
            raise Unsupported("The Kubernetes client is not installed.", INSTALL)
        found = await Connection.load(kubeconfig=kubeconfig, context=context, namespace=namespace)
        return cls(found, qps=qps, burst=burst)

    async def close(self) -> None:
        """End all connections; requests under way fail, and so do later ones. Idempotent.

        What :meth:`within` gave only borrows them, and leaves them to their owner.
        """
        if self._is_borrowed:
            return
        await self._session.close()
        await self._streams.close()

    def within(self, namespace: str, *, qps: float | None = None) -> KubeApi:
        """The same API server by the same connections, in another namespace.

        By the same budget as well, unless ``qps`` gives it one of its own.
        """
        other = copy.copy(self)
        other.namespace, other._is_borrowed = namespace, True
        if qps is not None:
            other._budget = Budget(qps, int(2 * qps), clock=self._clock, sleep=self._sleep)
        return other

    @property
    def server(self) -> str:
        """The base address of the API, for people."""
        return self._connection.host

    def path(self, resource: str, name: str = "", sub: str = "", *, api: str = "v1") -> str:
        """The path of a resource in our namespace; ``api`` is ``v1`` or ``group/version``."""
        root = f"/apis/{api}" if "/" in api else f"/api/{api}"
        parts = (root, "namespaces", self.namespace, resource, name, sub)
        return "/".join(part for part in parts if part)

    # -- requests --------------------------------------------------------------------------

    async def request(
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        content_type: str = "application/json",
        query: Mapping[str, str] | None = None,
        timeout: float = 30.0,
        accept: str = "application/json",
        exists: type[ElasticError] | None = None,
        repeat: bool = False,
    ) -> bytes:
        """Send a request and return the answer's body.

        Refusals for overload (429) are repeated, and so are failures of the connection or the
        server, where that is safe: reads, deletes, writes that carry a ``resourceVersion``, and
        whatever surely did not reach the API. A :class:`~.problems.ApiConflict` whose
        ``retried`` is true may be a conflict with an earlier attempt of the same request.

        Parameters
        ----------
        body
            What msgspec can encode; bytes are sent as they are.
        timeout
            Seconds for all attempts together; waiting for the budget is not counted.
        accept
            The form of the answer, for instance :data:`METADATA_LIST`.
        exists
            The class of the error when an object of this name exists already.
        repeat
            Whether a write is safe to repeat although nothing in it says so: the caller knows its
            own earlier attempt when it meets it (:mod:`.creation`).

        Raises
        ------
        ApiUnreachable
            No answer in time.
        ElasticError
            See :func:`.problems.explain`.
        """
        about = target(method, path, query)
        data = body if body is None or isinstance(body, bytes) else msgspec.json.encode(body)
        headers = {"Accept": accept}
        if data is not None:
            headers["Content-Type"] = content_type
        safe = (
            repeat
            or method in ("GET", "HEAD", "DELETE")
            or (method in ("PUT", "PATCH") and _versioned(data))
        )
        spent, attempt, reloaded, lost = 0.0, 0, False, False
        while True:
            await self._admit(about)
            generation, started = self._connection.generation, self._clock()
            # A connection may have died unnoticed: leave time for another attempt.
            left = min(timeout - spent, timeout / 2) if safe else timeout - spent
            wait: float | None = None
            try:
                code, answered, answer = await self._attempt(
                    method, path, query, data, headers, left
                )
            except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
                reached = not isinstance(
                    error, (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
                )
                lost = lost or reached
                again = (safe or not reached) and not isinstance(error, aiohttp.ClientSSLError)
                failure: ElasticError = self._unreachable(about, error, timeout)
                failure.__cause__ = error
                self._broken_at = self._clock()
            else:
                if code < 300:
                    return answer
                if code == 401 and not reloaded:
                    reloaded = True
                    await self._connection.reload(generation)
                    continue
                wait = _retry_after(answered)
                lost = lost or code >= 500  # whoever answers may not know what became of it
                failure = _explain(code, answer, about, wait, exists)
                again = _repeatable(code, failure, safe, attempt)
                if isinstance(failure, Forbidden) and self._clock() < self._broken_at + SETTLES:
                    again = True  # nothing was done
            spent += self._clock() - started
            attempt += 1
            delay = self._delay(attempt, wait)
            if not again or spent + delay >= timeout:
                if isinstance(failure, problems.ApiConflict):
                    # aiohttp itself repeats a PUT whose connection broke, and does not tell.
                    failure.retried = lost or method == "PUT"
                raise failure
            _LOG.debug("%s %s is repeated in %.1f s: %s", method, path, delay, failure)
            spent += delay
            await self._sleep(delay)

    async def watch(
        self,
        path: str,
        query: Mapping[str, str] | None = None,
        *,
        opened: Callable[[], None] | None = None,
    ) -> AsyncGenerator[bytes, None]:
        """The lines of a watch, one JSON event each; ends when the server ends it.

        Close the generator (:func:`contextlib.aclosing`) to end the watch. Not repeated: whoever
        watches knows from where to go on.

        Parameters
        ----------
        opened
            Called once the API has accepted the watch; the first event may be long in coming.

        Raises
        ------
        ApiUnreachable
            The connection could not be made or was cut off. Half a line is dropped.
        ElasticError
            See :func:`.problems.explain`.
        """
        query = {**(query or {}), "watch": "1"}
        about = target("GET", path, query)
        seconds = float(query.get("timeoutSeconds") or WATCH_SECONDS) + 30
        timeout = aiohttp.ClientTimeout(total=seconds, sock_connect=CONNECT_TIMEOUT)
        try:
            for last in (False, True):
                await self._admit(about)
                generation = self._connection.generation
                async with self._streams.get(
                    self._connection.host + path,
                    params=query,
                    headers=await self._connection.headers(),
                    timeout=timeout,
                    allow_redirects=False,
                    **self._transport(),
                ) as response:
                    if response.status == 401 and not last:
                        await self._connection.reload(generation)
                        continue
                    if response.status != 200:
                        wait = _retry_after(response.headers)
                        raise _explain(response.status, await response.read(), about, wait)
                    if opened is not None:
                        opened()
                    async with contextlib.aclosing(lines(response.content.iter_any())) as whole:
                        async for line in whole:
                            yield line
                    return
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
            self._broken_at = self._clock()
            raise self._unreachable(about, error, seconds) from error

    async def websocket(
        self, path: str, query: Mapping[str, str] | None, protocols: Sequence[str]
    ) -> aiohttp.ClientWebSocketResponse:
        """Open a websocket; the caller closes it.

        Raises
        ------
        ApiUnreachable
            The connection could not be made in time.
        ElasticError
            See :func:`.problems.explain`.
        """
        about = target("POST", path, query)
        for last in (False, True):
            await self._admit(about)
            generation = self._connection.generation
            try:
                return await within(
                    self._handshake(path, query or {}, protocols), 4 * CONNECT_TIMEOUT
                )
            except aiohttp.WSServerHandshakeError as error:
                if error.status == 401 and not last:
                    await self._connection.reload(generation)
                    continue
                raise _no_websocket(error.status, about) from error
            except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
                raise self._unreachable(about, error, 4 * CONNECT_TIMEOUT) from error
        raise AssertionError("unreachable")

    # -- inside ----------------------------------------------------------------------------

    async def _admit(self, about: Target) -> None:
        await self._budget.take()
        if self._session.closed:
            raise ApiUnreachable("The connection to the Kubernetes API was closed.")
        self.requests[about.verb, about.resource] += 1

    async def _attempt(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        data: bytes | None,
        headers: dict[str, str],
        timeout: float,
    ) -> tuple[int, Mapping[str, str], bytes]:
        async with self._session.request(
            method,
            self._connection.host + path,
            params=query or {},
            data=data,
            headers={**headers, **await self._connection.headers()},
            timeout=aiohttp.ClientTimeout(total=timeout, sock_connect=CONNECT_TIMEOUT),
            # A gateway's page to log in must not pass for an answer.
            allow_redirects=False,
            **self._transport(),
        ) as response:
            return response.status, response.headers, await response.read()

    async def _handshake(
        self, path: str, query: Mapping[str, str], protocols: Sequence[str]
    ) -> aiohttp.ClientWebSocketResponse:
        opening: Any = self._streams.ws_connect(
            self._connection.host + path,
            params=query,
            headers=await self._connection.headers(),
            protocols=protocols,
            max_msg_size=0,
            **self._transport(),
        )
        opened: aiohttp.ClientWebSocketResponse = await opening
        return opened

    def _transport(self) -> dict[str, Any]:
        """Per request, since credentials that are loaded anew may bring other certificates."""
        one = self._connection
        return {
            "ssl": one.ssl,
            "server_hostname": one.server_hostname,
            "proxy": one.proxy,
            "proxy_headers": one.proxy_headers,
        }

    def _delay(self, attempt: int, wait: float | None) -> float:
        delay = min(LONGEST_WAIT, 0.1 * 2.0 ** min(attempt - 1, 10)) * (0.5 + self._rand())
        return delay if wait is None else min(wait, RETRY_AFTER_CAP) + delay

    def _unreachable(self, about: Target, error: BaseException, timeout: float) -> ApiUnreachable:
        what = f"{about.verb} {about.resource}"
        where = f"The Kubernetes API at {self._connection.host}"
        if isinstance(error, aiohttp.ClientSSLError):
            return ApiUnreachable(
                f"{where} cannot be trusted: {error}.",
                "Check the certificate authority of the kubeconfig; kernels run on.",
            )
        if isinstance(error, asyncio.TimeoutError):
            return ApiUnreachable(f"{where} did not answer {what} within {timeout:g} s.")
        if isinstance(error, (aiohttp.ClientPayloadError, aiohttp.ServerDisconnectedError)):
            return ApiUnreachable(f"{where} broke off the connection during {what}.")
        return ApiUnreachable(
            f"{where} cannot be reached for {what}: {str(error) or type(error).__name__}."
        )


class _Version(msgspec.Struct, frozen=True, rename="camel"):
    resource_version: str = ""


class _Versioned(msgspec.Struct):
    metadata: _Version = _Version()


def _versioned(data: bytes | None) -> bool:
    """Whether a write changes nothing when it is applied twice."""
    if data is None:
        return False
    try:
        return bool(msgspec.json.decode(data, type=_Versioned).metadata.resource_version)
    except msgspec.MsgspecError:
        return False


def _explain(
    code: int,
    answer: bytes,
    about: Target,
    wait: float | None,
    exists: type[ElasticError] | None = None,
) -> ElasticError:
    try:
        status = msgspec.json.decode(answer, type=dict[str, Any])
    except msgspec.MsgspecError:
        status = {"message": answer[:500].decode(errors="replace")}
    return problems.explain(
        code,
        status,
        about.verb,
        about.resource,
        about.name,
        group=about.group,
        namespace=about.namespace,
        retry_after=wait,
        exists=exists,
    )


def _no_websocket(code: int, about: Target) -> ElasticError:
    # A failed handshake does not show the answer's body.
    if code == 403:
        return Forbidden(
            f"This server may not open {about.resource} in namespace {about.namespace}.",
            f"Ask an administrator for the verbs `get` and `create` on `{about.resource}`.",
        )
    status: dict[str, Any] = {"message": "no websocket was opened"}
    if code == 404:
        status["details"] = {"name": about.name}
    return problems.explain(
        code, status, about.verb, about.resource, about.name, namespace=about.namespace
    )


def _repeatable(code: int, failure: ElasticError, safe: bool, attempt: int) -> bool:
    answer = problems.api_error(failure)
    if code == 409:
        # Many creations at once stumble over the quota's own version; nothing was created.
        return answer is not None and answer.details.get("kind") == "resourcequotas"
    # An internal error seldom goes away: do not let the user wait for it.
    return code == 429 or (safe and (code in (502, 503, 504) or (code == 500 and attempt < 2)))


def _retry_after(headers: Mapping[str, str]) -> float | None:
    try:
        seconds = float(headers.get("Retry-After", ""))
    except ValueError:  # none, or a date, which the API never sends
        return None
    return seconds if seconds >= 0 else None
