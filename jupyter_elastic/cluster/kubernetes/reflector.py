"""A collection of the Kubernetes API, kept in memory: one list, then a watch that never gives up.

Whoever reads :attr:`Reflector.items` asks nobody. A watch goes on from where the last one ended,
so that in steady state nothing is listed again; :mod:`.cache` decides what is news.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random as random_module
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Generic

import msgspec

from ...errors import ElasticError
from ...waits import event_or_timeout
from . import problems
from .cache import Cache, T, number
from .listing import Api, Listed, Listing, meta_of
from .objects import Meta

SLICE = 0.01
"""Seconds of work before others on the loop get their turn."""

BACKOFF_FIRST, BACKOFF_CAP, RETRY_AFTER_CAP = 0.2, 30.0, 120.0
SILENT_CAP = 8.0
"""Seconds between two tries while nobody answers, on average.

They cost the API nothing, and once it is back, what is shown is old until the next one."""
STEADY = 5.0
"""A watch that lasted this many seconds was a good one; the next follows at once."""

WATCH_SECONDS = 240.0
CATCH_UP = 1.0
"""Seconds that :meth:`Reflector.sync` waits for the watch before it asks for each object."""

ASK_EACH = 32
"""How many objects :meth:`Reflector.sync` asks for one by one; it lists when there are more."""


class _Event(msgspec.Struct):
    type: str = ""
    object: msgspec.Raw = msgspec.Raw(b"{}")


class _Status(msgspec.Struct):
    code: int = 0
    reason: str = ""
    message: str = ""


_EVENT = msgspec.json.Decoder(_Event)
_STATUS = msgspec.json.Decoder(_Status)


class Reflector(Generic[T]):
    """A live copy of the objects under one path.

    Attributes
    ----------
    items
        The objects by name; do not change it.
    relists
        How often everything had to be read again after the first time.
    last_error
        Why the watch does not run at present; empty while it does.

    Parameters
    ----------
    api
        Where to read.
    path
        The collection, for instance ``/api/v1/namespaces/x/pods``.
    type
        A msgspec struct with ``metadata``.
    on_change
        Called on the loop with ``(name, old, new)`` for every real change, once, in order per
        object, after :attr:`items` shows it. ``old`` is None for a new object, ``new`` for one
        that is gone. An object that was replaced by another one of its name is told as gone and
        then as new. The objects of the first list are told as new.
    query
        ``labelSelector`` and ``fieldSelector``.
    everywhere
        The path is a collection of all namespaces: a name is then ``namespace/name``.
    """

    def __init__(
        self,
        api: Api,
        path: str,
        type: type[T],
        on_change: Callable[[str, T | None, T | None], None],
        *,
        query: Mapping[str, str] | None = None,
        everywhere: bool = False,
        log: logging.Logger | None = None,
        random: Callable[[], float] = random_module.random,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self.relists = 0
        self.last_error = ""
        self._api, self._path, self._query = api, path, dict(query or {})
        self._told_change = on_change
        self._log = log or logging.getLogger(__name__)
        self._everywhere = everywhere
        self._cache: Cache[T] = Cache(self._changed, self._log, self._key)
        self.items: Mapping[str, T] = self._cache.items
        self._random, self._sleep = random, sleep
        self._listing = Listing(api, path, type, self._query, self._cannot_read)
        self._at = ""  # the version from which the watch goes on
        self._heard = 0  # events so far
        self._stale = False  # everything must be read before the next watch
        self._task: asyncio.Task[None] | None = None
        self._moved = asyncio.Event()
        self._syncing: asyncio.Task[None] | None = None
        self._sync_next: asyncio.Task[None] | None = None
        self._unreadable: dict[str, str] = {}  # uid -> name, told once
        self._turn_ends = 0.0

    # -- life ------------------------------------------------------------------------------

    async def start(self) -> None:
        """Read everything once, then keep watching. May be called again after it failed.

        Raises
        ------
        ElasticError
            The first list failed; see :meth:`.api.KubeApi.request`.
        """
        if self._task is None:
            await self._relist()
            self._task = asyncio.create_task(self._run(), name=f"watch of {self._path}")

    async def close(self) -> None:
        """Stop watching; what was seen stays. Idempotent."""
        tasks = [t for t in (self._task, self._syncing, self._sync_next) if t is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- our own writes --------------------------------------------------------------------

    def put(self, item: T) -> None:
        """Show what the API answered to a write of ours, unless something newer is known."""
        self._cache.take(item)

    def drop(self, name: str, uid: str) -> None:
        """Forget an object that is gone for good: its deletion is over, not only begun."""
        self._cache.gone(name, uid)

    async def sync(self) -> None:
        """Return once all that was written by anyone before the call is shown.

        Calls that wait at the same time share their requests.

        Raises
        ------
        ElasticError
            The API cannot be asked.
        """
        # One that has begun may have read before the caller's write; the next one has not.
        if self._sync_next is None:
            self._sync_next = asyncio.create_task(self._sync_after(self._syncing))
            self._sync_next.add_done_callback(_retrieve)
        await asyncio.shield(self._sync_next)

    # -- watch -----------------------------------------------------------------------------

    async def _run(self) -> None:
        failures, silent = 0, False
        while True:
            was_silent, silent = silent, False
            began, heard, why, wait = time.monotonic(), self._heard, "", 0.0
            expired = False
            try:
                if self._stale:
                    await self._relist()
                    self.relists += 1
                await self._watch()
            except problems.ResourceExpired as error:
                self._stale, expired, why = True, True, str(error)
            except ElasticError as error:
                why = str(error)
                answer = problems.api_error(error)
                silent = answer is None
                wait = min((answer and answer.retry_after) or 0.0, RETRY_AFTER_CAP)
                # It answers and yet does not let us go on from there: try from a new start.
                self._stale = self._stale or (
                    answer is not None and answer.code != 429 and failures >= 2
                )
            except Exception as error:  # noqa: BLE001 - whatever it is, a watch never gives up
                why = repr(error)
                self._log.exception("The watch of %s failed", self._path)
            good = time.monotonic() - began >= STEADY or self._heard != heard
            # An API that has just come back refuses for a moment what it will allow.
            failures = 0 if good or (was_silent and not silent) else failures
            failures += 1 if why or not good else 0
            if expired and failures == 1:
                continue  # the ordinary end of a long silence
            if why:
                self._failed(why)
            if failures:
                cap = SILENT_CAP if silent else BACKOFF_CAP
                backoff = min(cap, BACKOFF_FIRST * 2.0 ** min(failures - 1, 12))
                await self._sleep(wait + backoff * (0.5 + self._random()))

    async def _watch(self) -> None:
        """One watch, until the server ends it."""
        query = {
            **self._query,
            "resourceVersion": self._at,
            "allowWatchBookmarks": "true",
            # Not all at once, after all were cut off at once.
            "timeoutSeconds": str(round(WATCH_SECONDS * (1 + self._random() / 4))),
        }
        stream = self._api.watch(self._path, query, opened=self._opened)
        async with contextlib.aclosing(stream):
            async for line in stream:
                self._hear(line)
                await self._breathe()

    def _hear(self, line: bytes) -> None:
        """One event of the watch."""
        try:
            event = _EVENT.decode(line)
        except msgspec.MsgspecError as error:
            self._cannot_read(Meta(name="(an event)", uid="event"), error)
            return
        if event.type == "ERROR":
            status = _status(event.object)
            raise problems.explain(
                status.code or 500,
                {"message": status.message, "reason": status.reason},
                "watch",
                self._path,
            )
        meta = meta_of(event.object)
        if event.type == "DELETED":
            self._cache.gone(self._key(meta), meta.uid, number(meta.resource_version))
            self._unreadable.pop(meta.uid, None)
        elif event.type in ("ADDED", "MODIFIED"):
            item = self._listing.decode(event.object)
            if item is not None:
                self._unreadable.pop(meta.uid, None)
                self._cache.take(item)
        if meta.resource_version:
            self._at = meta.resource_version
            self._heard += 1

    def _opened(self) -> None:
        if self.last_error:
            self._log.info("The watch of %s runs again.", self._path)
        self.last_error = ""

    def _failed(self, why: str) -> None:
        if not self.last_error:
            self._log.warning("The watch of %s was interrupted: %s", self._path, why)
        self.last_error = why

    def _changed(self, name: str, old: T | None, new: T | None) -> None:
        self._moved.set()
        self._told_change(name, old, new)

    # -- list ------------------------------------------------------------------------------

    async def _relist(self) -> None:
        """Read everything and report the differences, exactly."""
        seen = await self._listing.objects()
        if number(seen.version) < number(self._at):
            self._log.warning("The storage of the Kubernetes API went back in time.")
            self._cache.rewind()
        await self._apply(seen)
        self._at, self._stale = seen.version, False

    async def _apply(self, seen: Listed[T]) -> None:
        self._turn_ends = time.monotonic() + SLICE
        version = number(seen.version)
        present = {item.metadata.uid for item in seen.items} | seen.unread
        self._unreadable = {u: name for u, name in self._unreadable.items() if u in seen.unread}
        for old in self._cache.missing(present, version):
            self._cache.gone(self._key(old.metadata), old.metadata.uid, version)
            await self._breathe()
        for item in seen.items:
            self._cache.take(item)
            await self._breathe()

    def _cannot_read(self, meta: Meta, error: Exception) -> None:
        if meta.uid not in self._unreadable:
            self._unreadable[meta.uid] = meta.name
            self._log.warning("%s in %s cannot be read: %s", meta.name, self._path, error)

    # -- sync ------------------------------------------------------------------------------

    async def _sync_after(self, previous: asyncio.Task[None] | None) -> None:
        if previous is not None:
            await asyncio.wait([previous])
        self._syncing, self._sync_next = self._sync_next, None
        await self._catch_up()

    async def _catch_up(self) -> None:
        known = number(self._at)
        listed, at = await self._listing.metadata()
        version = number(at)
        if version < known and self._task is not None:
            await self._start_anew()
            return
        present = {meta.uid for meta in listed}
        loop = asyncio.get_running_loop()
        deadline = loop.time() + CATCH_UP
        while True:
            behind = [
                m for m in listed if not self._cache.shows(m) and m.uid not in self._unreadable
            ]
            ghosts = self._cache.missing(present, version)
            left = deadline - loop.time()
            if not (behind or ghosts) or left <= 0 or self.last_error:
                break
            self._moved.clear()
            await event_or_timeout(self._moved, left)
        # The watch is late; what the list told is true all the same.
        for ghost in ghosts:
            self._cache.gone(self._key(ghost.metadata), ghost.metadata.uid, version)
        if len(behind) > ASK_EACH:
            await self._apply(await self._listing.objects())
            return
        for meta in behind:
            await self._ask(meta)

    async def _start_anew(self) -> None:
        """After a restore from a backup: the watch waits for versions that are long in coming."""
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait([self._task])
        self._stale = True
        try:
            await self._relist()
            self.relists += 1
        finally:
            self._task = asyncio.create_task(self._run(), name=f"watch of {self._path}")

    async def _ask(self, meta: Meta) -> None:
        try:
            body = await self._api.request("GET", self._path_of(meta))
        except problems.ApiNotFound:
            self._cache.gone(self._key(meta), meta.uid)
            return
        item = self._listing.decode(msgspec.Raw(body))
        if item is not None:
            self._cache.take(item)

    def _key(self, meta: Meta) -> str:
        return f"{meta.namespace}/{meta.name}" if self._everywhere else meta.name

    def _path_of(self, meta: Meta) -> str:
        if not self._everywhere:
            return f"{self._path}/{meta.name}"
        root, _, resource = self._path.rpartition("/")
        return f"{root}/namespaces/{meta.namespace}/{resource}/{meta.name}"

    async def _breathe(self) -> None:
        """Let others on the loop have their turn when ours has lasted long enough."""
        if time.monotonic() > self._turn_ends:
            await asyncio.sleep(0)
            self._turn_ends = time.monotonic() + SLICE


def _status(raw: msgspec.Raw) -> _Status:
    try:
        return _STATUS.decode(raw)
    except msgspec.MsgspecError:
        return _Status(message=bytes(raw[:200]).decode(errors="replace"))


def _retrieve(task: asyncio.Task[Any]) -> None:
    # Whoever waits gets the failure; when nobody does any more, it is no news.
    if not task.cancelled():
        task.exception()
