"""Requests to an API server that fails, stalls and refuses; finding one and its credentials."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import logging
import os
import stat
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from jupyter_elastic import __version__
from jupyter_elastic.cluster.kubernetes import problems
from jupyter_elastic.cluster.kubernetes.api import MERGE_PATCH, KubeApi
from jupyter_elastic.cluster.kubernetes.connection import Connection, proxy_for
from jupyter_elastic.cluster.kubernetes.transport import Budget, lines
from jupyter_elastic.errors import ApiUnreachable, Forbidden, KernelExists, Unsupported

from .fakeapi import PODS, FakeApi, Pause, connected, cut, failure, hang, until, write_kubeconfig

VERSIONED = {"metadata": {"resourceVersion": "7"}}


@pytest.fixture(autouse=True)
def no_cluster_of_the_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


# -- finding the cluster -----------------------------------------------------------------------


async def test_a_kubeconfig_by_name_by_variable_and_in_its_usual_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = tmp_path / "home" / ".kube" / "config"
    usual.parent.mkdir(parents=True)
    write_kubeconfig(usual, "http://usual", namespace="a")
    assert (await Connection.load()).host == "http://usual"

    write_kubeconfig(tmp_path / "variable", "http://variable")
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path / 'missing'}{os.pathsep}{tmp_path / 'variable'}")
    assert (await Connection.load()).host == "http://variable"

    named = write_kubeconfig(tmp_path / "named", "http://named/k8s/clusters/c-1/")
    assert (await Connection.load(kubeconfig=str(named))).host == "http://named/k8s/clusters/c-1"


async def test_the_namespace_is_what_is_asked_else_the_contexts_else_default(
    tmp_path: Path,
) -> None:
    path = str(write_kubeconfig(tmp_path / "a", "http://x", namespace="mine"))
    assert (await Connection.load(kubeconfig=path, namespace="asked")).namespace == "asked"
    assert (await Connection.load(kubeconfig=path)).namespace == "mine"
    path = str(write_kubeconfig(tmp_path / "b", "http://x"))
    assert (await Connection.load(kubeconfig=path)).namespace == "default"


async def test_another_context(tmp_path: Path) -> None:
    path = write_kubeconfig(tmp_path / "a", "http://x")
    config = json.loads(path.read_text())
    config["contexts"].append({"name": "there", "context": {"cluster": "d", "user": "u"}})
    config["clusters"].append({"name": "d", "cluster": {"server": "http://there"}})
    path.write_text(json.dumps(config))
    found = await Connection.load(kubeconfig=str(path), context="there")
    assert found.host == "http://there"
    with pytest.raises(Unsupported, match="context nowhere"):
        await Connection.load(kubeconfig=str(path), context="nowhere")


async def test_a_context_that_is_chosen_later_moves_no_kernels(tmp_path: Path) -> None:
    path = write_kubeconfig(tmp_path / "a", "http://x")
    found = await Connection.load(kubeconfig=str(path))
    config = json.loads(path.read_text())
    config["contexts"].append({"name": "there", "context": {"cluster": "d", "user": "u"}})
    config["clusters"].append({"name": "d", "cluster": {"server": "http://there"}})
    path.write_text(json.dumps({**config, "current-context": "there"}))
    await found.reload(found.generation)
    assert (found.host, found.generation) == ("http://x", 2)


@pytest.fixture
def in_pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As in a pod: the service account's folder."""
    from kubernetes.aio.config import incluster_config

    folder = tmp_path / "serviceaccount"
    folder.mkdir()
    (folder / "token").write_text("first")
    (folder / "ca.crt").write_bytes(certificate())
    (folder / "namespace").write_text("of-the-pod\n")
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(folder / "token"))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(folder / "ca.crt"))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    return folder


def certificate() -> bytes:
    """Some authority; which one does not matter."""
    import certifi

    text = Path(certifi.where()).read_text()
    start, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    first = text[text.index(start) : text.index(end)]
    return f"{first}{end}\n".encode()


async def test_in_a_pod(in_pod: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path / "a", "http://x")))
    found = await Connection.load()
    assert found.in_cluster
    assert (found.host, found.namespace) == ("https://[fd00::1]:443", "of-the-pod")
    assert await found.headers() == {"authorization": "bearer first"}
    (in_pod / "token").write_text("second")
    await found.reload(found.generation)
    assert await found.headers() == {"authorization": "bearer second"}


async def test_in_a_pod_a_kubeconfig_that_is_named_goes_first(in_pod: Path, tmp_path: Path) -> None:
    path = write_kubeconfig(tmp_path / "a", "http://x")
    found = await Connection.load(kubeconfig=str(path))
    assert (found.in_cluster, found.host) == (False, "http://x")


async def test_credentials_that_vanish_are_kept(
    in_pod: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = await Connection.load()
    (in_pod / "token").unlink()
    with caplog.at_level(logging.WARNING, "jupyter_elastic"):
        await found.reload(found.generation)
    assert "service account" in caplog.text
    assert await found.headers() == {"authorization": "bearer first"}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "does not exist"),
        ("{", "cannot be used"),
        ("[]", "cannot be used"),
        ("apiVersion: v1\nkind: Config\n", "cannot be used"),
        (json.dumps({"current-context": "a", "contexts": [], "clusters": []}), "context"),
    ],
)
async def test_a_kubeconfig_that_cannot_be_used_is_named(
    tmp_path: Path, content: str | None, says: str
) -> None:
    path = tmp_path / "config"
    if content is not None:
        path.write_text(content)
    with pytest.raises(Unsupported, match=says) as caught:
        await KubeApi.connect(kubeconfig=str(path))
    assert str(path) in caught.value.message


async def test_without_the_optional_extra_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "kubernetes.aio.config", None)
    path = write_kubeconfig(tmp_path / "a", "http://x")
    with pytest.raises(Unsupported, match=r'pip install "jupyter_elastic\[kubernetes\]"'):
        await KubeApi.connect(kubeconfig=str(path))


def test_a_proxy_for_all_but_some(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    monkeypatch.setenv("NO_PROXY", "localhost, 10.96.0.0/12,.svc, fd00::/8")
    assert proxy_for("https://api.example:6443") == "http://proxy:3128"
    assert proxy_for("https://192.168.1.1:6443/k8s") == "http://proxy:3128"
    for inside in ("10.96.0.1", "[fd00::1]", "kubernetes.default.svc", "localhost", "127.0.0.1"):
        assert proxy_for(f"https://{inside}:443") is None, inside


# -- requests ----------------------------------------------------------------------------------


async def test_a_request_says_who_asks_and_its_answer_stays_bytes(tmp_path: Path) -> None:
    async with connected(tmp_path) as (fake, api):
        assert api.path("pods", "a", "resize") == f"{PODS}/a/resize"
        answer = await api.request(
            "PATCH",
            f"{PODS}/a",
            body={"metadata": {"labels": {"ä": "1"}}},
            content_type=MERGE_PATCH,
            query={"fieldManager": "jupyter elastic"},
        )
        assert json.loads(answer) == {"metadata": {"name": "x"}}
        [request], [body] = fake.seen, fake.bodies
        assert request.headers["User-Agent"] == f"jupyter-elastic/{__version__}"
        assert request.headers["Authorization"] == "Bearer secret"
        assert request.headers["Content-Type"] == MERGE_PATCH
        assert request.query == {"fieldManager": "jupyter elastic"}
        assert json.loads(body) == {"metadata": {"labels": {"ä": "1"}}}
        await api.request("POST", f"{PODS}/a/resize", body=b"as it is")
        assert fake.bodies[-1] == b"as it is"
        assert api.requests == {("patch", "pods"): 1, ("create", "pods/resize"): 1}


async def test_a_gateways_page_to_log_in_is_no_answer(tmp_path: Path) -> None:
    async def login(_request: web.Request) -> web.StreamResponse:
        raise web.HTTPFound("/login")

    async with connected(tmp_path) as (fake, api):
        fake.next.append(login)
        with pytest.raises(problems.ApiError, match="302"):
            await api.request("GET", PODS)
        assert len(fake.seen) == 1


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
async def test_too_many_requests_are_repeated_when_the_api_says(
    tmp_path: Path, method: str
) -> None:
    pause = Pause()
    async with connected(tmp_path, sleep=pause) as (fake, api):
        fake.put("a")
        fake.next.append(failure(429, "TooManyRequests", headers={"Retry-After": "3"}))
        fake.next.append(failure(429, "TooManyRequests"))
        await api.request(method, f"{PODS}/a", body={})
        assert len(fake.seen) == 3
        assert pause.slept == [pytest.approx(3.1), pytest.approx(0.2)]


async def test_repeating_ends_with_the_timeout_and_the_apis_own_words(tmp_path: Path) -> None:
    pause = Pause()
    async with connected(tmp_path, sleep=pause) as (fake, api):
        fake.next.extend([failure(503, "ServiceUnavailable", "starting")] * 50)
        with pytest.raises(problems.ApiBusy, match="starting"):
            await api.request("GET", PODS, timeout=8)
        assert sum(pause.slept) < 8
        assert 5 <= len(fake.seen) <= 8


SAFE = [
    ("GET", {}, True),
    ("DELETE", {}, True),
    ("PUT", VERSIONED, True),
    ("PATCH", VERSIONED, True),
    ("PATCH", {"metadata": {}}, False),
    ("PATCH", [{"op": "remove", "path": "/x"}], False),
    ("POST", VERSIONED, False),
]


@pytest.mark.parametrize(("method", "body", "safe"), SAFE)
async def test_what_may_have_been_done_is_repeated_only_when_that_is_safe(
    tmp_path: Path, method: str, body: Any, safe: bool
) -> None:
    for trouble in (failure(503, "ServiceUnavailable", "down"), cut):
        async with connected(tmp_path) as (fake, api):
            fake.put("a")
            fake.next.append(trouble)
            if safe:
                await api.request(method, f"{PODS}/a", body=body)
                assert len(fake.seen) == 2
            else:
                with pytest.raises((ApiUnreachable, problems.ApiBusy)) as caught:
                    await api.request(method, f"{PODS}/a", body=body)
                assert caught.value.retry
                assert len(fake.seen) == 1


async def test_what_did_not_reach_the_api_is_repeated(tmp_path: Path) -> None:
    async with connected(tmp_path) as (fake, api):
        port = fake.port
        await fake.stop()
        asked = asyncio.create_task(api.request("POST", PODS, body={}))
        await until(lambda: api.requests["create", "pods"] > 2, "some attempts")
        await fake.start(port)
        await asked
        assert fake.paths == [f"POST {PODS}"]


async def test_a_refusal_is_asked_again_just_after_an_outage_only(tmp_path: Path) -> None:
    """An API server that starts knows no roles for a moment."""
    refused = failure(
        403,
        "Forbidden",
        'pods is forbidden: User "ada" cannot create resource "pods" in API group "" in the'
        ' namespace "team"',
    )
    now = 1000.0
    async with connected(tmp_path, clock=lambda: now, sleep=Pause()) as (fake, api):
        fake.next.extend([cut, cut])  # one of them is for aiohttp, which repeats by itself
        await api.request("GET", PODS)  # meets the outage, and is repeated
        del fake.seen[:]
        fake.next.extend([refused, refused])
        await api.request("POST", PODS, body={})
        assert fake.paths == [f"POST {PODS}"] * 3
        now += 11
        fake.next.append(refused)
        with pytest.raises(Forbidden, match="may not create pods"):
            await api.request("POST", PODS, body={})
        assert fake.paths == [f"POST {PODS}"] * 4


async def test_no_answer_in_time_is_an_error_that_says_nothing_is_lost(tmp_path: Path) -> None:
    async with connected(tmp_path) as (fake, api):
        fake.next.extend([hang, hang])
        with pytest.raises(ApiUnreachable, match=r"did not answer create pods within 0\.3 s") as it:
            await api.request("POST", PODS, body={}, timeout=0.3)
        assert "Kernels run on" in it.value.remedy
        assert it.value.status == 503
        # A read leaves time for a second attempt, on another connection.
        assert b"items" in await api.request("GET", PODS, timeout=1)


async def test_nobody_listens(tmp_path: Path) -> None:
    async with connected(tmp_path) as (fake, api):
        await fake.stop()
        with pytest.raises(ApiUnreachable, match="cannot be reached for get pods"):
            await api.request("GET", f"{PODS}/a", timeout=1)
        with pytest.raises(ApiUnreachable):
            async for _ in api.watch(PODS):
                pass
        with pytest.raises(ApiUnreachable):
            await api.websocket(f"{PODS}/a/portforward", {}, [])
        await fake.start()


async def test_a_conflict_after_a_lost_answer_says_that_it_may_be_our_own(tmp_path: Path) -> None:
    async with connected(tmp_path) as (fake, api):
        fake.next.extend([cut, failure(409, "Conflict", "changed")])
        with pytest.raises(problems.ApiConflict) as caught:
            await api.request("PATCH", f"{PODS}/a", body=VERSIONED)
        assert caught.value.retried
        fake.next.append(failure(409, "Conflict", "changed"))
        with pytest.raises(problems.ApiConflict) as caught:
            await api.request("PATCH", f"{PODS}/a", body=VERSIONED)
        assert not caught.value.retried


async def test_creations_that_stumble_over_the_quotas_version_are_repeated(tmp_path: Path) -> None:
    async with connected(tmp_path) as (fake, api):
        details = {"name": "q", "kind": "resourcequotas"}
        fake.next.append(failure(409, "Conflict", "modified", details=details))
        await api.request("POST", PODS, body={})
        assert len(fake.seen) == 2


async def test_an_id_that_is_taken_is_what_the_caller_says(tmp_path: Path) -> None:
    async with connected(tmp_path) as (fake, api):
        details = {"name": "k", "kind": "kernels"}
        taken = failure(409, "AlreadyExists", 'kernels "k" already exists', details=details)
        fake.next.extend([taken, taken])
        with pytest.raises(KernelExists):
            await api.request("POST", PODS, body={}, exists=KernelExists)
        with pytest.raises(problems.ApiConflict) as caught:
            await api.request("POST", PODS, body={})
        assert caught.value.exists


# -- credentials -------------------------------------------------------------------------------


def plugin(folder: Path) -> dict[str, Any]:
    """A credential plugin that gives a new token every time it runs."""
    script = folder / "plugin"
    script.write_text(
        f"#!{sys.executable}\n"
        "import json, pathlib\n"
        f"runs = pathlib.Path({str(folder / 'runs')!r})\n"
        "runs.open('a').write('.')\n"
        "status = {'token': f'token-{len(runs.read_text())}'}\n"
        "api = 'client.authentication.k8s.io/v1'\n"
        "print(json.dumps({'apiVersion': api, 'kind': 'ExecCredential', 'status': status}))\n"
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    api = "client.authentication.k8s.io/v1"
    return {"exec": {"apiVersion": api, "command": str(script), "interactiveMode": "Never"}}


@contextlib.asynccontextmanager
async def guarded(folder: Path) -> AsyncIterator[tuple[FakeApi, KubeApi, set[str]]]:
    """An API server that admits only some tokens, and a client with a plugin."""
    admitted: set[str] = {"token-1"}
    async with connected(folder, plugin(folder)) as (fake, api):
        proper = fake._answer

        async def doorman(request: web.Request) -> web.StreamResponse:
            token = request.headers.get("Authorization", "").removeprefix("Bearer ")
            if token not in admitted:
                fake.seen.append(request)
                return await failure(401, "Unauthorized", "Unauthorized")(request)
            return await proper(request)

        await fake.stop()
        fake._answer = doorman  # type: ignore[method-assign]
        await fake.start(fake.port)
        yield fake, api, admitted


async def test_refused_credentials_are_loaded_anew_once_for_all(tmp_path: Path) -> None:
    async with guarded(tmp_path) as (_fake, api, admitted):
        await api.request("GET", PODS)
        admitted.clear()
        admitted.add("token-2")
        await asyncio.gather(*(api.request("GET", PODS) for _ in range(10)))
        assert (tmp_path / "runs").read_text() == ".."


async def test_a_watch_and_a_websocket_load_them_anew_too(tmp_path: Path) -> None:
    async with guarded(tmp_path) as (fake, api, admitted):
        admitted.clear()
        admitted.add("token-2")
        opened = asyncio.Event()
        watch = api.watch(PODS, {"resourceVersion": "0"}, opened=opened.set)
        fake.put("a")
        async for line in watch:
            assert json.loads(line)["object"]["metadata"]["name"] == "a"
            break
        await watch.aclose()
        assert opened.is_set()
        admitted.clear()
        admitted.add("token-3")
        with pytest.raises(problems.ApiNotFound):
            await api.websocket(f"{PODS}/nobody/portforward", {}, [])
        assert (tmp_path / "runs").read_text() == "..."


async def test_credentials_that_stay_refused_are_an_error_that_says_so(tmp_path: Path) -> None:
    async with guarded(tmp_path) as (fake, api, admitted):
        admitted.clear()
        with pytest.raises(problems.Unauthorized, match="credentials") as caught:
            await api.request("GET", PODS)
        assert "kubeconfig" in caught.value.remedy
        assert len(fake.seen) == 2
        with pytest.raises(problems.Unauthorized):
            async for _ in api.watch(PODS):
                pass


async def test_a_client_certificate_that_was_renewed(tmp_path: Path) -> None:
    path = write_kubeconfig(tmp_path / "a", "https://x")
    config = json.loads(path.read_text())
    authority = base64.b64encode(certificate()).decode()
    config["clusters"][0]["cluster"]["certificate-authority-data"] = authority
    path.write_text(json.dumps(config))
    found = await Connection.load(kubeconfig=str(path))
    before = found.ssl
    await found.reload(found.generation)
    assert found.ssl is not before
    await found.reload(found.generation - 1)
    assert found.generation == 2


# -- budget and streams ------------------------------------------------------------------------


async def test_the_budget_lets_a_burst_pass_and_delays_the_rest() -> None:
    now, slept = [0.0], []

    async def sleep(seconds: float) -> None:
        slept.append(round(seconds, 6))

    budget = Budget(10, 3, clock=lambda: now[0], sleep=sleep)
    for _ in range(6):
        await budget.take()
    assert slept == [0.1, 0.2, 0.3]
    now[0] += 0.35  # the debt is paid, and half a token is there
    await budget.take()
    assert slept[3:] == [pytest.approx(0.05)]
    now[0] += 1000
    for _ in range(4):
        await budget.take()
    assert len(slept) == 5


async def test_no_request_passes_by_the_budget(tmp_path: Path) -> None:
    pause = Pause()
    async with connected(tmp_path, qps=1, burst=1, sleep=pause) as (fake, api):
        await api.request("GET", PODS)
        fake.next.append(failure(503))
        await api.request("GET", PODS)
        watch = api.watch(PODS, {"resourceVersion": "0"})
        fake.put("a")
        await watch.__anext__()
        await watch.aclose()
        budgeted = [one for one in pause.slept if one > 0.5]
        assert len(budgeted) == 3


@given(st.lists(st.binary(max_size=8).map(lambda b: b.replace(b"\r", b"")), max_size=20))
def test_lines_do_not_depend_on_how_they_were_cut(chunks: list[bytes]) -> None:
    async def collect() -> list[bytes]:
        async def stream() -> AsyncIterator[bytes]:
            for chunk in chunks:
                yield chunk

        return [line async for line in lines(stream())]

    *whole, _rest = b"".join(chunks).split(b"\n")
    assert asyncio.run(collect()) == [line for line in whole if line.strip()]


async def test_half_a_line_of_a_watch_that_breaks_is_dropped(tmp_path: Path) -> None:
    async with connected(tmp_path) as (fake, api):
        got = []

        async def read() -> None:
            async for line in api.watch(PODS, {"resourceVersion": "0"}):
                got.append(line)

        task = asyncio.create_task(read())
        await until(lambda: fake.watches, "the watch")
        large = b'{"type":"ADDED","object":"' + b"x" * 3_000_000 + b'"}'
        fake.say(large + b"\n" + b'{"type":')
        await until(lambda: got, "the whole line")
        fake.cut_watches()
        with pytest.raises(ApiUnreachable):
            await task
        assert got == [large]


async def test_a_watch_ends_when_the_server_ends_it(tmp_path: Path) -> None:
    async with connected(tmp_path) as (fake, api):
        fake.put("a")
        got = []
        async for line in api.watch(PODS, {"resourceVersion": "0"}):
            got.append(json.loads(line)["type"])
            fake.end_watches()
        assert got == ["ADDED", "BOOKMARK"]
        assert api.requests == {("watch", "pods"): 1}


async def test_watches_leave_connections_for_requests(tmp_path: Path) -> None:
    async def watch(api: KubeApi) -> None:
        async for _ in api.watch(PODS, {"resourceVersion": "0"}):
            pass

    async with connected(tmp_path) as (fake, api):
        watches = [asyncio.create_task(watch(api)) for _ in range(150)]
        await until(lambda: fake.watches == 150, "the watches")
        answers = await asyncio.gather(*(api.request("GET", PODS) for _ in range(64)))
        assert all(b"items" in answer for answer in answers)
        assert fake.watches == 150, "none had to end for them"
        fake.end_watches()
        await asyncio.gather(*watches)


async def test_after_the_end_nothing_is_sent(tmp_path: Path) -> None:
    async with connected(tmp_path) as (fake, api):
        await api.close()
        await api.close()
        for asked in (
            api.request("POST", PODS, body={}),
            api.watch(PODS).__anext__(),
            api.websocket(f"{PODS}/a/portforward", {}, []),
        ):
            with pytest.raises(ApiUnreachable, match="closed"):
                await asked
        assert not fake.seen
