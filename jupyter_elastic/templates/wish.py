"""What a user asks, checked against what the template offers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..errors import BadQuantity, BadRequest, NoGpu, OutOfRange
from ..model import Range, Template
from ..resources import Gpu, Resources, format_cpu, parse_cpu, parse_memory, show_memory


def resolve_wish(
    template: Template, wish: Mapping[str, Any] | None, base: Resources | None = None
) -> Resources:
    """The resources a wish means.

    Parameters
    ----------
    wish
        ``{cpu, memory, gpu}``, quantities as strings or numbers, ``gpu`` as ``{kind, count}``;
        a ``gpu`` of null or count 0 means none. What is left out comes from ``base``.
    base
        What the kernel has; None for a new one, which gets the template's defaults.

    Raises
    ------
    BadQuantity, OutOfRange, NoGpu, BadRequest
        With ``field`` and figures. What comes from ``base`` is not checked again: a template
        that became smaller does not hinder the change of another resource.
    """
    base = base or template.resources.default()
    if wish is None:
        return base
    if not isinstance(wish, Mapping):
        raise BadRequest(
            "resources: must be an object with cpu, memory and gpu.",
            'Write for example {"cpu": "2", "memory": "4Gi"}.',
            field="resources",
        )
    for key in wish:
        if key not in ("cpu", "memory", "gpu"):
            raise BadRequest(
                f"resources: there is no resource {str(key)[:60]!r}.",
                "Ask for cpu, memory or gpu.",
                field="resources",
            )
    cpu, memory, gpu = base.cpu, base.memory, base.gpu
    if wish.get("cpu") is not None:
        cpu = _within(template, "cpu", template.resources.cpu, parse_cpu(wish["cpu"]), _show_cpu)
    if wish.get("memory") is not None:
        size = parse_memory(wish["memory"])
        memory = _within(template, "memory", template.resources.memory, size, _show_memory)
    if "gpu" in wish:
        gpu = _gpu(template, wish["gpu"])
    return Resources(cpu=cpu, memory=memory, gpu=gpu)


def _within(
    template: Template, field: str, offered: Range, value: int, show: Callable[[int], str]
) -> int:
    name = f'the template "{template.name}"'
    if value > offered.maximum:
        raise OutOfRange(
            f"{field}: {show(value)} is over the maximum of {show(offered.maximum)} "
            f"that {name} offers.",
            f"Ask for {show(offered.maximum)} or less, or choose another template.",
            field=field,
        )
    if value < offered.minimum:
        raise OutOfRange(
            f"{field}: {show(value)} is under the minimum of {show(offered.minimum)} "
            f"that {name} needs.",
            f"Ask for {show(offered.minimum)} or more.",
            field=field,
        )
    if offered.choices and value not in offered.choices:
        choices = ", ".join(map(show, offered.choices))
        raise OutOfRange(
            f"{field}: {show(value)} is none of the sizes that {name} offers.",
            f"Choose one of {choices}.",
            field=field,
        )
    return value


def _gpu(template: Template, wish: object) -> Gpu | None:
    if wish is None:
        return None
    remedy = 'Write for example {"kind": "nvidia-a100", "count": 1}, or null for none.'
    if not isinstance(wish, Mapping):
        raise BadRequest("gpu: must be an object with kind and count.", remedy, field="gpu")
    if set(wish) != {"kind", "count"}:
        raise BadRequest("gpu: must have kind and count, and no more.", remedy, field="gpu")
    kind, count = wish["kind"], wish["count"]
    if not isinstance(kind, str):
        raise BadRequest("gpu.kind: must be a string.", remedy, field="gpu.kind")
    if isinstance(count, float) and count.is_integer():
        count = int(count)  # 1.0 is what some JSON writers make of 1.
    if isinstance(count, bool) or not isinstance(count, int):
        raise BadQuantity("gpu.count", count, "GPUs are whole; write a number such as 1")
    if count < 0:
        raise BadQuantity("gpu.count", count, "it must not be negative")
    if count == 0:
        return None
    offered = template.resources.gpu
    if not offered.kinds:
        raise NoGpu(
            f'gpu: {count} asked, but the template "{template.name}" offers no GPU.',
            "Start without a GPU, or choose a template that offers one.",
            field="gpu",
        )
    if kind not in offered.kinds:
        raise NoGpu(
            f'gpu: the template "{template.name}" offers no GPU of kind {kind[:80]!r}.',
            f"Choose one of {', '.join(offered.kinds)}.",
            field="gpu.kind",
        )
    if count > offered.maximum:
        raise OutOfRange(
            f"gpu: {count} is over the maximum of {offered.maximum} that the template "
            f'"{template.name}" offers.',
            f"Ask for {offered.maximum} or less.",
            field="gpu.count",
        )
    return Gpu(kind, count)


def _show_cpu(value: int) -> str:
    return f"{format_cpu(value)} CPU"


def _show_memory(value: int) -> str:
    """Rounded as in all sentences, unless rounding would hide a difference."""
    text = show_memory(value)
    number, unit = text.split()
    factor = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}[unit]
    return text if float(number) * factor == value else f"{text} ({value} bytes)"
