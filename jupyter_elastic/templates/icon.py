"""A template's icon: a file, or a data URL where a template cannot bring a file along."""

from __future__ import annotations

import atexit
import base64
import binascii
import functools
import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from ..model import Template
from .fields import Fields

ICONS = Path(__file__).parent / "icons"
ICON_LIMIT = 256 * 1024
"""Bytes; icons are sent with every list of kernelspecs."""
DATA_LIMIT = 64 * 1024
"""Characters of a data URL: it lies in an object of Kubernetes, which has a limit of its own."""
_PYTHON_ICON, _OTHER_ICON = ICONS / "elastic-python.svg", ICONS / "elastic.svg"
_SUFFIXES = (".svg", ".png")
_DATA = {"data:image/svg+xml;base64,": ".svg", "data:image/png;base64,": ".png"}


def parse_icon(fields: Fields) -> str | None:
    """``icon`` of a template: an absolute path, or the data URL as it was given."""
    if not fields.has("icon"):
        return None
    text = fields.text("icon", longest=DATA_LIMIT)
    if text.startswith("data:"):
        return _checked(fields, text)
    path = Path(text).expanduser()
    if path.suffix.lower() not in _SUFFIXES:
        raise fields.error("icon", f"{path.name[:80]!r} is neither a .svg nor a .png file")
    try:
        size = path.stat().st_size
        regular = path.is_file()
    except OSError as error:
        shown = f"{str(path)[:200]!r}"
        raise fields.error("icon", f"{shown} cannot be read: {error.strerror}") from None
    if not regular:
        raise fields.error("icon", f"{str(path)!r} is not a file")
    if size > ICON_LIMIT:
        raise fields.error("icon", f"has {size} bytes, at most {ICON_LIMIT} are allowed")
    return str(path.absolute())


def _checked(fields: Fields, url: str) -> str:
    if _decoded(url) is None:
        what = f"{url[:40]!r} is no data URL of an image that can be read"
        remedy = f"It begins with {' or '.join(_DATA)} and goes on in base64."
        raise fields.error("icon", what, remedy)
    return url


def _decoded(url: str) -> tuple[bytes, str] | None:
    """Content and suffix of a data URL."""
    head, comma, body = url.partition(",")
    suffix = _DATA.get(head + comma)
    try:
        return (base64.b64decode(body, validate=True), suffix) if suffix and body else None
    except (binascii.Error, ValueError):
        return None


def icon_for(template: Template) -> Path:
    """The icon file of a template (.svg or .png): its own, or ours. It exists when read now."""
    if template.icon:
        icon = _decoded(template.icon)
        if icon is not None:
            return _as_file(*icon)
        if Path(template.icon).is_file():
            return Path(template.icon)
    return _PYTHON_ICON if template.language == "python" else _OTHER_ICON


def _as_file(content: bytes, suffix: str) -> Path:
    """The content in a file that lasts as long as this process."""
    file = _directory() / (hashlib.sha256(content).hexdigest()[:16] + suffix)
    if not file.is_file():
        file.parent.mkdir(mode=0o700, exist_ok=True)  # Cleaners may have been here.
        handle, scratch = tempfile.mkstemp(dir=file.parent)
        with open(handle, "wb") as writing:
            writing.write(content)
        os.replace(scratch, file)
    return file


@functools.cache
def _directory() -> Path:
    path = tempfile.mkdtemp(prefix="jupyter-elastic-icons-")
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return Path(path)
