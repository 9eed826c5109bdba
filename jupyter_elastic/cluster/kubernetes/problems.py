"""What the Kubernetes API refuses, as errors a user can act on. Pure: no IO, no clock.

The API tells in prose what quota, RBAC or admission did not like; the wording is stable for many
releases but not promised. What is not recognised keeps the API's own sentence.

Every error that :func:`explain` makes has the API's answer as its ``__cause__``, an
:class:`.ApiError`, for code that must look closer (:func:`.api_error`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from ... import errors
from ...errors import ElasticError
from ...podoptions import GROUP
from ...resources import parse_cpu, parse_memory, show_memory
from .answers import (
    ApiBusy,
    ApiConflict,
    ApiError,
    ApiNotFound,
    ApiQuotaFull,
    ResourceExpired,
    Unauthorized,
    api_error,
)
from .target import Target

__all__ = [
    "ApiBusy",
    "ApiConflict",
    "ApiError",
    "ApiNotFound",
    "ApiQuotaFull",
    "ResourceExpired",
    "Unauthorized",
    "api_error",
    "explain",
    "number",
]


def explain(
    code: int,
    status_object: Mapping[str, Any],
    verb: str,
    resource: str,
    name: str = "",
    *,
    group: str = "",
    namespace: str = "",
    retry_after: float | None = None,
    exists: type[ElasticError] | None = None,
) -> ElasticError:
    """The error of an answer other than success.

    Parameters
    ----------
    code
        HTTP status.
    status_object
        The API's ``Status``; ``{"message": text}`` when it sent something else.
    verb, resource, name, group, namespace
        As in :class:`.Target`.
    retry_after
        Seconds of the ``Retry-After`` header.
    exists
        The class to use when an object of this name exists; :class:`ApiConflict` when left out.
    """
    message = " ".join(str(status_object.get("message") or "").split())
    status_reason = str(status_object.get("reason") or "")
    details = status_object.get("details")
    details = details if isinstance(details, Mapping) else {}
    if not name and code in (409, 422):
        name = str(details.get("name") or "")
    asked = Target(verb=verb, resource=resource, group=group, namespace=namespace, name=name)
    answer = ApiError(
        _ended(
            f"The Kubernetes API answered {code} to {verb} {_shown(asked)}:"
            f" {message or '(no text)'}"
        ),
        code=code,
        status_reason=status_reason,
        details=details,
        retry_after=retry_after if retry_after is not None else _retry_after(details),
    )
    found = _classify(answer, message, asked, exists)
    if found is not answer:
        found.__cause__ = answer
    return found


def _classify(
    answer: ApiError, message: str, asked: Target, exists: type[ElasticError] | None
) -> ElasticError:
    code, reason = answer.code, answer.status_reason
    if code == 401:
        return Unauthorized("The Kubernetes API does not accept this server's credentials.")
    if code in (400, 403, 422) and (policy := _policy(message, asked)) is not None:
        return policy
    if code in (403, 422) and (limits := _limit_range(message)) is not None:
        return limits
    if code == 403:
        return _forbidden(answer, message, asked)
    if code == 404:
        return _not_found(answer, message, asked)
    if code == 409:
        taken = reason == "AlreadyExists"
        text = f"{_shown(asked)} exists already." if taken else f"Somebody changed {_shown(asked)}."
        if taken and exists is not None:
            return exists(text)
        conflict = ApiConflict(text)
        conflict.exists = taken
        return conflict
    if code == 410 or reason in ("Expired", "Gone"):
        return _again(ResourceExpired, answer)
    if code == 422:
        return _invalid(answer, message, asked)
    if code == 429 or code >= 500:
        return _again(ApiBusy, answer)
    return answer


def _again(kind: type[ApiError], answer: ApiError) -> ApiError:
    """The same answer under another class."""
    return kind(
        answer.message,
        code=answer.code,
        status_reason=answer.status_reason,
        details=answer.details,
        retry_after=answer.retry_after,
    )


# -- 403 and other refusals ----------------------------------------------------------------

_RBAC = re.compile(
    r'User "(?P<user>[^"]*)" cannot (?P<verb>\S+) '
    r'(?:resource "(?P<resource>[^"]+)" in API group "(?P<group>[^"]*)"'
    r'(?: in the namespace "(?P<namespace>[^"]*)")?|path "(?P<path>[^"]*)")'
)
_QUOTA = re.compile(
    r"exceeded quota: (?P<name>[^\s,]+), requested: (?P<requested>\S*), "
    r"used: (?P<used>\S*), limited: (?P<limited>[^\s\]]*)"
)


def _forbidden(answer: ApiError, message: str, asked: Target) -> ElasticError:
    if (quota := _quota(message, asked)) is not None:
        return quota
    if (found := _RBAC.search(message)) is not None:
        return _rbac(found, asked)
    if "because it is being terminated" in message:
        return errors.Forbidden(
            f"Namespace {asked.namespace} is being deleted; nothing new can start in it.",
            "Use another namespace.",
        )
    if answer.status_reason in ("Forbidden", "") and not answer.details:
        # A proxy in front of the API, or an authorizer that says no more.
        return errors.Forbidden(
            _ended(
                f"This server may not {asked.verb} {_shown(asked)}: {message or 'no reason given'}"
            ),
            f"Ask an administrator for the verb `{asked.verb}` on `{_rule(asked)}`.",
        )
    return errors.Forbidden(
        _ended(f"Kubernetes refuses to {asked.verb} {_shown(asked)}: {_inner(message)}"),
        "Correct the template or the request, or show this message to an administrator.",
    )


def _rbac(found: re.Match[str], asked: Target) -> ElasticError:
    if found["path"] is not None:
        what = f"path {found['path']}"
        rule, where = f"nonResourceURLs: {found['path']}", "at cluster scope"
    else:
        seen = msgspec.structs.replace(asked, resource=found["resource"], group=found["group"])
        what, rule = found["resource"], _rule(seen)
        space = found["namespace"]
        where = f"in namespace {space}" if space else "at cluster scope"
    verb, role = found["verb"], "Role" if where.startswith("in ") else "ClusterRole"
    return errors.Forbidden(
        f"This server may not {verb} {what} {where}: the cluster knows it as {found['user']}.",
        f"Ask an administrator for the verb `{verb}` on `{rule}` in a {role} bound to it;"
        " `jupyter elastic crds --rbac` prints the roles needed.",
    )


def _quota(message: str, asked: Target) -> ElasticError | None:
    where = f" of namespace {asked.namespace}" if asked.namespace else ""
    if (found := _QUOTA.search(message)) is not None:
        requested, used, limited = (
            _amounts(found[part]) for part in ("requested", "used", "limited")
        )
        more = " more" if asked.verb in ("patch", "update") else ""
        figures = "; ".join(
            f"{_label(key)}: {_show(key, amount)}{more} asked,"
            f" {_show(key, used.get(key, '0'))} of {_show(key, limited.get(key, '0'))} taken"
            for key, amount in requested.items()
        )
        text = f'Quota "{found["name"]}"{where} has no room. {figures}.'
        if asked.verb == "create" and any(key.endswith("memory") for key in requested):
            text += " Memory includes the agent's share."
        full = ApiQuotaFull(text)
        full.quota, full.requested = found["name"], requested
        full.used, full.limited = used, limited
        full.lacking = {
            key: number(key, amount) + number(key, used.get(key, "0")) - number(key, limited[key])
            for key, amount in requested.items()
            if key in limited
        }
        full.is_hopeless = any(
            number(key, amount) > number(key, limited.get(key, amount))
            for key, amount in requested.items()
        )
        return full
    if (lacking := re.search(r"insufficient quota to (?:consume|match[^:]*): (.+)", message)) or (
        "insufficient quota" in message
    ):
        what = lacking[1] if lacking else _inner(message)
        none = ApiQuotaFull(
            f"No quota{where} gives room for {what}; the cluster demands one for it.",
            "Ask an administrator for a ResourceQuota that covers it.",
        )
        none.is_hopeless = True
        return none
    if must := re.search(r"failed quota: ([^\s:,]+): (must specify .+)", message):
        return errors.InvalidObject(
            f'Quota "{must[1]}"{where} demands what the pod does not have: {must[2]}.',
            "Correct the template, or give the namespace a LimitRange with defaults.",
        )
    if new := re.search(r"status unknown for quota: ([^\s:,]+)", message):
        return ApiBusy(
            f'Quota "{new[1]}"{where} is new and has not been counted yet.',
            "Try again in a moment.",
            code=403,
        )
    return None


_BOUND = re.compile(
    r"(?P<end>maximum|minimum) (?P<resource>\S+) usage per (?P<kind>\w+) is (?P<bound>[^\s,\]]+)"
    r"(?:,? but (?P<what>request|limit) is (?P<asked>[^\s,\]]+)|\s+No (?P<none>request|limit) is)?"
)
_RATIO = re.compile(
    r"(?P<resource>\S+) max limit to request ratio per (?P<kind>\w+) is (?P<bound>[^\s,\]]+),"
    r" but (?:provided ratio is (?P<asked>[0-9.]+)|(?P<none>no \w+ is specified))"
)


def _limit_range(message: str) -> ElasticError | None:
    sentences = []
    for found in _BOUND.finditer(message):
        resource, kind = found["resource"], found["kind"].lower()
        word = "at most" if found["end"] == "maximum" else "at least"
        bound = _show(resource, found["bound"].rstrip("."))
        if found["none"]:
            asked = f"no {found['none']} is set"
        else:
            asked = f"{_show(resource, found['asked'] or '')} is the {found['what']} asked"
        of = "" if resource == "cpu" else "of "
        sentences.append(f"{word} {bound} {of}{_label(resource)} per {kind}, and {asked}")
    for found in _RATIO.finditer(message):
        asked = f"{float(found['asked']):g} is asked" if found["asked"] else str(found["none"])
        sentences.append(
            f"a limit at most {found['bound']} times the request of"
            f" {_label(found['resource'].lstrip('['))} per {found['kind'].lower()}, and {asked}"
        )
    if not sentences:
        return None
    return errors.LimitRangeRefused(
        f"The namespace's LimitRange allows {'; '.join(sentences)} (the agent's share included)."
    )


def _policy(message: str, asked: Target) -> ElasticError | None:
    if found := re.search(r'violates PodSecurity "([^"]+)": (.+)', message):
        return errors.PodSecurityRefused(
            f'The namespace\'s Pod Security level "{found[1]}" refuses the pod: {found[2]}.'
        )
    found = re.search(
        r"(?:admission webhook|ValidatingAdmissionPolicy) ['\"]([^'\"]+)['\"].*? denied"
        r"(?: the)? request:? (.+)",
        message,
    )
    if found is not None:
        return errors.Forbidden(
            _ended(
                f'The cluster\'s policy "{found[1]}" refuses to {asked.verb} {_shown(asked)}:'
                f" {found[2]}"
            ),
            "Correct the template or the request, or ask whoever keeps that policy.",
        )
    return None


# -- 404 and 422 ---------------------------------------------------------------------------


def _not_found(answer: ApiError, message: str, asked: Target) -> ElasticError:
    kind, name = str(answer.details.get("kind") or ""), str(answer.details.get("name") or "")
    if kind == "namespaces" and not asked.resource.startswith("namespaces"):
        return ApiNotFound(
            f"Namespace {name} does not exist.", "Create it, or configure another namespace."
        )
    if not name:
        # No object is missing but the resource itself: the path leads nowhere.
        if asked.group == GROUP:
            return errors.CrdsMissing(
                f"This cluster does not know {asked.resource.partition('/')[0]}.{GROUP}: the"
                " resource definitions of jupyter_elastic are not installed."
            )
        if asked.resource == "pods/resize":
            return errors.ResizeUnsupported(
                "This cluster cannot change a pod while it runs: it does not know pods/resize.",
                "Start a kernel with that size, or let this one get another pod.",
            )
        if asked.name == "" or "/" in asked.resource:
            return ApiNotFound(
                _ended(f"This cluster has no {_rule(asked)}: {message or 'not found'}"),
                "It may be too old or lack an extension; ask whoever runs it.",
            )
    whole = msgspec.structs.replace(asked, resource=asked.resource.partition("/")[0])
    return ApiNotFound(f"There is no {_shown(whole)}.")


def _invalid(answer: ApiError, message: str, asked: Target) -> ElasticError:
    found = answer.details.get("causes")
    causes = [one for one in found if isinstance(one, Mapping)] if isinstance(found, list) else []
    if any(one.get("field") == "metadata.uid" for one in causes):
        return ApiConflict(f"{_shown(asked)} was deleted; another one has its name now.")
    parts = [f"{one.get('field') or 'object'}: {one.get('message') or 'refused'}" for one in causes]
    what = "; ".join(dict.fromkeys(parts)) or _inner(message) or "no reason given"
    what = re.sub(r", regex used for validation is '.*?'\)", ")", what)
    error = errors.InvalidObject(_ended(f"Kubernetes does not accept {_shown(asked)}: {what}"))
    error.field = next((str(one["field"]) for one in causes if one.get("field")), None)
    return error


# -- words ---------------------------------------------------------------------------------


def _shown(asked: Target) -> str:
    """``pod abc``, ``pods/resize abc``, ``pods``: as in a sentence."""
    if not asked.name:
        return asked.resource
    one = asked.resource if "/" in asked.resource else asked.resource.removesuffix("s")
    return f"{one} {asked.name}"


def _rule(asked: Target) -> str:
    """The resource as a rule of a Role names it."""
    if not asked.group:
        return asked.resource
    resource, slash, sub = asked.resource.partition("/")
    return f"{resource}.{asked.group}{slash}{sub}"


def _ended(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else text + "."


def _inner(message: str) -> str:
    """The API's sentence without ``pods "x" is forbidden:``."""
    return re.sub(r'^\S+ "[^"]*" is (?:forbidden|invalid): ', "", message)


def _amounts(text: str) -> dict[str, str]:
    pairs = (part.partition("=") for part in text.split(",") if "=" in part)
    return {key: value for key, _, value in pairs}


def _label(resource: str) -> str:
    """A quota's name of a resource, as people say it."""
    kind, dot, rest = resource.partition(".")
    if dot and kind in ("requests", "limits"):
        words = {"cpu": "CPU", "memory": "memory"}
        if rest in words:
            return f"{words[rest]} {kind}"
        return rest
    if resource.startswith("count/"):
        return f"number of {resource.removeprefix('count/')}"
    return {"cpu": "CPU", "memory": "memory"}.get(resource, resource)


def _show(resource: str, quantity: str) -> str:
    """A quantity for a sentence: ``1.5``, ``2 GiB``; as it is where it cannot be read."""
    base = resource.removeprefix("requests.").removeprefix("limits.")
    try:
        if base == "cpu":
            return f"{parse_cpu(quantity) / 1000:g}"
        if base in ("memory", "storage", "ephemeral-storage"):
            return show_memory(parse_memory(quantity))
    except errors.BadQuantity:
        pass
    return quantity or "0"


def number(resource: str, quantity: str) -> int:
    """A quantity to be compared with others of its resource; 0 where it cannot be read."""
    try:
        return parse_cpu(quantity) if resource.endswith("cpu") else parse_memory(quantity)
    except errors.BadQuantity:
        return 0


def _retry_after(details: Mapping[str, Any]) -> float | None:
    seconds = details.get("retryAfterSeconds")
    return float(seconds) if isinstance(seconds, (int, float)) and seconds > 0 else None
