"""A template as a kernelspec: the ``kernel.json`` that Jupyter clients see."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..model import Range, Template
from ..resources import format_cpu, format_memory
from .parse import CONNECTION_FILE, dump_range, dump_template

PROVISIONER = "elastic-provisioner"


def kernelspec_for(
    template: Template, *, encryption: bool = False, config: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The content of ``kernel.json``.

    Parameters
    ----------
    encryption
        Whether clients may be told that the kernel's channels can be encrypted.
    config
        More for the provisioner's configuration, besides the template's name.

    The ``argv`` is what a plain kernel would run; the provisioner does not use it, but clients
    that look at a kernelspec's interpreter find the right one. ``env`` is empty because the
    template's is applied in the pod.
    """
    if template.argv:
        argv = list(template.argv)
    else:
        interpreter = template.interpreter or "python3"
        argv = [interpreter, "-m", "ipykernel_launcher", "-f", CONNECTION_FILE]
    metadata: dict[str, Any] = dict(template.metadata)
    metadata |= {
        "kernel_provisioner": {
            "provisioner_name": PROVISIONER,
            "config": {"template": template.name, **(config or {})},
        },
        "elastic": {
            "template": template.name,
            "resources": template.resources.default().to_json(),
        },
        "parameters": parameters_schema(template),
    }
    if template.description:
        metadata["description"] = template.description
    if not template.argv:
        metadata.setdefault("debugger", True)
    metadata.pop("supported_encryption", None)
    if encryption:
        metadata["supported_encryption"] = ["curve"]
    return {
        "argv": argv,
        "display_name": template.display_name,
        "language": template.language,
        "interrupt_mode": template.interrupt_mode,
        "env": {},
        "metadata": metadata,
    }


def standalone_config(template: Template, state_dir: str) -> dict[str, Any]:
    """``config`` for clients without a server: the provisioner needs nothing else to be found."""
    return {"definition": dump_template(template), "state_dir": state_dir}


def parameters_schema(template: Template) -> dict[str, Any]:
    """A JSON schema of what a user may ask; an instance of it is a wish.

    JSON schema has no limits for strings, so those of memory stand beside it as ``x-elastic``.
    """
    offer = template.resources
    cpu: dict[str, Any] = {
        "type": "number",
        "title": "CPU",
        "description": "Cores",
        "minimum": offer.cpu.minimum / 1000,
        "maximum": offer.cpu.maximum / 1000,
        "default": offer.cpu.default / 1000,
        "x-elastic": dump_range(offer.cpu, format_cpu),
    }
    if offer.cpu.choices:
        cpu["enum"] = [choice / 1000 for choice in offer.cpu.choices]
    properties = {"cpu": cpu, "memory": _memory(offer.memory)}
    if offer.gpu.kinds:
        properties["gpu"] = {
            "type": ["object", "null"],
            "title": "GPU",
            "required": ["kind", "count"],
            "additionalProperties": False,
            "properties": {
                "kind": {"type": "string", "title": "Kind", "enum": list(offer.gpu.kinds)},
                "count": {
                    "type": "integer",
                    "title": "Count",
                    "minimum": 0,
                    "maximum": offer.gpu.maximum,
                    "default": offer.gpu.default,
                },
            },
            "default": template.resources.default().to_json()["gpu"],
        }
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _memory(offered: Range) -> dict[str, Any]:
    text = dump_range(offered, format_memory)
    schema: dict[str, Any] = {
        "type": "string",
        "title": "Memory",
        "description": f"From {text['minimum']} to {text['maximum']}",
        "default": text["default"],
        "x-elastic": text,
    }
    if offered.choices:
        schema["enum"] = text["choices"]
    return schema
