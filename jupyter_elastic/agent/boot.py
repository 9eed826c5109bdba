"""How an agent comes up: fork the zygote first, then become the agent.

The order matters. The zygote must be forked before this process has a thread or a zmq context,
and after it has imported what both need, for pages that are shared cost nothing.
"""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import sys
from typing import Any, Dict, Tuple

from . import config as configuration
from . import host, identity, init, processes
from .nursery import respawn_arguments
from .zygote import Zygote


def thaw() -> None:
    """Run again with ``-X frozen_modules=off``, as ipykernel's own kernelspec has it.

    Otherwise the debugger misses breakpoints in frozen modules, and says so in each kernel.
    """
    if sys.version_info >= (3, 11) and "frozen_modules" not in sys._xoptions:
        argv = respawn_arguments(__name__.rpartition(".")[0], os.path.abspath(__file__))
        os.execv(argv[0], [argv[0], "-Xfrozen_modules=off", *argv[1:], *sys.argv[1:]])


def prepare() -> None:
    """Leave behind what kernels must not inherit from whoever started this agent."""
    for name in identity.NEVER:
        os.environ.pop(name, None)
    processes.become_subreaper()


def fork_zygote(config: Dict[str, Any], log: int) -> Tuple[int, socket.socket]:
    """Fork the zygote with ``log`` as its output; return its pid and our end of the link."""
    ours, theirs = socket.socketpair()
    gc.collect()
    gc.freeze()
    pid = os.fork()
    if pid == 0:
        ours.close()
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.close(log)
        _zygote(theirs, config)
    theirs.close()
    return pid, ours


def _zygote(sock: socket.socket, config: Dict[str, Any]) -> None:
    try:
        Zygote(sock, config).run()
    finally:
        os._exit(70)  # never back into the agent's code


def run_agent(path: str) -> int:
    """Run an agent until its pod ends. Returns the exit status."""
    try:
        config = configuration.load(path)
    except (OSError, ValueError, KeyError) as error:
        sys.stderr.write(f"agent: the configuration {path} cannot be used: {error!r}\n")
        return 2
    os.makedirs(config["run_dir"], mode=0o700, exist_ok=True)
    prepare()
    if config["init"]:
        init.split(config)
    read, write = os.pipe()
    os.set_inheritable(read, False)
    pid, sock = fork_zygote(config, write)
    return asyncio.run(host.main(config, os.path.abspath(path), pid, sock, read, write))


def run_zygote(descriptor: int, path: str) -> int:
    """Be a zygote that replaces one that was killed (see ``host``)."""
    config = configuration.load(path)
    _zygote(socket.socket(fileno=descriptor), config)
    return 70
