"""Objects are created once, though answers get lost.

A POST without an answer may have been carried out. So it is repeated, and every object has a token
of its own creation: if it exists by then, the token tells whether that was us. What may have been
created although its creation failed is looked for later, and removed.
"""

from __future__ import annotations

import asyncio
import logging
import random
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

import msgspec

from ...errors import ApiUnreachable, ElasticError
from .api import KubeApi
from .manifests import label
from .objects import Meta
from .problems import ApiBusy, ApiConflict, ApiNotFound

LOOKS = (1.0, 5.0, 15.0, 60.0, 120.0)
"""Seconds before each look for what may have been created; the API may still be at it."""
ABSENT = 2
"""How many looks in vain mean that nothing was created."""


class _Made(msgspec.Struct):
    metadata: Meta = Meta()


class Creator:
    """See the module.

    Parameters
    ----------
    spawn
        Carries something out in the background.
    """

    def __init__(
        self,
        api: KubeApi,
        spawn: Callable[[Coroutine[Any, Any, None]], None],
        log: logging.Logger,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        rand: Callable[[], float] = random.random,
    ) -> None:
        self._api = api
        self._spawn = spawn
        self._log = log
        self._sleep, self._rand = sleep, rand

    async def create(
        self, path: str, body: Mapping[str, Any], *, exists: type[ElasticError] | None = None
    ) -> bytes:
        """Create an object that nobody else may have created; the API's answer.

        Parameters
        ----------
        path
            The collection. We may read and delete what is in it.
        exists
            The class of the error when somebody else's object has the name.

        Raises
        ------
        ApiConflict
            It exists, and is somebody else's.
        ElasticError
            See :meth:`.KubeApi.request`. Nothing is left, or will be soon.
        """
        token = uuid.uuid4().hex
        metadata = dict(body["metadata"])
        metadata["annotations"] = {**metadata.get("annotations", {}), label("token"): token}
        one = f"{path}/{metadata['name']}"
        try:
            return await self._once(path, {**body, "metadata": metadata}, one, token)
        except ApiConflict as error:
            if error.exists and exists is not None:
                raise exists(error.message) from error
            raise
        except (ElasticError, asyncio.CancelledError) as error:
            if _is_open(error):
                self._spawn(self._take_back(one, token))
            raise

    async def ensure(self, path: str, body: Mapping[str, Any]) -> None:
        """Have an object of this name; whoever created it made it as we would.

        Raises
        ------
        ElasticError
            See :meth:`.KubeApi.request`.
        """
        try:
            await self._api.request("POST", path, body=body, repeat=True)
        except ApiConflict as error:
            if not error.exists:
                raise
            self._log.debug("%s is there already.", body["metadata"]["name"])

    # -- inside ----------------------------------------------------------------------------

    async def _once(self, path: str, body: Mapping[str, Any], one: str, token: str) -> bytes:
        try:
            return await self._api.request("POST", path, body=body, repeat=True)
        except ApiConflict as error:
            if error.exists and error.retried:
                found = await self._api.request("GET", one)
                if _token(found) == token:
                    return found
            raise

    async def _take_back(self, one: str, token: str) -> None:
        absent = 0
        for pause in LOOKS:
            await self._sleep(pause * (0.5 + self._rand()))
            try:
                found = await self._api.request("GET", one)
                if _token(found) != token:
                    return
                uid = msgspec.json.decode(found, type=_Made).metadata.uid
                await self._api.request("DELETE", one, body={"preconditions": {"uid": uid}})
            except ApiNotFound:
                absent += 1
                if absent == ABSENT:
                    return
            except ElasticError as error:
                self._log.debug("%s is not taken back yet: %s", one, error)
            else:
                self._log.info("%s was created without an answer, and is taken back.", one)
                return
        self._log.warning("Whether %s was created is not known; it is left as it is.", one)


def _token(answer: bytes) -> str:
    return msgspec.json.decode(answer, type=_Made).metadata.annotations.get(label("token"), "")


def _is_open(error: BaseException) -> bool:
    """Whether a creation that failed so may have been carried out."""
    if isinstance(error, ApiBusy):
        return error.code >= 500
    return isinstance(error, (ApiUnreachable, asyncio.CancelledError))
