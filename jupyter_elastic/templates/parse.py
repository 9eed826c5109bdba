"""A template from a mapping (traitlets, YAML, JSON), and back. Looks at icon files, no other IO."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Mapping
from typing import Any

from ..model import GpuRange, IdlePolicy, Offer, PoolPolicy, Range, Template
from ..resources import format_cpu, format_memory, parse_cpu, parse_memory
from .fields import Fields, Spelling, as_it_is, kind_of
from .icon import parse_icon
from .machine import CPU_MINIMUM, MEMORY_MINIMUM, Machine
from .podoptions import dump_pod_options, parse_pod_options

NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", re.ASCII)
NATIVE_NAMES = ("python",)
"""Jupyter's kernel managers take this for ``python3``, whatever kernelspecs there are."""
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
METADATA_LIMIT = 64 * 1024
"""Bytes of JSON; a kernelspec's metadata travel to every client."""
CONNECTION_FILE = "{connection_file}"

_KEYS = tuple(Template.__struct_fields__)


def parse_template(
    data: Mapping[str, Any],
    where: str = "",
    machine: Machine | None = None,
    *,
    path: str = "",
    spelling: Spelling = as_it_is,
) -> Template:
    """Check a template and fill in what may be left out.

    Parameters
    ----------
    data
        The fields of :class:`~jupyter_elastic.model.Template`, quantities as strings. Of a range
        ``{minimum, default, maximum, choices}`` any part may be left out; a plain quantity is a
        fixed size.
    where
        The file or trait it comes from; named in errors.
    machine
        What is offered of CPU and memory where the template says nothing. Without it both must
        be given.
    path, spelling
        Where in ``data``'s object the fields stand, and how they are written there.

    Raises
    ------
    BadTemplate
        With the path of the first wrong field.
    """
    given = data.get("name") if isinstance(data, Mapping) else None
    if isinstance(given, str) and NAME.fullmatch(given):
        where = f"{where}: {given}" if where else given
    fields = Fields(data, where, path, _KEYS, spelling)
    name = fields.text("name")
    if not fields.has("name"):
        raise fields.error("name", "is missing", 'Give the template a name such as "small-python".')
    if not NAME.fullmatch(name):
        raise fields.error(
            "name",
            f"{name[:80]!r} is not a usable name",
            "Use 1 to 63 lower-case letters, digits and hyphens, a letter or digit at both ends.",
        )
    if name in NATIVE_NAMES:
        raise fields.error(
            "name",
            f'"{name}" is what Jupyter calls the kernel of the server\'s own Python',
            f'Call it "{name}-elastic", for instance.',
        )
    display_name = fields.text("display_name", name, 200)
    if not display_name.strip():
        raise fields.error("display_name", "must not be blank")
    image = fields.text("image", longest=500) or None
    interpreter, argv, language = _program(fields, image)
    mode = fields.text("interrupt_mode", "signal")
    if mode not in ("signal", "message"):
        raise fields.error("interrupt_mode", f'must be "signal" or "message", not {mode[:60]!r}')
    return Template(
        name=name,
        display_name=display_name,
        description=fields.text("description", longest=4000),
        icon=parse_icon(fields),
        language=language,
        interpreter=interpreter,
        argv=argv,
        interrupt_mode="message" if mode == "message" else "signal",
        image=image,
        env=_env(fields),
        working_directory=_working_directory(fields),
        preload=_preload(fields, argv),
        resources=_offer(fields, machine),
        idle=_idle(fields),
        pool=_pool(fields),
        metadata=_metadata(fields),
        kubernetes=parse_pod_options(fields),
    )


def dump_template(template: Template) -> dict[str, Any]:
    """The template as plain JSON from which :func:`parse_template` makes an equal one."""
    offer = template.resources
    data: dict[str, Any] = {
        "name": template.name,
        "display_name": template.display_name,
        "description": template.description,
        "icon": template.icon,
        "language": template.language,
        "interpreter": template.interpreter,
        "argv": list(template.argv),
        "interrupt_mode": template.interrupt_mode,
        "image": template.image,
        "env": dict(template.env),
        "working_directory": template.working_directory,
        "preload": list(template.preload),
        "resources": {
            "cpu": dump_range(offer.cpu, format_cpu),
            "memory": dump_range(offer.memory, format_memory),
            "gpu": {
                "kinds": list(offer.gpu.kinds),
                "default": offer.gpu.default,
                "maximum": offer.gpu.maximum,
            },
        },
        "idle": {
            "cull_after": template.idle.cull_after,
            "max_age": template.idle.max_age,
            "cull_connected": template.idle.cull_connected,
        },
        "pool": {
            "size": template.pool.size,
            "ttl": template.pool.ttl,
            "predict": template.pool.predict,
        },
        "metadata": dict(template.metadata),
        "kubernetes": dump_pod_options(template.kubernetes),
    }
    return {key: value for key, value in data.items() if value not in (None, "", [], {})}


def dump_range(offered: Range, form: Callable[[int], str]) -> dict[str, Any]:
    """A range with its quantities as strings."""
    return {
        "minimum": form(offered.minimum),
        "default": form(offered.default),
        "maximum": form(offered.maximum),
        "choices": [form(choice) for choice in offered.choices],
    }


def _program(fields: Fields, image: str | None) -> tuple[str | None, tuple[str, ...], str]:
    """(interpreter, argv, language): what runs in the pod."""
    argv = fields.texts("argv")
    interpreter = fields.text("interpreter") or None
    if argv and interpreter:
        raise fields.error(
            "interpreter",
            "is given together with argv",
            "Keep interpreter for a Python with ipykernel, or argv for any other kernel.",
        )
    if argv:
        if not any(CONNECTION_FILE in word for word in argv):
            raise fields.error(
                "argv",
                f"has no word {CONNECTION_FILE}",
                f"Add {CONNECTION_FILE} where the kernel expects its connection file.",
            )
        language = fields.text("language", longest=100)
        if not language:
            raise fields.error("language", "is missing; with argv it cannot be guessed")
        return None, argv, language
    if fields.has("argv"):
        raise fields.error("argv", "must have at least one word")
    language = fields.text("language", "python", 100)
    if language != "python":
        raise fields.error(
            "language",
            f"{language!r} needs argv; interpreter is for Python only",
            "Give the kernel's argv, as its kernelspec has it.",
        )
    if image:  # The interpreter is the image's; nothing here can know where it is.
        return interpreter or "python3", (), language
    if interpreter is None:
        return sys.executable, (), language
    interpreter = os.path.expanduser(interpreter)
    if os.sep not in interpreter:
        interpreter = shutil.which(interpreter) or interpreter
    elif not os.path.isabs(interpreter):
        raise fields.error(
            "interpreter", f"{interpreter[:80]!r} must be an absolute path or a name"
        )
    return interpreter, (), language


def _env(fields: Fields) -> dict[str, str]:
    data = fields.get("env")
    if data is None:
        return {}
    if not isinstance(data, Mapping):
        raise fields.error("env", f"must be a mapping of names to strings, not {kind_of(data)}")
    env: dict[str, str] = {}
    for name, value in data.items():
        if not isinstance(name, str) or not _ENV_NAME.fullmatch(name):
            raise fields.error(
                "env",
                f"{str(name)[:60]!r} is not a name of an environment variable",
                "Use letters, digits and underscores, and no digit first.",
            )
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            raise fields.error(f"env.{name}", f"must be a string, not {kind_of(value)}")
        text = str(value)
        if "\0" in text:
            raise fields.error(f"env.{name}", "must not contain a null character")
        env[name] = text
    return env


def _working_directory(fields: Fields) -> str | None:
    if not fields.has("working_directory"):
        return None
    path = os.path.expanduser(fields.text("working_directory", longest=4096))
    if not os.path.isabs(path):
        raise fields.error("working_directory", f"{path[:80]!r} must be an absolute path")
    return path


def _preload(fields: Fields, argv: tuple[str, ...]) -> tuple[str, ...]:
    modules = fields.texts("preload")
    if modules and argv:
        raise fields.error("preload", "works only with an interpreter, not with argv")
    for i, module in enumerate(modules):
        if not _DOTTED.fullmatch(module):
            raise fields.error(f"preload[{i}]", f"{module[:60]!r} is not the name of a module")
    return tuple(dict.fromkeys(modules))


def _offer(fields: Fields, machine: Machine | None) -> Offer:
    data = fields.get("resources")
    allowed = ("cpu", "memory", "gpu")
    inside = fields.inside("resources", {} if data is None else data, allowed)
    for key in ("cpu", "memory"):
        if machine is None and not inside.has(key):
            raise inside.error(key, "is missing")
    cpu = machine.cpu_range() if machine else None
    memory = machine.memory_range() if machine else None
    return Offer(
        cpu=_range(inside, "cpu", parse_cpu, format_cpu, CPU_MINIMUM, cpu),
        memory=_range(inside, "memory", parse_memory, format_memory, MEMORY_MINIMUM, memory),
        gpu=_gpu(inside),
    )


def _range(
    parent: Fields,
    key: str,
    parse: Callable[[object], int],
    form: Callable[[int], str],
    floor: int,
    otherwise: Range | None,
) -> Range:
    """A range whose missing parts derive from those that are given."""
    data = parent.get(key)
    if data is None and otherwise is not None:
        return otherwise
    if not isinstance(data, Mapping):
        fixed = parent.quantity(key, parse) or 0
        return Range(minimum=fixed, default=fixed, maximum=fixed)
    allowed = ("minimum", "default", "maximum", "choices")
    fields = parent.inside(key, data, allowed)
    choices = fields.quantities("choices", parse)
    given = {part: fields.quantity(part, parse) for part in allowed[:3]}
    low, default, high = given["minimum"], given["default"], given["maximum"]
    if low is None and default is None and high is None and not choices:
        raise fields.error("", "is empty", "Give at least a maximum.")
    given_low = low
    if low is None:
        # A range without a minimum starts at the floor, unless it lies below it altogether.
        tops = [size for size in (default, high) if size is not None]
        low = min(choices) if choices else min(floor, *tops)
    if high is None:
        high = max(choices) if choices else default if default is not None else low
    if default is None:
        # The first choice; else the least the admin wrote, rather than the floor we made up.
        within = [choice for choice in choices if low <= choice <= high]
        default = within[0] if within else given_low if given_low is not None else high
    if low > high:
        raise fields.error("minimum", f"{form(low)} is over the maximum of {form(high)}")
    if not low <= default <= high:
        raise fields.error("default", f"{form(default)} is not within {form(low)} to {form(high)}")
    for i, choice in enumerate(choices):
        if not low <= choice <= high:
            what = f"{form(choice)} is not within {form(low)} to {form(high)}"
            raise fields.error(f"choices[{i}]", what)
    if choices and default not in choices:
        what = f"{form(default)} is none of the choices {', '.join(map(form, choices))}"
        raise fields.error("default", what)
    return Range(minimum=low, default=default, maximum=high, choices=tuple(sorted(set(choices))))


def _gpu(parent: Fields) -> GpuRange:
    data = parent.get("gpu")
    if data is None:
        return GpuRange()
    fields = parent.inside("gpu", data, ("kinds", "default", "maximum"))
    kinds = tuple(dict.fromkeys(fields.texts("kinds")))
    for i, kind in enumerate(kinds):
        if not kind.strip() or len(kind) > 128:
            raise fields.error(f"kinds[{i}]", "must have 1 to 128 characters")
    maximum = fields.whole("maximum", 1 if kinds else 0, 64)
    default = fields.whole("default", 0, 64)
    if maximum and not kinds:
        raise fields.error("kinds", "is missing", "Name the kinds of GPU the template offers.")
    if default > maximum:
        raise fields.error("default", f"{default} is over the maximum of {maximum}")
    return GpuRange(kinds=kinds, default=default, maximum=maximum)


def _idle(parent: Fields) -> IdlePolicy:
    keys = IdlePolicy.__struct_fields__
    fields = parent.inside("idle", _or_empty(parent, "idle"), keys)
    return IdlePolicy(
        cull_after=fields.number("cull_after", 0),
        max_age=fields.number("max_age", 0),
        cull_connected=fields.flag("cull_connected", True),
    )


def _pool(parent: Fields) -> PoolPolicy:
    keys = PoolPolicy.__struct_fields__
    fields = parent.inside("pool", _or_empty(parent, "pool"), keys)
    return PoolPolicy(
        size=fields.whole("size", 0, 1000),
        ttl=fields.number("ttl", 3600),
        predict=fields.flag("predict", False),
    )


def _metadata(parent: Fields) -> dict[str, Any]:
    data = _or_empty(parent, "metadata")
    if not isinstance(data, Mapping):
        raise parent.error("metadata", f"must be a mapping, not {kind_of(data)}")
    try:
        text = json.dumps(data, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        raise parent.error("metadata", "must be made of what JSON can say") from None
    if len(text) > METADATA_LIMIT:
        what = f"has {len(text)} bytes as JSON, at most {METADATA_LIMIT} are allowed"
        raise parent.error("metadata", what)
    plain: dict[str, Any] = json.loads(text)
    return plain


def _or_empty(parent: Fields, key: str) -> object:
    data = parent.get(key)
    return {} if data is None else data
