"""A KernelTemplate under construction, and what had to be left out of it. Pure."""

from __future__ import annotations

import copy
import hashlib
import re
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any

import msgspec

from ....errors import BadQuantity, BadTemplate
from ....resources import parse_cpu, parse_memory
from ....templates.parse import CONNECTION_FILE, NATIVE_NAMES
from ....templates.specs import is_plain_ipykernel
from ..templates import API_VERSION, KIND, template_from_object

_R_ARGV = ("R", "--slave", "-e", "IRkernel::main()", "--args", CONNECTION_FILE)
_ASSUMED = {
    "cpu": {"minimum": "100m", "default": "1", "maximum": "2"},
    "memory": {"minimum": "256Mi", "default": "2Gi", "maximum": "4Gi"},
}
_LAUNCHERS = re.compile(
    r"launch_kubernetes\.py|launch_docker\.py|launch_custom_resource\.py|kubeflow-launcher"
    r"|/bin/run\.sh|\{(response_address|kernel_id|public_key|port_range)\}|RemoteProcessProxy"
)
"""Words of a command line that does not run a kernel but asks for a pod that does."""
_PLAIN_CLASSES = ("ipykernel.ipkernel.IPythonKernel", "{ipykernel_subclass_name}")


class Note(msgspec.Struct, frozen=True):
    """What could not be carried over as it was."""

    object: str
    field: str
    """The path in ``object``."""
    message: str


class Impossible(Exception):
    """No template can be made of this; the message says why."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class Draft:
    """A template as far as it goes.

    Parameters
    ----------
    about
        What it is made from, for notes.
    path
        Where in that the fields stand.
    """

    def __init__(self, about: str, name: str, namespace: str = "", path: str = "") -> None:
        self.about, self.namespace, self._path = about, namespace, path
        self.name = slug(name)
        self.spec: dict[str, Any] = {}
        self.notes: list[Note] = []
        if self.name != name:
            why = f'is "{self.name}" now: notebooks that ask for kernel "{name}" do not find it'
            self.notes.append(Note(about, "metadata.name" if path else "name", why))

    def of(self, about: str, path: str) -> Draft:
        """The same template, where something else says more of it."""
        other = copy.copy(self)
        other.about, other._path = about, path
        return other

    def note(self, field: str, message: str) -> None:
        """Say what was left out, or is done in another way."""
        self.notes.append(Note(self.about, self._at(field), message))

    def impossible(self, field: str, message: str) -> Impossible:
        """The error to raise where a template cannot be made."""
        return Impossible(self._at(field), message)

    def _at(self, field: str) -> str:
        return f"{self._path}.{field}" if self._path and field else self._path or field

    def leave(self, data: Mapping[str, Any], known: Iterable[str], path: str, why: str) -> None:
        """Note every field of ``data`` that is not among ``known``."""
        taken = set(known)
        for key, value in data.items():
            if key not in taken and value not in (None, "", [], {}):
                self.note(f"{path}.{key}" if path else str(key), why)

    def pod(self, key: str, value: object) -> None:
        """Set a field of ``spec.pod``, if it says anything."""
        if value not in (None, "", [], {}):
            self.spec.setdefault("pod", {})[key] = value

    def program(self, language: str, argv: Iterable[object], field: str) -> None:
        """What runs in the pod.

        Raises
        ------
        Impossible
            It cannot be known.
        """
        words = [str(word) for word in argv]
        launcher = any(_LAUNCHERS.search(word) for word in words)
        if launcher:
            self._launcher(words, field)
        kernel_argv = not launcher and any(CONNECTION_FILE in word for word in words)
        language = language or "python"
        if kernel_argv and not is_plain_ipykernel(words):
            self.spec |= {"language": language, "argv": words}
        elif language.lower() == "python":
            if kernel_argv and words[0] not in ("python", "python3"):
                self.spec["interpreter"] = words[0]
            return
        elif language.lower() == "r":
            self.spec |= {"language": "R", "argv": list(_R_ARGV)}
            self.note(field, "argv is the one that IRkernel installs: see that it fits")
        else:
            raise self.impossible(
                field,
                f"does not say how the {language} kernel itself is run:"
                " write a KernelTemplate with argv",
            )
        self.note("image", "must also have Python with pyzmq: the agent runs in it")

    def _launcher(self, words: list[str], field: str) -> None:
        """Say what a launcher did besides making a pod."""
        self.note(field, "is not needed: the agent in the pod starts the kernel itself")
        for option, value in pairwise(words):
            if option.endswith("spark-context-initialization-mode") and value != "none":
                self.note(field, f"makes a Spark context ({value}); left out")
            if option.endswith("kernel-class-name") and value not in _PLAIN_CLASSES:
                self.note(field, f"runs a kernel class of its own ({value}); left out")

    def amounts(self, key: str, request: object, limit: object, field: str) -> None:
        """``resources.cpu`` or ``.memory`` from what a container asked for."""
        parse = parse_cpu if key == "cpu" else parse_memory
        sizes: dict[str, int] = {}
        for name, value in (("request", request), ("limit", limit)):
            if value in (None, ""):
                continue
            try:
                sizes[name] = parse(value)
            except BadQuantity:
                self.note(field, f"{str(value)[:60]!r} is no quantity that can be used")
        most = limit if "limit" in sizes else request
        offered = {"default": str(most), "maximum": str(most)} if sizes else {}
        if len(sizes) == 2 and sizes["request"] < sizes["limit"]:
            offered = {"minimum": str(request), **offered}
        if offered:
            self.spec.setdefault("resources", {})[key] = offered

    def gpus(self, kind: str, count: object, field: str) -> None:
        """``resources.gpu`` from what a container asked for."""
        try:
            number = int(str(count))
        except ValueError:
            self.note(field, f"{str(count)[:60]!r} is no number of GPUs")
            return
        if number > 0:
            gpu = {"kinds": [kind], "default": number, "maximum": number}
            self.spec.setdefault("resources", {})["gpu"] = gpu

    def finish(self) -> dict[str, Any]:
        """The object.

        Raises
        ------
        Impossible
            Something is missing, or no template may look like this.
        """
        if not self.spec.get("image"):
            raise self.impossible("image", "there is none, and a pod needs one")
        resources = self.spec.setdefault("resources", {})
        for key, assumed in _ASSUMED.items():
            if key not in resources:
                resources[key] = dict(assumed)
                span = f"{assumed['minimum']} to {assumed['maximum']}"
                self.note(
                    f"resources.{key}", f"says nothing; {span} are a guess, see that they fit"
                )
        try:
            template_from_object(self.name, self.spec)
        except BadTemplate as error:
            raise Impossible("", f"the result is not a usable template: {error.message}") from error
        metadata = {"name": self.name}
        if self.namespace:
            metadata["namespace"] = self.namespace
        spec = {key: self.spec[key] for key in _ORDER if key in self.spec}
        return {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": spec}


_ORDER = (
    "displayName",
    "description",
    "icon",
    "language",
    "interpreter",
    "argv",
    "interruptMode",
    "image",
    "env",
    "workingDirectory",
    "resources",
    "idle",
    "metadata",
    "pod",
)


def slug(name: str) -> str:
    """A name in the letters that a template's name may have; different names stay different."""
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    if plain in NATIVE_NAMES:
        return f"{plain}-elastic"
    if plain and len(plain) <= 63:
        return plain
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{plain[:50]}-{digest}".lstrip("-")
