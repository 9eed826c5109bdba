"""The cache of a collection: against an API server that forgets, stalls, cuts off and repeats."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st

from jupyter_elastic.cluster.kubernetes import listing
from jupyter_elastic.cluster.kubernetes.cache import Cache
from jupyter_elastic.cluster.kubernetes.objects import Meta, PodObject, PodStatus
from jupyter_elastic.cluster.kubernetes.problems import ApiError
from jupyter_elastic.cluster.kubernetes.reflector import Reflector
from jupyter_elastic.errors import ApiUnreachable, Forbidden

from .fakeapi import PODS, FakeApi, Pause, connected, failure, until

LOG = logging.getLogger("test")


class Kept:
    """A reflector of pods, and all that it told."""

    def __init__(self, reflector: Reflector[PodObject], told: list[str], pause: Pause) -> None:
        self.reflector, self.told, self.pause = reflector, told, pause

    def phases(self) -> dict[str, str]:
        return {name: pod.status.phase for name, pod in self.reflector.items.items()}


@contextlib.asynccontextmanager
async def kept(
    folder: Path, start: bool = True, **pods: str
) -> AsyncIterator[tuple[FakeApi, Kept]]:
    """Pods by name and phase, and a reflector that has begun."""
    told: list[str] = []
    pause = Pause()

    def on_change(name: str, old: PodObject | None, new: PodObject | None) -> None:
        shown = "-" if new is None else new.status.phase
        told.append(f"{name} {'-' if old is None else old.status.phase}>{shown}")
        assert reflector.items.get(name) is new

    async with connected(folder) as (fake, api):
        for name, phase in pods.items():
            fake.put(name, phase=phase)
        reflector = Reflector(
            api, PODS, PodObject, on_change, log=LOG, random=lambda: 0.5, sleep=pause
        )
        try:
            if start:
                await reflector.start()
                await until(lambda: fake.watches, "the watch")
            yield fake, Kept(reflector, told, pause)
        finally:
            await reflector.close()


def pod(name: str, version: int, uid: str = "u", phase: str = "") -> PodObject:
    meta = Meta(name=name, uid=uid, resource_version=str(version))
    return PodObject(metadata=meta, status=PodStatus(phase=phase))


# -- list and watch ----------------------------------------------------------------------------


async def test_what_is_there_and_what_changes_is_told_once(tmp_path: Path) -> None:
    async with kept(tmp_path, a="Running", b="Pending") as (fake, it):
        assert it.phases() == {"a": "Running", "b": "Pending"}
        assert it.told == ["a ->Running", "b ->Pending"]
        fake.put("b", phase="Running")
        fake.delete("a")
        fake.put("c", phase="Pending")
        await until(lambda: "c" in it.reflector.items, "c")
        assert it.told[2:] == ["b Pending>Running", "a Running>-", "c ->Pending"]
        assert (it.reflector.relists, it.reflector.last_error) == (0, "")


async def test_thousands_come_in_pages_and_leave_the_loop_its_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jupyter_elastic.cluster.kubernetes.reflector.SLICE", 0.0)
    async with kept(tmp_path, start=False) as (fake, it):
        for number in range(1200):
            fake.put(f"p{number}", phase="Running")
        shown: set[int] = set()

        async def beat() -> None:
            while True:
                shown.add(len(it.reflector.items))
                await asyncio.sleep(0)

        beating = asyncio.create_task(beat())
        await it.reflector.start()
        beating.cancel()
        assert len(it.reflector.items) == len(it.told) == 1200
        pages = [one.query.get("continue") for one in fake.seen if "limit" in one.query]
        assert pages == [None, "500", "1000"]
        assert len(shown) > 1000, "others had their turn, here after each slice of one object"


async def test_a_watch_that_the_server_ends_goes_on_where_it_was(tmp_path: Path) -> None:
    async with kept(tmp_path, a="Pending") as (fake, it):
        fake.put("a", phase="Running")
        await until(lambda: it.phases()["a"] == "Running", "the event")
        fake.end_watches()
        fake.put("b", phase="Pending")
        await until(lambda: "b" in it.reflector.items, "what happened meanwhile")
        lists = [one for one in fake.seen if "watch" not in one.query]
        assert len(lists) == 1
        assert it.told == ["a ->Pending", "a Pending>Running", "b ->Pending"]
        first = fake.seen[1].query
        assert first["allowWatchBookmarks"] == "true"
        assert 240 <= int(first["timeoutSeconds"]) <= 300


async def test_bookmarks_keep_the_place(tmp_path: Path) -> None:
    async with kept(tmp_path, a="Running") as (fake, it):
        bookmark = {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "5000"}}}
        fake.say(json.dumps(bookmark).encode() + b"\n")
        fake.version = 5000
        fake.forget()
        await until(lambda: it.reflector._at == "5000", "the bookmark")
        fake.end_watches()
        fake.put("b")
        await until(lambda: "b" in it.reflector.items, "an event of the next watch")
        assert it.reflector.relists == 0
        assert it.told == ["a ->Running", "b ->"]


async def test_a_cut_in_the_middle_of_a_line_loses_nothing(tmp_path: Path) -> None:
    async with kept(tmp_path, a="Pending") as (fake, it):
        fake.say(b'{"type":"MODIFIED","object":{"metadata":{"name":"a"')
        await asyncio.sleep(0.05)
        fake.put("a", phase="Running")
        fake.cut_watches()
        await until(lambda: it.phases()["a"] == "Running", "the event")
        assert it.told == ["a ->Pending", "a Pending>Running"]


# -- versions that are no longer kept ------------------------------------------------------------


async def test_a_version_that_is_too_old_leads_to_a_list_with_exact_differences(
    tmp_path: Path,
) -> None:
    async with kept(tmp_path, same="Running", changed="Pending", deleted="Running") as (fake, it):
        again = fake.put("again", phase="Pending")
        await until(lambda: "again" in it.reflector.items, "again")
        del it.told[:]
        gate = asyncio.Event()

        async def late(request: web.Request) -> web.StreamResponse:
            await gate.wait()
            return await fake._watch(request)

        asked = len(fake.seen)
        fake.next.append(late)
        fake.end_watches()
        await until(lambda: len(fake.seen) > asked, "the next watch")
        fake.put("changed", phase="Running")
        fake.delete("deleted")
        fake.delete("again")
        fake.put("again", uid="another", phase="Running")
        fake.put("new", phase="Pending")
        fake.forget()
        gate.set()
        await until(lambda: "new" in it.reflector.items, "the list")
        assert sorted(it.told) == [
            "again ->Running",
            "again Pending>-",
            "changed Pending>Running",
            "deleted Running>-",
            "new ->Pending",
        ]
        assert it.told.index("again Pending>-") < it.told.index("again ->Running")
        assert it.reflector.relists == 1
        assert it.reflector.items["again"].metadata.uid == "another" != again["metadata"]["uid"]
        await until(lambda: fake.watches, "the watch")
        assert it.reflector.last_error == ""


async def test_410_as_the_answer_to_a_watch(tmp_path: Path) -> None:
    async with kept(tmp_path, a="Running") as (fake, it):
        fake.next.append(failure(410, "Expired", "too old resource version"))
        fake.end_watches()
        await until(lambda: it.reflector.relists == 1 and fake.watches, "the list")
        assert it.told == ["a ->Running"]
        assert it.pause.slept == []


async def test_410_while_paging_begins_anew_and_at_last_asks_for_all_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "PAGE", 2)
    expired = failure(410, "Expired", "the provided continue parameter is too old")

    async def page(request: web.Request) -> web.StreamResponse:
        return await fake._list(request)

    async with kept(tmp_path, False, a="x", b="x", c="x", d="x", e="x") as (fake, it):
        fake.next.extend([page, expired, page, page, expired])
        await it.reflector.start()
        assert sorted(it.reflector.items) == ["a", "b", "c", "d", "e"]
        assert len(it.told) == 5
        assert "limit" not in fake.seen[5].query


async def test_an_api_that_answers_but_never_lets_the_watch_go_on(tmp_path: Path) -> None:
    async with kept(tmp_path, a="Running") as (fake, it):
        poison = {"type": "ERROR", "object": {"code": 500, "message": "cannot decode"}}

        async def stream(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse()
            await response.prepare(request)
            await response.write(json.dumps(poison).encode() + b"\n")
            return response

        fake.next.extend([stream] * 3)
        fake.end_watches()
        await until(lambda: it.reflector.relists == 1 and fake.watches, "a new start")
        assert it.told == ["a ->Running"]


# -- trouble -------------------------------------------------------------------------------------


async def test_a_watch_never_gives_up(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with kept(tmp_path, a="Pending") as (fake, it):
        port = fake.port
        with caplog.at_level(logging.INFO):
            await fake.stop()
            await until(lambda: len(it.pause.slept) > 12, "many attempts")
            assert "cannot be reached" in it.reflector.last_error
            fake.put("a", phase="Running")
            await fake.start(port)
            await until(lambda: it.phases()["a"] == "Running", "the event")
        assert it.reflector.last_error == ""
        assert it.reflector.relists == 0
        backoff = it.pause.slept[:10]
        assert backoff == sorted(backoff)
        assert backoff[0] < 1 < 6 < backoff[-1] <= 12
        interrupted = [one for one in caplog.messages if "interrupted" in one]
        assert len(interrupted) == 1
        assert sum("runs again" in one for one in caplog.messages) == 1


async def test_a_refusal_by_an_api_that_has_just_come_back_is_soon_asked_again(
    tmp_path: Path,
) -> None:
    async with kept(tmp_path, a="Pending") as (fake, it):
        port = fake.port
        await fake.stop()
        await until(lambda: len(it.pause.slept) > 8, "many attempts")
        fake.put("a", phase="Running")
        fake.next.append(failure(403, "Forbidden", "RBAC: role not found"))
        await fake.start(port)
        await until(lambda: it.phases()["a"] == "Running", "the event")
        assert it.pause.slept[-1] < 1, "the refusal was not the ninth failure"


async def test_an_overloaded_api_says_when_to_come_back(tmp_path: Path) -> None:
    async with kept(tmp_path, a="Running") as (fake, it):
        fake.next.append(failure(429, "TooManyRequests", headers={"Retry-After": "7"}))
        fake.end_watches()
        await until(lambda: it.pause.slept, "a pause")
        await until(lambda: fake.watches, "the watch")
        assert it.pause.slept[0] == pytest.approx(7.2)


async def test_a_permission_that_is_taken_away_and_given_back(tmp_path: Path) -> None:
    async with kept(tmp_path, a="Running") as (fake, it):
        message = 'User "me" cannot watch resource "pods" in API group "" in the namespace "team"'
        fake.next.extend([failure(403, "Forbidden", message)] * 10_000)
        fake.end_watches()
        await until(lambda: "may not watch pods" in it.reflector.last_error, "the error")
        fake.next.clear()
        fake.put("b")
        await until(lambda: "b" in it.reflector.items, "the event")
        assert it.told == ["a ->Running", "b ->"]


async def test_a_server_that_ends_each_watch_at_once_is_not_asked_without_a_pause(
    tmp_path: Path,
) -> None:
    async def nothing(request: web.Request) -> web.StreamResponse:
        return web.Response()

    async with kept(tmp_path, a="Running") as (fake, it):
        fake.next.extend([nothing] * 5)
        fake.end_watches()
        await until(lambda: len(it.pause.slept) >= 5 and fake.watches, "the pauses")
        assert it.pause.slept[4] > it.pause.slept[0]
        assert it.reflector.last_error == ""


async def test_the_first_list_fails_with_its_cause_and_may_be_tried_again(tmp_path: Path) -> None:
    async with kept(tmp_path, False, a="Running") as (fake, it):
        message = 'User "me" cannot list resource "pods" in API group "" in the namespace "team"'
        fake.next.append(failure(403, "Forbidden", message))
        with pytest.raises(Forbidden, match="may not list pods"):
            await it.reflector.start()

        async def garbage(_request: web.Request) -> web.StreamResponse:
            return web.Response(text='{"items": [{]')

        async def another(_request: web.Request) -> web.StreamResponse:
            return web.json_response({"message": "welcome"})

        for answer in (garbage, another):
            fake.next.append(answer)
            with pytest.raises(ApiError, match="cannot be read"):
                await it.reflector.start()
        await it.reflector.start()
        await it.reflector.start()
        await until(lambda: fake.watches == 1, "the watch")
        assert it.told == ["a ->Running"]


async def test_what_cannot_be_read_is_said_once_and_keeps_nothing_else_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        async with kept(tmp_path, False, good="Running") as (fake, it):
            fake.put("bad", phase=["not", "a", "word"])
            await it.reflector.start()
            await until(lambda: fake.watches, "the watch")
            fake.put("bad", phase={"still": "not"})
            fake.put("good", phase=17)
            fake.say(b"this is no JSON\n[]\n{}\n" + b'{"type":"NEW","object":[]}\n')
            fake.say(b"nor this\n")
            fake.put("after", phase="Running")
            await until(lambda: "after" in it.reflector.items, "the event after")
            # What cannot be read now is not gone.
            fake.forget()
            fake.end_watches()
            fake.next.append(failure(410, "Expired"))
            await until(lambda: it.reflector.relists == 1, "the list")
            assert it.phases() == {"good": "Running", "after": "Running"}
            fake.put("bad", phase="Running")
            await until(lambda: "bad" in it.reflector.items, "it can be read again")
            fake.delete("good")
            await until(lambda: "good" not in it.reflector.items, "its deletion")
    told = [one for one in caplog.messages if "cannot be read" in one]
    assert len([one for one in told if one.startswith("bad in")]) == 1
    assert len([one for one in told if one.startswith("good in")]) == 1
    assert len(told) == 3


async def test_a_listener_that_fails_is_no_reason_to_stop(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with connected(tmp_path) as (fake, api):
        told: list[str] = []

        def on_change(name: str, old: Any, new: Any) -> None:
            told.append(name)
            raise RuntimeError("a bad listener")

        reflector = Reflector(api, PODS, PodObject, on_change, log=LOG)
        fake.put("a")
        await reflector.start()
        fake.put("b")
        await until(lambda: told == ["a", "b"], "both")
        await reflector.close()
        await reflector.close()
        assert sum("A listener" in one for one in caplog.messages) == 2


# -- our own writes ------------------------------------------------------------------------------


async def test_the_answer_to_a_write_of_ours_shows_at_once_and_is_told_once(
    tmp_path: Path,
) -> None:
    async with kept(tmp_path, a="Pending") as (fake, it):
        before = fake.version
        ours = msgspec.convert(fake.put("a", phase="Running"), PodObject)
        it.reflector.put(ours)
        assert it.phases() == {"a": "Running"}
        fake.put("b")
        await until(lambda: "b" in it.reflector.items, "the watch")
        # An event from before our write, and ours once more.
        uid = ours.metadata.uid
        for version, phase in ((before, "Pending"), (before + 1, "Running")):
            meta = {"name": "a", "uid": uid, "resourceVersion": str(version)}
            event = {"type": "MODIFIED", "object": {"metadata": meta, "status": {"phase": phase}}}
            fake.say(json.dumps(event).encode() + b"\n")
        fake.put("c")
        await until(lambda: "c" in it.reflector.items, "the watch")
        assert it.told == ["a ->Pending", "a Pending>Running", "b ->", "c ->"]


async def test_what_we_deleted_does_not_come_back(tmp_path: Path) -> None:
    async with kept(tmp_path, a="Running") as (fake, it):
        old = it.reflector.items["a"]
        it.reflector.drop("a", old.metadata.uid)
        fake.put("a", phase="Failed")  # what happened before the deletion comes late
        fake.delete("a")
        fake.put("b")
        await until(lambda: "b" in it.reflector.items, "the watch")
        it.reflector.put(old)
        assert it.told == ["a ->Running", "a Running>-", "b ->"]
        fake.put("a", uid="another", phase="Pending")
        await until(lambda: "a" in it.reflector.items, "another of that name")
        it.reflector.drop("a", old.metadata.uid)
        assert it.phases()["a"] == "Pending"


def cache() -> tuple[Cache[PodObject], list[str]]:
    told: list[str] = []

    def on_change(name: str, old: PodObject | None, new: PodObject | None) -> None:
        def shown(one: PodObject | None) -> str:
            return f"{one.metadata.uid}{one.metadata.resource_version}" if one else "-"

        told.append(f"{shown(old)}>{shown(new)}")

    return Cache(on_change, LOG), told


def test_another_object_of_the_same_name_is_a_deletion_and_a_creation() -> None:
    it, told = cache()
    it.take(pod("a", 5, "u"))
    it.take(pod("a", 9, "v"))
    it.take(pod("a", 7, "u"))
    it.gone("a", "u", 8)
    assert told == ["->u5", "u5>-", "->v9"]
    it.gone("a", "v", 10)
    it.take(pod("a", 9, "v"))
    assert told[3:] == ["v9>-"]


def test_what_left_the_selection_may_come_back_later() -> None:
    it, told = cache()
    it.take(pod("a", 5))
    it.gone("a", "u", 6)
    it.take(pod("a", 6))
    it.take(pod("a", 8))
    assert told == ["->u5", "u5>-", "->u8"]


@settings(max_examples=300)
@given(st.data())
def test_whatever_the_order_of_news_the_newest_is_shown(data: st.DataObject) -> None:
    """One name, several lives; every piece of news may come late and repeatedly."""
    history: list[tuple[int, str, bool]] = []  # version, uid, present
    version, uid = 0, 0
    present = False
    for write in data.draw(st.lists(st.booleans(), min_size=1, max_size=8)):
        version += 1
        if write:
            uid += not present
            present = True
        elif present:
            present = False
        else:
            continue
        history.append((version, f"u{uid}", present))
    if not history:
        return
    it, told = cache()
    late = data.draw(st.lists(st.sampled_from(history), max_size=12))
    for at, who, there in [*data.draw(st.permutations(history)), *late]:
        if there:
            it.take(pod("a", at, who))
        else:
            it.gone("a", who, at)
    at, who, there = history[-1]
    shown = it.items.get("a")
    assert (shown is not None) == there
    if shown is not None:
        assert (shown.metadata.uid, shown.metadata.resource_version) == (who, str(at))
    # What was told is a chain: nothing was told twice, and nothing was left out.
    state = "-"
    for change in told:
        old, new = change.split(">")
        assert old == state != new
        state = new


# -- sync ----------------------------------------------------------------------------------------


async def test_sync_waits_for_the_watch(tmp_path: Path) -> None:
    async with kept(tmp_path, a="Pending", b="Running") as (fake, it):
        fake.put("a", phase="Running")
        fake.delete("b")
        fake.put("c", phase="Pending")
        await it.reflector.sync()
        assert it.phases() == {"a": "Running", "c": "Pending"}
        assert not [one for one in fake.paths if one != f"GET {PODS}"]
        asked = [one for one in fake.seen if "PartialObjectMetadataList" in one.headers["Accept"]]
        assert len(asked) == 1


@pytest.mark.parametrize("many", [False, True])
async def test_sync_asks_when_the_watch_is_late(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, many: bool
) -> None:
    monkeypatch.setattr("jupyter_elastic.cluster.kubernetes.reflector.CATCH_UP", 0.1)
    async with kept(tmp_path, a="Pending", b="Running") as (fake, it):
        streams, fake._streams = fake._streams, []  # events do not arrive any more
        fake.put("a", phase="Running")
        fake.delete("b")
        for number in range(100 if many else 3):
            fake.put(f"c{number}", phase="Pending")
        await it.reflector.sync()
        assert it.phases() == {
            "a": "Running",
            **{f"c{number}": "Pending" for number in range(100 if many else 3)},
        }
        assert len(fake.seen) < 10
        told = sorted(it.told)
        assert len(set(told)) == len(told)
        fake._streams = streams
        fake.put("d")
        await until(lambda: "d" in it.reflector.items, "the watch")
        assert sorted(it.told) == sorted([*told, "d ->"])


async def test_sync_while_the_api_is_away(tmp_path: Path) -> None:
    async with kept(tmp_path, a="Pending") as (fake, it):
        port = fake.port
        await fake.stop()
        with pytest.raises(ApiUnreachable):
            await it.reflector.sync()
        await fake.start(port)
        await it.reflector.sync()


async def test_syncs_at_the_same_time_share_their_requests_but_never_an_older_list(
    tmp_path: Path,
) -> None:
    async with kept(tmp_path, a="Pending") as (fake, it):
        gate = asyncio.Event()

        async def slow(request: web.Request) -> web.StreamResponse:
            answer = await fake._list(request)
            await gate.wait()
            return answer

        before = len(fake.seen)
        fake.next.append(slow)
        first = asyncio.create_task(it.reflector.sync())
        await until(lambda: len(fake.seen) > before, "the first list")
        streams, fake._streams = fake._streams, []
        fake.put("b")  # not in the list under way
        others = [asyncio.create_task(it.reflector.sync()) for _ in range(20)]
        others[0].cancel()
        await asyncio.sleep(0.05)
        gate.set()
        await first
        assert "b" not in it.reflector.items
        await asyncio.gather(*others[1:])
        assert "b" in it.reflector.items
        lists = [one for one in fake.seen if "Partial" in one.headers["Accept"]]
        assert len(lists) == 2
        fake._streams = streams


async def test_a_storage_that_was_restored_from_a_backup(tmp_path: Path) -> None:
    async with kept(tmp_path, a="Running", b="Running") as (fake, it):
        backup = {name: dict(one) for name, one in fake._pods.items()}
        fake.put("a", phase="Failed")
        fake.put("c", phase="Pending")
        await until(lambda: "c" in it.reflector.items, "c")
        fake._pods, fake.version = backup, 101
        fake._log.clear()
        streams, fake._streams = fake._streams, []  # they wait for higher versions
        fake.delete("b")
        fake._streams = streams
        await it.reflector.sync()
        assert it.phases() == {"a": "Running"}
        await until(lambda: fake.watches, "the watch")
        fake.put("a", phase="Succeeded")
        await until(lambda: it.phases()["a"] == "Succeeded", "the watch goes on")
