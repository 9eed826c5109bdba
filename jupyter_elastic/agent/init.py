"""The first process of a container: the agent's parent, which reaps, and is the witness.

In a container whose first process ends, everything ends, and nobody is left to say why. So the
agent is a child of this process: when the agent is killed, its pod is ended here and the reason
left where the kubelet reads it. When everything is killed at once, as a container out of memory
is, this process is too, and the kubelet starts the container again.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from typing import Any, Dict

from . import processes, state

AGENT_LOST = "AgentLost"
MESSAGE = "The pod's agent was killed; the kernel was ended with it and its variables are lost."


def split(config: Dict[str, Any]) -> None:
    """Go on as the agent in a child; this process becomes its parent and never returns."""
    processes.become_subreaper()
    gc.collect()
    gc.freeze()  # pages stay shared
    pid = os.fork()
    if pid == 0:
        return
    os._exit(_watch(pid, config))


def _watch(agent: int, config: Dict[str, Any]) -> int:
    """Reap until the agent has ended; returns the container's exit status."""

    def forward(signum: int, _: object) -> None:
        processes.kill([agent], signum)

    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, forward)
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == agent:
            break
    code, signum_or_none = processes.describe_status(status)
    processes.kill_below()
    if code is not None:
        return code
    sys.stderr.write(f"agent: killed by signal {signum_or_none}\n")
    state.write_status(config["run_dir"], phase="gone", reason=AGENT_LOST, message=MESSAGE)
    state.remove(config["run_dir"], state.CLAIM)
    state.write_termination(config["termination_log"], AGENT_LOST, MESSAGE)
    return 0
