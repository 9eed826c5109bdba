"""What the API shows: objects of the model as the schemas of ``openapi.yaml`` have them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import quote

import msgspec

from .. import __version__
from ..kernels.service import ElasticService
from ..model import (
    AGENT_WARNING,
    NODE_UNREACHABLE,
    UNLIMITED,
    Capacity,
    Kernel,
    KernelPhase,
    Pod,
    PodPhase,
    PoolRow,
    Template,
)
from ..resources import format_cpu, format_memory
from ..templates import dump_template, parameters_schema

_UNDER_WAY = (KernelPhase.QUEUED, KernelPhase.STARTING, KernelPhase.MOVING)


def status_view(service: ElasticService, owner: str) -> dict[str, Any]:
    """``Status``."""
    enforcement = service.cluster.enforcement()
    return {
        "cluster": service.cluster.name,
        "version": __version__,
        "owner": owner,
        "gpu_kinds": list(service.cluster.gpu_kinds()),
        "enforcement": {
            "memory": enforcement.memory,
            "cpu": enforcement.cpu,
            "note": enforcement.note,
        },
    }


def template_view(
    service: ElasticService, template: Template, base_url: str, counts: Counts | None = None
) -> dict[str, Any]:
    """``Template``; whoever shows many counts the pods once."""
    plain = dump_template(template)
    counts = counts or Counts(service)
    return {
        "name": template.name,
        "display_name": template.display_name,
        "description": template.description,
        "language": template.language,
        "icon_url": f"{base_url}elastic/api/templates/{quote(template.name)}/icon",
        "preload": list(template.preload),
        "resources": plain["resources"],
        "idle": plain["idle"],
        "warm": counts.of(template.name)["warm"],
        "target": counts.of(template.name)["target"],
        "parameters": parameters_schema(template),
    }


def template_list_view(service: ElasticService, base_url: str) -> dict[str, Any]:
    """``TemplateList``."""
    counts = Counts(service)
    return {
        "templates": [
            template_view(service, template, base_url, counts)
            for template in service.templates.all().values()
        ],
        "problems": [problem.to_problem() for problem in service.templates.problems()],
    }


def kernel_view(service: ElasticService, kernel: Kernel) -> dict[str, Any]:
    """``Kernel``."""
    state, last_activity, attached = service.activity(kernel.kernel_id)
    template = service.templates.all().get(kernel.template)
    pod = service.cluster.pods().get(kernel.pod or "")
    reason, message = _standing(kernel, pod)
    return {
        "kernel_id": kernel.kernel_id,
        "owner": kernel.owner,
        "template": kernel.template,
        "display_name": template.display_name if template else kernel.template,
        "name": kernel.name,
        "path": kernel.path,
        "phase": kernel.phase.value,
        "reason": reason,
        "message": message,
        "resources": kernel.resources.to_json(),
        "actual": kernel.actual.to_json() if kernel.actual else None,
        "start": kernel.start,
        "pod": kernel.pod,
        "node": (pod.node or None) if pod else None,
        "created": kernel.created,
        "restarts": kernel.restarts,
        "execution_state": state,
        "last_activity": last_activity,
        "attached": attached,
        "resize": msgspec.to_builtins(kernel.resize),
        "sessions": msgspec.to_builtins(kernel.sessions),
        "warnings": _warnings(kernel, pod),
    }


def _warnings(kernel: Kernel, pod: Pod | None) -> list[str]:
    """What the agent warned of as the pod became warm, and since; each once."""
    since = (step.message for step in kernel.steps if step.name == AGENT_WARNING)
    return list(dict.fromkeys((*(pod.warnings if pod else ()), *since)))


def _standing(kernel: Kernel, pod: Pod | None) -> tuple[str, str]:
    """Reason and message: the record's, or that nobody can reach a kernel that should run."""
    if kernel.phase is KernelPhase.RUNNING and pod is not None and pod.reason == NODE_UNREACHABLE:
        return pod.reason, pod.message
    return kernel.reason, kernel.message


def progress_view(service: ElasticService, kernel: Kernel) -> dict[str, Any]:
    """``Progress``; a start in this process knows steps that the record has not got yet."""
    steps = max(kernel.steps, service.launcher.progress.of(kernel.kernel_id), key=len)
    return {
        "phase": kernel.phase.value,
        "reason": kernel.reason,
        "message": kernel.message,
        "done": kernel.phase not in _UNDER_WAY,
        "steps": msgspec.to_builtins(steps),
    }


def pod_view(pod: Pod, kernel: Kernel | None, owner: str) -> dict[str, Any]:
    """``Pod``; what concerns somebody else's kernel is left out."""
    mine = pod.kernel_id is None or (kernel is not None and kernel.owner == owner)
    return {
        "name": pod.name,
        "template": pod.template,
        "phase": pod.phase.value,
        "created": pod.created,
        "warm_since": pod.warm_since,
        "kernel_id": pod.kernel_id if mine else None,
        "message": pod.message if mine else "",
        "memory": None,
        "warnings": list(pod.warnings) if mine else [],
    }


def pool_view(
    service: ElasticService, owner: str, report: Sequence[PoolRow] = ()
) -> dict[str, Any]:
    """``Pool``.

    ``report`` is what whoever keeps the pool told last: where that is another process, it knows
    better than this one what is wanted and why.
    """
    pods = sorted(
        (pod for pod in service.cluster.pods().values() if pod.phase is not PodPhase.GONE),
        key=lambda pod: pod.created,
    )
    kernels = service.cluster.kernels()
    counts = Counts(service)
    told = {} if service.is_controller else {row.template: row for row in report}
    reasons, starts = service.pool_reasons(), service.pool_starts()
    rows = []
    for template in service.templates.all().values():
        name = template.name
        warm, cold = starts.get(name, (0, 0))
        row = counts.of(name) | {
            "display_name": template.display_name,
            "reason": reasons.get(name, ""),
            "starts": {"warm": warm, "cold": cold},
        }
        if better := told.get(name):
            row |= {"target": better.target, "reason": better.reason}
        rows.append(row)
    return {
        "controller": service.is_controller,
        "templates": rows,
        "pods": [pod_view(pod, kernels.get(pod.kernel_id or ""), owner) for pod in pods],
    }


class Counts:
    """Pods by template and phase, counted once however many rows are made of it."""

    def __init__(self, service: ElasticService) -> None:
        # A pod warming for a kernel is no pod of the pool.
        self._pods = Counter(
            (pod.template, pod.phase)
            for pod in service.cluster.pods().values()
            if pod.kernel_id is None or pod.phase is PodPhase.CLAIMED
        )
        self._targets = service.pool_targets()
        self._messages = service.pool_messages()

    def of(self, template: str) -> dict[str, Any]:
        """One row of ``Pool.templates``, without its display name."""
        row: dict[str, Any] = {
            "template": template,
            "target": self._targets.get(template, 0),
            "warm": self._pods[template, PodPhase.WARM],
            "warming": self._pods[template, PodPhase.WARMING],
            "claimed": self._pods[template, PodPhase.CLAIMED],
        }
        message = self._messages.get(template)
        return row | {"message": message} if message else row


def capacity_view(capacity: Capacity) -> dict[str, Any]:
    """``Capacity``."""
    total, used = capacity.total, capacity.used
    return {
        "cpu": _share(total.cpu, used.cpu, format_cpu),
        "memory": _share(total.memory, used.memory, format_memory),
        "pods": _pods(capacity),
        "gpus": [
            {"kind": kind, "total": count, "used": capacity.gpus_used.get(kind, 0)}
            for kind, count in sorted(capacity.gpus.items())
        ],
    }


def _pods(capacity: Capacity) -> dict[str, int] | None:
    """Of all that limits the number of pods, what has room for fewest."""
    rows = [(total, capacity.counts_used.get(key, 0)) for key, total in capacity.counts.items()]
    if not rows:
        return None
    total, used = min(rows, key=lambda row: row[0] - row[1])
    return {"total": total, "used": used, "free": max(0, total - used)}


def _share(total: int, used: int, form: Callable[[int], str]) -> dict[str, Any]:
    limited = total < UNLIMITED
    return {
        "total": form(total) if limited else None,
        "used": form(used),
        "free": form(max(0, total - used)) if limited else None,
    }
