"""Kernels whose record somebody edited: another size there is a wish, as a request would be.

Where records are objects of a cluster, ``kubectl edit`` changes what a kernel should have. Whoever
holds the pool's lease acts on it, so that it is one; how it ends stands in the record, as for a
request. What was refused is put back there, and tried again when it is edited again.
"""

from __future__ import annotations

from typing import Any

from ..cluster.base import Change
from ..model import Kernel, KernelPhase
from ..resources import Gpu, Resources


def wish_of(kernel: Kernel, *, edited: bool) -> Resources | None:
    """What a kernel should have and has not, where somebody should see to it; else None. Pure.

    Parameters
    ----------
    edited
        Whether it was seen that the record's resources changed; then also what was refused before
        is tried.
    """
    if kernel.phase is not KernelPhase.RUNNING or kernel.actual is None:
        return None
    state = kernel.resize.state if kernel.resize else "Done"
    if state == "InProgress" or (state == "Refused" and not edited):
        return None
    return kernel.resources if changes(kernel.actual, kernel.resources) else None


class Edits:
    """Remembers which records were edited, and what was tried for them."""

    def __init__(self) -> None:
        self._edited: set[str] = set()
        self._tried: dict[str, Resources] = {}

    def see(self, change: Change) -> bool:
        """Take in a change; whether a kernel's record asks for something else than before."""
        if change.kind != "kernel":
            return False
        if change.new is None:
            self._edited.discard(change.name)
            self._tried.pop(change.name, None)
            return False
        old, new = change.old, change.new
        if not isinstance(old, Kernel) or not isinstance(new, Kernel):
            return False
        if old.resources != new.resources:
            self._edited.add(change.name)
            return True
        return old.resize != new.resize and change.name in self._edited

    def take(self, kernel: Kernel) -> Resources | None:
        """What is to be tried for a kernel now; the same again only once it is edited again."""
        edited = kernel.kernel_id in self._edited
        wish = wish_of(kernel, edited=edited)
        if kernel.resize is None or kernel.resize.state != "InProgress":
            self._edited.discard(kernel.kernel_id)
        if wish is None or (wish == self._tried.get(kernel.kernel_id) and not edited):
            return None
        self._tried[kernel.kernel_id] = wish
        return wish

    def again(self, kernel_id: str) -> None:
        """What was tried for a kernel came to nothing; it is tried again."""
        self._edited.add(kernel_id)
        self._tried.pop(kernel_id, None)


def changes(before: Resources | None, wish: Resources) -> dict[str, Any]:
    """What of a wish is other than before, in the form of a request. Pure."""
    wanted = wish.to_json()
    if before is None:
        return wanted
    same = {"cpu": before.cpu == wish.cpu, "memory": before.memory == wish.memory}
    same["gpu"] = _some(before.gpu) == _some(wish.gpu)
    return {name: value for name, value in wanted.items() if not same[name]}


def _some(gpu: Gpu | None) -> Gpu | None:
    """A count of 0 means none."""
    return gpu if gpu is not None and gpu.count else None
