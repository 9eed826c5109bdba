"""``jupyter elastic doctor`` on a real Kubernetes, with a server's rights and with fewer."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ..server.tools import warm
from ..testcluster.world import Kube
from .desk import TEMPLATES, Desk, home_directory, template_spec
from .world import install, rules


@pytest.fixture
def desk(kube: Kube) -> Iterator[Desk]:
    install(kube)
    with kube.namespace() as namespace, home_directory() as home:
        yield Desk(kube, namespace, home)


async def examine(config: Path) -> dict[str, dict[str, Any]]:
    """The checks by name; of several with one name, the worst."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "jupyter_elastic.cli", "doctor", "--json", "--config", str(config)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 150)
    assert b"Traceback" not in err, err.decode()
    report = json.loads(out)
    assert process.returncode == (1 if report["broken"] else 0)
    order = ("ok", "note", "broken")
    checks = sorted(report["checks"], key=lambda check: order.index(check["state"]))
    return {check["name"]: check for check in checks}


def test_a_healthy_namespace(desk: Desk, tmp_path: Path) -> None:
    """From a laptop, say: pods are reached through the API server."""
    forwarding = desk.kube.service_account(
        desk.namespace, [*rules(), *rules("port-forward-role")], name="laptop"
    )
    config = tmp_path / "config.py"
    config.write_text(desk.config(access="auto", kubeconfig=str(forwarding)))

    async def scenario() -> dict[str, dict[str, Any]]:
        desk.offer()
        async with desk.server() as server:
            await warm(server)
            return await examine(config)

    checks = asyncio.run(scenario())
    names = ["client", "cluster", "definitions", "resize", "rights", "access", "capacity"]
    names += ["template work", "channels", "agents", "leftovers"]
    assert [checks[name] for name in names if checks[name]["state"] != "ok"] == []
    assert f"namespace {desk.namespace}" in checks["cluster"]["message"]
    assert f"system:serviceaccount:{desk.namespace}:laptop" in checks["cluster"]["message"]
    assert checks["access"]["message"].startswith("port-forward")
    assert "of template work answers" in checks["agents"]["message"]
    assert {"state directory", "limits", "gpu"}.isdisjoint(checks), "nothing of this machine"


def test_rights_that_are_missing_are_named(desk: Desk, tmp_path: Path) -> None:
    fewer = [rule for rule in rules() if rule["resources"] not in (["pods/resize"], ["leases"])]
    kubeconfig = desk.kube.service_account(desk.namespace, fewer, name="fewer")
    config = tmp_path / "config.py"
    config.write_text(desk.config(access="direct", kubeconfig=str(kubeconfig)))
    desk.offer(pool=0)
    checks = asyncio.run(examine(config))
    assert checks["rights"]["state"] == "broken"
    lacking = checks["rights"]["message"].partition(": ")[2].rstrip(".").split(", ")
    group = "leases.coordination.k8s.io"
    assert lacking == ["patch pods/resize", f"get {group}", f"create {group}", f"patch {group}"]
    assert checks["access"]["state"] == "note", "direct, from outside of a pod"


def test_templates_that_are_missing_or_broken(desk: Desk, tmp_path: Path) -> None:
    config = tmp_path / "config.py"
    config.write_text(desk.config())
    checks = asyncio.run(examine(config))
    assert checks["templates"]["message"] == "No template is offered."
    # The schema cannot tell that no node can have such a label.
    spec = template_spec(desk.kube)
    spec["pod"]["nodeSelector"] = {"no label": "yes"}
    body = {
        "apiVersion": "elastic.jupyter.org/v1alpha1",
        "kind": "KernelTemplate",
        "metadata": {"name": "wrong"},
        "spec": spec,
    }
    desk.kube.admin.post(TEMPLATES.format(desk.namespace), body)
    desk.offer("r", interpreter=None, argv=["R", "{connection_file}"], language="R")
    checks = asyncio.run(examine(config))
    assert "wrong: spec.pod.nodeSelector" in checks["templates"]["message"]
    assert checks["channels"]["state"] == "broken"
    assert checks["channels"]["message"].startswith("Of r no kernel starts")


def test_a_namespace_that_does_not_exist(kube: Kube, tmp_path: Path) -> None:
    config = tmp_path / "config.py"
    config.write_text(
        "c.ElasticKernels.cluster = 'kubernetes'\n"
        f"c.ElasticKubernetes.kubeconfig = {str(kube.kubeconfig)!r}\n"
        "c.ElasticKubernetes.namespace = 'nowhere'\n"
    )
    checks = asyncio.run(examine(config))
    assert checks["cluster"]["message"] == "Namespace nowhere does not exist."
    assert "definitions" not in checks
