"""One object that is read by itself, beside what the watch tells in its own order."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

from jupyter_elastic.cluster.kubernetes.view import View

from .fakeapi import NAMESPACE, FakeApi, connected, failure
from .objects import pod as pod_object

KERNELS = f"/apis/elastic.jupyter.org/v1alpha1/namespaces/{NAMESPACE}/kernels"
ABSENT = failure(404, "NotFound", "not found", details={"name": "k", "kind": "kernels"})


def kernel(version: int, name: str = "first", uid: str = "u") -> bytes:
    """A Kernel object in one of its versions."""
    meta = {"name": "k", "uid": uid, "resourceVersion": str(version)}
    spec = {"owner": "ada", "template": "work", "name": name}
    return json.dumps({"metadata": meta, "spec": spec}).encode()


@contextlib.asynccontextmanager
async def world(folder: Path) -> AsyncIterator[tuple[FakeApi, View]]:
    async with connected(folder) as (fake, api):
        yield fake, View(api, logging.getLogger("test"))


def name_of(view: View) -> str | None:
    found = view.kernels.get("k")
    return None if found is None else found.name


async def test_what_another_server_wrote_is_shown_by_one_request(tmp_path: Path) -> None:
    async with world(tmp_path) as (fake, view):
        view.took_kernel(kernel(5))
        fake.made[f"{KERNELS}/k"] = json.loads(kernel(7, "second"))
        told: list[Any] = []
        view.subscribe(told.append)
        await view.read_kernel("k")
        assert name_of(view) == "second"
        assert [one.new.name for one in told] == ["second"]
        assert fake.paths == [f"GET {KERNELS}/k"]


async def test_an_answer_that_is_older_than_the_watch_changes_nothing(tmp_path: Path) -> None:
    async with world(tmp_path) as (fake, view):

        async def late(request: web.Request) -> web.StreamResponse:
            view.took_kernel(kernel(9, "third"))  # the watch is faster
            return web.Response(body=kernel(7, "second"), content_type="application/json")

        view.took_kernel(kernel(5))
        fake.next.append(late)
        await view.read_kernel("k")
        assert name_of(view) == "third"


async def test_what_is_gone_is_shown_as_gone(tmp_path: Path) -> None:
    async with world(tmp_path) as (fake, view):
        view.took_kernel(kernel(5))
        fake.next.append(ABSENT)
        await view.read_kernel("k")
        assert name_of(view) is None
        view.took_kernel(kernel(6, "late news"))
        assert name_of(view) is None, "nothing old brings it back"
        fake.next.append(ABSENT)
        await view.read_kernel("k")  # nobody knows of one


async def test_one_of_the_same_name_that_was_created_since_stays(tmp_path: Path) -> None:
    async with world(tmp_path) as (fake, view):

        async def late(request: web.Request) -> web.StreamResponse:
            view.took_kernel(kernel(9, "another", uid="v"))
            return await ABSENT(request)

        view.took_kernel(kernel(5))
        fake.next.append(late)
        await view.read_kernel("k")
        assert name_of(view) == "another"


async def test_a_pod_is_read_by_itself_as_well(tmp_path: Path) -> None:
    async with world(tmp_path) as (fake, view):
        fake.put("p", phase="Pending")
        await view.read_pod("p")
        assert view.pods["p"].uid
        fake.delete("p")
        await view.read_pod("p")
        assert view.pods == {}


async def test_warm_pods_are_counted_by_template(tmp_path: Path) -> None:
    async with world(tmp_path) as (_, view):

        def show(version: int, name: str, phase: str) -> None:
            marks = {"name": name, "uid": name, "resourceVersion": str(version)}
            view.took(msgspec.json.encode(pod_object(phase, metadata=marks)))

        show(1, "a", "warm")
        show(2, "b", "warm")
        show(3, "a", "warm")
        assert view.warm["t"] == 2
        show(4, "a", "claimed")
        assert view.warm["t"] == 1
        view.forget(view.pods["b"])
        assert view.warm["t"] == 0
