"""The bodies that the API accepts, checked while they are decoded; see ``openapi.yaml``."""

from __future__ import annotations

import re
import unicodedata
import uuid
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType

from ..errors import BadRequest, UnknownKernel
from .problems import TooLarge, UnsupportedMediaType

BODY_LIMIT = 1024 * 1024
"""Bytes. No body that makes sense comes near it."""

_Quantity = Annotated[str, Meta(max_length=64)] | int | float
_Name = Annotated[str, Meta(max_length=200)]
_JSON = re.compile(r"application/(?:[\w.+-]+\+)?json", re.IGNORECASE)
_PLACE = re.compile(r"^(?P<what>.*?) - at `\$\.?(?P<field>[^`]*)`$", re.DOTALL)


class GpuBody(msgspec.Struct, forbid_unknown_fields=True):
    """Whole GPUs of one kind."""

    kind: Annotated[str, Meta(max_length=128)]
    count: Annotated[int, Meta(ge=0, le=64)]


class WishBody(msgspec.Struct, forbid_unknown_fields=True):
    """Resources a user asks for; what is unset is the default, or stays."""

    cpu: _Quantity | UnsetType = UNSET
    memory: _Quantity | UnsetType = UNSET
    gpu: GpuBody | UnsetType | None = UNSET


class StartBody(msgspec.Struct, forbid_unknown_fields=True):
    """``POST /kernels``."""

    template: Annotated[str, Meta(max_length=63)]
    resources: WishBody | UnsetType = UNSET
    name: _Name = ""
    path: Annotated[str, Meta(max_length=4096)] = ""
    kernel_id: str | UnsetType = UNSET


class ChangeBody(msgspec.Struct, forbid_unknown_fields=True):
    """``PATCH /kernels/{id}``."""

    resources: WishBody | UnsetType = UNSET
    name: _Name | UnsetType = UNSET
    replace: bool = False


Body = TypeVar("Body", StartBody, ChangeBody)


def decode(raw: bytes, content_type: str, kind: type[Body]) -> Body:
    """A body as a struct.

    Raises
    ------
    TooLarge
        Over ``BODY_LIMIT``; not even looked at.
    UnsupportedMediaType
        ``content_type`` is not JSON.
    BadRequest
        No JSON, a field unknown, missing, of the wrong type or not to be used as a name or path;
        ``field`` names it.
    """
    if len(raw) > BODY_LIMIT:
        raise TooLarge(
            f"The body has {len(raw)} bytes, at most {BODY_LIMIT} are allowed.",
            "Send a smaller body; nothing was changed.",
        )
    media_type = content_type.partition(";")[0].strip()
    if not _JSON.fullmatch(media_type):
        raise UnsupportedMediaType(f"The body is of type {media_type[:80] or 'unknown'!r}.")
    try:
        body = msgspec.json.decode(raw, type=kind)
    except msgspec.ValidationError as error:
        match = _PLACE.match(str(error))
        what, field = (match["what"], match["field"]) if match else (str(error), "")
        subject = f"{field}: " if field else ""
        raise BadRequest(f"{subject}{what}.", field=field or None) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"The body is not JSON: {error}.") from None
    if body.name is not UNSET:
        check_words("name", body.name)
    if isinstance(body, StartBody):
        check_path(body.path)
    return body


def check_words(field: str, text: str) -> None:
    """Refuse control characters: terminals, logs and file systems take them for commands.

    Raises
    ------
    BadRequest
        With the character and where it is.
    """
    for place, letter in enumerate(text, start=1):
        if unicodedata.category(letter) == "Cc":
            raise BadRequest(
                f"{field}: character {place} is the control character U+{ord(letter):04X}.",
                "Leave it out; nothing was changed.",
                field=field,
            )


def check_path(path: str) -> None:
    """Refuse what is no API path: these begin at the server's root directory and stay below it.

    A slash in front means that root, as everywhere in Jupyter. ``..`` is refused wherever it
    stands: behind a symbolic link even ``a/../b`` would lead out.

    Raises
    ------
    BadRequest
        A control character, or a segment ``..``.
    """
    check_words("path", path)
    if ".." in path.replace("\\", "/").split("/"):
        raise BadRequest(
            f'path: {path[:60]!r} has a segment ".."; it might lead out of the server\'s root.',
            "Write the path from the server's root directory, without it.",
            field="path",
        )


def wish_of(body: WishBody | UnsetType) -> dict[str, Any] | None:
    """The wish as the service takes it; None when nothing was asked."""
    if body is UNSET:
        return None
    wish: dict[str, Any] = msgspec.to_builtins(body)
    return wish


def kernel_id_of_path(text: str) -> str:
    """The id in a path, in its canonical form. Raises UnknownKernel when it cannot be one."""
    try:
        return str(uuid.UUID(text))
    except ValueError:
        raise UnknownKernel(f"There is no kernel {text[:60]!r}; ids are UUIDs.") from None


def kernel_id_of_body(text: str | UnsetType) -> str | None:
    """The id a client chose for its kernel. Raises BadRequest when it is no UUID."""
    if text is UNSET:
        return None
    try:
        return str(uuid.UUID(text))
    except ValueError:
        raise BadRequest(
            f"kernel_id: {text[:60]!r} is not a UUID.",
            "Leave it out to get a new one.",
            field="kernel_id",
        ) from None
