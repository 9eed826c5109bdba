"""Interrupt and restart, also of a kernel that this server is not connected to yet.

A kernel is in the mapping, and its record may say Running, before this server's manager has its
ports. Jupyter answers what is asked meanwhile with an error; here it waits for its moment.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from jupyter_server.utils import ensure_async

from ..errors import ElasticError
from .problems import as_http

READY_WITHIN = 60.0
"""Seconds that an interrupt waits for the end of a restart."""


class ActionsMixin:
    """Part of :class:`~jupyter_elastic.kernels.manager.ElasticMappingMixin`."""

    if TYPE_CHECKING:
        _adopting: dict[str, asyncio.Task[None]]
        _elastic_starts: dict[str, asyncio.Task[None]]
        _elastic_km: Callable[[str], Any]
        _check_kernel_id: Callable[[str], None]
        _record_failed_of: Callable[[str], bool]
        elastic_started: Callable[[str], Coroutine[Any, Any, None]]

    async def interrupt_kernel(self, kernel_id: str) -> None:
        """Interrupt a kernel, once this server is connected to it."""
        km = self._elastic_km(kernel_id)
        try:
            if km is not None:
                self._check_kernel_id(kernel_id)
                await self._attached(kernel_id)
                await _restarted(km)
            await ensure_async(super().interrupt_kernel(kernel_id))  # type: ignore[misc]
        except ElasticError as error:
            raise as_http(error) from error

    async def restart_kernel(self, kernel_id: str, now: bool = False) -> None:
        """Restart a kernel; one that starts will be as new as that makes it.

        Raises
        ------
        ElasticError
            Its start, or the restart, failed.
        """
        if self._elastic_km(kernel_id) is not None:
            self._check_kernel_id(kernel_id)
            failed = self._record_failed_of(kernel_id)
            try:
                if await self._attached(kernel_id):
                    return
            except ElasticError:
                if not failed:
                    raise
                # The start that failed was only being tidied up: this is a wish for another.
        await super().restart_kernel(kernel_id, now=now)  # type: ignore[misc]

    async def _attached(self, kernel_id: str) -> bool:
        """Wait until this server is connected to a kernel; whether it was started meanwhile.

        Raises
        ------
        ElasticError
            It cannot be: the start failed, or its agent does not answer.
        """
        adopting = self._adopting.get(kernel_id)
        if adopting is not None:
            await asyncio.shield(adopting)
        starting = kernel_id in self._elastic_starts
        await self.elastic_started(kernel_id)
        return starting


async def _restarted(km: Any) -> None:
    """Wait, within a bound, while a kernel is being restarted, and perhaps again."""
    clock = asyncio.get_running_loop().time
    until = clock() + READY_WITHIN
    while not km.ready.done() and clock() < until:
        await asyncio.wait({km.ready}, timeout=until - clock())
