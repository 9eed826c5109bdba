"""What the roles that we ship allow, and what of it this server may not do."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import yaml

from .checks import Check

if TYPE_CHECKING:
    from ..cluster.kubernetes.api import KubeApi

REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
_LIGHT = {
    ("persistentvolumeclaims", ""): "needed only for templates with pod.ownerVolume.claimTemplate",
    ("configmaps", "jupyter-elastic-demand"): "without it what the pool has learnt of the demand is"
    " forgotten with whoever keeps the pool; all else works",
}
"""Resources, and names of objects, without which a server does its work all the same, and why."""


class Right(msgspec.Struct, frozen=True, order=True):
    """One verb on one resource, as RBAC names them."""

    group: str
    resource: str
    """With the subresource: ``pods/resize``."""
    verb: str
    name: str = ""
    """Of the one object that it is about; empty: of any."""

    @property
    def kind(self) -> str:
        """The resource without its subresource: ``pods``."""
        return self.resource.partition("/")[0]

    def __str__(self) -> str:
        """As a rule of a Role names it: ``patch pods/resize``."""
        resource, slash, sub = self.resource.partition("/")
        dot = f".{self.group}" if self.group else ""
        return f"{self.verb} {resource}{dot}{slash}{sub} {self.name}".rstrip()


def rights_of(manifests: str, role: str) -> list[Right]:
    """Everything that the Role of this name allows.

    Parameters
    ----------
    manifests
        YAML documents, such as :func:`~jupyter_elastic.cluster.kubernetes.shipped.roles` gives.
    """
    found: list[Right] = []
    for document in yaml.safe_load_all(manifests):
        if document["kind"] == "Role" and document["metadata"]["name"] == role:
            for rule in document["rules"]:
                found += _of_rule(rule)
    return found


def _of_rule(rule: dict[str, Any]) -> Iterator[Right]:
    for group in rule["apiGroups"]:
        for resource in rule["resources"]:
            for verb in rule["verbs"]:
                for name in rule.get("resourceNames") or [""]:
                    yield Right(group, resource, verb, name)


class _Status(msgspec.Struct, frozen=True):
    allowed: bool = False


class _Review(msgspec.Struct, frozen=True):
    status: _Status = _Status()


async def ask(api: KubeApi, rights: Sequence[Right]) -> list[Right]:
    """Those of ``rights`` that we do not have in the namespace.

    Every authenticated user may ask this.

    Raises
    ------
    ElasticError
        The API cannot be asked.
    """

    async def has(right: Right) -> bool:
        resource, _, sub = right.resource.partition("/")
        about = {
            "namespace": api.namespace,
            "group": right.group,
            "resource": resource,
            "subresource": sub,
            "verb": right.verb,
            "name": right.name,
        }
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": about},
        }
        answer = await api.request("POST", REVIEWS, body=body)
        return msgspec.json.decode(answer, type=_Review).status.allowed

    answers = await asyncio.gather(*map(has, rights))
    return [right for right, allowed in zip(rights, answers, strict=True) if not allowed]


def report(asked: Sequence[Right], lacking: Sequence[Right], role: str, namespace: str) -> Check:
    """What is missing of a role, by name."""
    if not lacking:
        return Check("rights", "ok", f"all {len(asked)} of the role {role}")
    grave = [right for right in lacking if not _why_light(right)]
    shown = ", ".join(map(str, grave or lacking))
    message = f"Of the role {role}, this is not allowed in namespace {namespace}: {shown}."
    if not grave:
        why = "; ".join(sorted({f"{one.kind}: {_why_light(one)}" for one in lacking}))
        return Check("rights", "note", f"{message} ({why})", _remedy(role, namespace))
    return Check("rights", "broken", message, _remedy(role, namespace))


def _why_light(right: Right) -> str:
    """Why one can do without a right; empty: one cannot."""
    return _LIGHT.get((right.kind, right.name), "")


def _remedy(role: str, namespace: str) -> str:
    return (
        f"jupyter elastic crds --rbac --namespace {namespace} | kubectl apply -f -  and bind the"
        f" role {role} to whom this server runs as."
    )
