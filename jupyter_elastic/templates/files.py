"""Templates in YAML files: which files there are, what is in them, and whether they changed."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from ..errors import BadTemplate

SIZE_LIMIT = 256 * 1024
"""Bytes of one file."""
_SUFFIXES = (".yaml", ".yml", ".json")

Signature = tuple[int, int, int]
"""Changes when the file does: modification time, size and inode."""


def find_files(sources: Iterable[str]) -> tuple[dict[Path, Signature], list[BadTemplate]]:
    """The files that paths, directories and globs mean now, and what was named but is not there.

    A directory means the YAML and JSON files in it. A glob may match nothing.
    """
    found: dict[Path, Signature] = {}
    problems: list[BadTemplate] = []
    for source in sources:
        text = os.path.expanduser(source)
        if glob.has_magic(text):
            paths = [Path(name) for name in sorted(glob.glob(text, recursive=True))]
        elif os.path.isdir(text):
            try:
                entries = list(Path(text).iterdir())
            except OSError as error:
                problems.append(_problem(Path(text), f"cannot be read: {error.strerror}"))
                continue
            paths = sorted(path for path in entries if path.suffix in _SUFFIXES)
        else:
            paths = [Path(text)]
        for path in paths:
            try:
                status = path.stat()
            except OSError as error:
                problems.append(_problem(path, f"cannot be read: {error.strerror}"))
                continue
            found[path.absolute()] = (status.st_mtime_ns, status.st_size, status.st_ino)
    return found, problems


def read_file(path: Path) -> list[Any]:
    """The mappings in a file: one template, a list of them, or several YAML documents.

    A list may also be one of Kubernetes, as ``kubectl get -o yaml`` writes it.

    Raises
    ------
    BadTemplate
        The file cannot be read, is too large, or is no YAML.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(SIZE_LIMIT + 1)
    except OSError as error:
        raise _problem(path, f"cannot be read: {error.strerror}") from None
    if len(raw) > SIZE_LIMIT:
        raise _problem(path, f"has more than {SIZE_LIMIT} bytes")
    try:
        documents = list(yaml.safe_load_all(raw.decode()))
    except UnicodeDecodeError:
        raise _problem(path, "is not UTF-8 text") from None
    except ValueError as error:  # Such as a number of thousands of digits.
        raise _problem(path, f"is not YAML: {str(error)[:200]}") from None
    except RecursionError:
        raise _problem(path, "is nested too deeply") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        what = getattr(error, "problem", None) or "it cannot be read"
        raise _problem(path, f"is not YAML{where}: {what}") from None
    found: list[Any] = []
    for document in documents:
        if isinstance(document, dict) and "apiVersion" in document:
            document = document.get("items", document)
        found.extend(document if isinstance(document, list) else [document])
    return [entry for entry in found if entry is not None]


def _problem(path: Path, what: str) -> BadTemplate:
    return BadTemplate(f"{path}: {what}.", "Correct the file, or take it out of the configuration.")
