"""A template as an object of Kubernetes: ``kind: KernelTemplate``, its fields in camelCase.

Such an object is the same template wherever it lies: in a cluster, or in a file beside others.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..errors import BadTemplate
from ..model import Template
from ..podoptions import API_VERSION
from .fields import kind_of
from .machine import Machine
from .parse import NAME, parse_template

KIND = "KernelTemplate"
_NAMES = {
    "kubernetes": "pod",
    "topology_spread": "topologySpreadConstraints",
    "priority_class": "priorityClassName",
    "runtime_class": "runtimeClassName",
    "service_account": "serviceAccountName",
}
"""Fields that are not only written in another way: there they are called as in a pod's spec."""


def spelling(name: str) -> str:
    """How a field of a template is called in an object."""
    return _NAMES.get(name) or re.sub(r"_([a-z])", lambda found: found[1].upper(), name)


def template_from_object(name: str, spec: Mapping[str, Any], where: str = "") -> Template:
    """The template that a KernelTemplate describes.

    Parameters
    ----------
    name
        The object's name, which is the template's.
    spec
        Its ``spec``.
    where
        The namespace or file it is in; named in errors.

    Raises
    ------
    BadTemplate
        With the path of the first wrong field as the object has it:
        ``spec.resources.memory.default``.
    """
    about = f"{where}: {name[:80]}" if where else name[:80]
    if not NAME.fullmatch(name):
        what = f"{name[:80]!r} is not a usable name"
        remedy = (
            "Use 1 to 63 lower-case letters, digits and hyphens, a letter or digit at both ends."
        )
        raise _error(about, "metadata.name", what, remedy)
    if not isinstance(spec, Mapping):
        raise _error(about, "spec", f"must be a mapping of fields, not {kind_of(spec)}")
    if "name" in spec:
        what = "there is no field of this name"
        raise _error(about, "spec.name", what, "The template's name is metadata.name.")
    for key in ("image", "resources"):
        if spec.get(key) in (None, ""):
            raise _error(about, f"spec.{key}", "is missing")
    icon = spec.get("icon")
    if isinstance(icon, str) and not icon.startswith("data:"):
        what = f"{icon[:40]!r} is no data URL"
        raise _error(about, "spec.icon", what, "In an object, an icon is a data URL.")
    data = {**spec, "name": name}
    template = parse_template(data, where, path="spec", spelling=spelling)
    known = template.kubernetes.gpus if template.kubernetes else {}
    for i, kind in enumerate(template.resources.gpu.kinds):
        if "/" not in kind and kind not in known:
            raise _error(
                about,
                f"spec.resources.gpu.kinds[{i}]",
                f"{kind!r} is neither the name of a resource nor described in spec.pod.gpus",
                "Use a name such as nvidia.com/gpu, or say in spec.pod.gpus what stands for it.",
            )
    return template


def read_template(data: Any, where: str = "", machine: Machine | None = None) -> Template:
    """A template from a file or the configuration, in whichever of the two forms it is written.

    Raises
    ------
    BadTemplate
        With the path of the first wrong field.
    """
    if not isinstance(data, Mapping) or "apiVersion" not in data:
        return parse_template(data, where, machine)
    if data["apiVersion"] != API_VERSION or data.get("kind") != KIND:
        found = f"{str(data.get('kind'))[:60]} of {str(data['apiVersion'])[:60]}"
        what = f"{found} is not a template"
        raise _error(where, "kind", what, f"A template is a {KIND} of {API_VERSION}.")
    metadata = data.get("metadata")
    name = metadata.get("name") if isinstance(metadata, Mapping) else None
    if not isinstance(name, str):
        raise _error(where, "metadata.name", "is missing")
    spec: Any = data.get("spec")  # Whatever it is, it is checked.
    return template_from_object(name, spec, where)


def _error(where: str, path: str, what: str, remedy: str = "") -> BadTemplate:
    return BadTemplate(
        ": ".join(part for part in (where, path) if part) + f": {what}.",
        remedy or "Correct the template; until then it is not offered.",
        field=path,
    )
