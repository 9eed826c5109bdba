"""What all commands share: the service on this machine's configuration, and output."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import unicodedata
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from traitlets import TraitError
from traitlets.config.loader import Config, JSONFileConfigLoader, PyFileConfigLoader

from ..errors import BadRequest, ElasticError
from ..kernels.misspelt import misspelt_options, misspelt_sections
from ..kernels.service import ElasticService
from ..kernels.standalone import load_config, make_service

if TYPE_CHECKING:
    # argparse has no public name for it.
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]


@dataclass(frozen=True)
class RequiresNoService:
    """A command that must run even where the service cannot be opened."""

    run: Callable[[Context], Awaitable[int]]


_CORRECT = "Correct it and try again."


def read_config(file: str) -> Config:
    """A configuration file that was named; unlike those that are found, it must be readable.

    Raises
    ------
    BadRequest
        It fails, with what and where.
    """
    path = os.path.abspath(file)
    kind = JSONFileConfigLoader if path.endswith(".json") else PyFileConfigLoader
    try:
        config: Config = kind(os.path.basename(path), path=os.path.dirname(path)).load_config()
    except Exception as error:
        what = f"{type(error).__name__}: {error}"
        raise BadRequest(f"{file} cannot be used: {what}.", _CORRECT) from error
    return config


class Context:
    """One run of the command line."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.misspelt: list[str] = []
        """What the configuration says that nobody reads; known with the service."""

    @property
    def json(self) -> bool:
        """Whether JSON was asked for."""
        return bool(self.arguments.json)

    def load_config(self) -> Config:
        """What a Jupyter server here would read, and the file that was named.

        Raises
        ------
        BadRequest
            That file cannot be used.
        """
        config = load_config()
        if self.arguments.config:
            config.merge(read_config(self.arguments.config))
        return config

    def make_service(self, *, tell: bool = True) -> ElasticService:
        """The service on this machine's configuration, not yet open.

        ``tell``: say on stderr what is misspelt.

        Raises
        ------
        BadRequest
            The configuration cannot be used; the sentence names file or trait.
        """
        config = self.load_config()
        self.misspelt = [*misspelt_sections(config), *misspelt_options(config)]
        for sentence in self.misspelt if tell else ():
            print(printable(sentence), file=sys.stderr)
        try:
            with warnings.catch_warnings():
                # The same, less clearly.
                warnings.filterwarnings("ignore", "Config option .* not recognized by")
                return make_service(config)
        except TraitError as error:
            raise BadRequest(f"The configuration cannot be used: {error}", _CORRECT) from error

    @contextlib.asynccontextmanager
    async def open_service(
        self, service: ElasticService | None = None
    ) -> AsyncIterator[ElasticService]:
        """Have a service open for a while; the one of :meth:`make_service` if none is given.

        Raises
        ------
        BadRequest
            As :meth:`make_service`.
        ElasticError
            The cluster cannot be opened.
        """
        service = service or self.make_service()
        await service.open(pool=False)
        try:
            yield service
        finally:
            await service.close()

    def show_json(self, data: Any) -> None:
        """Print JSON on stdout."""
        print(json.dumps(data, indent=2))

    def show_table(self, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Print columns as wide as they need to be."""
        cells = [[printable(str(cell)) for cell in row] for row in (header, *rows)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        for row in cells:
            line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            print(line.rstrip())

    def say(self, text: str) -> None:
        """A line for people; with ``--json`` on stderr, so that stdout stays JSON."""
        print(printable(text), file=sys.stderr if self.json else sys.stdout, flush=True)

    def complain(self, error: ElasticError) -> None:
        """An error as a sentence and a remedy on stderr; with ``--json`` also as JSON on stdout."""
        if self.json:
            self.show_json(error.to_problem())
        print(printable(error.message, keep="\n\t"), file=sys.stderr)
        if error.remedy:
            print(printable(error.remedy, keep="\n\t"), file=sys.stderr)


def printable(text: str, keep: str = "") -> str:
    """Control characters as escapes: names and messages are not ours to trust."""
    return "".join(
        letter.encode("unicode_escape").decode()
        if unicodedata.category(letter) in ("Cc", "Cs") and letter not in keep
        else letter
        for letter in text
    )


def shown_gpu(gpu: dict[str, Any] | None) -> str:
    """GPUs for a table."""
    return f"{gpu['count']} x {gpu['kind']}" if gpu else "-"
