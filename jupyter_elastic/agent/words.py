"""Sentences and figures that the agent's messages share."""

from __future__ import annotations

import signal
from typing import Any, Dict, Optional

from . import protocol
from .control import Refused
from .nursery import ZygoteLost


def size(value: float) -> str:
    """Memory for a sentence: ``"512 MiB"``."""
    for unit, name in ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB")):
        if value >= unit:
            text = f"{value / unit:.1f}"
            return (text[:-2] if text.endswith(".0") else text) + f" {name}"
    return f"{value / 1024:.0f} KiB"


def out_of_memory(limit: Optional[int], peak: Optional[int]) -> str:
    """Why a kernel was ended for want of memory."""
    figures = f" of {size(limit)}" if limit else ""
    reached = f" (peak {size(peak)})" if peak else ""
    return (
        f"The kernel needed more memory than its limit{figures}{reached} and was ended; "
        "its variables are lost. Give it more memory and run the cells again."
    )


def signalled(signum: int) -> str:
    """Why a kernel is gone that was killed by a signal."""
    try:
        name = signal.Signals(signum).name
    except ValueError:
        name = f"signal {signum}"
    return f"The kernel was ended by {name}; its variables are lost."


def crashed(code: int, last_words: str) -> str:
    """Why a kernel is gone that ended by itself with an error."""
    said = f" Its last words: {last_words}" if last_words else ""
    return f"The kernel ended with exit code {code}; its variables are lost.{said}"


def exited() -> str:
    """Why a kernel is gone that ended without an error: by ``quit()``, or asked to by a client."""
    return "The kernel ended itself (exit code 0, as after quit()); its variables are lost."


def make_exit(
    now: float,
    status: Dict[str, Optional[int]],
    oom: bool,
    limit: Optional[int],
    peak: Optional[int],
    last_words: str,
) -> Dict[str, Any]:
    """The protocol's ``Exit``. ``status`` has ``code`` and ``signal``, one of them None."""
    code, signum = status["code"], status["signal"]
    if oom:
        reason, message = protocol.OUT_OF_MEMORY, out_of_memory(limit, peak)
    elif signum is not None:
        reason, message = "Killed", signalled(signum)
    elif code:
        reason, message = "Crashed", crashed(code, last_words)
    else:
        reason, message = "Exited", exited()
    return {
        "time": now,
        "reason": reason,
        "message": message,
        "code": code,
        "signal": signum,
        "limit": limit,
        "peak": peak,
    }


def make_start_failed(
    now: float, code: Optional[int], signum: Optional[int], why: str
) -> Dict[str, Any]:
    """The ``Exit`` of a kernel that was ended for a restart and whose next one did not come up."""
    return {
        "time": now,
        "reason": "StartFailed",
        "message": f"The kernel was ended for a restart, and starting it again failed: {why}",
        "code": code,
        "signal": signum,
        "limit": None,
        "peak": None,
    }


def of_error(error: Exception) -> str:
    """An error as a sentence; of one that nobody foresaw, no internals."""
    if isinstance(error, Refused):
        return error.message
    if isinstance(error, OSError):
        return f"The agent failed: {error.strerror or 'an operating system error'}."
    if isinstance(error, ZygoteLost):
        return "The pod's zygote was killed."
    return "The agent failed by an error of its own; its log says more."
