"""Changes of kernels and pool as Jupyter events, for Lab and for whoever listens to the server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import yaml
from jsonschema import ValidationError  # type: ignore[import-untyped]
from jupyter_events import EventLogger

from ..cluster.base import Change
from ..kernels.service import ElasticService
from ..model import Kernel, Pod
from .views import Counts

KERNEL_SCHEMA = "urn:jupyter-elastic:kernel:v1"
POOL_SCHEMA = "urn:jupyter-elastic:pool:v1"
POOL_DELAY = 0.3
"""Seconds for which changes of the pool are gathered into one event for each template."""

_SCHEMAS = Path(__file__).parent / "event_schemas"


def register_events(event_logger: EventLogger) -> None:
    """Make our schemas known. Doing it twice is no error."""
    for schema_id, file in ((KERNEL_SCHEMA, "kernel/v1.yaml"), (POOL_SCHEMA, "pool/v1.yaml")):
        if schema_id in event_logger.schemas:
            continue
        schema: dict[str, Any] = yaml.safe_load((_SCHEMAS / file).read_text(encoding="utf-8"))
        try:
            event_logger.register_event_schema(schema)
        except ValidationError:  # jupyter_events before 0.11 counts versions in integers.
            event_logger.register_event_schema(schema | {"version": int(schema["version"])})


class EventBridge:
    """Passes what changes in the cluster on to an event logger, until it is closed.

    Kernel events go out at once, but only when something changed that they show. Pool events are
    gathered for ``pool_delay`` seconds and sent only when a figure differs from the last one.
    With ``discreet``, for a server of several people, kernel events say only that there is news:
    Jupyter sends every event to everybody.
    """

    def __init__(
        self,
        service: ElasticService,
        event_logger: EventLogger,
        pool_delay: float = POOL_DELAY,
        *,
        discreet: bool = False,
    ) -> None:
        self._service = service
        self._events = event_logger
        self._pool_delay = pool_delay
        self._discreet = discreet
        self._dispose: Callable[[], None] | None = None
        self._dirty: set[str] = set()
        self._sent: dict[str, dict[str, Any]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def open(self) -> None:
        """Begin; call it on the loop, after the cluster was opened."""
        register_events(self._events)
        if self._dispose is None:
            self._dispose = self._service.cluster.subscribe(self._listen)

    def close(self) -> None:
        """End; what is gathered and not yet sent is dropped. Idempotent."""
        if self._dispose is not None:
            self._dispose()
            self._dispose = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _listen(self, change: Change) -> None:
        if change.kind == "kernel":
            self._tell_kernel(change)
        elif change.kind == "pod":
            pods = (pod for pod in (change.old, change.new) if isinstance(pod, Pod))
            self._dirty.update(pod.template for pod in pods)
            if self._dirty and self._timer is None:
                loop = asyncio.get_running_loop()
                self._timer = loop.call_later(self._pool_delay, self._tell_pool)

    def _tell_kernel(self, change: Change) -> None:
        old = change.old if isinstance(change.old, Kernel) else None
        new = change.new if isinstance(change.new, Kernel) else None
        kernel = new or old
        if kernel is None:
            return
        if old is not None and new is not None and _shown(old) == _shown(new):
            return  # Only what nobody is shown, such as the version.
        verb = "removed" if new is None else "added" if old is None else "changed"
        shown = _public(kernel) if self._discreet else _shown(kernel)
        self._events.emit(schema_id=KERNEL_SCHEMA, data={"change": verb} | shown)

    def _tell_pool(self) -> None:
        self._timer = None
        dirty, self._dirty = self._dirty, set()
        counts = Counts(self._service)
        for template in sorted(dirty):
            data = counts.of(template)
            del data["claimed"]
            if data != self._sent.get(template):
                self._sent[template] = data
                self._events.emit(schema_id=POOL_SCHEMA, data=data)


def _public(kernel: Kernel) -> dict[str, Any]:
    """What a kernel event may say to people whose kernel it is not."""
    return {
        "kernel_id": kernel.kernel_id,
        "owner": "",
        "template": kernel.template,
        "phase": kernel.phase.value,
        "reason": "",
        "message": "",
    }


def _shown(kernel: Kernel) -> dict[str, Any]:
    """What a kernel event says."""
    return {
        "kernel_id": kernel.kernel_id,
        "owner": kernel.owner,
        "template": kernel.template,
        "name": kernel.name,
        "path": kernel.path,
        "phase": kernel.phase.value,
        "reason": kernel.reason,
        "message": kernel.message,
        "start": kernel.start,
        "restarts": kernel.restarts,
        "resources": kernel.resources.to_json(),
        "actual": kernel.actual.to_json() if kernel.actual else None,
        "resize": msgspec.to_builtins(kernel.resize),
        "sessions": [msgspec.to_builtins(one) for one in kernel.sessions],
        "step": msgspec.to_builtins(kernel.steps[-1]) if kernel.steps else None,
    }
