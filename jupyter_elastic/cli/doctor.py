"""``jupyter elastic doctor``: what works here, what is weaker than it could be, what is broken."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from traitlets import TraitError

from ..agent import nvml
from ..cluster.base import Cluster
from ..errors import ElasticError
from ..kernels.service import ElasticService
from ..model import KernelPhase, PodPhase, Template
from ..resources import show_memory
from . import checks, kubechecks
from .checks import Check
from .context import Context, RequiresNoService, printable

if TYPE_CHECKING:
    from .context import Subparsers

SIGNS = {"ok": "✓", "note": "!", "broken": "✗"}


def add_commands(commands: Subparsers, common: argparse.ArgumentParser) -> None:
    """Add ``doctor``."""
    doctor = commands.add_parser("doctor", parents=[common], help="what works here, and what not")
    doctor.set_defaults(run=RequiresNoService(examine))


async def examine(context: Context) -> int:
    """Make all checks, tell each as it is made; exit status 1 when something is broken."""
    made: list[Check] = []
    async for check in all_checks(context):
        made.append(check)
        if not context.json:
            print(f"{SIGNS[check.state]} {check.name}: {printable(check.message)}", flush=True)
            if check.remedy and check.state != "ok":
                print(f"    {printable(check.remedy)}")
    broken = sum(check.state == "broken" for check in made)
    if context.json:
        context.show_json({"broken": broken, "checks": msgspec.to_builtins(made)})
    else:
        print("Nothing is broken." if not broken else f"{broken} broken.")
    return 1 if broken else 0


async def all_checks(context: Context) -> AsyncIterator[Check]:
    """What needs no cluster first; then, if it can be opened, what it says."""
    service: ElasticService | None = None
    failure: Check | None = None
    try:
        service = context.make_service(tell=False)
    except ElasticError as error:
        failure = Check("cluster", "broken", error.message, error.remedy)
    except (OSError, TraitError) as error:
        failure = Check("cluster", "broken", f"It cannot be opened: {error}", "See the README.")
    for sentence in context.misspelt:
        yield Check("configuration", "note", sentence, "Correct it, or take it out.")
    yield checks.system(local=service is None or service.cluster.name == "local")
    yield checks.python()
    for check in (*checks.versions(), checks.encryption(), *checks.extension()):
        yield check
    if service is None:
        assert failure is not None
        yield failure
        return
    if service.cluster.name == "kubernetes":
        hopeless = False
        async for check in kubechecks.before_opening(service.kubernetes):
            yield check
            hopeless = hopeless or (check.state == "broken" and check.name in _FIRST)
        if hopeless:
            return
    look = of_kubernetes if service.cluster.name == "kubernetes" else of_machine
    try:
        async with context.open_service(service):
            async for check in look(service):
                yield check
    except ElasticError as error:
        yield Check("cluster", "broken", error.message, error.remedy)
    except (OSError, TraitError) as error:
        yield Check("cluster", "broken", f"It cannot be opened: {error}", "See the README.")


_FIRST = ("client", "cluster", "definitions")
"""Without these a cluster need not be opened to know that it cannot be."""


async def of_kubernetes(service: ElasticService) -> AsyncIterator[Check]:
    """What an open cluster says; nothing of this machine."""
    required = service.requires_encryption
    templates = service.templates.all()
    yield kubechecks.room(await service.cluster.capacity())
    for problem in service.templates.problems():
        yield Check("templates", "broken", problem.message, problem.remedy)
    for check in kubechecks.templates(templates, service.kubernetes.image):
        yield check
    setting = service.settings.channel_encryption
    for check in kubechecks.encryption(setting, required, templates):
        yield check
    async for check in kubechecks.agents(service.cluster, required):
        yield check
    for check in leftovers(service.cluster):
        yield check


async def of_machine(service: ElasticService) -> AsyncIterator[Check]:
    """What an open service on this machine knows."""
    yield checks.state_directory(Path(service.local.state_dir))
    enforcement = service.cluster.enforcement()
    weak = enforcement.memory == "watchdog" or enforcement.cpu == "affinity"
    means = f"memory by {enforcement.memory}, CPU by {enforcement.cpu}. {enforcement.note}".strip()
    remedy = "Run as a user to whom a cgroup is delegated, to have exact limits." if weak else ""
    yield Check("limits", "note" if weak else "ok", means, remedy)
    capacity = await service.cluster.capacity()
    shared = f" ({capacity.cores / 1000:g} cores, shared)" if capacity.cores else ""
    yield Check(
        "capacity",
        "ok",
        # Cores, not millicores: "2.1 of 8", as people say it.
        f"{capacity.used.cpu / 1000:g} of {capacity.total.cpu / 1000:g} CPU{shared} and "
        f"{show_memory(capacity.used.memory)} of {show_memory(capacity.total.memory)} taken",
    )
    yield gpus(service.cluster)
    for problem in service.templates.problems():
        yield Check("templates", "broken", problem.message, problem.remedy)
    templates = list(service.templates.all().values())
    if not templates:
        yield Check(
            "templates",
            "broken",
            "No template is offered.",
            "Run python -m ipykernel install, or set c.ElasticKernels.templates.",
        )
    sound: list[Template] = []
    tried = await asyncio.gather(*map(checks.interpreter, templates))
    for template, check in zip(templates, tried, strict=True):
        yield check
        if check.state == "ok" and template.preload:
            sound.append(template)
    for template in sound:  # one after the other: together they might need all of the memory
        yield await checks.preload(template)
    for check in leftovers(service.cluster):
        yield check


def gpus(cluster: Cluster) -> Check:
    """Which GPUs are offered."""
    kinds = cluster.gpu_kinds()
    if kinds:
        return Check("gpu", "ok", ", ".join(kinds))
    if nvml.devices():
        return Check("gpu", "note", "There are GPUs, but the cluster offers none of them.")
    return Check("gpu", "ok", "none (no NVIDIA driver)")


def leftovers(cluster: Cluster) -> Iterator[Check]:
    """Records that point to nothing."""
    pods, kernels = cluster.pods(), cluster.kernels()
    lost = [
        kernel_id
        for kernel_id, kernel in kernels.items()
        if kernel.phase is KernelPhase.RUNNING and (kernel.pod or "") not in pods
    ]
    stray = [
        name
        for name, pod in pods.items()
        if pod.phase is PodPhase.CLAIMED and pod.kernel_id not in kernels
    ]
    for kernel_id in lost:
        yield Check(
            "leftovers",
            "note",
            f"Kernel {kernel_id} is recorded as Running, but its pod is gone.",
            f"jupyter elastic kernels stop {kernel_id[:8]}",
        )
    for name in stray:
        message = f"Pod {name} belongs to a kernel that has no record."
        yield Check("leftovers", "note", message, "It ends when a server with the extension runs.")
    if not lost and not stray:
        yield Check("leftovers", "ok", f"none (kernels: {len(kernels)}, pods: {len(pods)})")
