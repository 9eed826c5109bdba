"""Reading what kubelet and scheduler say: their sentences are for operators, ours for users.

They have no machine-readable form of the figures in them, so they are parsed here, in one place.
What cannot be parsed is quoted, short and without addresses, hashes and object names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from ...errors import BadQuantity
from ...resources import parse_cpu, parse_memory, show_memory

LONGEST = 200
"""Characters of a foreign message that are quoted."""

_FIGURES = re.compile(
    r"(?P<resource>[\w./-]+), requested: (?P<requested>\d+)"
    r"(?:, used: (?P<used>\d+))?, capacity: (?P<capacity>\d+)"
)
_NOISE = (
    (re.compile(r"\b(?:rpc error: code = \w+ desc = )"), ""),
    (re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"), "..."),
    (re.compile(r"\b(?:sha256:)?[0-9a-f]{16,64}\b"), "..."),
    (re.compile(r"\bdial \w+ [\w.:\[\]-]+: "), ""),
    (re.compile(r" on \d+(?:\.\d+){3}(?::\d+)?"), ""),
    (re.compile(r"\b\d+(?:\.\d+){3}(?::\d+)?\b"), "..."),
    (re.compile(r"\s+"), " "),
)


class Shortage(msgspec.Struct, frozen=True):
    """A resource of which a node has too little; base units (millicores, bytes, pieces)."""

    resource: str
    requested: int
    capacity: int
    used: int | None = None
    """None: the node could not fit it even when empty."""


def shortages(message: str) -> Iterator[Shortage]:
    """The figures in a kubelet's "requested: 1950, used: 100, capacity: 2000"."""
    for found in _FIGURES.finditer(message):
        used = found["used"]
        yield Shortage(
            resource=found["resource"],
            requested=int(found["requested"]),
            capacity=int(found["capacity"]),
            used=int(used) if used is not None else None,
        )


def show_shortage(shortage: Shortage) -> str:
    """A clause for a sentence: ``5 CPU, where the node has 2``."""
    amount = show(shortage.resource, shortage.requested)
    total = figure(shortage.resource, shortage.capacity)
    if shortage.used is None:
        return f"{amount}, where the node has {total}"
    free = figure(shortage.resource, max(0, shortage.capacity - shortage.used))
    return f"{amount}, where {free} of the node's {total} are free"


def show(resource: str, amount: int) -> str:
    """An amount in base units with its noun: ``1.5 CPU``, ``2 GiB of memory``."""
    noun = {"cpu": "CPU", "memory": "of memory", "ephemeral-storage": "of disk"}
    return f"{figure(resource, amount)} {noun.get(resource, resource)}"


def figure(resource: str, amount: int) -> str:
    """An amount in base units: CPU in cores, memory and disk with a unit."""
    if resource == "cpu":
        return f"{amount / 1000:.2f}".rstrip("0").rstrip(".")
    if resource in ("memory", "ephemeral-storage"):
        return show_memory(amount)
    return str(amount)


def clip(message: str, longest: int = LONGEST) -> str:
    """A foreign message as it may be quoted: one line, no ids, cut at a word."""
    for pattern, instead in _NOISE:
        message = pattern.sub(instead, message)
    message = message.strip().rstrip(".,;: ")
    if len(message) <= longest:
        return message
    return message[: longest - 3].rsplit(" ", 1)[0].rstrip(".,;: ") + "..."


def innermost(message: str, longest: int = 120) -> str:
    """The cause in "failed to x: failed to y: the cause", as it may be quoted."""
    parts = [part for part in re.split(r":\s+", message.strip()) if part and part != "unknown"]
    tail = parts[-1:]
    if len(parts) > 1 and len(tail[0]) < 40:  # too short to be understood alone
        tail = parts[-2:]
    return clip(": ".join(tail), longest)


def last_words(text: str, lines: int = 6, longest: int = 600) -> str:
    """The end of a log, where the cause is."""
    kept = [line.rstrip() for line in text.splitlines() if line.strip()][-lines:]
    words = "\n".join(kept)
    return words if len(words) <= longest else "..." + words[-(longest - 3) :]


def sentence(text: str) -> str:
    """Text with a full stop."""
    return text if text.endswith((".", "!", "?")) else text + "."


def read_cpu(quantity: str | None) -> int:
    """Millicores; 0 when absent, zero or unreadable."""
    try:
        return parse_cpu(quantity) if quantity else 0
    except BadQuantity:
        return 0


def read_memory(quantity: str | None) -> int:
    """Bytes; 0 when absent, zero or unreadable."""
    try:
        return parse_memory(quantity) if quantity else 0
    except BadQuantity:
        return 0
