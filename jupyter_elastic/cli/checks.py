"""What ``jupyter elastic doctor`` looks at that needs no open cluster: system, versions, files."""

from __future__ import annotations

import asyncio
import json
import os
import platform
import shutil
import stat
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any, Literal

import msgspec
import zmq
from jupyter_core.paths import jupyter_config_path, jupyter_path
from jupyter_server.services.config.manager import ConfigManager
from packaging.requirements import Requirement

from ..model import Template
from ..waits import within

PROBE_TIMEOUT = 30.0
"""Seconds an interpreter may take to say which versions it has."""
_PROBE = (
    "import json, sys\n"
    "found = {'python': '%d.%d.%d' % sys.version_info[:3]}\n"
    "for name in ('zmq', 'ipykernel'):\n"
    "    try:\n"
    "        found[name] = __import__(name).__version__\n"
    "    except Exception as error:\n"
    "        found[name] = None\n"
    "        found[name + '_error'] = '%s: %s' % (type(error).__name__, error)\n"
    "print(json.dumps(found))\n"
)
PRELOAD_TIMEOUT = 120.0
"""Seconds that importing what a template preloads may take."""
_PRELOAD = (
    "import importlib, json, sys\n"
    "sys.path[:] = [path for path in sys.path if path]\n"  # as in a pod: not where one stands
    "failed = {}\n"
    "for name in sys.argv[1:]:\n"
    "    try:\n"
    "        importlib.import_module(name)\n"
    "    except (Exception, SystemExit) as error:\n"
    "        failed[name] = ('%s: %s' % (type(error).__name__, error))[:200]\n"
    "print()\n"  # what a module printed may lack the end of its line
    "print(json.dumps(failed))\n"
)
AGENT_PYTHON = (3, 8)
"""The lowest Python an agent runs on."""


_SHOWN = ("jupyter_elastic", "jupyter_server", "jupyter_client", "ipykernel", "pyzmq", "tornado")


class Check(msgspec.Struct, frozen=True):
    """One line of the doctor's report."""

    name: str
    state: Literal["ok", "note", "broken"]
    """``note``: works, but weaker or other than one may expect. ``broken``: exit status 1."""
    message: str
    remedy: str = ""


def system(local: bool = True) -> Check:
    """Whether this is Linux, which kernels of the ``local`` cluster need."""
    name = platform.system()
    if name == "Linux":
        return Check("system", "ok", f"Linux {platform.release()}")
    if not local:
        return Check("system", "note", f"{name}; only Linux is tested.")
    return Check(
        "system",
        "broken",
        f"Elastic kernels on one machine need Linux; this is {name}.",
        "Use a Linux machine, container or virtual machine.",
    )


def python() -> Check:
    """The Python that runs this."""
    return Check("python", "ok", f"{platform.python_version()} ({sys.executable})")


def versions() -> Iterator[Check]:
    """Whether what we need is there, in a version that is tested."""
    try:
        needed = [Requirement(text) for text in requires("jupyter_elastic") or ()]
    except PackageNotFoundError:
        message = "jupyter_elastic is not installed, only imported; versions are not checked."
        yield Check("versions", "note", message, "Install it with pip.")
        return
    wrong = False
    for requirement in needed:
        if requirement.marker is not None:  # An extra.
            continue
        there = version_of(requirement.name)
        if there is None or not requirement.specifier.contains(there, prereleases=True):
            wrong = True
            yield Check(
                "versions",
                "broken",
                f"{requirement.name} is {there or 'missing'}, needed is {requirement.specifier}.",
                f'pip install "{requirement.name}{requirement.specifier}"',
            )
    if not wrong:
        yield Check("versions", "ok", ", ".join(f"{name} {version_of(name)}" for name in _SHOWN))


def version_of(package: str) -> str | None:
    """The installed version of a package; None when there is none."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def encryption() -> Check:
    """Whether pyzmq can encrypt; agents are not spoken with otherwise."""
    if zmq.has("curve"):
        return Check("encryption", "ok", f"CurveZMQ (libzmq {zmq.zmq_version()})")
    return Check(
        "encryption",
        "broken",
        "pyzmq was built without CurveZMQ.",
        "Reinstall pyzmq from a wheel: pip install --force-reinstall --only-binary :all: pyzmq",
    )


def extension() -> Iterator[Check]:
    """Whether Jupyter Server loads us, and Lab finds its part."""
    section: dict[str, Any] = _server_config()
    enabled = section.get("ServerApp", {}).get("jpserver_extensions", {}).get("jupyter_elastic")
    if enabled:
        yield Check("server extension", "ok", "enabled")
    else:
        what = "disabled" if enabled is False else "not enabled"
        yield Check(
            "server extension",
            "broken",
            f"The server extension is {what}.",
            "jupyter server extension enable jupyter_elastic",
        )
    places = [
        Path(place, "jupyter_elastic", "package.json") for place in jupyter_path("labextensions")
    ]
    if any(place.is_file() for place in places):
        yield Check("lab extension", "ok", "installed")
    else:
        yield Check(
            "lab extension",
            "note",
            "JupyterLab's part is not installed; kernels work, but there is no panel.",
            "Install the wheel of jupyter_elastic, or build the front end in the source tree.",
        )


def _server_config() -> dict[str, Any]:
    manager = ConfigManager(read_config_path=jupyter_config_path())
    config: dict[str, Any] = manager.get("jupyter_server_config")  # type: ignore[no-untyped-call]
    return config


def state_directory(path: Path) -> Check:
    """Whether the state directory is ours alone."""
    name = "state directory"
    try:
        status = path.stat()
    except FileNotFoundError:
        return Check(name, "ok", f"{path} (not there yet)")
    except OSError as error:
        return Check(name, "broken", f"{path} cannot be looked at: {error.strerror}.", _OWN)
    if not stat.S_ISDIR(status.st_mode):
        return Check(name, "broken", f"{path} is not a directory.", _OWN)
    if status.st_uid != os.getuid():
        owner = f"it belongs to user {status.st_uid}, you are {os.getuid()}"
        return Check(name, "broken", f"{path}: {owner}.", _OWN)
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o077:
        return Check(
            name,
            "broken",
            f"{path} has mode {mode:04o}; others may read the keys in it.",
            f"chmod 0700 {path}",
        )
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        return Check(name, "broken", f"{path} cannot be written.", _OWN)
    return Check(name, "ok", str(path))


_OWN = "Set c.ElasticLocal.state_dir to a directory of your own."


async def interpreter(template: Template) -> Check:
    """Whether a template's interpreter can run an agent and a kernel."""
    name = f"template {template.name}"
    path = template.interpreter or sys.executable
    if template.argv and not _runs(template.argv[0]):
        return Check(
            name,
            "broken",
            f"{template.argv[0]} does not exist or cannot be run.",
            "Correct the argv of the template or of its kernelspec.",
        )
    if not _runs(path):
        return Check(
            name,
            "broken",
            f"The interpreter {path} does not exist or cannot be run.",
            "Correct the template, or create the environment again.",
        )
    found, error = await _probe(template, PROBE_TIMEOUT, path, "-c", _PROBE)
    if found is None:
        return Check(name, "broken", f"The interpreter {path} failed: {error}", "Run it by hand.")
    if tuple(int(part) for part in found["python"].split(".")[:2]) < AGENT_PYTHON:
        lowest = ".".join(map(str, AGENT_PYTHON))
        return Check(
            name,
            "broken",
            f"{path} is Python {found['python']}; an agent needs {lowest}.",
            "Use a newer Python in that environment.",
        )
    needed = {"zmq": "pyzmq"} if template.argv else {"zmq": "pyzmq", "ipykernel": "ipykernel"}
    for module, package in needed.items():
        if found.get(module) is None:
            return Check(
                name,
                "broken",
                f"{path} cannot import {package} ({found.get(module + '_error')}).",
                f"{path} -m pip install {package}",
            )
    shown = f"Python {found['python']}, pyzmq {found['zmq']}"
    if not template.argv:
        shown += f", ipykernel {found['ipykernel']}"
    return Check(name, "ok", shown)


async def preload(template: Template) -> Check:
    """Whether what a template preloads can be imported in its interpreter.

    A pod serves without a module that fails, only slower; not where its interpreter ends.
    """
    name = f"preload {template.name}"
    path = template.interpreter or sys.executable
    command = (path, "-c", _PRELOAD, *template.preload)
    failed, error = await _probe(template, PRELOAD_TIMEOUT, *command)
    if failed is None:
        message = f"{path} failed while it imported {', '.join(template.preload)}: {error}"
        return Check(name, "broken", message, "Correct the template's preload list.")
    if not failed:
        return Check(name, "ok", ", ".join(template.preload))
    words = ", ".join(f"{module} ({why})" for module, why in failed.items())
    return Check(
        name,
        "note",
        f"{path} cannot import {words}. Pods of the template serve without.",
        "Install what is missing in that environment, or correct the template's preload list.",
    )


def _runs(program: str) -> bool:
    return shutil.which(program) is not None


async def _probe(
    template: Template, timeout: float, *command: str
) -> tuple[dict[str, Any] | None, str]:
    """The JSON that a command says last, run as a pod of the template; or its last words."""
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, **template.env},
            cwd="/",
        )
    except OSError as error:
        return None, f"{error.strerror}."
    try:
        out, err = await within(process.communicate(), timeout)
    except asyncio.TimeoutError:
        process.kill()
        await process.wait()
        return None, f"it said nothing within {timeout:.0f} s."
    lines = out.decode(errors="replace").splitlines()
    try:
        found: dict[str, Any] = json.loads(lines[-1])
    except (IndexError, ValueError):
        words = err.decode(errors="replace").strip().splitlines()[-1:] or ["no output"]
        return None, f"{words[0][:200]} (exit status {process.returncode})."
    return found, ""
