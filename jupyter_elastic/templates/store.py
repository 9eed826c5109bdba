"""The templates that are offered now: read from the configuration, kept fresh, never half-read."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import BadTemplate, ElasticError, UnknownTemplate
from ..model import Template
from ..threads import in_thread
from .files import Signature, find_files, read_file
from .machine import Machine
from .objects import read_template
from .specs import templates_from_specs

FindSpecs = Callable[[], Mapping[str, Mapping[str, Any]]]
_Found = tuple[dict[Path, Signature], list[BadTemplate]]


@dataclass(frozen=True)
class _Reading:
    """What one look found; made in a thread, taken over on the loop."""

    seen: tuple[dict[Path, Signature], list[str]]
    templates: dict[str, Template]
    problems: list[ElasticError]
    last_good: dict[Path, list[Template]]
    from_specs: dict[str, Template]


class TemplateStore:
    """Templates by name.

    Parameters
    ----------
    sources
        The value of ``ElasticKernels.templates``: mappings, and paths, directories or globs of
        YAML files; both may hold KernelTemplate objects. With none, each kernelspec that
        ``find_specs`` finds becomes a template.
    find_specs
        As ``KernelSpecManager.get_all_specs``; called only when there are no sources. It may
        take seconds (some managers run programs), so that it is called in a thread, again and
        again; when it fails, what it found before stays.
    machine
        What is offered where a template says nothing; the present machine by default.
    pooled
        Kernelspecs of which one pod is kept warm, when templates come from kernelspecs.
    interval
        Seconds between two looks at the files.
    specs_interval
        Seconds between two looks at the kernelspecs, when templates come from them.
    """

    def __init__(
        self,
        sources: Sequence[Mapping[str, Any] | str] = (),
        *,
        find_specs: FindSpecs | None = None,
        machine: Machine | None = None,
        pooled: Collection[str] = ("python3",),
        interval: float = 1.0,
        specs_interval: float = 10.0,
        log: logging.Logger | None = None,
    ) -> None:
        self._mappings = [source for source in sources if isinstance(source, Mapping)]
        self._paths = [str(source) for source in sources if not isinstance(source, Mapping)]
        self._find_specs = find_specs
        self.machine = machine or Machine.here()
        self._pooled = pooled
        self._uses_specs = find_specs is not None and not self._mappings and not self._paths
        self._interval = specs_interval if self._uses_specs else interval
        self._log = log or logging.getLogger(__name__)
        self._templates: dict[str, Template] = {}
        self._configured: dict[str, Template] = {}
        self._configured_problems: list[ElasticError] = []
        self._live: dict[str, Template] = {}
        self._live_problems: list[ElasticError] = []
        self._extra: dict[str, Template] = {}
        self._problems: list[ElasticError] = []
        self._seen: tuple[dict[Path, Signature], list[str]] | None = None
        self._last_good: dict[Path, list[Template]] = {}
        self._from_specs: dict[str, Template] = {}
        self._listeners: list[Callable[[], None]] = []
        self._task: asyncio.Task[None] | None = None

    # -- reading -----------------------------------------------------------------------------

    def all(self) -> dict[str, Template]:
        """All templates by name. A copy; the templates themselves never change."""
        return dict(self._templates)

    def get(self, name: str) -> Template:
        """One template. Raises UnknownTemplate, naming those there are."""
        template = self._templates.get(name)
        if template is None:
            raise UnknownTemplate(f"There is no template {name[:80]!r}.", self._what_there_is())
        return template

    def offer(self, template: Template) -> None:
        """Offer one more, as a kernelspec file carries it to a client without a server.

        It stays until :meth:`close`; the configured template of the same name gives way.
        """
        self._extra[template.name] = template
        self._templates = {**self._templates, template.name: template}

    def take_live(
        self, templates: Mapping[str, Template], problems: Sequence[ElasticError]
    ) -> None:
        """Offer these as well, in place of those given before: objects of the cluster.

        They win over configured templates of the same name, because all servers and controllers
        of the cluster see them.
        """
        self._live, self._live_problems = dict(templates), list(problems)
        self._publish(self._configured, self._configured_problems)

    def problems(self) -> list[ElasticError]:
        """What is wrong with templates that are not offered, or not in their latest form."""
        return list(self._problems)

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Be called on the loop after templates or problems changed; returns a disposer."""
        self._listeners.append(listener)

        def dispose() -> None:
            with contextlib.suppress(ValueError):  # Disposing twice is no error.
                self._listeners.remove(listener)

        return dispose

    def _what_there_is(self) -> str:
        names = sorted(self._templates)
        if not names:
            return "No template is offered here; see `jupyter elastic doctor`."
        shown = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
        return f"Choose one of {shown}."

    # -- life --------------------------------------------------------------------------------

    async def open(self) -> None:
        """Read everything, and begin to look for changes. Broken templates are no error."""
        self._take(await in_thread(None, self._look))
        if (self._paths or self._uses_specs) and self._task is None:
            self._task = asyncio.create_task(self._poll(), name="elastic-templates")

    async def close(self) -> None:
        """Stop looking; what was read stays readable. Idempotent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def refresh(self) -> None:
        """Read everything anew now; tells listeners when it differs. Blocks: not on a loop."""
        self._take(self._look())

    def _look(self, found: _Found | None = None) -> _Reading:
        """Find, read and parse; changes nothing here, so that a thread may do it.

        ``found``: the files there are now, when somebody has just looked.
        """
        files, missing = found or find_files(self._paths)
        templates: dict[str, Template] = {}
        problems: list[ElasticError] = list(missing)
        for i, data in enumerate(self._mappings):
            try:
                read = read_template(data, f"ElasticKernels.templates[{i}]", self.machine)
            except BadTemplate as problem:
                problems.append(problem)
                continue
            self._add(read, f"ElasticKernels.templates[{i}]", templates, problems)
        last_good: dict[Path, list[Template]] = {}
        for path in files:
            last_good[path] = self._read(path, problems)
            for read in last_good[path]:
                self._add(read, str(path), templates, problems)
        from_specs = self._read_specs(problems)
        return _Reading(
            seen=(files, [str(problem) for problem in missing]),
            templates=templates | from_specs,
            problems=problems,
            last_good=last_good,
            from_specs=from_specs,
        )

    def _look_if_changed(self) -> _Reading | None:
        """None: no file has changed since the last look."""
        found = find_files(self._paths)
        if self._uses_specs or (found[0], [str(one) for one in found[1]]) != self._seen:
            return self._look(found)
        return None

    def _read_specs(self, problems: list[ElasticError]) -> dict[str, Template]:
        if not self._uses_specs or self._find_specs is None:
            return {}
        try:
            specs = self._find_specs()
            templates, broken = templates_from_specs(specs, self.machine, self._pooled)
        except Exception as error:  # noqa: BLE001 - a manager may be anybody's
            self._log.debug("The kernelspecs cannot be listed", exc_info=True)
            what = f"The kernelspecs cannot be listed: {type(error).__name__}: {error}"
            remedy = "See why `jupyter kernelspec list` fails; until then nothing changes."
            problems.append(BadTemplate(what, remedy))
            return self._from_specs
        problems.extend(broken)
        return templates

    def _take(self, reading: _Reading) -> None:
        """Make a reading what is offered now. Only on the loop that asks for templates."""
        self._seen = reading.seen
        self._last_good = reading.last_good
        self._from_specs = reading.from_specs
        self._publish(reading.templates, reading.problems)

    def _read(self, path: Path, problems: list[ElasticError]) -> list[Template]:
        """A file's templates; those of its last good form where it is broken now."""
        good: dict[str, Template] = {}
        broken = False
        try:
            entries = read_file(path)
        except BadTemplate as problem:
            problems.append(problem)
            entries, broken = [], True
        for entry in entries:
            try:
                template = read_template(entry, str(path), self.machine)
            except BadTemplate as problem:
                problems.append(problem)
                broken = True
                continue
            self._add(template, str(path), good, problems)
        if broken:
            for template in self._last_good.get(path, ()):
                good.setdefault(template.name, template)
        return list(good.values())

    @staticmethod
    def _add(
        template: Template, where: str, into: dict[str, Template], problems: list[ElasticError]
    ) -> None:
        if template.name not in into:
            into[template.name] = template
            return
        problems.append(
            BadTemplate(
                f'{where}: name: there is another template "{template.name}" already.',
                "Give each template a name of its own; the first one is offered.",
                field="name",
            )
        )

    def _publish(self, templates: dict[str, Template], problems: list[ElasticError]) -> None:
        self._configured, self._configured_problems = templates, problems
        templates = {**templates, **self._live, **self._extra}
        problems = [*problems, *self._live_problems]
        before = self._templates, [str(problem) for problem in self._problems]
        after = templates, [str(problem) for problem in problems]
        self._templates, self._problems = templates, problems
        if before == after:
            return
        for text in after[1]:
            if text not in before[1]:
                self._log.warning("%s", text)
        for listener in list(self._listeners):
            listener()

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(self._interval)
            try:
                # Files may lie on a slow file system, kernelspecs behind slow programs.
                reading = await in_thread(None, self._look_if_changed)
                if reading is not None:
                    self._take(reading)
            except Exception:  # noqa: BLE001 - one failed look must not end all later ones
                self._log.exception("Could not look for changed templates")
