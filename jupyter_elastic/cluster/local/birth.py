"""How a pod comes into the world: interpreter, files, control group, process. Blocks briefly."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import zmq

from ...errors import BadInterpreter
from ...model import Pod, Template
from ...resources import MIB, Resources
from . import cgroups, process
from .state import PodRecord, StateDir, write_atomically

WARM_SIZE = Resources(cpu=100, memory=128 * MIB)
"""What a warm pod counts in the quota: what it really needs."""
WARM_MEMORY_LIMIT = 512 * MIB
"""The least memory a warm pod may use: importing what is preloaded must never fail."""
FIRST_OVERHEAD = 256 * MIB
"""Added to the limit of a pod born for a kernel, until its agent has said what it needs."""


class Outfit(msgspec.Struct, frozen=True, kw_only=True):
    """What all pods of one cluster object have in common."""

    agent: bytes
    """The agent's zipapp."""
    python: str
    """For templates whose kernel is no Python: what the agent runs with."""
    place: cgroups.Place | None
    orphan_after: float
    warm_timeout: float


def find_interpreter(template: Template, default: str) -> str:
    """The Python that runs the agent.

    Raises
    ------
    BadInterpreter
        It does not exist or may not be run.
    """
    wanted = template.interpreter or default
    found = shutil.which(os.path.expanduser(wanted))
    if found is not None:
        # Not resolved: a virtual environment's Python is a link, and knows itself by its path.
        return os.path.abspath(found)
    exists = os.path.exists(os.path.expanduser(wanted))
    raise BadInterpreter(
        f"The interpreter {wanted} of template {template.name!r} "
        + ("may not be executed." if exists else "does not exist."),
        "Correct the template's interpreter: a path to a Python that has ipykernel.",
        field="interpreter",
    )


def make_config(
    pod: Pod,
    template: Template,
    run_dir: Path,
    group: cgroups.Group | None,
    outfit: Outfit,
    heartbeat: Path,
) -> dict[str, Any]:
    """The agent's configuration; see :mod:`jupyter_elastic.agent.config`."""
    cold = pod.kernel_id is not None
    return {
        "pod": pod.name,
        "bind": "tcp://127.0.0.1:*",
        "run_dir": str(run_dir),
        "keys": str(run_dir / "keys.json"),
        "argv": list(template.argv) or None,
        "interrupt_mode": template.interrupt_mode,
        "language": template.language,
        "preload": list(template.preload),
        "cgroup": msgspec.to_builtins(group) if group else None,
        "enforce": "cgroup" if group else "watchdog",
        "memory": pod.resources.memory if cold else warm_limit(template),
        "cpu": pod.resources.cpu if cold else 1000 * len(os.sched_getaffinity(0)),
        "heartbeat": None if cold else {"path": str(heartbeat), "timeout": outfit.orphan_after},
        "warm_timeout": outfit.warm_timeout if cold else 0,
    }


def warm_limit(template: Template) -> int:
    """Bytes a warm pod may use: what its kernel would have, and never too little to preload."""
    return max(WARM_MEMORY_LIMIT, template.resources.memory.default)


def bear(
    state: StateDir, pod: Pod, template: Template, outfit: Outfit, env: Mapping[str, str]
) -> PodRecord:
    """Make a new pod's files and group, and start its agent. Under the lock.

    Raises
    ------
    BadInterpreter
        The system refuses to run it.
    OSError
        Files or groups cannot be made. Nothing is left over in either case.
    """
    python = find_interpreter(template, outfit.python)
    run_dir = state.run_dir(pod.name)
    group = outfit.place.group(pod.name) if outfit.place else None
    try:
        run_dir.mkdir(mode=0o700)
        if group is not None:
            cgroups.make(group)
            first = pod.resources.memory if pod.kernel_id else warm_limit(template)
            cgroups.set_memory(group, first + FIRST_OVERHEAD)
            cgroups.set_cpu(group, pod.resources.cpu if pod.kernel_id else None)
        agent_public, agent_secret = (key.decode() for key in zmq.curve_keypair())
        public, secret = (key.decode() for key in zmq.curve_keypair())
        config = make_config(pod, template, run_dir, group, outfit, state.heartbeat)
        for name, content in (
            ("config.json", config),
            (
                "keys.json",
                {
                    "secret_key": agent_secret,
                    "public_key": agent_public,
                    "client_keys": [public],
                },
            ),
            ("client.json", {"public_key": public, "secret_key": secret}),
            ("env.json", {**env, **template.env}),
        ):
            write_atomically(run_dir / name, json.dumps(content).encode(), run_dir)
        write_atomically(run_dir / "agent.pyz", outfit.agent, run_dir)
        agent = _spawn(run_dir, pod.name, python, {**env, **template.env})
    except BaseException:
        if group is not None:
            cgroups.remove(group)
        state.drop_run(pod.name)
        raise
    return PodRecord(pod=pod, process=agent, group=group, python=python)


def bring_back(state: StateDir, record: PodRecord) -> process.Process:
    """Start the agent of a pod again in which everything was killed. Under the lock.

    It finds its claim in the pod's directory and starts the kernel again by itself.

    Raises
    ------
    OSError, BadInterpreter
        It cannot be started.
    """
    name = record.pod.name
    run_dir = state.run_dir(name)
    (run_dir / "status.json").unlink(missing_ok=True)
    config = json.loads((run_dir / "config.json").read_bytes())
    config["memory"] = record.pod.resources.memory
    config["cpu"] = record.pod.resources.cpu
    write_atomically(run_dir / "config.json", json.dumps(config).encode(), run_dir)
    if record.group is not None:
        cgroups.make(record.group)
    env = json.loads((run_dir / "env.json").read_bytes())
    return _spawn(run_dir, name, record.python, env)


def _spawn(run_dir: Path, pod: str, python: str, env: Mapping[str, str]) -> process.Process:
    command = [python, str(run_dir / "agent.pyz"), str(run_dir / "config.json")]
    try:
        return process.spawn(command, pod=pod, log=run_dir / "log", env=env)
    except OSError as error:
        raise BadInterpreter(
            f"The interpreter {python} could not be run ({error.strerror}).",
            "Correct the template's interpreter: a path to a Python that has ipykernel.",
            field="interpreter",
        ) from error
