"""``kubernetes`` of a template, checked, and back to plain JSON.

What our own code reads is checked to the letter; what only Kubernetes reads (affinity, the kinds
of volumes ...) is checked in shape, and by the API server when a pod is made.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from ..podoptions import GpuNode, OwnerVolume, PodOptions
from .fields import Fields, kind_of

OWNER = "{owner}"
OUR_PREFIX = "elastic.jupyter.org/"
OUR_VOLUMES = "elastic-"
_OURS = "app.kubernetes.io/managed-by"
_LABEL_KEY = re.compile(
    r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-\w.]{0,61}[A-Za-z0-9])?", re.ASCII
)
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-\w.]{0,61}[A-Za-z0-9])?)?", re.ASCII)
_OBJECT_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?", re.ASCII)
_VOLUME_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", re.ASCII)
_RESOURCE = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/[A-Za-z0-9][-\w.]{0,62}", re.ASCII)
_POLICIES: Mapping[str, Any] = {policy: policy for policy in ("Always", "IfNotPresent", "Never")}
_LARGEST_ID = 2**31 - 1
_SIZE_LIMIT = 128 * 1024
"""Bytes of JSON of everything; each pod carries it."""


def parse_pod_options(parent: Fields) -> PodOptions | None:
    """The field ``kubernetes`` of a template; None when it says nothing.

    Raises
    ------
    BadTemplate
        With the path of the first wrong field.
    """
    if not parent.has("kubernetes"):
        return None
    fields = parent.inside("kubernetes", parent.get("kubernetes"), PodOptions.__struct_fields__)
    policy = fields.text("image_pull_policy")
    if policy and policy not in _POLICIES:
        what = f"must be one of {', '.join(_POLICIES)}, not {policy[:60]!r}"
        raise fields.error("image_pull_policy", what)
    volumes = _volumes(fields)
    options = PodOptions(
        node_selector=_labels(fields, "node_selector"),
        tolerations=_objects(fields, "tolerations"),
        affinity=_object(fields, "affinity"),
        topology_spread=_objects(fields, "topology_spread"),
        priority_class=_name(fields, "priority_class"),
        image_pull_secrets=_secrets(fields),
        image_pull_policy=_POLICIES.get(policy),
        runtime_class=_name(fields, "runtime_class"),
        service_account=_name(fields, "service_account"),
        labels=_not_ours(fields, "labels", _labels),
        annotations=_not_ours(fields, "annotations", _annotations),
        volumes=volumes,
        volume_mounts=_mounts(fields, {volume["name"] for volume in volumes}),
        security_context=_object(fields, "security_context"),
        run_as_user=_id(fields, "run_as_user"),
        run_as_group=_id(fields, "run_as_group"),
        fs_group=_id(fields, "fs_group"),
        gpus=_gpus(fields),
        owner_volume=_owner_volume(fields),
        root_dir=_root_dir(fields),
    )
    size = len(msgspec.json.encode(options))
    if size > _SIZE_LIMIT:
        what = f"has {size} bytes as JSON, at most {_SIZE_LIMIT} are allowed"
        raise parent.error("kubernetes", what)
    return None if options == PodOptions() else options


def dump_pod_options(options: PodOptions | None) -> dict[str, Any] | None:
    """The options as plain JSON from which :func:`parse_pod_options` makes equal ones."""
    if options is None:
        return None
    # Through JSON and back: the options share nothing with what a caller may change.
    data: dict[str, Any] = json.loads(msgspec.json.encode(options))
    if options.root_dir is not None:
        data["root_dir"] = {"mount_path": options.root_dir}
    data = _without_empty(data)
    for key in ("gpus", "owner_volume"):
        if key in data:
            data[key] = _without_empty(data[key])
    for kind, node in data.get("gpus", {}).items():
        data["gpus"][kind] = _without_empty(node)
    return data


def _without_empty(data: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in data.items() if value not in (None, "", [], {})}


# -- JSON that Kubernetes reads ----------------------------------------------------------------


def _plain(fields: Fields, key: str, value: object) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise fields.error(key, f"must be a mapping, not {kind_of(value)}")
    try:
        plain: dict[str, Any] = json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError, RecursionError):
        raise fields.error(key, "must be made of what JSON can say") from None
    return plain


def _object(fields: Fields, key: str) -> dict[str, Any]:
    return _plain(fields, key, fields.get(key)) if fields.has(key) else {}


def _list(fields: Fields, key: str) -> list[Any] | tuple[Any, ...]:
    value = fields.get(key)
    if value is None:
        return ()
    if not isinstance(value, (list, tuple)):
        raise fields.error(key, f"must be a list, not {kind_of(value)}")
    return value


def _objects(fields: Fields, key: str) -> tuple[dict[str, Any], ...]:
    items = _list(fields, key)
    return tuple(_plain(fields, f"{key}[{i}]", item) for i, item in enumerate(items))


# -- names, labels, numbers --------------------------------------------------------------------


def _matching(fields: Fields, key: str, value: object, pattern: re.Pattern[str], what: str) -> str:
    if not isinstance(value, str):
        raise fields.error(key, f"must be a string, not {kind_of(value)}")
    if not pattern.fullmatch(value):
        raise fields.error(key, f"{value[:80]!r} is not {what}")
    return value


def _name(fields: Fields, key: str) -> str:
    if not fields.text(key):
        return ""
    return _matching(fields, key, fields.get(key), _OBJECT_NAME, "the name of an object")


def _mapping(fields: Fields, key: str) -> Mapping[str, Any]:
    """A mapping whose keys can be those of labels and annotations."""
    value = fields.get(key)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise fields.error(key, f"must be a mapping of strings, not {kind_of(value)}")
    for name in value:
        _matching(fields, key, name, _LABEL_KEY, "a name that Kubernetes can have here")
    return value


def _labels(fields: Fields, key: str) -> dict[str, str]:
    what = "a label's value: up to 63 letters, digits and -_."
    return {
        name: _matching(fields, f"{key}.{name}", value, _LABEL_VALUE, what)
        for name, value in _mapping(fields, key).items()
    }


def _annotations(fields: Fields, key: str) -> dict[str, str]:
    anything = re.compile(r"[^\0]*")
    return {
        name: _matching(fields, f"{key}.{name}", value, anything, "text")
        for name, value in _mapping(fields, key).items()
    }


def _not_ours(
    fields: Fields, key: str, parse: Callable[[Fields, str], dict[str, str]]
) -> dict[str, str]:
    found = parse(fields, key)
    for name in found:
        if name == _OURS or name.startswith(OUR_PREFIX):
            what = "is set by jupyter_elastic itself"
            raise fields.error(f"{key}.{name}", what, "Choose another name.")
    return found


def _id(fields: Fields, key: str) -> int | None:
    return fields.whole(key, 0, _LARGEST_ID) if fields.has(key) else None


def _secrets(fields: Fields) -> tuple[str, ...]:
    """Names, plain or as a pod has them: ``{name: ...}``."""
    names = []
    for i, item in enumerate(_list(fields, "image_pull_secrets")):
        at = f"image_pull_secrets[{i}]"
        if isinstance(item, Mapping):
            item = fields.inside(at, item, ("name",)).get("name")
        names.append(_matching(fields, at, item, _OBJECT_NAME, "the name of a Secret"))
    return tuple(names)


# -- volumes -----------------------------------------------------------------------------------


def _volumes(fields: Fields) -> tuple[dict[str, Any], ...]:
    volumes = _objects(fields, "volumes")
    names = set()
    for i, volume in enumerate(volumes):
        at = f"volumes[{i}].name"
        name = _matching(fields, at, volume.get("name"), _VOLUME_NAME, "a volume's name")
        if name in names:
            raise fields.error(at, f"there is another volume {name!r} already")
        if name.startswith(OUR_VOLUMES):
            what = f"{name!r} begins as those that jupyter_elastic adds: {OUR_VOLUMES}"
            raise fields.error(at, what, "Choose another name.")
        names.add(name)
    return volumes


def _mounts(fields: Fields, volumes: set[str]) -> tuple[dict[str, Any], ...]:
    mounts = _objects(fields, "volume_mounts")
    for i, mount in enumerate(mounts):
        at = f"volume_mounts[{i}]"
        name = _matching(fields, f"{at}.name", mount.get("name"), _VOLUME_NAME, "a volume's name")
        if name not in volumes:
            raise fields.error(f"{at}.name", f"there is no volume {name!r} in the list of volumes")
        _absolute(fields, f"{at}.mountPath", mount.get("mountPath"))
    return mounts


def _absolute(fields: Fields, key: str, value: object) -> str:
    what = "an absolute path without a colon"
    return _matching(fields, key, value, re.compile(r"/[^:\0]*"), what)


def _owner_volume(parent: Fields) -> OwnerVolume | None:
    if not parent.has("owner_volume"):
        return None
    keys = OwnerVolume.__struct_fields__
    fields = parent.inside("owner_volume", parent.get("owner_volume"), keys)
    claim, sub_path = fields.text("claim", longest=253), fields.text("sub_path", longest=1024)
    template = _object(fields, "claim_template") if fields.has("claim_template") else None
    if bool(claim) == (template is not None):
        raise fields.error("", "must have exactly one of claim and claim template")
    if claim:
        _matching(
            fields, "claim", claim.replace(OWNER, "x"), _OBJECT_NAME, f"a name, with {OWNER} in it"
        )
        if OWNER not in claim and OWNER not in sub_path:
            raise fields.error(
                "claim",
                f"neither it nor the sub-path has {OWNER} in it",
                "Use volumes and their mounts for what all owners share.",
            )
    if sub_path.startswith("/") or ".." in sub_path.split("/"):
        raise fields.error("sub_path", f"{sub_path[:80]!r} must be a relative path without '..'")
    return OwnerVolume(
        mount_path=_absolute(fields, "mount_path", fields.get("mount_path")),
        claim=claim or None,
        claim_template=template,
        sub_path=sub_path,
    )


def _root_dir(parent: Fields) -> str | None:
    if not parent.has("root_dir"):
        return None
    fields = parent.inside("root_dir", parent.get("root_dir"), ("mount_path",))
    return _absolute(fields, "mount_path", fields.get("mount_path"))


# -- GPUs --------------------------------------------------------------------------------------


def _gpus(parent: Fields) -> dict[str, GpuNode]:
    data = parent.get("gpus")
    if data is None:
        return {}
    if not isinstance(data, Mapping):
        raise parent.error("gpus", f"must be a mapping of kinds, not {kind_of(data)}")
    gpus = {}
    for kind, node in data.items():
        if not isinstance(kind, str) or not kind.strip() or len(kind) > 128:
            raise parent.error("gpus", f"{str(kind)[:60]!r} is no kind of GPU")
        fields = parent.inside(f"gpus.{kind}", node, GpuNode.__struct_fields__)
        resource = _matching(
            fields,
            "resource",
            fields.get("resource"),
            _RESOURCE,
            "the name of an extended resource such as nvidia.com/gpu",
        )
        gpus[kind] = GpuNode(resource, _labels(fields, "node_selector"))
    return gpus
