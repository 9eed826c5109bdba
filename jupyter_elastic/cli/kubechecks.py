"""What ``jupyter elastic doctor`` looks at where kernels run on Kubernetes.

First what needs no more than an API server that answers; a cluster that is open already says the
rest. Nothing of this machine is looked at but the client and whether channels can be encrypted.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, requires
from typing import TYPE_CHECKING, Any

import msgspec
import zmq
from jupyter_client.manager import KernelManager
from packaging.requirements import Requirement

from ..cluster.base import Cluster
from ..errors import CrdsMissing, ElasticError, NoEncryption
from ..model import UNLIMITED, Capacity, Pod, PodPhase, Template
from ..resources import show_memory
from . import rights
from .checks import Check, version_of

if TYPE_CHECKING:
    from ..cluster.kubernetes.api import KubeApi
    from ..kernels.settings import ElasticKubernetes

EXTRA = "kubernetes"
PATIENCE = 10.0
"""Seconds the API server may take for its first answer, and an agent for its."""
SERVER_ROLE = "jupyter-elastic-server"
PORT_FORWARD_ROLE = "jupyter-elastic-port-forward"
LOWERS_MEMORY = 34
"""Of Kubernetes 1: the first version that lowers the memory limit of a container that runs."""
PLURALS = ("kernels", "kernelpools", "kerneltemplates")
"""Without these nothing works."""


# -- before the cluster is opened --------------------------------------------------------------


async def before_opening(settings: ElasticKubernetes) -> AsyncIterator[Check]:
    """Client, API, definitions, resizing, rights and access; ends where no more can be asked."""
    found = client()
    yield found
    if found.state == "broken":
        return
    from ..cluster.kubernetes.api import KubeApi

    try:
        api = await KubeApi.connect(
            kubeconfig=settings.kubeconfig, context=settings.context, namespace=settings.namespace
        )
    except ElasticError as error:
        yield _broken("cluster", error)
        return
    try:
        async for check in of_api(api, settings):
            yield check
    finally:
        await api.close()


def client() -> Check:
    """Whether the client package is there, in a version that is tested."""
    try:
        declared = requires("jupyter_elastic") or ()
    except PackageNotFoundError:  # only imported; `versions` says so
        declared = ()
    wanted = [Requirement(text) for text in declared if "extra ==" in text]
    for one in wanted:
        if one.name != "kubernetes" or not one.marker or not one.marker.evaluate({"extra": EXTRA}):
            continue
        there = version_of(one.name)
        if there is None or not one.specifier.contains(there, prereleases=True):
            return Check(
                "client",
                "broken",
                f"The package {one.name} is {there or 'missing'}, needed is {one.specifier}.",
                f'pip install "jupyter_elastic[{EXTRA}]"',
            )
    there = version_of("kubernetes")
    if there is None:
        missing = "The package kubernetes is missing."
        return Check("client", "broken", missing, f'pip install "jupyter_elastic[{EXTRA}]"')
    return Check("client", "ok", f"kubernetes {there}, aiohttp {version_of('aiohttp')}")


async def of_api(api: KubeApi, settings: ElasticKubernetes) -> AsyncIterator[Check]:
    """What an API server says of itself and of us."""
    try:
        version = _decoded(await api.request("GET", "/version", timeout=PATIENCE))
    except ElasticError as error:
        yield _broken("cluster", error)
        return
    number = str(version.get("gitVersion") or "?")
    who = await _user(api)
    shown = f"Kubernetes {number} at {api.server}, namespace {api.namespace}"
    yield Check("cluster", "ok", shown + (f", as {who}" if who else ""))
    if missing := await _missing(api):
        yield missing
        return
    try:
        yield definitions(await _names(api, "/apis/elastic.jupyter.org/v1alpha1"))
        yield resizing(await _names(api, "/api/v1"), number)
        async for check in _rights(api, settings):
            yield check
    except ElasticError as error:
        yield _broken("cluster", error)
        return
    yield access(settings.access, api.in_cluster)


def definitions(names: Iterable[str]) -> Check:
    """Whether the cluster knows our resources."""
    lacking = [plural for plural in PLURALS if plural not in set(names)]
    if not lacking:
        return Check("definitions", "ok", "installed (elastic.jupyter.org/v1alpha1)")
    message = f"This cluster does not know {', '.join(lacking)} of elastic.jupyter.org/v1alpha1."
    return Check("definitions", "broken", message, CrdsMissing.remedy)


def resizing(names: Iterable[str], version: str) -> Check:
    """Whether pods can be resized in place, which every claim of a warm pod needs."""
    remedy = "Use Kubernetes 1.34 or newer."
    if "pods/resize" not in set(names):
        message = (
            f"Kubernetes {version} does not know pods/resize: there is no pool, every kernel starts"
            " cold, and another size needs another pod."
        )
        return Check("resize", "note", message, remedy)
    number = re.match(r"v?1\.(\d+)", version)
    if number and int(number[1]) < LOWERS_MEMORY:
        message = f"pods/resize is known, but Kubernetes {version} cannot lower memory in place."
        return Check("resize", "note", message, remedy)
    return Check("resize", "ok", "pods/resize is known to the server")


def access(setting: str, in_cluster: bool) -> Check:
    """How pods are reached, and whether that can be."""
    if setting == "auto":
        setting = "direct" if in_cluster else "port-forward"
    if setting == "port-forward":
        return Check("access", "ok", "port-forward, through the API server")
    if in_cluster:
        return Check("access", "ok", "direct, by the addresses of pods")
    return Check(
        "access",
        "note",
        "direct, by the addresses of pods, though this is no pod of the cluster.",
        'Set c.ElasticKubernetes.access = "port-forward" unless these addresses lead there.',
    )


async def _rights(api: KubeApi, settings: ElasticKubernetes) -> AsyncIterator[Check]:
    from ..cluster.kubernetes import shipped

    roles = [SERVER_ROLE]
    if access(settings.access, api.in_cluster).message.startswith("port-forward"):
        roles.append(PORT_FORWARD_ROLE)
    for role in roles:
        needed = rights.rights_of(shipped.roles(api.namespace), role)
        yield rights.report(needed, await rights.ask(api, needed), role, api.namespace)


async def _user(api: KubeApi) -> str:
    """Whom the API takes us for; empty where it does not tell."""
    path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    try:
        answer = _decoded(await api.request("POST", path, body=body, timeout=PATIENCE))
    except ElasticError:
        return ""
    return str(answer.get("status", {}).get("userInfo", {}).get("username") or "")


async def _missing(api: KubeApi) -> Check | None:
    """Say that the namespace does not exist; most servers may not ask, and are refused later."""
    from ..cluster.kubernetes.problems import ApiNotFound

    try:
        await api.request("GET", f"/api/v1/namespaces/{api.namespace}", timeout=PATIENCE)
    except ApiNotFound:
        message = f"Namespace {api.namespace} does not exist."
        return Check("cluster", "broken", message, f"kubectl create namespace {api.namespace}")
    except ElasticError:
        return None
    return None


async def _names(api: KubeApi, path: str) -> list[str]:
    """The resources of an API group; none where there is no such group."""
    from ..cluster.kubernetes.problems import ApiNotFound

    try:
        answer = _decoded(await api.request("GET", path))
    except (ApiNotFound, CrdsMissing):
        return []
    return [str(one.get("name")) for one in answer.get("resources", ())]


def _decoded(answer: bytes) -> dict[str, Any]:
    data: dict[str, Any] = msgspec.json.decode(answer)
    return data


def _broken(name: str, error: ElasticError) -> Check:
    return Check(name, "broken", error.message, error.remedy)


# -- of an open cluster ------------------------------------------------------------------------


def room(capacity: Capacity) -> Check:
    """What kernels may have together, and what of it is taken."""
    total, used = capacity.total, capacity.used
    cpu, memory = f"{used.cpu / 1000:g}", show_memory(used.memory)
    of_cpu = f" of {total.cpu / 1000:g}" if total.cpu < UNLIMITED else ""
    of_memory = f" of {show_memory(total.memory)}" if total.memory < UNLIMITED else ""
    text = f"{cpu}{of_cpu} CPU and {memory}{of_memory} taken"
    for name, count in capacity.counts.items():
        text += f", {capacity.counts_used.get(name, 0)} of {count} {name}"
    if not of_cpu and not of_memory and not capacity.counts:
        text += "; neither a ResourceQuota nor c.ElasticKubernetes says how much there is"
    return Check("capacity", "ok", text)


def templates(offered: Mapping[str, Template], image: str) -> Iterator[Check]:
    """Whether there are templates, and pods can be made of them.

    Parameters
    ----------
    image
        That of templates which name none.
    """
    if not offered:
        yield Check(
            "templates",
            "broken",
            "No template is offered.",
            "Apply a KernelTemplate in the namespace, or set c.ElasticKernels.templates.",
        )
    for name, template in offered.items():
        yield _of_template(name, template, image)


def _of_template(name: str, template: Template, image: str) -> Check:
    about = f"template {name}"
    if not template.image and not image:
        remedy = "Give it an image with Python and pyzmq, or set c.ElasticKubernetes.image."
        return Check(about, "broken", "It names no image.", remedy)
    known = template.kubernetes.gpus if template.kubernetes else {}
    strange = [one for one in template.resources.gpu.kinds if "/" not in one and one not in known]
    if strange:
        return Check(
            about,
            "broken",
            f"What stands for GPUs of the kind {strange[0]} is not said.",
            "Name a resource such as nvidia.com/gpu, or describe the kind in kubernetes.gpus.",
        )
    if template.pool.size and template.kubernetes and template.kubernetes.owner_volume:
        return Check(
            about,
            "note",
            f"It keeps {template.pool.size} warm, and none ever serves: each kernel needs the"
            " volume of its owner.",
            "Leave out the size of its pool.",
        )
    return Check(about, "ok", f"image {template.image or image}")


def encryption(
    setting: str, required: bool, offered: Mapping[str, Template], *, here: bool | None = None
) -> Iterator[Check]:
    """Whether the kernels' channels can be encrypted from here, and must be.

    Parameters
    ----------
    setting
        ``c.ElasticKernels.channel_encryption``.
    required
        Whether kernels that cannot are refused.
    here
        Whether this environment can; found out when left out.
    """
    if here is None:
        here = bool(zmq.has("curve")) and hasattr(KernelManager, "curve_publickey")
    name, shown = "channels", version_of("jupyter_client")
    if required and not here:
        message = f"They must be encrypted, and jupyter_client {shown} cannot: no kernel starts."
        yield Check(name, "broken", message, "Use jupyter_client 8.9 or newer here.")
    elif required:
        yield Check(name, "ok", f"encrypted (jupyter_client {shown})")
    else:
        cost = "Whoever can listen on the pods' network reads what is typed and shown."
        what = "are not encrypted" if setting == "disabled" or not here else "need not be encrypted"
        yield Check(
            name,
            "note",
            f'The channels of kernels {what} (channel_encryption is "{setting}"). {cost}',
            'Set c.ElasticKernels.channel_encryption = "required" where all images can.',
        )
    foreign = sorted(name for name, template in offered.items() if template.argv)
    if required and foreign:
        message = f"Of {', '.join(foreign)} no kernel starts: only ipykernel can encrypt."
        remedy = (
            'Set c.ElasticKernels.channel_encryption = "preferred"; the docs say what it costs.'
        )
        yield Check(name, "broken", message, remedy)


async def agents(cluster: Cluster, required: bool) -> AsyncIterator[Check]:
    """Whether a warm pod of each template can be reached, and its kernels encrypt."""
    warm: dict[str, Pod] = {}
    for pod in cluster.pods().values():
        if pod.phase is PodPhase.WARM:
            warm.setdefault(pod.template, pod)
    if not warm:
        yield Check("agents", "ok", "not tried: there is no warm pod")
    for check in await asyncio.gather(*(_agent(cluster, pod, required) for pod in warm.values())):
        yield check


async def _agent(cluster: Cluster, pod: Pod, required: bool) -> Check:
    try:
        agent = await cluster.dial(pod)
        hello = await agent.call("hello", timeout=PATIENCE)
    except ElasticError as error:
        return _broken("agents", error)
    if required and not hello.get("curve"):
        return Check(
            "agents",
            "broken",
            f"Pod {pod.name} of template {pod.template}: its kernels cannot encrypt (ipykernel"
            f" {hello.get('ipykernel') or 'is not used'}).",
            NoEncryption.remedy,
        )
    shown = f"Python {hello.get('python')}, ipykernel {hello.get('ipykernel') or '-'}"
    return Check("agents", "ok", f"pod {pod.name} of template {pod.template} answers ({shown})")
