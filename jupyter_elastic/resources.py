"""Quantities and resources: how CPU, memory and GPU are written, parsed and compared.

At the edges (templates, REST, CLI, Kubernetes) a quantity is a string in the notation of
Kubernetes; inside, CPU is an ``int`` of millicores and memory an ``int`` of bytes. This module
does no IO and imports nothing of the project but :mod:`jupyter_elastic.errors`.

The notation is that of the Kubernetes API documentation, "Quantity": an optional sign, digits
with an optional fraction, and one suffix (``m``; ``k M G T P E``; ``Ki Mi Gi Ti Pi Ei``; or an
exponent). Only what makes sense for a resource is accepted: finite, positive, below 2**63.
"""

from __future__ import annotations

import re
from decimal import Decimal, localcontext
from typing import Any

import msgspec

from .errors import BadQuantity

_QUANTITY = re.compile(
    r"^(?P<number>[+-]?(?:\d{1,30}(?:\.\d{0,30})?|\.\d{1,30}))"
    r"(?P<suffix>m|[kMGTPE]|[KMGTPE]i|[eE][+-]?\d{1,2})?$",
    re.ASCII,
)
_DECIMAL = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15, "E": 10**18}
_BINARY = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50, "Ei": 2**60}
_LIMIT = 2**63

KIB, MIB, GIB = 2**10, 2**20, 2**30


def _parse(value: object, field: str, example: str) -> Decimal:
    """The value of a quantity as an exact decimal, in its base unit."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise BadQuantity(field, value, f"write a quantity such as {example}")
    if isinstance(value, int) and abs(value) >= _LIMIT:
        # Before its digits are written: Python refuses to write very many.
        raise BadQuantity(field, "a number of that size", "it is larger than any machine")
    text = repr(value) if isinstance(value, (int, float)) else value.strip()
    if len(text) > 64:
        raise BadQuantity(field, text[:24] + "...", f"write a quantity such as {example}")
    match = _QUANTITY.match(text)
    if match is None:
        raise BadQuantity(field, value, f"write a quantity such as {example}")
    suffix = match["suffix"] or ""
    with localcontext() as context:
        context.prec = 120
        number = Decimal(match["number"])
        if suffix == "m":
            number /= 1000
        elif suffix in _DECIMAL:
            number *= _DECIMAL[suffix]
        elif suffix in _BINARY:
            number *= _BINARY[suffix]
        else:
            number = number.scaleb(int(suffix[1:]))
        if number < 0:
            raise BadQuantity(field, value, "it must not be negative")
        if number >= _LIMIT:
            raise BadQuantity(field, value, "it is larger than any machine; check the unit")
    return number


def parse_cpu(value: object, field: str = "cpu") -> int:
    """Millicores of a CPU quantity: ``"1500m"``, ``"1.5"``, ``2`` -> 1500, 1500, 2000.

    Fractions of a millicore are rounded up, as Kubernetes does.

    Raises
    ------
    BadQuantity
        Not a quantity, negative, zero, not finite or absurdly large.
    """
    millis = _ceil(_parse(value, field, '"500m" or "2"') * 1000)
    if millis < 1:
        raise BadQuantity(field, value, 'it must be at least "1m"')
    if millis >= _LIMIT:
        raise BadQuantity(field, value, "it is larger than any machine; check the unit")
    return millis


def parse_memory(value: object, field: str = "memory") -> int:
    """Bytes of a memory quantity: ``"2Gi"``, ``"500M"``, ``1048576``. Fractions round up.

    Raises
    ------
    BadQuantity
        Not a quantity, negative, zero, not finite or absurdly large.
    """
    size = _ceil(_parse(value, field, '"512Mi" or "4Gi"'))
    if size < 1:
        raise BadQuantity(field, value, "it must be more than zero")
    return size


def _ceil(number: Decimal) -> int:
    whole = int(number)
    return whole + 1 if number > whole else whole


def format_cpu(millicores: int) -> str:
    """The canonical form: whole cores plain, else millicores (``"2"``, ``"1500m"``)."""
    return str(millicores // 1000) if millicores % 1000 == 0 else f"{millicores}m"


def format_memory(size: int) -> str:
    """The shortest exact form with a binary suffix (``"2Gi"``, ``"1536Mi"``), else plain bytes."""
    for suffix in ("Ei", "Pi", "Ti", "Gi", "Mi", "Ki"):
        unit = _BINARY[suffix]
        if size and size % unit == 0:
            return f"{size // unit}{suffix}"
    return str(size)


def show_memory(size: float) -> str:
    """Memory for a sentence, rounded: ``"1.5 GiB"``, ``"512 MiB"``."""
    for suffix, unit in (("TiB", 2**40), ("GiB", GIB), ("MiB", MIB)):
        if size >= unit:
            return f"{size / unit:.1f}".removesuffix(".0") + f" {suffix}"
    return f"{size / KIB:.0f} KiB"


class Gpu(msgspec.Struct, gc=False, frozen=True, forbid_unknown_fields=True):
    """Whole GPUs of one kind. ``kind`` is a resource name or an NVML product name."""

    kind: str
    count: int


class Resources(msgspec.Struct, gc=False, frozen=True, kw_only=True):
    """What a kernel has or wishes: CPU in millicores, memory in bytes, GPUs whole."""

    cpu: int
    memory: int
    gpu: Gpu | None = None

    def to_json(self) -> dict[str, Any]:
        """The form of REST and templates, with canonical quantities."""
        gpu = {"kind": self.gpu.kind, "count": self.gpu.count} if self.gpu else None
        return {"cpu": format_cpu(self.cpu), "memory": format_memory(self.memory), "gpu": gpu}

    def __str__(self) -> str:
        text = f"{format_cpu(self.cpu)} CPU, {show_memory(self.memory)}"
        return f"{text}, {self.gpu.count} x {self.gpu.kind}" if self.gpu else text
