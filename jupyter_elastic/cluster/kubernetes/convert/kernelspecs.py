"""A kernelspec whose kernels a gateway starts in pods, as a KernelTemplate. Pure.

Both ways to write it are read: ``process_proxy`` of Enterprise Gateway, and the
``kernel_provisioner`` of gateway-provisioners. What a launcher would have put into the pod from
``KERNEL_...`` variables becomes a field.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Any

import yaml

from .draft import Draft, Impossible

_ICON_BYTES = 48_000
"""So that the data URL stays below what an object may have."""
_EITHER = ("process_proxy", "kernel_provisioner")
_PROVISIONERS = ("kubernetes-provisioner", "docker-provisioner", "docker-swarm-provisioner")
_LAUNCHER_ENV = ("LAUNCH_OPTS", "SPARK_OPTS", "KERNEL_EXTRA_SPARK_OPTS", "SPARK_HOME")
_VARIABLE = re.compile(r"\$\{?[A-Za-z_]")
"""What jupyter_client expands when it starts a kernel."""
_WHO = ("authorized_users", "unauthorized_users")
_NOTHING = "there is nothing like it; left out"
_TOLD = {
    "KERNEL_NAMESPACE": "the namespace is that of the template",
    "KERNEL_LAUNCH_TIMEOUT": "how long a start may take is the server's configuration",
}


def convert_spec(
    name: str,
    spec: Mapping[str, Any],
    about: str,
    *,
    files: tuple[str, ...] = (),
    icon: tuple[str, bytes] | None = None,
) -> Draft:
    """The template of a kernelspec.

    Parameters
    ----------
    name
        The kernelspec's, that is, its directory's.
    spec
        The content of ``kernel.json``.
    about
        Where it lies, for notes.
    files
        Paths of the other files of the kernelspec, relative to its directory.
    icon
        Name and content of its icon.

    Raises
    ------
    Impossible
        Its kernels do not run in pods, or nobody can know how.
    """
    draft = Draft(about, name)
    metadata = dict(_mapping(spec.get("metadata")))
    config = _config(spec, metadata, draft)
    draft.spec["displayName"] = str(spec.get("display_name") or name)
    if spec.get("interrupt_mode") == "message":
        draft.spec["interruptMode"] = "message"
    image = _mapping(spec.get("env")).get("KERNEL_IMAGE") or config.get("image_name")
    if image:
        draft.spec["image"] = str(image)
    if config.get("executor_image_name"):
        draft.note("config.executor_image_name", "Spark's executors are not started; left out")
    for key in _WHO:
        if config.get(key):
            draft.note(f"config.{key}", "everybody may start it who may start kernels there")
    draft.leave(config, ("image_name", "executor_image_name", *_WHO), "config", _NOTHING)
    _apply_env(draft, _mapping(spec.get("env")))
    draft.program(str(spec.get("language") or ""), spec.get("argv") or (), "argv")
    for key in (*_EITHER, "supported_encryption"):
        metadata.pop(key, None)
    if metadata:
        draft.spec["metadata"] = metadata
    for file in files:
        if file.endswith((".j2", ".jinja", ".jinja2")):
            draft.note(file, "is not read: what was changed in it by hand is not carried over")
    if icon is not None:
        _apply_icon(draft, *icon)
    known = ("argv", "env", "language", "display_name", "interrupt_mode", "metadata", *_EITHER)
    draft.leave(spec, known, "", _NOTHING)
    return draft


def is_kernelspec(data: object) -> bool:
    """Whether this looks like the content of a ``kernel.json``."""
    return isinstance(data, Mapping) and "argv" in data and "apiVersion" not in data


def _config(
    spec: Mapping[str, Any], metadata: Mapping[str, Any], draft: Draft
) -> Mapping[str, Any]:
    """The gateway's part, checked to be one whose kernels run in containers."""
    proxy = metadata.get("process_proxy") or spec.get("process_proxy")
    if isinstance(proxy, Mapping):
        kind = str(proxy.get("class_name") or "")
        if not any(word in kind.lower() for word in ("k8s", "kubernetes", "kubeflow", "docker")):
            raise Impossible("metadata.process_proxy", f"{kind or '?'} runs no pods")
        return _mapping(proxy.get("config"))
    provisioner = metadata.get("kernel_provisioner")
    if isinstance(provisioner, Mapping):
        kind = str(provisioner.get("provisioner_name") or "")
        if kind not in _PROVISIONERS:
            raise Impossible("metadata.kernel_provisioner", f"{kind or '?'} runs no pods")
        return _mapping(provisioner.get("config"))
    raise Impossible(
        "metadata", "neither process_proxy nor kernel_provisioner is there: it runs locally"
    )


def _apply_env(draft: Draft, env: Mapping[str, Any]) -> None:
    plain = {str(key): str(value) for key, value in env.items()}
    taken = ["KERNEL_IMAGE"]

    def take(name: str) -> str | None:
        taken.append(name)
        return plain.get(name) or None

    for key, name in (("cpu", "CPUS"), ("memory", "MEMORY")):
        request, limit = take(f"KERNEL_{name}"), take(f"KERNEL_{name}_LIMIT")
        draft.amounts(key, request, limit, f"env.KERNEL_{name}_LIMIT")
    request, limit = take("KERNEL_GPUS"), take("KERNEL_GPUS_LIMIT")
    if limit or request:
        draft.gpus("nvidia.com/gpu", limit or request, "env.KERNEL_GPUS_LIMIT")
    for field, name in (("runAsUser", "KERNEL_UID"), ("runAsGroup", "KERNEL_GID")):
        text = take(name)
        if text and text.isdecimal():
            draft.pod(field, int(text))
        elif text:
            draft.note(f"env.{name}", f"{text[:60]!r} is no number")
    draft.pod("serviceAccountName", take("KERNEL_SERVICE_ACCOUNT_NAME"))
    directory = take("KERNEL_WORKING_DIR")
    if directory:
        draft.spec["workingDirectory"] = directory
    for field, name in (("volumes", "KERNEL_VOLUMES"), ("volumeMounts", "KERNEL_VOLUME_MOUNTS")):
        text = take(name)
        if text:
            draft.pod(field, _listed(draft, name, text))
    kept = {}
    for name, value in plain.items():
        if name in taken:
            continue
        if name in _LAUNCHER_ENV:
            draft.note(f"env.{name}", "is for the launcher, which is not needed; left out")
        elif name in _TOLD:
            draft.note(f"env.{name}", _TOLD[name])
        elif name.startswith(("KERNEL_", "EG_", "GP_")):
            draft.note(f"env.{name}", "is for the gateway; left out")
        elif _VARIABLE.search(value):
            draft.note(f"env.{name}", "has variables that nothing would expand; left out")
        else:
            kept[name] = value
    if kept:
        draft.spec["env"] = kept


def _listed(draft: Draft, name: str, text: str) -> list[Any]:
    """A list as the launcher reads it from a variable."""
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError:
        found = None
    if not isinstance(found, list):
        draft.note(f"env.{name}", "is no list in YAML; left out")
        return []
    return found


def _apply_icon(draft: Draft, name: str, content: bytes) -> None:
    if len(content) > _ICON_BYTES:
        draft.note(name, f"has {len(content)} bytes, at most {_ICON_BYTES} can be kept; left out")
        return
    kind = "svg+xml" if name.endswith(".svg") else "png"
    draft.spec["icon"] = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
