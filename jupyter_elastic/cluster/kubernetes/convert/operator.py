"""What others describe their kernels with, as KernelTemplate objects. Pure.

Read are JupyterKernelSpec, JupyterKernelTemplate and JupyterGateway of elastic-jupyter-operator,
and kernelspecs of gateways (:mod:`.kernelspecs`). Whatever cannot be carried over is said, by
object and field: silence means that nothing is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import msgspec

from .draft import Draft, Impossible, Note
from .kernelspecs import convert_spec, is_kernelspec
from .pods import apply_env, apply_pod_template

OPERATOR_GROUP = "kubeflow.tkestack.io"
OPERATOR_API = f"{OPERATOR_GROUP}/v1alpha1"
OPERATOR_PLURALS = ("jupyterkernelspecs", "jupyterkerneltemplates", "jupytergateways")
"""What of a cluster is worth reading."""
_NOTHING = "there is nothing like it; left out"


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """One document, and where it comes from."""

    where: str
    data: Any
    name: str = ""
    """Of a kernelspec: its directory's."""
    files: tuple[str, ...] = ()
    icon: tuple[str, bytes] | None = None


class Conversion(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome."""

    templates: tuple[dict[str, Any], ...]
    notes: tuple[Note, ...]
    """What of the templates' sources was left out, or is done in another way."""
    failed: tuple[Note, ...]
    """What no template could be made of."""


def convert(sources: Iterable[Source]) -> Conversion:
    """Make a template of everything that describes kernels."""
    objects, specs, failed = _sorted(sources)
    notes: list[Note] = []
    gateways = _of_kind(objects, "JupyterGateway")
    pods = {_key(data): (about, data) for about, data in _of_kind(objects, "JupyterKernelTemplate")}
    used: set[tuple[str, str]] = set()
    work: list[tuple[str, Callable[[], Draft]]] = [
        (about, partial(_operator_spec, about, data, pods, used, gateways))
        for about, data in _of_kind(objects, "JupyterKernelSpec")
    ]
    work += [(source.where, partial(_kernelspec, source)) for source in specs]
    templates: dict[tuple[str, str], dict[str, Any]] = {}
    for about, make in work:
        try:
            draft = make()
            key = (draft.namespace, draft.name)
            if key in templates:
                raise Impossible("name", f'another template is called "{draft.name}" already')
            templates[key] = draft.finish()
        except Impossible as error:
            failed.append(Note(about, error.field, str(error)))
        else:
            notes.extend(draft.notes)
    for key, (about, _data) in pods.items():
        if key not in used:
            notes.append(Note(about, "", "no JupyterKernelSpec uses it; left out"))
    for about, data in gateways:
        notes.extend(_gateway_notes(about, data))
    return Conversion(templates=tuple(templates.values()), notes=tuple(notes), failed=tuple(failed))


_Objects = list[tuple[str, Mapping[str, Any]]]


def _sorted(sources: Iterable[Source]) -> tuple[_Objects, list[Source], list[Note]]:
    """Objects of the operator, kernelspecs, and what is neither."""
    objects: _Objects = []
    specs: list[Source] = []
    failed: list[Note] = []
    for source in sources:
        if is_kernelspec(source.data):
            specs.append(source)
            continue
        for data in _items(source.data):
            if isinstance(data, Mapping) and str(data.get("apiVersion")) == OPERATOR_API:
                kind = str(data.get("kind"))
                about = f"{kind} {'/'.join(part for part in _key(data) if part)}"
                if kind in ("JupyterKernelSpec", "JupyterKernelTemplate", "JupyterGateway"):
                    objects.append((about, data))
                elif kind == "JupyterNotebook":
                    why = "describes a server: start one with jupyter_elastic installed"
                    failed.append(Note(about, "", why))
                else:
                    failed.append(Note(about, "", "describes no template"))
            else:
                failed.append(Note(source.where, "", _what(data)))
    return objects, specs, failed


def _items(data: Any) -> Iterator[Any]:
    """The objects of a document; a list of Kubernetes holds several."""
    items = data.get("items") if isinstance(data, Mapping) and "apiVersion" in data else None
    if not isinstance(items, list):
        yield data
        return
    # A list of one kind says the kind once.
    kind, version = str(data.get("kind")).removesuffix("List"), data.get("apiVersion")
    for item in items:
        if isinstance(item, Mapping):
            yield {"apiVersion": version, "kind": kind, **item}
        else:
            yield item


def _what(data: Any) -> str:
    if not isinstance(data, Mapping):
        return "is neither a kernelspec nor an object of Kubernetes"
    if "apiVersion" in data:
        kind, version = str(data.get("kind"))[:60], str(data["apiVersion"])[:60]
        return f"{kind} of {version} is nothing that can be converted"
    return "is no kernelspec: it has no argv"


def _of_kind(objects: _Objects, kind: str) -> _Objects:
    return [(about, data) for about, data in objects if data.get("kind") == kind]


def _key(data: Mapping[str, Any]) -> tuple[str, str]:
    metadata = _mapping(data.get("metadata"))
    return str(metadata.get("namespace") or ""), str(metadata.get("name") or "")


def _same(one: str, other: str) -> bool:
    """Whether two namespaces can be one: a manifest need not say its own."""
    return not one or not other or one == other


def _kernelspec(source: Source) -> Draft:
    return convert_spec(
        source.name, source.data, source.where, files=source.files, icon=source.icon
    )


def _operator_spec(
    about: str,
    data: Mapping[str, Any],
    pods: Mapping[tuple[str, str], tuple[str, Mapping[str, Any]]],
    used: set[tuple[str, str]],
    gateways: _Objects,
) -> Draft:
    """A JupyterKernelSpec with the JupyterKernelTemplate that it refers to."""
    namespace, name = _key(data)
    spec = _mapping(data.get("spec"))
    draft = Draft(about, name, namespace, path="spec")
    draft.spec["displayName"] = str(spec.get("displayName") or name)
    if spec.get("image"):
        draft.spec["image"] = str(spec["image"])
    apply_env(draft, spec.get("env") or (), "env")
    draft.program(str(spec.get("language") or ""), spec.get("command") or (), "command")
    reference = _mapping(spec.get("template"))
    if reference:
        where = str(reference.get("namespace") or namespace)
        found = next(
            (key for key in pods if key[1] == reference.get("name") and _same(key[0], where)), None
        )
        if found is None:
            what = f"JupyterKernelTemplate {reference.get('name')}"
            draft.note("template", f"{what} is not among what was given; left out")
        else:
            used.add(found)
            other, template = pods[found]
            inside = _mapping(_mapping(template.get("spec")).get("template"))
            apply_pod_template(draft.of(other, "spec.template"), inside)
    known = ("language", "displayName", "image", "env", "command", "className", "template")
    draft.leave(spec, known, "", _NOTHING)
    idle = [
        _mapping(gateway.get("spec")).get("cullIdleTimeout")
        for _about, gateway in gateways
        if _same(_key(gateway)[0], namespace)
        and name in (_mapping(gateway.get("spec")).get("kernels") or ())
    ]
    seconds = [int(value) for value in idle if isinstance(value, int) and value > 0]
    if seconds:
        draft.spec["idle"] = {"cullAfter": min(seconds)}
    return draft


def _gateway_notes(about: str, data: Mapping[str, Any]) -> Iterator[Note]:
    yield Note(about, "", "is not needed: any Jupyter server with jupyter_elastic starts kernels")
    spec = _mapping(data.get("spec"))
    if spec.get("defaultKernel"):
        why = "set MultiKernelManager.default_kernel_name of the Jupyter server"
        yield Note(about, "spec.defaultKernel", why)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
