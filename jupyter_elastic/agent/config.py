"""The agent's configuration: one JSON file, written by whoever makes the pod.

Standard library only. ``python agent.pyz CONFIG.json``.

Fields
------
``pod`` (str)
    The pod's name.
``bind`` (str)
    Where the control socket binds, ``tcp://127.0.0.1:*`` locally.
``run_dir`` (str)
    The pod's own directory (0700); the agent makes it where it is missing.
``keys`` (str)
    Path of a JSON file (0600): ``{"secret_key", "public_key", "client_keys": [...]}``, Z85.
``argv`` (list of str or null)
    For kernels that are not Python; null means ipykernel in this very interpreter.
``interrupt_mode`` (str), ``language`` (str)
``preload`` (list of str)
    Modules the zygote imports. One that fails is a warning, never the end of the pod.
``cgroup`` (object, "own" or null)
    ``{"version": 1|2, "memory": DIR, "cpu": DIR, "join": [FILE, ...]}``; ``join`` are the
    ``cgroup.procs`` files into which the zygote writes its pid before it imports anything, so
    that kernels are born inside. The agent itself stays outside locally. ``"own"``: the group
    that this process is in, as in a container. Null: no cgroup.
``enforce`` (str)
    ``cgroup``: limits are somebody else's (the cluster adapter or kubelet writes them).
    ``watchdog``: the agent itself holds memory by sampling RSS and CPU by affinity.
``memory``, ``cpu`` (int)
    First limits: bytes and millicores, without overhead.
``heartbeat`` (object or null)
    ``{"path": FILE, "timeout": SECONDS}``: while warm, end when FILE was not touched so long.
``warm_timeout`` (float)
    A pod that is not claimed within so many seconds of a cold start's birth ends; 0 = never.
``cpu_overhead`` (int)
    Millicores of the cgroup's limit that are the agent's and not the kernel's.
``init`` (bool)
    Whether this is the first process of a container (see :mod:`.init`).
``termination_log`` (str)
    Where the kubelet reads why a container ended; ``{"reason", "message"}`` as JSON. Empty: none.
"""

from __future__ import annotations

import json
from typing import Any, Dict

DEFAULTS: Dict[str, Any] = {
    "bind": "tcp://127.0.0.1:*",
    "argv": None,
    "interrupt_mode": "signal",
    "language": "python",
    "preload": [],
    "cgroup": None,
    "enforce": "watchdog",
    "memory": 0,
    "cpu": 0,
    "heartbeat": None,
    "warm_timeout": 0,
    "cpu_overhead": 0,
    "init": False,
    "termination_log": "",
}


def load(path: str) -> Dict[str, Any]:
    """Read the configuration. Raises KeyError naming a required field that is missing."""
    with open(path, encoding="utf-8") as file:
        given = json.load(file)
    config = {**DEFAULTS, **given}
    for field in ("pod", "run_dir", "keys"):
        if field not in config:
            raise KeyError(field)
    return config


def load_keys(path: str) -> Dict[str, Any]:
    """Read the agent's key file. Raises KeyError naming what is missing."""
    with open(path, encoding="utf-8") as file:
        keys: Dict[str, Any] = json.load(file)
    for field in ("secret_key", "public_key", "client_keys"):
        if field not in keys:
            raise KeyError(field)
    return keys
