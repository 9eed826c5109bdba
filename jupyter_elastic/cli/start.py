"""``jupyter elastic kernels start``: a kernel that no server is needed for."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Any

import zmq
from jupyter_client.manager import KernelManager
from jupyter_core.paths import jupyter_runtime_dir
from jupyter_core.utils import ensure_dir_exists

from ..api.bodies import check_words
from ..api.views import kernel_view
from ..errors import BadRequest, ElasticError, StartFailed
from ..kernels.service import ElasticService
from ..kernels.startargs import StartArgs, environment
from ..model import Kernel
from ..templates import resolve_wish
from .context import Context

RECORD_TIMEOUT = 15.0
"""Seconds until a start in the background must have written its record."""


def wish_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """The wish that ``--cpu``, ``--memory`` and ``--gpu`` make."""
    wish: dict[str, Any] = {}
    if arguments.cpu is not None:
        wish["cpu"] = arguments.cpu
    if arguments.memory is not None:
        wish["memory"] = arguments.memory
    if getattr(arguments, "gpu", None) is not None:
        kind, _, count = arguments.gpu.rpartition("=")
        if not kind:
            kind, count = arguments.gpu, "1"
        if not count.isascii() or not count.isdigit():
            raise BadRequest(
                f"--gpu: {count[:40]!r} is not a number.", "Write --gpu KIND=COUNT.", field="gpu"
            )
        wish["gpu"] = {"kind": kind, "count": int(count)}
    return wish


async def start(context: Context, service: ElasticService) -> int:
    """Start a kernel and say how to attach to it; a failed one leaves nothing behind."""
    arguments = context.arguments
    check_words("name", arguments.name)
    template = service.template(arguments.template)
    draft = service.draft(
        template.name,
        resolve_wish(template, wish_of(arguments)),
        name=arguments.name,
        kernel_id=arguments.kernel_id,
    )
    if not arguments.wait:
        return await _in_background(context, service, draft)
    kernel = await service.launcher.record(draft)
    context.say(f"Kernel {kernel.kernel_id}")
    follower = asyncio.create_task(_tell_steps(context, service, kernel.kernel_id))
    try:
        launched = await service.launcher.launch(kernel, template, _start_args(service))
    except ElasticError:
        await service.launcher.running.stop(kernel.kernel_id)
        raise
    finally:
        follower.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await follower
    file = None
    if not _way_ends_here(service, launched.connection):
        file = write_connection(kernel.kernel_id, launched.connection)
    if context.json:
        view = kernel_view(service, launched.kernel)
        context.show_json(view | {"connection_file": str(file) if file else None})
        return 0
    print(f"Running: {launched.kernel.actual or launched.kernel.resources}")
    if file is None:
        print("It is reached by port-forward: open it from a Jupyter server of its owner.")
    else:
        print(f"Connection file: {file}")
        if "curve_publickey" in launched.connection:
            print("Its channels are encrypted: attach with jupyter_client's BlockingKernelClient.")
        else:
            print(f"Attach with: jupyter console --existing {file.name}")
    return 0


def _way_ends_here(service: ElasticService, connection: dict[str, Any]) -> bool:
    """Whether the kernel is elsewhere and reached through this process, which is about to end."""
    return service.cluster.exposed and connection["ip"] == "127.0.0.1"


async def _tell_steps(context: Context, service: ElasticService, kernel_id: str) -> None:
    async for step in service.launcher.progress.follow(kernel_id):
        context.say(f"  {step.name}: {step.message}")


def _start_args(service: ElasticService) -> StartArgs:
    """What a kernel started here is given.

    Its channels are encrypted only where that is required: whoever attaches by the connection
    file may not know how (``jupyter console --existing`` does not, as of jupyter_client 8.10).
    """
    curve = None
    required = service.requires_encryption
    if required and zmq.has("curve") and hasattr(KernelManager, "curve_publickey"):
        public, secret = zmq.curve_keypair()
        curve = {"publickey": public.decode(), "secretkey": secret.decode()}
    return StartArgs(
        key=secrets.token_hex(32),
        env=environment(os.environ),
        inherit=not service.cluster.inherits_environment,
        cwd=os.getcwd(),
        curve=curve,
        require_curve=required,
    )


def write_connection(kernel_id: str, connection: dict[str, Any]) -> Path:
    """Write the connection file where Jupyter's clients look for it; only its owner may read it."""
    directory = Path(jupyter_runtime_dir())
    ensure_dir_exists(str(directory), mode=0o700)
    file = directory / f"kernel-{kernel_id}.json"
    file.unlink(missing_ok=True)
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        json.dump(connection, stream)
    return file


def remove_connection(kernel_id: str) -> None:
    """Remove the connection file of a kernel that is gone, if we wrote one."""
    (Path(jupyter_runtime_dir()) / f"kernel-{kernel_id}.json").unlink(missing_ok=True)


async def _in_background(context: Context, service: ElasticService, draft: Kernel) -> int:
    """Let another process do the start, and return once it has written the record.

    What can be refused for the request alone was refused before.
    """
    arguments = context.arguments
    command = [sys.executable, "-m", "jupyter_elastic.cli", "kernels", "start", draft.template]
    command += ["--kernel-id", draft.kernel_id, f"--owner={draft.owner}", "--json"]
    for option in ("cpu", "memory", "gpu", "name", "config"):
        value = getattr(arguments, option)
        if value:
            command += [f"--{option}={value}"]
    child = await asyncio.to_thread(_spawn, command)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + RECORD_TIMEOUT
    while draft.kernel_id not in service.cluster.kernels():
        if child.poll() is not None or loop.time() > deadline:
            raise StartFailed(
                "The start in the background ended before it began.",
                "Start it with --wait to see why.",
            )
        await asyncio.sleep(0.05)
        await service.cluster.refresh()
    kernel = service.cluster.kernels()[draft.kernel_id]
    if context.json:
        context.show_json(kernel_view(service, kernel))
    else:
        print(f"Kernel {kernel.kernel_id}")
        print("It is starting; `jupyter elastic kernels` shows how far it is.")
    return 0


def _spawn(command: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
