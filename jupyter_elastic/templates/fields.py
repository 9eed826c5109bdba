"""Reading one field of a template: every check names the path of the field and what is wrong.

The errors are :class:`~jupyter_elastic.errors.BadTemplate` with ``field`` set to the path inside
the template (``resources.memory.default``) and a sentence that also names the file.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..errors import BadQuantity, BadTemplate

_HEAD = re.compile(r"[^.\[]+")

Spelling = Callable[[str], str]
"""How the name of a field is written where the template comes from."""


def as_it_is(name: str) -> str:
    """The spelling of traitlets and YAML files: ``display_name``."""
    return name


class Fields:
    """One mapping of a template, and where it stands.

    Callers name fields as :class:`~jupyter_elastic.model.Template` does; ``spelling`` turns such
    a name into the one that the mapping and the errors have.
    """

    def __init__(
        self,
        data: object,
        where: str,
        path: str,
        allowed: Iterable[str],
        spelling: Spelling = as_it_is,
    ) -> None:
        self.where, self.path, self.spelling = where, path, spelling
        if not isinstance(data, Mapping):
            raise self.error("", f"must be a mapping of fields, not {kind_of(data)}")
        self.data: Mapping[Any, Any] = data
        names = sorted(map(spelling, allowed))
        for key in data:
            if key in names:
                continue
            near = difflib.get_close_matches(str(key), names, n=1)
            remedy = f'Did you mean "{near[0]}"?' if near else f"Known are: {', '.join(names)}."
            raise self._error(self._below(str(key)[:60]), "there is no field of this name", remedy)

    def inside(self, key: str, data: object, allowed: Iterable[str]) -> Fields:
        """A mapping that is a field of this one."""
        return Fields(data, self.where, self.at(key), allowed, self.spelling)

    def get(self, key: str) -> Any:
        """A field's value, unchecked; None when it is not given."""
        return self.data.get(self.spelling(key))

    def at(self, key: str) -> str:
        """The path of a field of this mapping, or of something in it (``env.HOME``)."""
        name = _HEAD.match(key)
        if name is None:
            return self.path
        return self._below(self.spelling(name[0]) + key[name.end() :])

    def _below(self, key: str) -> str:
        return f"{self.path}.{key}" if self.path and key else self.path or key

    def error(self, key: str, what: str, remedy: str = "") -> BadTemplate:
        """The error to raise for a field."""
        return self._error(self.at(key), what, remedy)

    def _error(self, path: str, what: str, remedy: str) -> BadTemplate:
        subject = ": ".join(part for part in (self.where, path) if part)
        return BadTemplate(
            f"{subject}: {what}.",
            remedy or "Correct the template; until then it is not offered.",
            field=path or None,
        )

    def has(self, key: str) -> bool:
        """Whether the field is given and not null."""
        return self.get(key) is not None

    def text(self, key: str, default: str = "", longest: int = 1000) -> str:
        """A string field."""
        if not self.has(key):
            return default
        return self._text(key, self.get(key), longest)

    def _text(self, key: str, value: object, longest: int = 4096) -> str:
        if not isinstance(value, str):
            raise self.error(key, f"must be a string, not {kind_of(value)}")
        if len(value) > longest:
            raise self.error(key, f"is {len(value)} characters long, at most {longest} are allowed")
        if "\0" in value:
            raise self.error(key, "must not contain a null character")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of strings."""
        value = self.get(key)
        if value is None:
            return ()
        if not isinstance(value, (list, tuple)):
            raise self.error(key, f"must be a list of strings, not {kind_of(value)}")
        return tuple(self._text(f"{key}[{i}]", item) for i, item in enumerate(value))

    def number(self, key: str, default: float) -> float:
        """A finite number that is not negative (seconds, mostly)."""
        value = self.get(key)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self.error(key, f"must be a number, not {kind_of(value)}")
        if not 0 <= value < 1e12:  # False for NaN, too.
            raise self.error(key, f"must be zero or more, not {value}")
        return value

    def whole(self, key: str, default: int, highest: int = 10_000) -> int:
        """A whole number from 0 to ``highest``."""
        value = self.get(key)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.error(key, f"must be a whole number, not {kind_of(value)}")
        if not 0 <= value <= highest:
            raise self.error(key, f"must be between 0 and {highest}, not {value}")
        return value

    def flag(self, key: str, default: bool) -> bool:
        """True or false."""
        value = self.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.error(key, f"must be true or false, not {kind_of(value)}")
        return value

    def quantity(self, key: str, parse: Callable[[object], int]) -> int | None:
        """A CPU or memory quantity, None when it is not given."""
        value = self.get(key)
        return None if value is None else self._quantity(key, value, parse)

    def quantities(self, key: str, parse: Callable[[object], int]) -> tuple[int, ...]:
        """A list of quantities."""
        value = self.get(key)
        if value is None:
            return ()
        if not isinstance(value, (list, tuple)):
            raise self.error(key, f"must be a list of quantities, not {kind_of(value)}")
        return tuple(self._quantity(f"{key}[{i}]", item, parse) for i, item in enumerate(value))

    def _quantity(self, key: str, value: object, parse: Callable[[object], int]) -> int:
        try:
            return parse(value)
        except BadQuantity as error:
            shown = repr(value) if len(repr(value)) <= 60 else f"{value!r:.57}..."
            what = f"{shown} is not a usable quantity"
            raise self.error(key, what, error.remedy) from None


def kind_of(value: object) -> str:
    """The type of a value in the words of YAML."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, (int, float)):
        return f"the number {value}"
    if isinstance(value, str):
        return "a string"
    return "a list" if isinstance(value, (list, tuple)) else "a mapping"
