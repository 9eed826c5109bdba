"""The files an agent leaves in its run directory: ``status.json`` and ``claim.json``."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from typing import Any, Dict, Optional

STATUS, CLAIM, CONNECTION = "status.json", "claim.json", "connection.json"


def write(directory: str, name: str, content: Any) -> None:
    """Write a JSON file, 0600, in one step: readers see the old or the new one, never half."""
    descriptor, temporary = tempfile.mkstemp(dir=directory, prefix="." + name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(content, file)
        os.replace(temporary, os.path.join(directory, name))
    except OSError:
        os.unlink(temporary)
        raise


def read(directory: str, name: str) -> Optional[Dict[str, Any]]:
    """A file's content, or None when it is not there or not ours to understand."""
    try:
        with open(os.path.join(directory, name), encoding="utf-8") as file:
            content = json.load(file)
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def write_termination(path: str, reason: str, message: str) -> None:
    """Leave the reason of a container's end where the kubelet reads it; at most 4 KiB of it."""
    if not path:
        return
    try:
        with open(path, "w", encoding="utf-8") as file:
            json.dump({"reason": reason, "message": message[:1500]}, file)
    except OSError as error:
        sys.stderr.write(f"agent: {path} cannot be written: {error.strerror}\n")


def remove(directory: str, name: str) -> None:
    """Remove a file; one that is not there is no error."""
    try:
        os.unlink(os.path.join(directory, name))
    except FileNotFoundError:
        return


def write_status(directory: str, **changes: Any) -> None:
    """Change some fields of ``status.json`` and keep the others.

    A run directory that is gone means that the cluster has deleted the pod: nobody reads it.
    """
    if os.path.isdir(directory):
        write(directory, STATUS, {**(read(directory, STATUS) or {}), **changes})
