"""``%elastic status`` in a notebook: what this kernel has and uses, as seen from inside.

``%load_ext jupyter_elastic`` brings it. Nothing is asked of a server: the agent leaves the facts in
the pod's directory, where the kernel's connection file lies too, and limits and use stand in the
pod's control group. The kernel has no key to its agent and needs none.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from IPython.core.error import UsageError
from IPython.core.magic import Magics, line_magic, magics_class

from .agent import config as agent_config
from .agent.meter import Meter
from .resources import show_memory

SAMPLE = 0.2
"""Seconds over which the use of CPU is measured."""
USAGE = "%elastic status shows this kernel's limits and use; --json returns them as a dict."
_HELD_BY = {
    "cgroup-v1": "a control group (version 1)",
    "cgroup-v2": "a control group (version 2)",
    "watchdog": "the agent, by weaker means",
}


class NoElasticKernel(Exception):
    """The kernel does not run in a pod, or in one whose facts cannot be read; for people."""


class Pod:
    """The pod that this process is the kernel of.

    Parameters
    ----------
    directory
        The pod's own directory, in which the agent leaves its files.
    environ
        The kernel's environment.

    Raises
    ------
    NoElasticKernel
        The kernel is none of a pod's, or the files are not there.
    """

    def __init__(self, directory: Path, environ: Mapping[str, str]) -> None:
        self.name = environ.get("JUPYTER_ELASTIC_POD", "")
        if not self.name:
            raise NoElasticKernel(
                "This kernel is no elastic kernel: it has no limits of its own. Choose another in "
                "the kernel dialog, or start one in the Elastic panel."
            )
        self.kernel_id = environ.get("JUPYTER_ELASTIC_KERNEL_ID", "")
        self._directory = directory
        told = self._read("status.json")
        try:
            config = agent_config.load(_config_path(told, directory))
        except (OSError, ValueError, KeyError) as error:
            raise NoElasticKernel(
                f"What the agent of pod {self.name} knows cannot be read from here ({error}). "
                "The Elastic panel shows it."
            ) from error
        self._meter = Meter(config)
        self._meter.kernel = os.getpid()
        self._meter.overhead = int(told.get("overhead") or 0)

    def _read(self, name: str) -> dict[str, Any]:
        try:
            content = json.loads((self._directory / name).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise NoElasticKernel(
                f"What the agent of pod {self.name} knows cannot be read from here ({error}). "
                "The Elastic panel shows it."
            ) from error
        return content if isinstance(content, dict) else {}

    def status(self, sample: float = SAMPLE) -> dict[str, Any]:
        """The kernel's limits and use; memory in bytes, CPU in cores, without the agent's share.

        A limit is None where there is none, and so is what cannot be known. Takes ``sample``
        seconds, over which the use of CPU is measured.
        """
        request = self._read("claim.json").get("request") or {}
        meter = self._meter
        # Both may have been changed by a resize since.
        meter.memory, meter.cpu = int(request.get("memory") or 0), int(request.get("cpu") or 0)
        begun, before = time.monotonic(), meter.cpu_seconds()
        time.sleep(sample)
        used = meter.cpu_seconds() - before
        usage = meter.usage([str(one) for one in request.get("gpu") or ()])
        limit = usage["cpu_limit"]
        group = meter.cgroup
        return {
            "template": str(request.get("kernel_name") or ""),
            "kernel_id": self.kernel_id,
            "pod": self.name,
            "cpu": {
                "limit": None if limit is None else limit / 1000,
                "now": round(max(0.0, used) / (time.monotonic() - begun), 3),
            },
            "memory": {
                "limit": usage["memory_limit"],
                "now": usage["memory"],
                "peak": usage["memory_peak"],
            },
            "gpu": usage["gpu"],
            "limits_by": "watchdog" if meter.watchdog or not group else f"cgroup-v{group.version}",
        }


def _config_path(told: Mapping[str, Any], directory: Path) -> str:
    """Where the agent's configuration is: the last word of its command, else beside its files."""
    try:
        words = Path(f"/proc/{int(told['pid'])}/cmdline").read_bytes().split(b"\0")
        named = os.fsdecode(words[-2])
    except (OSError, KeyError, ValueError, IndexError):
        named = ""
    return named if named.endswith(".json") else str(directory / "config.json")


def as_text(status: Mapping[str, Any]) -> str:
    """The same for people, one line each."""
    cpu, memory = status["cpu"], status["memory"]
    peak = "" if memory["peak"] is None else f"; peak {show_memory(memory['peak'])}"
    lines = [
        f"Template  {status['template']}",
        f"Kernel    {status['kernel_id']}",
        f"Pod       {status['pod']}",
        f"CPU       {cpu['now']:.2f} in use, {_of(cpu['limit'], '{:g} CPU')}",
        f"Memory    {show_memory(memory['now'])} in use, {_of(memory['limit'], show_memory)}{peak}",
    ]
    lines += [
        f"GPU       {gpu['kind']}: {show_memory(gpu['memory'])} of "
        f"{show_memory(gpu['memory_total'])} in use"
        for gpu in status["gpu"]
    ]
    return "\n".join([*lines, f"Limits    held by {_HELD_BY[status['limits_by']]}"])


def _of(limit: float | None, form: Any) -> str:
    if limit is None:
        return "without a limit"
    return "limit " + (form.format(limit) if isinstance(form, str) else form(limit))


@magics_class
class ElasticMagics(Magics):  # type: ignore[misc]
    """The magic ``%elastic``."""

    @line_magic  # type: ignore[untyped-decorator]
    def elastic(self, line: str) -> dict[str, Any] | None:
        """``%elastic status [--json]``: this kernel's template, pod, limits and use."""
        words = line.split()
        if words not in (["status"], ["status", "--json"]):
            raise UsageError(USAGE)
        try:
            status = Pod(pod_directory(self.shell), os.environ).status()
        except NoElasticKernel as error:
            raise UsageError(str(error)) from None
        if "--json" in words:
            return status
        sys.stdout.write(as_text(status) + "\n")
        return None


def pod_directory(shell: Any) -> Path:
    """Where the kernel's connection file lies; for an elastic kernel the pod's directory."""
    app = getattr(getattr(shell, "kernel", None), "parent", None)
    return Path(getattr(app, "abs_connection_file", None) or os.getcwd()).parent
