"""The progress of a start as server-sent events: one message for each change, until it ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from ..cluster.base import Change
from ..errors import UnknownKernel
from ..kernels.service import ElasticService
from ..waits import event_or_timeout
from .views import progress_view

HEARTBEAT = 15.0
"""Seconds of silence after which a comment is sent, so that proxies keep the connection."""
LOOK = 0.25
"""Seconds between two looks: steps of a start are in the record only once it is written."""


async def progress_of(
    service: ElasticService, owner: str, kernel_id: str, heartbeat: float = HEARTBEAT
) -> AsyncIterator[dict[str, Any] | None]:
    """The ``Progress`` now and after each change, the last one with ``done``; None for silence.

    Raises
    ------
    UnknownKernel
        There is no such kernel at the beginning. One that goes away later ends the stream.
    """
    changed = asyncio.Event()

    def listen(change: Change) -> None:
        if change.kind == "kernel" and change.name == kernel_id:
            changed.set()

    dispose = service.cluster.subscribe(listen)
    try:
        shown = progress_view(service, service.kernel_of(owner, kernel_id))
        yield shown
        silent = 0.0
        while not shown["done"]:
            await event_or_timeout(changed, min(LOOK, heartbeat))
            changed.clear()
            try:
                now = progress_view(service, service.kernel_of(owner, kernel_id))
            except UnknownKernel:
                gone = {"phase": "Stopped", "reason": "Deleted", "done": True}
                yield shown | gone | {"message": "The kernel was stopped."}
                return
            silent += LOOK
            if now != shown:
                shown, silent = now, 0.0
                yield shown
            elif silent >= heartbeat:
                silent = 0.0
                yield None
    finally:
        dispose()


def encode_event(progress: dict[str, Any] | None) -> str:
    """One message of the stream; for silence a comment."""
    return ": still here\n\n" if progress is None else f"data: {json.dumps(progress)}\n\n"
