"""The examples of docs/kubernetes.md, as a real API server sees them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from jupyter_elastic.cluster.kubernetes import manifests
from jupyter_elastic.model import Kernel
from jupyter_elastic.templates import resolve_wish
from jupyter_elastic.templates.objects import KIND, template_from_object

from ..testcluster.world import Kube
from .world import install

PAGE = Path(__file__).parents[2] / "docs" / "kubernetes.md"
PATHS = {
    "Deployment": "/apis/apps/v1/namespaces/{}/deployments",
    "Kernel": "/apis/elastic.jupyter.org/v1alpha1/namespaces/{}/kernels",
    "KernelTemplate": "/apis/elastic.jupyter.org/v1alpha1/namespaces/{}/kerneltemplates",
    "Pod": "/api/v1/namespaces/{}/pods",
    "ResourceQuota": "/api/v1/namespaces/{}/resourcequotas",
}


def examples() -> list[Any]:
    blocks = re.findall(r"^```yaml\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    return [one for block in blocks for one in yaml.safe_load_all(block)]


def pods_of(body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A warm pod of a template, and one for a kernel with a GPU if there are any."""
    template = template_from_object(body["metadata"]["name"], body["spec"])
    kinds = template.resources.gpu.kinds
    wish = {"gpu": {"kind": kinds[-1], "count": 1}} if kinds else None
    kernel = Kernel(
        kernel_id="46fa5223-7704-4493-a87c-da892e426313",
        owner="Ada L.",
        template=template.name,
        resources=resolve_wish(template, wish),
        created=0,
    )
    for one in (None, kernel):
        pod = manifests.make_pod(
            "example",
            template,
            image=template.image or "",
            agent_map="a",
            agent_key="k",
            kernel=one,
        )
        pod["spec"].pop("priorityClassName", None)  # there is none of that name here
        yield pod


@pytest.fixture(scope="module")
def strict(kube: Kube) -> Iterator[str]:
    """A namespace that admits only what Pod Security calls restricted."""
    install(kube)
    with kube.namespace("restricted") as namespace:
        yield namespace


@pytest.mark.parametrize(
    "body", examples(), ids=lambda body: f"{body['kind']}-{body['metadata']['name']}"
)
def test_an_example_is_accepted(kube: Kube, strict: str, body: dict[str, Any]) -> None:
    bodies = [body, *(pods_of(body) if body["kind"] == KIND else ())]
    for one in bodies:
        if "namespace" in one["metadata"]:
            one["metadata"]["namespace"] = strict
        path = PATHS[one["kind"]].format(strict)
        made = kube.admin.post(f"{path}?dryRun=All&fieldValidation=Strict", one)
        assert made["metadata"]["name"] == one["metadata"]["name"]
        assert made.get("spec"), "what it says is kept"
