"""A whole collection of the Kubernetes API, page by page.

Thousands of objects are decoded in milliseconds because only what a struct names is looked at. An
object that does not fit its struct (written by somebody with another version) is left out and
told, and does not keep us from the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Generic, Protocol, TypeVar

import msgspec

from . import problems
from .api import METADATA_LIST
from .cache import T
from .objects import Meta

PAGE = 500
"""Objects per page; one is decoded in about 5 ms."""

Item = TypeVar("Item")


class Api(Protocol):
    """What a reflector needs of :class:`.api.KubeApi`."""

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        accept: str = "application/json",
    ) -> bytes:
        """See :meth:`.api.KubeApi.request`."""

    def watch(
        self,
        path: str,
        query: Mapping[str, str] | None = None,
        *,
        opened: Callable[[], None] | None = None,
    ) -> AsyncGenerator[bytes, None]:
        """See :meth:`.api.KubeApi.watch`."""


class _ListMeta(msgspec.Struct, frozen=True, rename="camel"):
    resource_version: str = ""
    continue_: str = msgspec.field(name="continue", default="")


class _Page(msgspec.Struct, Generic[Item]):
    metadata: _ListMeta = _ListMeta()
    items: list[Item] | None = None


class _Bare(msgspec.Struct):
    """As much of any object as tells which one it is."""

    metadata: Meta = Meta()


class Listed(msgspec.Struct, Generic[Item]):
    """A snapshot: the objects, the uids of those that cannot be read, and its version."""

    items: list[Item]
    unread: set[str]
    version: str


_BARE = msgspec.json.Decoder(_Bare)
_RAW_PAGE = msgspec.json.Decoder(_Page[msgspec.Raw])
_BARE_PAGE = msgspec.json.Decoder(_Page[_Bare])


class Listing(Generic[T]):
    """Reads the objects under one path.

    Parameters
    ----------
    type
        A msgspec struct with ``metadata``.
    query
        ``labelSelector`` and ``fieldSelector``.
    cannot_read
        Called for each object that does not fit ``type``.
    """

    def __init__(
        self,
        api: Api,
        path: str,
        type: type[T],
        query: Mapping[str, str],
        cannot_read: Callable[[Meta, Exception], None],
    ) -> None:
        self._api, self._path, self._query = api, path, query
        self._cannot_read = cannot_read
        self._decoder = msgspec.json.Decoder(type)
        self._page_decoder: msgspec.json.Decoder[_Page[T]] = msgspec.json.Decoder(
            _Page[type]  # type: ignore[valid-type]
        )

    async def objects(self) -> Listed[T]:
        """All of them.

        Raises
        ------
        ElasticError
            See :meth:`.api.KubeApi.request`.
        """
        seen: Listed[T] = Listed([], set(), "")

        def read(body: bytes) -> _ListMeta:
            page = self._read(body, seen.unread)
            seen.items.extend(page.items or ())
            return page.metadata

        seen.version = await self._pages(read, "application/json", seen.items.clear)
        return seen

    async def metadata(self) -> tuple[list[Meta], str]:
        """What is there, without what is in it, and the snapshot's version.

        Raises
        ------
        ElasticError
            See :meth:`.api.KubeApi.request`.
        """
        seen: list[Meta] = []

        def read(body: bytes) -> _ListMeta:
            page = _BARE_PAGE.decode(body)
            seen.extend(one.metadata for one in page.items or ())
            return page.metadata

        return seen, await self._pages(read, METADATA_LIST, seen.clear)

    def decode(self, raw: msgspec.Raw) -> T | None:
        """One object; None when it does not fit."""
        try:
            return self._decoder.decode(raw)
        except msgspec.MsgspecError as error:
            self._cannot_read(meta_of(raw), error)
            return None

    # -- inside ----------------------------------------------------------------------------

    async def _pages(
        self, read: Callable[[bytes], _ListMeta], accept: str, restart: Callable[[], None]
    ) -> str:
        """Hand every page to ``read``; returns the version of the snapshot."""
        # The API may forget a snapshot while it is being paged: once more, then all at once.
        for limit in (PAGE, PAGE, 0):
            query = {**self._query, "limit": str(limit)} if limit else dict(self._query)
            restart()
            try:
                while True:
                    body = await self._api.request("GET", self._path, query=query, accept=accept)
                    try:
                        meta = read(body)
                    except msgspec.MsgspecError as error:
                        raise self._no_list(str(error)) from error
                    if not meta.resource_version:
                        # Whatever this is, it does not mean that nothing is there any more.
                        raise self._no_list("it is no list")
                    if not meta.continue_:
                        return meta.resource_version
                    query["continue"] = meta.continue_
                    await asyncio.sleep(0)
            except problems.ResourceExpired:
                if not limit:
                    raise
        raise AssertionError("unreachable")

    def _no_list(self, why: str) -> problems.ApiError:
        return problems.ApiError(
            f"What the Kubernetes API answers for {self._path} cannot be read: {why}.", code=200
        )

    def _read(self, body: bytes, unread: set[str]) -> _Page[T]:
        try:
            return self._page_decoder.decode(body)
        except msgspec.ValidationError:
            pass
        # Some object in it does not fit: take the others.
        raw = _RAW_PAGE.decode(body)
        items = []
        for one in raw.items or ():
            item = self.decode(one)
            if item is None:
                unread.add(meta_of(one).uid)
            else:
                items.append(item)
        return _Page(raw.metadata, items)


def meta_of(raw: msgspec.Raw) -> Meta:
    """The metadata of any object; empty when it has none."""
    try:
        return _BARE.decode(raw).metadata
    except msgspec.MsgspecError:
        return Meta()
