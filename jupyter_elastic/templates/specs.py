"""With nothing configured: one template for each kernelspec that is installed on this machine."""

from __future__ import annotations

import hashlib
import os
import re
import string
import sys
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import BadTemplate
from ..model import Template
from .icon import ICON_LIMIT
from .machine import Machine
from .parse import CONNECTION_FILE, NAME, parse_template

PREFIX = "elastic-"
_OWN_PYTHON = {
    "python",
    f"python{sys.version_info[0]}",
    "python{}.{}".format(*sys.version_info[:2]),
}
_LAUNCHERS = ("ipykernel_launcher", "ipykernel")
_HARMLESS = {"-Xfrozen_modules=off"}
"""Interpreter options of installed kernelspecs that change nothing for the user's code."""
_LOCAL_PROVISIONERS = (None, "", "local-provisioner")


def templates_from_specs(
    specs: Mapping[str, Mapping[str, Any]],
    machine: Machine,
    pooled: Collection[str] = ("python3",),
) -> tuple[dict[str, Template], list[BadTemplate]]:
    """A template for each kernelspec, by the template's name, and what could not be used.

    Parameters
    ----------
    specs
        As ``KernelSpecManager.get_all_specs`` returns them:
        ``{name: {"resource_dir": str, "spec": {...}}}``.
    machine
        What is offered.
    pooled
        Names of the kernelspecs of which one pod is kept warm.

    Kernelspecs that are elastic themselves, or whose kernels run elsewhere, are left out.
    """
    templates: dict[str, Template] = {}
    problems: list[BadTemplate] = []
    gpu = machine.gpu_range()
    for name, found in sorted(specs.items()):
        spec, directory = found.get("spec") or {}, str(found.get("resource_dir") or "")
        if _provisioner(spec) not in _LOCAL_PROVISIONERS:
            continue
        data = _template_data(name, spec, directory)
        if data["name"] in templates:
            data["name"] = _unlike(name)
        data["pool"] = {"size": 1 if name in pooled and "interpreter" in data else 0}
        data["resources"] = {"gpu": {"kinds": gpu.kinds, "maximum": gpu.maximum}}
        try:
            template = parse_template(data, f'kernelspec "{name}"', machine)
        except BadTemplate as problem:
            problems.append(problem)
            continue
        templates[template.name] = template
    return templates, problems


def _provisioner(spec: Mapping[str, Any]) -> str | None:
    entry = (spec.get("metadata") or {}).get("kernel_provisioner") or {}
    name = entry.get("provisioner_name") if isinstance(entry, Mapping) else None
    return name if name is None else str(name)


def _template_data(name: str, spec: Mapping[str, Any], directory: str) -> dict[str, Any]:
    argv = [str(word) for word in spec.get("argv") or ()]
    if argv and argv[0] in _OWN_PYTHON:  # As jupyter_client resolves it.
        argv[0] = sys.executable
    metadata = dict(spec.get("metadata") or {})
    metadata.pop("kernel_provisioner", None)
    data: dict[str, Any] = {
        "name": template_name(name),
        "display_name": f"{spec.get('display_name') or name}, elastic",
        "interrupt_mode": spec.get("interrupt_mode") or "signal",
        "env": {key: _expanded(value) for key, value in (spec.get("env") or {}).items()},
        "metadata": metadata,
        "icon": _icon(directory),
    }
    if is_plain_ipykernel(argv):
        data["interpreter"] = argv[0]
    else:
        data["language"] = spec.get("language") or "unknown"
        data["argv"] = list(_substituted(argv, directory))
    return data


def is_plain_ipykernel(argv: list[str]) -> bool:
    """Whether a kernelspec runs nothing but ipykernel, so that an agent can do it warm."""
    words = [word for word in argv[1:] if word not in _HARMLESS]
    return (
        len(words) == 4
        and words[0] == "-m"
        and words[1] in _LAUNCHERS
        and words[2] in ("-f", "--f", "--connection-file")
        and words[3] == CONNECTION_FILE
    )


def template_name(spec_name: str) -> str:
    """``elastic-<spec name>`` in the letters that a template's name may have."""
    slug = re.sub(r"[^a-z0-9]+", "-", spec_name.lower()).strip("-")
    name = PREFIX + slug
    return name if NAME.fullmatch(name) else _unlike(spec_name)


def _unlike(spec_name: str) -> str:
    """A name that differs for kernelspecs whose names differ only in what we cannot write."""
    slug = re.sub(r"[^a-z0-9]+", "-", spec_name.lower()).strip("-")
    digest = hashlib.sha256(spec_name.encode()).hexdigest()[:8]
    return f"{PREFIX}{slug[:45]}".rstrip("-") + f"-{digest}"


def _substituted(argv: list[str], directory: str) -> Iterator[str]:
    """What jupyter_client fills in when it starts a kernel, but for the connection file."""
    for word in argv:
        yield word.replace("{resource_dir}", directory).replace("{prefix}", sys.prefix)


def _expanded(value: object) -> object:
    """jupyter_client expands ``${NAME}`` in a kernelspec's environment."""
    return string.Template(value).safe_substitute(os.environ) if isinstance(value, str) else value


def _icon(directory: str) -> str | None:
    """The kernelspec's own icon; none when it is unusable, because an icon is no reason to fail."""
    if not directory:
        return None
    for file in ("logo-svg.svg", "logo-64x64.png"):
        path = Path(directory, file)
        try:
            if path.is_file() and path.stat().st_size <= ICON_LIMIT:
                return str(path)
        except OSError:
            continue
    return None
