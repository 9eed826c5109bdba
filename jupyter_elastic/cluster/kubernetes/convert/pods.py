"""A pod template, as other operators have it, as the fields of a KernelTemplate. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .draft import Draft

_AS_THEY_ARE = (
    "nodeSelector",
    "tolerations",
    "affinity",
    "topologySpreadConstraints",
    "priorityClassName",
    "imagePullSecrets",
    "runtimeClassName",
    "serviceAccountName",
    "volumes",
)
_OURS = {
    "restartPolicy": "is always OnFailure, so that a killed kernel comes back in its pod",
    "terminationGracePeriodSeconds": "is set by jupyter_elastic",
    "automountServiceAccountToken": "is always false",
    "enableServiceLinks": "is always false",
}
_CONTAINER_OURS = {
    "command": "is the agent's, which starts the kernel itself",
    "args": "is the agent's, which starts the kernel itself",
    "ports": "is set by jupyter_elastic",
    "livenessProbe": "is not needed: the agent watches over the kernel",
    "readinessProbe": "is not needed: the agent says when the kernel is up",
    "startupProbe": "is not needed: the agent says when the kernel is up",
    "resizePolicy": "is set by jupyter_elastic",
    "terminationMessagePath": "is set by jupyter_elastic",
    "terminationMessagePolicy": "is set by jupyter_elastic",
}
_NOTHING = "there is nothing like it; left out"
_IDS = ("runAsUser", "runAsGroup", "fsGroup")


def apply_pod_template(draft: Draft, template: Mapping[str, Any]) -> None:
    """Take over what a PodTemplateSpec says."""
    draft.leave(template, ("metadata", "spec"), "", _NOTHING)
    metadata = _mapping(template.get("metadata"))
    for key in ("labels", "annotations"):
        draft.pod(key, dict(_mapping(metadata.get(key))))
    draft.leave(metadata, ("labels", "annotations"), "metadata", _NOTHING)
    spec = _mapping(template.get("spec"))
    path = "spec"
    for key in _AS_THEY_ARE:
        draft.pod(key, spec.get(key))
    context = dict(_mapping(spec.get("securityContext")))
    for key in _IDS:
        draft.pod(key, context.pop(key, None))
    draft.pod("securityContext", context)
    for key, why in _OURS.items():
        if key in spec:
            draft.note(f"{path}.{key}", why)
    known = (*_AS_THEY_ARE, *_OURS, "securityContext", "containers")
    draft.leave(spec, known, path, _NOTHING)
    containers = [_mapping(one) for one in spec.get("containers") or ()]
    if containers:
        names = [one.get("name") for one in containers]
        chosen = names.index("kernel") if "kernel" in names else 0
        for i, name in enumerate(names):
            if i != chosen:
                draft.note(
                    f"{path}.containers[{i}]", f"{name!r}: a pod has one container; left out"
                )
        _container(draft, containers[chosen], f"{path}.containers[{chosen}]")


def _container(draft: Draft, container: Mapping[str, Any], path: str) -> None:
    image = container.get("image")
    if image and draft.spec.setdefault("image", image) != image:
        draft.note(f"{path}.image", f"{image} gives way to {draft.spec['image']}")
    draft.pod("imagePullPolicy", container.get("imagePullPolicy"))
    draft.pod("volumeMounts", container.get("volumeMounts"))
    directory = container.get("workingDir")
    if directory:
        draft.spec["workingDirectory"] = directory
    apply_env(draft, container.get("env") or (), f"{path}.env")
    context = _mapping(container.get("securityContext"))
    for key in ("runAsUser", "runAsGroup"):
        draft.pod(key, context.get(key))
    why = 'is as Pod Security "restricted" demands'
    draft.leave(context, ("runAsUser", "runAsGroup"), f"{path}.securityContext", why)
    for key, why in _CONTAINER_OURS.items():
        if container.get(key):
            draft.note(f"{path}.{key}", why)
    apply_resources(draft, _mapping(container.get("resources")), f"{path}.resources")
    known = (
        "name",
        "image",
        "imagePullPolicy",
        "volumeMounts",
        "workingDir",
        "env",
        "securityContext",
        "resources",
        *_CONTAINER_OURS,
    )
    draft.leave(container, known, path, _NOTHING)


def apply_env(draft: Draft, variables: Any, path: str) -> None:
    """Take over variables as a container has them; those already there stay."""
    env = draft.spec.setdefault("env", {})
    for i, variable in enumerate(variables):
        variable = _mapping(variable)
        name = str(variable.get("name", ""))
        if variable.get("valueFrom"):
            source = ", ".join(_mapping(variable["valueFrom"]))
            why = f"{name} comes from a {source}; a template holds plain values only"
            draft.note(f"{path}[{i}].valueFrom", why)
        elif name:
            value = variable.get("value")
            env.setdefault(name, "" if value is None else str(value))
    if not env:
        del draft.spec["env"]


def apply_resources(draft: Draft, resources: Mapping[str, Any], path: str) -> None:
    """Take over requests and limits."""
    requests, limits = _mapping(resources.get("requests")), _mapping(resources.get("limits"))
    for key in ("cpu", "memory"):
        draft.amounts(key, requests.get(key), limits.get(key), f"{path}.limits.{key}")
    extended = {key: value for key, value in {**requests, **limits}.items() if "/" in key}
    gpu = next((key for key in extended if "gpu" in key), None)
    if gpu is not None:
        draft.gpus(gpu, extended.pop(gpu), f"{path}.limits.{gpu}")
    for part, amounts in (("requests", requests), ("limits", limits)):
        draft.leave(amounts, ("cpu", "memory", *([gpu] if gpu else ())), f"{path}.{part}", _NOTHING)
    draft.leave(resources, ("requests", "limits"), path, _NOTHING)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
