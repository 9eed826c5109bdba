"""Several people on one server: Jupyter's own API shows and gives each only what is theirs."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.websocket import websocket_connect

from benchmarks.server import Server, start_server

from .people import CHIEF, NAME
from .world import World, template, templates, world_of

ROOT = str(Path(__file__).parents[2])


def people(authorizer: str = "ChiefAuthorizer", cull: int = 0) -> str:
    """Configuration of a server for several people."""
    return (
        templates(template("work", pool=1))
        + f"""
c.ElasticKernels.owner_from = "identity"
c.ServerApp.identity_provider_class = "tests.server.people.NamedIdentity"
c.ServerApp.authorizer_class = "tests.server.people.{authorizer}"
c.MappingKernelManager.cull_idle_timeout = {cull}
c.MappingKernelManager.cull_interval = 1
"""
    )


KINDS = pytest.mark.parametrize("kernel_name", ["work", "python3"])
"""An elastic kernel and a plain one."""


def as_user(world: World, name: str) -> World:
    """The same server, as somebody else meets it."""
    one = world.server
    other = Server(one.url, one.token, one.process, one.state_dir, one.log)
    other.headers = {**one.headers, NAME: name}
    return World(world.home, world.loop, other, world.mark)


@pytest.fixture(scope="module")
def shared() -> Iterator[World]:
    with world_of(people(), PYTHONPATH=ROOT) as world:
        yield world


@pytest.fixture
def chief(shared: World) -> Iterator[World]:
    """Whom the authorizer allows others' kernels; every test leaves the server empty."""
    chief = as_user(shared, CHIEF)
    try:
        yield chief
    finally:
        for kernel in chief.get("/api/kernels"):
            chief.delete(f"/api/kernels/{kernel['id']}")


@pytest.fixture
def ada(chief: World) -> World:
    return as_user(chief, "ada")


@pytest.fixture
def bob(chief: World) -> World:
    return as_user(chief, "bob")


def ids(world: World, what: str) -> list[str]:
    """Ids in a list of Jupyter's API."""
    return sorted(one["id"] for one in world.get(f"/api/{what}"))


def opened(world: World, path: str, kernel_name: str) -> tuple[str, str]:
    """Ids of a new session and of its kernel."""
    session = world.post("/api/sessions", world.session(path, {"name": kernel_name}))
    return session["id"], session["kernel"]["id"]


@KINDS
def test_others_kernels_are_as_if_they_were_not_there(
    ada: World, bob: World, kernel_name: str
) -> None:
    kernel_id = ada.post("/api/kernels", {"name": kernel_name})["id"]
    assert ada.execute(kernel_id, "x = 41; x") == "41"
    assert ids(ada, "kernels") == [kernel_id]
    assert ids(bob, "kernels") == []
    assert bob.get("/api/status")["kernels"] == 0
    absent = str(uuid.uuid4())
    for method, path in (
        ("GET", ""),
        ("DELETE", ""),
        ("POST", "/interrupt"),
        ("POST", "/restart"),
    ):
        reply = bob.run(bob.ask(method, f"/api/kernels/{kernel_id}{path}"))
        other = bob.run(bob.ask(method, f"/api/kernels/{absent}{path}"))
        assert reply.status == other.status == 404, (method, path)
        # Not a word that says that there is one.
        assert reply.json["message"].replace(kernel_id, absent) == other.json["message"]
    assert ada.execute(kernel_id, "x + 1") == "42"


@KINDS
def test_the_channels_are_the_owners(ada: World, bob: World, kernel_name: str) -> None:
    kernel_id = ada.post("/api/kernels", {"name": kernel_name})["id"]
    with pytest.raises(HTTPClientError) as caught:
        bob.run(bob.server.connect(kernel_id))
    assert caught.value.code == 404
    assert ada.execute(kernel_id, "1 + 1") == "2"
    # Nor for one without a name at all.
    url = f"ws{ada.server.url[4:]}/api/kernels/{kernel_id}/channels"

    async def stranger() -> Any:
        return await websocket_connect(HTTPRequest(url))

    with pytest.raises(HTTPClientError) as caught:
        ada.run(stranger())
    assert caught.value.code == 403


@KINDS
def test_sessions_are_their_owners(ada: World, bob: World, kernel_name: str) -> None:
    path = ada.notebook("same.ipynb")
    session_id, kernel_id = opened(ada, path, kernel_name)
    assert ids(bob, "sessions") == []
    assert ids(ada, "sessions") == [session_id]  # looking took nothing away
    for method, body in (("GET", None), ("PATCH", {"path": "mine.ipynb"}), ("DELETE", None)):
        reply = bob.run(bob.ask(method, f"/api/sessions/{session_id}", body))
        assert reply.status == 404, (method, reply)
    # The same notebook: each has a session, and a kernel, of their own.
    bobs_session, bobs_kernel = opened(bob, path, kernel_name)
    assert bobs_session != session_id
    assert bobs_kernel != kernel_id
    assert opened(ada, path, kernel_name) == (session_id, kernel_id)
    assert opened(bob, path, kernel_name) == (bobs_session, bobs_kernel)
    assert ids(bob, "sessions") == [bobs_session]
    renamed = bob.patch(f"/api/sessions/{bobs_session}", {"path": "other.ipynb"})
    assert renamed["path"] == "other.ipynb"
    assert ada.get(f"/api/sessions/{session_id}")["path"] == path
    bob.delete(f"/api/sessions/{bobs_session}")
    assert ids(ada, "kernels") == [kernel_id]


@KINDS
def test_nobody_attaches_to_others_kernels(ada: World, bob: World, kernel_name: str) -> None:
    kernel_id = ada.post("/api/kernels", {"name": kernel_name})["id"]
    path = bob.notebook("attach.ipynb")
    reply = bob.run(
        bob.ask("POST", "/api/sessions", bob.session(path, {"id": kernel_id, "name": kernel_name}))
    )
    assert reply.status == 404, reply
    assert ids(bob, "kernels") == ids(bob, "sessions") == []
    session_id, own = opened(bob, path, kernel_name)
    reply = bob.run(bob.ask("PATCH", f"/api/sessions/{session_id}", {"kernel": {"id": kernel_id}}))
    assert reply.status == 400
    assert bob.get(f"/api/sessions/{session_id}")["kernel"]["id"] == own
    assert ids(ada, "kernels") == [kernel_id]
    # The owner may, and may change over to another of hers.
    again = ada.post("/api/sessions", ada.session("own.ipynb", {"id": kernel_id}))
    assert again["kernel"]["id"] == kernel_id


@pytest.mark.newest  # older servers know no kernel_id in this body
@KINDS
def test_an_id_that_is_taken_is_not_given_twice(ada: World, bob: World, kernel_name: str) -> None:
    kernel_id = ada.post("/api/kernels", {"name": kernel_name})["id"]
    body = {"name": kernel_name, "kernel_id": kernel_id}
    reply = bob.run(bob.ask("POST", "/api/kernels", body))
    assert reply.status == 409, reply
    assert ada.post("/api/kernels", body)["id"] == kernel_id
    assert ids(bob, "kernels") == []


@KINDS
def test_who_is_allowed_sees_and_ends_others_kernels(
    ada: World, chief: World, kernel_name: str
) -> None:
    path = ada.notebook("of-ada.ipynb")
    session_id, kernel_id = opened(ada, path, kernel_name)
    assert ids(chief, "kernels") == [kernel_id]
    assert ids(chief, "sessions") == [session_id]
    assert chief.get(f"/api/sessions/{session_id}")["kernel"]["id"] == kernel_id
    assert chief.execute(kernel_id, "6 * 7") == "42"
    chief.post(f"/api/kernels/{kernel_id}/restart")
    # By a path, one's own is meant, and not somebody else's.
    own, own_kernel = opened(chief, path, kernel_name)
    assert own != session_id
    assert own_kernel != kernel_id
    chief.delete(f"/api/sessions/{session_id}")
    assert ids(ada, "kernels") == ids(ada, "sessions") == []


def test_an_authorizer_that_has_to_ask_elsewhere_is_waited_for() -> None:
    with world_of(people("SlowAuthorizer"), PYTHONPATH=ROOT) as world:
        ada, bob, chief = (as_user(world, name) for name in ("ada", "bob", CHIEF))
        kernel_id = ada.post("/api/kernels", {"name": "work"})["id"]
        assert ids(bob, "kernels") == []
        assert ids(chief, "kernels") == [kernel_id]
        assert chief.execute(kernel_id, "1 + 1") == "2"
        ada.delete(f"/api/kernels/{kernel_id}")


def test_our_own_api_and_jupyters_agree(ada: World, bob: World, chief: World) -> None:
    kernel_id = ada.post("/elastic/api/kernels", {"template": "work"})["kernel_id"]
    assert ada.phase(kernel_id, "Running")["owner"] == "ada"
    assert ids(ada, "kernels") == [kernel_id]
    assert ids(bob, "kernels") == []
    assert bob.refused("DELETE", f"/elastic/api/kernels/{kernel_id}")["status"] == 404
    chief.delete(f"/elastic/api/kernels/{kernel_id}")
    assert ids(ada, "kernels") == []


def test_events_name_no_notebook_and_no_owner(ada: World, bob: World) -> None:
    """Jupyter sends every event to everybody."""
    url = f"ws{bob.server.url[4:]}/api/events/subscribe"

    async def listen() -> list[dict[str, Any]]:
        socket = await websocket_connect(HTTPRequest(url, headers=bob.server.headers))
        body = ada.session("secret-plans.ipynb", {"name": "work"})
        session = await ada.server.request("POST", "/api/sessions", body)
        await ada.server.request("DELETE", f"/api/sessions/{session['id']}")
        heard: list[dict[str, Any]] = []
        while not heard or heard[-1].get("change") != "removed":
            message = await asyncio.wait_for(socket.read_message(), 60)
            assert message is not None
            assert "secret-plans" not in str(message)
            heard.append(json.loads(message))
        socket.close()
        return heard

    kernels = [e for e in bob.run(listen()) if e["schema_id"] == "urn:jupyter-elastic:kernel:v1"]
    assert {event["owner"] for event in kernels} == {""}
    assert {"Starting", "Running"} <= {event["phase"] for event in kernels}


def test_jupyters_culler_ends_everybodys_plain_kernels() -> None:
    """It is begun during somebody's request, and is nobody's."""
    with world_of(people(cull=3), PYTHONPATH=ROOT) as world:
        ada, bob, chief = (as_user(world, name) for name in ("ada", "bob", CHIEF))
        for one in (ada, bob):
            one.post("/api/kernels", {"name": "python3"})
        elastic = bob.post("/api/kernels", {"name": "work"})["id"]
        chief.until(lambda: ids(chief, "kernels") == [elastic], "both plain kernels culled")
        bob.delete(f"/api/kernels/{elastic}")


def test_what_is_found_after_a_restart_is_its_owners(home: Path) -> None:
    """The record says whose a kernel is, not the server that started it."""
    config = people()

    async def scenario() -> None:
        async def served(name: str, server: Server, what: str) -> list[str]:
            server.headers[NAME] = name
            return [one["id"] for one in await server.request("GET", f"/api/{what}")]

        one = await start_server(home, config, PYTHONPATH=ROOT)
        one.headers[NAME] = "ada"
        body = {"path": "a.ipynb", "name": "a", "type": "notebook", "kernel": {"name": "work"}}
        session = await one.request("POST", "/api/sessions", body)
        await one.stop()
        two = await start_server(home, config, PYTHONPATH=ROOT)
        try:
            assert await served("bob", two, "sessions") == []
            assert await served("bob", two, "kernels") == []
            assert await served("ada", two, "sessions") == [session["id"]]
            assert await served("ada", two, "kernels") == [session["kernel"]["id"]]
        finally:
            await two.stop()

    asyncio.run(scenario())
