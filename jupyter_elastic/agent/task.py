"""What a kernel is to be: the checked form of a ``start`` request. Pure, but for folders."""

from __future__ import annotations

import os
from typing import Any, Dict, Optional

from .control import Refused
from .home import make_home


def substitute(word: str, context: Dict[str, str]) -> str:
    """Replace ``{name}`` by its value; braces that are none of ours stay (as Jupyter does)."""
    for name, value in context.items():
        word = word.replace("{" + name + "}", value)
    return word


def find_cwd(task: Dict[str, Any], env: Dict[str, str]) -> str:
    """The folder a kernel with this task and environment works in. Raises Refused.

    A folder that somebody asked for must be there. Without one it is ``HOME``, which is made where
    it is missing, else where the agent began, which is where the image begins.
    """
    cwd = task["cwd"]
    if not cwd:
        make_home(env)
        ways = (env.get("HOME") or "", os.getcwd())
        cwd = next((way for way in ways if _can_enter(way)), ways[-1])
    if not isinstance(cwd, str):
        raise Refused("BadRequest", "cwd must be a string.")
    if not _can_enter(cwd):
        raise Refused(
            "BadWorkingDirectory",
            f"The working directory {cwd} does not exist or cannot be entered.",
        )
    return cwd


def _can_enter(folder: str) -> bool:
    return os.path.isdir(folder) and os.access(folder, os.X_OK)


def check_env(env: Any) -> None:
    """Raise Refused unless ``env`` can be a process's environment."""
    if not isinstance(env, dict) or not all(
        isinstance(name, str)
        and isinstance(value, str)
        and name
        and "=" not in name
        and "\0" not in name + value
        for name, value in env.items()
    ):
        raise Refused("BadRequest", "env must map names to strings, without NUL bytes.")


def make_task(request: Dict[str, Any]) -> Dict[str, Any]:
    """A checked copy of a ``start`` request with all optional fields filled in. Raises Refused."""
    check_env(request.get("env") or {})
    if not isinstance(request["key"], str):
        raise Refused("BadRequest", "key must be a string.")
    on_death = request.get("on_death") or "restart"
    if on_death not in ("restart", "report"):
        raise Refused("BadRequest", "on_death must be restart or report.")
    scheme = request.get("signature_scheme") or "hmac-sha256"
    if scheme not in ("hmac-sha256", "hmac-sha384", "hmac-sha512"):
        raise Refused("BadRequest", f"Unknown signature scheme {scheme!r}.")
    return {
        "kernel_id": str(request["kernel_id"]),
        "key": request["key"],
        "signature_scheme": scheme,
        "curve": request.get("curve"),
        "env": dict(request.get("env") or {}),
        "inherit": bool(request.get("inherit")),
        "cwd": request.get("cwd"),
        "ip": request.get("ip") or "127.0.0.1",
        "ports": request.get("ports"),
        "memory": int(request.get("memory") or 0),
        "cpu": int(request.get("cpu") or 0),
        "idle": request.get("idle"),
        "on_death": on_death,
        "kernel_name": str(request.get("kernel_name") or ""),
        "argv_context": dict(request.get("argv_context") or {}),
        "gpu": [str(one) for one in request.get("gpu") or []],
        "client": _client(request.get("client")),
    }


def _client(given: Any) -> Optional[Dict[str, int]]:
    """The process that a kernel belongs to, checked. Raises KeyError, TypeError or ValueError."""
    if given is None:
        return None
    pid, ticks = int(given["pid"]), int(given["start_ticks"])
    if pid <= 0:
        raise Refused("BadRequest", "client.pid must be a process id.")
    return {"pid": pid, "start_ticks": ticks}
