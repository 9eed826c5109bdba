"""What a notebook wishes: ``metadata.elastic``, read by the server so that every client gets it.

Only the metadata is decoded (msgspec skips the rest), in a thread, and only up to a size.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import uuid
from contextvars import ContextVar
from typing import Any

import msgspec

from ..errors import BadRequest, ElasticError, OutOfRange
from ..model import Template
from ..resources import Resources
from ..templates import resolve_wish

WISH_LIMIT = 16 * 1024
"""Bytes that ``metadata.elastic`` may have."""


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """Where a start comes from: the notebook's path and what it wishes."""

    path: str = ""
    wish: dict[str, Any] | None = None
    wish_template: str = ""


current_origin: ContextVar[Origin | None] = ContextVar("elastic_origin", default=None)
"""Set by the session manager around a start, read by the kernel manager."""


class _Metadata(msgspec.Struct):
    elastic: msgspec.Raw = msgspec.Raw()


class _Notebook(msgspec.Struct):
    metadata: _Metadata = msgspec.field(default_factory=_Metadata)


class _Elastic(msgspec.Struct):
    template: str = ""
    resources: dict[str, Any] = {}


def document_path(path: str, name: str) -> str:
    """The path of the document a session is for.

    JupyterLab starts a session under a made-up path, ``<directory>/<uuid>``, with the document's
    file name as the session's name, and gives it the real path only once the kernel is up.
    """
    directory, _, last = path.rpartition("/")
    try:
        uuid.UUID(last)
    except ValueError:
        return path
    base = name.rpartition("/")[2]
    if not base:
        return path
    return f"{directory}/{base}" if directory else base


async def read_origin(contents: Any, path: str, *, size_limit: int, log: logging.Logger) -> Origin:
    """The origin of a start for ``path`` (an API path), with the wish of the notebook there.

    A path that is no notebook, does not exist or is too large has no wish; the latter is logged.

    Raises
    ------
    BadRequest
        There is a wish, but it is no object of the right form; ``field`` says where.
    """
    if not path.endswith(".ipynb"):
        return Origin(path=path)
    try:
        model = await _ensure(contents.get(path, content=False))
        size = model.get("size")
        if size is not None and size > size_limit:
            log.warning(
                "%s has %d bytes, over c.ElasticKernels.notebook_size_limit (%d); the resources in "
                "its metadata are not read.",
                path,
                size,
                size_limit,
            )
            return Origin(path=path)
        model = await _ensure(contents.get(path, type="file", format="text", content=True))
    except Exception as error:  # noqa: BLE001 - contents managers raise what they like
        # A notebook that cannot be read is no reason to refuse a kernel: it may be untitled yet.
        log.debug("No resources read from %s: %s", path, error)
        return Origin(path=path)
    text = model.get("content")
    if not isinstance(text, str):
        return Origin(path=path)
    raw = await asyncio.to_thread(_extract, text)
    if raw is None:
        return Origin(path=path)
    return parse_wish(path, raw)


def parse_wish(path: str, raw: bytes) -> Origin:
    """The origin that the JSON of ``metadata.elastic`` means. Raises BadRequest."""
    where = f"{path}: metadata.elastic"
    if len(raw) > WISH_LIMIT:
        raise BadRequest(
            f"{where} has {len(raw)} bytes; at most {WISH_LIMIT} are read.",
            "Remove `elastic` from the notebook's metadata.",
            field="metadata.elastic",
        )
    try:
        elastic = msgspec.json.decode(raw, type=_Elastic)
    except msgspec.DecodeError as error:
        raise BadRequest(
            f"{where} is not of the form it should have: {error}.",
            'It should be like {"template": "...", "resources": {"cpu": "2", "memory": "4Gi"}}.',
            field="metadata.elastic",
        ) from error
    return Origin(path=path, wish=elastic.resources or None, wish_template=elastic.template)


def wished_resources(template: Template, origin: Origin | None) -> tuple[Resources, str]:
    """The resources for a start from ``origin`` with ``template``, and a note for the user.

    A wish that was made for this template must hold, or the start is refused: nobody silently
    gets less than asked. One made for another template is kept where this one offers it.

    Raises
    ------
    BadQuantity, OutOfRange, NoGpu, BadRequest
        With the field's path in the notebook's metadata.
    """
    if origin is None or origin.wish is None:
        return template.resources.default(), ""
    try:
        return resolve_wish(template, origin.wish), ""
    except ElasticError as error:
        if isinstance(error, OutOfRange) and origin.wish_template not in ("", template.name):
            note = (
                f"The notebook's resources were chosen for template {origin.wish_template}; "
                f"{template.name} does not offer them and starts with its defaults."
            )
            return template.resources.default(), note
        if error.field:
            error.field = f"metadata.elastic.{error.field}"
        error.message = f"In the notebook's metadata.elastic: {error.message}"
        raise


def _extract(text: str) -> bytes | None:
    """The JSON of ``metadata.elastic``; None when there is none, or the file is no notebook."""
    try:
        notebook = msgspec.json.decode(text.encode(), type=_Notebook)
    except (msgspec.DecodeError, UnicodeEncodeError):
        return None
    raw = bytes(notebook.metadata.elastic)
    return raw if raw and raw != b"null" else None


async def _ensure(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value
