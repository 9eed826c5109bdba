"""What nobody else reads, and what users cannot reach, on a real Kubernetes.

Keys and the server's environment stay where they belong; pods are as restricted as they can be; and
whatever users write into names, paths, notebooks and Kernel objects, their pods are the template's.
"""

from __future__ import annotations

import base64
import json
import queue
import re
import uuid
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.blocking.client import BlockingKernelClient

from jupyter_elastic.cluster.kubernetes.manifests import owner_slug

from ..testcluster.api import ApiFailure
from ..testcluster.world import Kube
from .desk import KERNELS
from .served import RESOURCES, Served, own, served, server_on

CANARY = "nobody-must-see-this-7d1c"
ARGV = ["{python}", "-m", "ipykernel_launcher", "-f", "{connection_file}"]
NOWHERE = {"disk": "of-glass"}
"""Of the nodes for pods that are only looked at, not run."""
DEBUG = "c.ServerApp.log_level = 'DEBUG'\nc.ElasticKernels.owner = 'ada'\n"


@pytest.fixture(scope="module")
def server(kube: Kube) -> Iterator[Served]:
    offers = {"work": {"pool": 1, "resources": RESOURCES}}
    environment = {"JE_CANARY": CANARY, "AWS_SECRET_ACCESS_KEY": CANARY}
    with served(kube, DEBUG, offers=offers, environment=environment) as running:
        pod = running.desk.pod_options(nodeSelector=NOWHERE)
        volume = {"claim": "home-{owner}", "mountPath": "/home/me", "subPath": "users/{owner}/work"}
        for name, options in (("still", pod), ("owned", {**pod, "ownerVolume": volume})):
            running.desk.offer(name, pool=0, resources=RESOURCES, pod=options)
        running.until(lambda: running.find("/elastic/api/templates/owned"), "the templates")
        yield running
        running.assert_nothing_runs()


@pytest.fixture
def world(server: Served) -> Iterator[Served]:
    yield server
    server.stop_all()


# -- channels ---------------------------------------------------------------------------------


def answers(connection: Any, patience: float) -> bool:
    """Whether a kernel answers a client that has this connection file."""
    client = BlockingKernelClient()
    client.load_connection_info(connection)
    client.start_channels(iopub=False, stdin=False, hb=False, control=False)
    try:
        client.kernel_info()
        return bool(client.get_shell_msg(timeout=patience))
    except queue.Empty:
        return False
    finally:
        client.stop_channels()


def connection_of(world: Served, kernel_id: str) -> dict[str, Any]:
    """The connection file that the server keeps."""
    # The record says Running a moment before the server has a client of its own.
    assert world.execute(kernel_id, "6 * 7") == "42"
    file = world.home / "runtime" / f"kernel-{kernel_id}.json"
    assert file.stat().st_mode & 0o077 == 0
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def test_channels_are_encrypted_and_need_the_keys(world: Served) -> None:
    own(world.desk.kube)  # whose pods can be reached from here
    world.warm("work")
    kernel_id = world.start()
    connection = connection_of(world, kernel_id)
    assert connection["curve_publickey"]
    assert connection["curve_secretkey"]
    assert answers(connection, 60)
    stranger = {k: v for k, v in connection.items() if not k.startswith("curve_")}
    assert not answers(stranger, 3), "although it has the key that messages are signed with"
    world.post(f"/api/kernels/{kernel_id}/restart")
    assert connection_of(world, kernel_id) == connection
    assert answers(connection, 60)


def test_a_kernel_that_cannot_encrypt_is_refused_unless_an_admin_says_otherwise(
    world: Served,
) -> None:
    python = world.desk.kube.python
    argv = [word.replace("{python}", python) for word in ARGV]
    # The agent's own Python is the image's.
    env = {"HOME": "/tmp", "PATH": f"{Path(python).parent}:/usr/bin:/bin"}
    more = {"interpreter": None, "argv": argv, "language": "python", "env": env}
    with world.offered("other", pool=0, resources=RESOURCES, **more):
        view = world.failed("other")
        assert view["reason"] == "NoEncryption"
        assert 'channel_encryption = "preferred"' in view["message"], "a remedy that works"
        home = world.home / "preferring"
        home.mkdir()
        config = DEBUG + "c.ElasticKernels.channel_encryption = 'preferred'\n"
        config += "c.ElasticKernels.keep_pool = False\n"
        with server_on(world.desk, config, home=home) as preferring:
            kernel_id = preferring.start("other")
            assert preferring.execute(kernel_id, "6 * 7") == "42"
            connection = connection_of(preferring, kernel_id)
            assert "curve_secretkey" not in connection
            preferring.stop_all()


# -- keys and environment ----------------------------------------------------------------------


def keys_of(world: Served, kernel_id: str) -> dict[str, str]:
    """All that is secret about a kernel and its pod."""
    connection = connection_of(world, kernel_id)
    pod = world.elastic(kernel_id)["pod"]
    path = f"/api/v1/namespaces/{world.desk.namespace}/secrets/{pod}"
    data = world.desk.kube.admin.get(path)["data"]
    keys = json.loads(base64.b64decode(data["keys.json"]))
    client = json.loads(base64.b64decode(data["client.json"]))
    return {
        "signature": connection["key"],
        "channels": connection["curve_secretkey"],
        "agent": keys["secret_key"],
        "client": client["secret_key"],
    }


def objects(world: Served) -> dict[str, str]:
    """Everything that can be read in the namespace without reading Secrets, as text."""
    core = f"/api/v1/namespaces/{world.desk.namespace}"
    ours = f"/apis/elastic.jupyter.org/v1alpha1/namespaces/{world.desk.namespace}"
    places = [f"{core}/{kind}" for kind in ("pods", "events", "configmaps")]
    places += [f"{ours}/{kind}" for kind in ("kernels", "kerneltemplates", "kernelpools")]
    places += [f"/apis/coordination.k8s.io/v1/namespaces/{world.desk.namespace}/leases"]
    return {place: world.desk.kube.admin.text(place) for place in places}


def test_no_key_and_no_environment_is_anywhere_it_need_not_be(world: Served) -> None:
    world.warm("work")
    path = world.notebook("a.ipynb")
    session = world.post("/api/sessions", world.session(path, {"name": "work"}))
    kernel_id = session["kernel"]["id"]
    world.resize(kernel_id, memory="300Mi")
    world.post(f"/api/kernels/{kernel_id}/restart")
    inside = world.execute(
        kernel_id,
        "import os, pathlib\n"
        "(dict(os.environ), [pathlib.Path(f'/proc/{pid}/environ').read_bytes() for pid in (1,"
        " os.getpid(), os.getppid())], pathlib.Path('/proc/1/cmdline').read_bytes())",
    )
    pod = world.elastic(kernel_id)["pod"]
    places = {
        **objects(world),
        "environment of the kernel": inside,
        "log of the pod": world.desk.kube.log(world.desk.namespace, pod),
        "log of the server": world.server.log.read_text(),
        "what REST shows": json.dumps(
            [
                world.get(f"/elastic/api/{what}")
                for what in ("kernels", "pool", "templates", "status", f"kernels/{kernel_id}/usage")
            ]
        ),
    }
    for what, key in keys_of(world, kernel_id).items():
        assert len(key) >= 32
        for place, text in places.items():
            assert key not in text, (what, place)
    for place, text in places.items():
        assert CANARY not in text, place
        assert world.server.token not in text, place
    assert "'JPY_SESSION_NAME': '" in inside, "what is allowed does travel"
    assert "a.ipynb" in inside


def test_a_cold_kernel_gets_no_environment_either(world: Served) -> None:
    with world.emptied("work"):
        kernel_id = world.start()
        assert world.elastic(kernel_id)["start"] == "cold"
        inside = world.execute(kernel_id, "import os; dict(os.environ)")
    assert CANARY not in inside
    assert "JUPYTER_TOKEN" not in inside


# -- pods ---------------------------------------------------------------------------------------


def test_pods_are_restricted_but_for_what_the_template_mounts(world: Served, kube: Kube) -> None:
    kernel_id = world.start()
    pod = world.pod_of(kernel_id)
    facts = world.execute(
        kernel_id,
        "import os, pathlib\n"
        "status = dict(l.split(':\\t') for l in open('/proc/self/status').read().splitlines()"
        " if ':\\t' in l)\n"
        "(os.getuid(), pathlib.Path('/var/run/secrets/kubernetes.io').exists(),"
        " status['CapEff'].strip('0'), status['NoNewPrivs'], status['Seccomp'] != '0')",
    )
    assert facts == "(1000, False, '', '1', True)"
    spec = pod["spec"]
    assert spec["automountServiceAccountToken"] is False
    for name in ("hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"):
        assert not spec.get(name)
    # The real judge: the same pod, without the machine's folders, where the level is enforced.
    kept = {one["name"] for one in spec["volumes"] if "hostPath" not in one}
    spec["volumes"] = [one for one in spec["volumes"] if one["name"] in kept]
    for container in spec["containers"]:
        container["volumeMounts"] = [
            one for one in container["volumeMounts"] if one["name"] in kept
        ]
    del spec["nodeName"]
    with kube.namespace("restricted") as namespace:
        path = f"/api/v1/namespaces/{namespace}/pods?dryRun=All"
        kube.admin.post(path, {"metadata": {"name": "same"}, "spec": spec})
        del spec["securityContext"]
        with pytest.raises(ApiFailure, match="violates PodSecurity"):
            kube.admin.post(path, {"metadata": {"name": "other"}, "spec": spec})


# -- what users write ----------------------------------------------------------------------------


def pending(world: Served, kernel_id: str) -> Any:
    """The pod of a kernel that no node takes."""
    return world.until(lambda: (world.pods_of(kernel_id) or [None])[0], "its pod")


def shape(pod: dict[str, Any]) -> dict[str, Any]:
    """What must be the same of all pods of a template: all but names, keys and sizes."""
    spec, meta = deepcopy(pod["spec"]), pod["metadata"]
    for container in spec["containers"]:
        del container["resources"]
    for volume in spec["volumes"]:
        if volume.get("secret", {}).get("secretName") == meta["name"]:
            volume["secret"]["secretName"] = "the pod's own"
    labels = {k: v for k, v in meta["labels"].items() if k != "elastic.jupyter.org/kernel"}
    return {
        "spec": spec,
        "labels": labels,
        "annotations": sorted(meta["annotations"]),
        "owners": [one["kind"] for one in meta["ownerReferences"]],
    }


@pytest.fixture(scope="module")
def plain(server: Served) -> dict[str, Any]:
    """The shape of the pod of a kernel whose user wrote nothing unusual."""
    kernel_id = server.begin("still", name="a", path="a.ipynb")
    return shape(pending(server, kernel_id))


EVIL = [
    'a"; rm -rf / #',
    "{{ .Values }} ${HOME} $(id) `id` %s {owner}",
    "../../../etc/passwd",
    "- hostNetwork: true",
    "\u202e\u00e9\U0001f600 \u4e2d\u6587",
    "x" * 200,
]


@pytest.mark.parametrize("text", EVIL)
def test_names_and_paths_are_nothing_but_that(
    world: Served, plain: dict[str, Any], text: str
) -> None:
    body = {"template": "still", "name": text, "path": f"{text}.ipynb"}
    reply = world.run(world.ask("POST", "/elastic/api/kernels", body))
    if reply.status == 400:
        assert reply.json["field"] in ("name", "path")
        body["path"] = ""
        reply = world.run(world.ask("POST", "/elastic/api/kernels", body))
    assert reply.status == 202, reply
    pod = pending(world, reply.json["kernel_id"])
    assert shape(pod) == plain
    assert text not in json.dumps(pod, ensure_ascii=False)
    assert world.elastic(reply.json["kernel_id"])["name"] == text


@pytest.mark.parametrize(
    ("field", "value", "status"),
    [
        ("kernel_id", "../../secrets", 400),
        ("kernel_id", "work-0123456789", 400),
        ("kernel_id", "", 400),
        ("name", "a\nhostNetwork: true", 400),
        ("name", "x" * 201, 400),
        ("path", "a\0b", 400),
        ("path", "../outside.ipynb", 400),
        ("path", "x" * 5000, 400),
        ("template", "../still", 404),
        ("template", "still\n", 404),
        ("template", "x" * 64, 400),
        ("image", "evil:latest", 400),
        ("pod", {"hostNetwork": True}, 400),
        ("resources", {"cpu": 1, "nvidia.com/gpu": 1}, 400),
        ("resources", {"memory": "1Gi\nhostNetwork: true"}, 400),
        ("resources", {"cpu": {"limit": 1}}, 400),
    ],
)
def test_what_is_no_such_field_is_refused(
    world: Served, field: str, value: Any, status: int
) -> None:
    problem = world.problem("POST", "/elastic/api/kernels", {"template": "still", field: value})
    assert problem["status"] == status, problem
    assert world.get("/elastic/api/kernels")["kernels"] == []


@pytest.mark.parametrize(
    ("elastic", "refused"),
    [
        ({"template": "still", "resources": {"cpu": "200m"}, "pod": {"hostPID": True}}, False),
        ({"template": "still", "image": "evil:latest", "env": {"A": "b"}}, False),
        ({"template": "still", "resources": {"image": "evil:latest"}}, True),
        ({"template": "still", "resources": {"cpu": "200m", "privileged": True}}, True),
        ({"template": "still", "resources": {"memory": "1000Ti"}}, True),
        ({"template": ["still"], "resources": "all"}, True),
    ],
)
def test_a_notebooks_metadata_reaches_sizes_only(
    world: Served, plain: dict[str, Any], elastic: dict[str, Any], refused: bool
) -> None:
    path = world.notebook("wish.ipynb", {"elastic": elastic})
    request = world.meanwhile("POST", "/api/sessions", world.session(path, {"name": "still"}))
    if refused:
        reply = world.answer(request)
        assert reply.status >= 400, reply  # 500, whatever it is, by Jupyter's own handler
        assert "metadata.elastic" in reply.json["message"]
        assert world.desk.kernels() == []
        return
    [record] = world.until(world.desk.kernels, "the record")
    pod = pending(world, record["metadata"]["name"])
    assert shape(pod) == plain
    assert "evil" not in json.dumps(pod)
    world.desk.end(record["metadata"]["name"])
    world.answer(request)


def test_a_session_cannot_choose_a_kernel_that_is_no_kernel(world: Served) -> None:
    for kernel in (
        {"id": "../../secrets", "name": "still"},
        {"name": "still", "id": "0"},
        {"name": "../still"},
        {"name": "still/../work"},
    ):
        body = world.session("a.ipynb", kernel)
        reply = world.run(world.ask("POST", "/api/sessions", body))
        assert reply.status >= 400, reply
    assert world.desk.kernels() == []


OWNERS = [
    "bob/../ada",
    "Ada",
    'x"; drop: "',
    "line\nbreak: true",
    "\u00fcn\u00efc\u00f6de \U0001f600",
    "o" * 256,
    "..",
    "{owner}",
]


def test_owners_are_told_apart_and_name_nothing_else(world: Served) -> None:
    """Kernel objects that were applied with any owner: only claim and folder tell, safely."""
    ids = {}
    for owner in ["ada", *OWNERS]:
        kernel_id = ids[owner] = str(uuid.uuid4())
        body = {
            "apiVersion": "elastic.jupyter.org/v1alpha1",
            "kind": "Kernel",
            "metadata": {"name": kernel_id},
            "spec": {"owner": owner, "template": "owned"},
        }
        world.desk.kube.admin.post(KERNELS.format(world.desk.namespace), body)
    shapes, claims = [], set()
    try:
        for owner, kernel_id in ids.items():
            pod = pending(world, kernel_id)
            [volume] = [one for one in pod["spec"]["volumes"] if "persistentVolumeClaim" in one]
            claim = volume["persistentVolumeClaim"].pop("claimName")
            [container] = pod["spec"]["containers"]
            [mount] = [one for one in container["volumeMounts"] if "subPath" in one]
            folder = mount.pop("subPath")
            assert re.fullmatch(r"home-[a-z0-9]([-a-z0-9]*[a-z0-9])?", claim), (owner, claim)
            assert re.fullmatch(r"users/[a-z0-9][-a-z0-9]*/work", folder), (owner, folder)
            claims.add((claim, folder))
            shapes.append(shape(pod))
            if len(owner) > 4:
                assert owner not in json.dumps(pod, ensure_ascii=False)
        assert len(claims) == len(ids), "no two owners share a volume or a folder"
        assert all(one == shapes[0] for one in shapes)
    finally:
        for kernel_id in ids.values():
            world.desk.end(kernel_id)


def test_no_owner_can_take_the_name_that_another_one_got() -> None:
    other = owner_slug("bob/ada")
    assert owner_slug(other) != other


@pytest.mark.parametrize("owner", ["eve/../\"\n'ada", "o" * 300])
def test_a_server_with_an_unusual_owner(world: Served, plain: dict[str, Any], owner: str) -> None:
    home = world.home / f"of-{len(owner)}"
    home.mkdir()
    config = f"c.ElasticKernels.owner = {owner!r}\nc.ElasticKernels.keep_pool = False\n"
    with server_on(world.desk, config, home=home) as other:
        reply = other.run(other.ask("POST", "/elastic/api/kernels", {"template": "still"}))
        if len(owner) > 256:
            assert 400 <= reply.status < 500
            assert "spec.owner" in reply.json["title"], reply
            assert other.get("/elastic/api/kernels")["kernels"] == []
            assert world.desk.kernels() == []
            return
        kernel_id = reply.json["kernel_id"]
        assert shape(pending(other, kernel_id)) == plain
        assert [one["kernel_id"] for one in other.get("/elastic/api/kernels")["kernels"]] == [
            kernel_id
        ]
        # Ada does not see it.
        problem = world.problem("GET", f"/elastic/api/kernels/{kernel_id}")
        assert problem["reason"] == "UnknownKernel"
        other.stop_all()
