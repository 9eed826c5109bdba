"""What kubelet, registry and scheduler say when a pod does not come up, as errors for users.

They say it in prose; what is recognised here was collected from real clusters (see
``tests/kubernetes/unit/data``). What is not recognised is quoted, shortened.
"""

from __future__ import annotations

import re

import msgspec

from ...errors import (
    BadInterpreter,
    ElasticError,
    ImageForbidden,
    ImageNotFound,
    PodFailed,
    Unschedulable,
)
from ...resources import show_memory
from . import wording
from .ending import explain_exit, explain_start
from .facts import amounts, container, image
from .objects import PodObject, Terminated

TELLING = frozenset(
    {
        "FailedMount",
        "FailedAttachVolume",
        "FailedCreatePodSandBox",
        "Failed",
        "SuccessfulAttachVolume",
        "Pulling",
        "Pulled",
        "Created",
        "Started",
    }
)
"""Reasons of events that say how far a pod has come on its node."""

AGENT_MAP = "jupyter-elastic-agent-"
"""How the names of config maps with the agent begin."""

_UNREACHABLE = re.compile(
    r"no such host|dial (?:tcp|udp)|i/o timeout|connection (?:refused|reset)|TLS handshake"
    r"|network is unreachable|x509|deadline exceeded|server misbehaving|unexpected EOF"
    r"|temporarily unavailable|toomanyrequests|\b(?:50[0234]|429)\b",
    re.IGNORECASE,
)
_PLATFORM = re.compile(r"no match for platform|no matching manifest", re.IGNORECASE)
_FORBIDDEN = re.compile(
    r"unauthorized|\b40[13]\b|forbidden|denied|authentication|no basic auth|authorization failed"
    r"|insufficient_scope",
    re.IGNORECASE,
)
_ABSENT = re.compile(
    r"not found|NotFound|manifest unknown|name unknown|does not exist|not present|no such image",
    re.IGNORECASE,
)
_CONFIG = re.compile(
    r"(?P<kind>secret|configmap) \"(?P<name>[\w.-]+)\" not found|"
    r"couldn't find key (?P<key>[\w.-]+) in (?P<where>Secret|ConfigMap) [\w.-]+/(?P<in>[\w.-]+)|"
    r"references non-existent (?P<kind2>secret|config) key: (?P<key2>[\w.-]+)",
    re.IGNORECASE,
)
_ROOT = re.compile(r"runAsNonRoot and image|run as root|non-numeric user", re.IGNORECASE)
_IMAGE = frozenset(
    {
        "ErrImagePull",
        "ImagePullBackOff",
        "ErrImageNeverPull",
        "InvalidImageName",
        "ImageInspectError",
        "RegistryUnavailable",
        "SignatureValidationFailed",
    }
)
_NODES = re.compile(r"(\d+) (.+?)(?=, \d+ |\.(?:\s|$)|$)")
_NOT_HELPFUL = re.compile(
    r"preemption: 0/(\d+) nodes are available: (\d+) Preemption is not helpful"
)
_UNBOUND = re.compile("unbound immediate persistentvolumeclaims", re.IGNORECASE)
_CLAIM = re.compile(r'persistentvolumeclaim "([\w.-]+)" not found', re.IGNORECASE)
_TAINT = re.compile(r"\{([^}:=\s]+)")
_CAUSES = (
    (re.compile(r"Insufficient ([\w./-]+)"), "without enough"),
    (re.compile(r"Too many pods", re.IGNORECASE), "with as many pods as it may have"),
    (re.compile(r"untolerated taint"), "closed by a taint"),
    (re.compile(r"node affinity|node selector|affinity/selector"), "of another kind"),
    (re.compile(r"unschedulable"), "closed for new pods"),
    (re.compile(r"topology spread"), "with too many such pods"),
    (re.compile(r"volume"), "that cannot have the pod's volumes"),
)
"""In a list of nodes: "2 closed for new pods"."""


class Obstacle(msgspec.Struct, frozen=True):
    """What is in the way; ``certain``: waiting cannot help."""

    error: ElasticError
    certain: bool
    patience: float = 60.0


def of_container(obj: PodObject, reason: str, said: str, warnings: list[str]) -> Obstacle | None:
    """What a container waits for, by the kubelet's reason and message.

    ``warnings`` are the messages of events, latest first: a back-off hides the cause that they
    still have.
    """
    if reason in _IMAGE:
        return _image(obj, reason, _with_cause(said, warnings))
    if reason == "CreateContainerConfigError":
        return _config(obj, said)
    if reason in ("RunContainerError", "CreateContainerError", "StartError"):
        return _start(obj, said)
    if reason == "CrashLoopBackOff":
        ended = container(obj).last_state.terminated
        error = explain_exit(obj, ended or Terminated(exit_code=1, message=""))
        return Obstacle(error, True)
    return None


def of_event(obj: PodObject, reason: str, said: str) -> Obstacle | None:
    """What keeps a pod on its node from having its container made."""
    if reason in ("FailedMount", "FailedAttachVolume"):
        if missing := _CONFIG.search(said):
            return _missing(obj, missing)
        error = PodFailed(
            f"A volume of the pod cannot be mounted: {wording.innermost(said, 200)}.",
            "Check the template's volumes.",
        )
        return Obstacle(error, False)
    if reason == "FailedCreatePodSandBox":
        return Obstacle(
            PodFailed(f"The node cannot make the pod's sandbox: {wording.innermost(said, 200)}."),
            False,
        )
    return None


def unschedulable(obj: PodObject, said: str, scaling: str = "") -> Unschedulable:
    """No node takes the pod, from the scheduler's count of causes.

    ``scaling`` is why a cluster that can add nodes does not.
    """
    said = said[:4000]
    total = re.search(r"\d+/(\d+) nodes", said)
    said = said.split("preemption:")[0].split("available:", 1)[-1].strip()
    if claim := _CLAIM.search(said):
        text = f"The persistent volume claim {claim[1]} does not exist in the pod's namespace."
        return Unschedulable(text, "Create it, or take it out of the template's volumes.")
    if _UNBOUND.search(said):
        text = "A persistent volume claim that the pod mounts has no volume."
        return Unschedulable(
            text, "See `kubectl get pvc`: its storage class may be missing, or out of room."
        )
    clauses, lacking = [], []
    for number, cause in _NODES.findall(said):
        for pattern, words in _CAUSES:
            if found := pattern.search(cause):
                if found.lastindex:
                    lacking.append(found[1])
                    words = f"{words} {_name(found[1])}"
                elif taint := _TAINT.search(cause):
                    words = f"closed by the taint {taint[1]}"
                clauses.append(f"{number} {words}")
                break
        else:
            clauses.append(f"{number} {wording.clip(cause, 80)}")
    needs = _needs(obj, lacking)
    text = (
        f"No node has room for the pod, which needs {needs}" if needs else "No node takes the pod"
    )
    if clauses:
        text += f" (of {total[1]} nodes: " if total else " ("
        text += ", ".join(clauses) + ")"
    elif said:
        text += f" ({wording.clip(said)})"
    remedy = ""
    if scaling:
        text += ", and the cluster does not add one"
    if any("gpu" in name for name in lacking):
        remedy = "Ask for fewer GPUs or none, or wait until one is free."
    elif clauses and not lacking:
        remedy = "Check the template's node selector, tolerations and volumes."
    return Unschedulable(text + ".", remedy)


def fits_no_node(said: str) -> bool:
    """Whether no node would take the pod even if other pods made room for it."""
    found = _NOT_HELPFUL.search(said[:4000])
    return found is not None and found[1] == found[2]


def told(step: str, said: str) -> str:
    """An event's message as the sentence of a step."""
    if step == "node-coming":
        return "The cluster adds a node for the pod."
    if step == "image-pulling":
        name = re.search(r'image "([^"]+)"', said)
        return f"Pulling the image {name[1]}." if name else "Pulling the image."
    if "already present" in said:
        return "The node has the image already."
    took = re.search(r" in ([\d.]+)(m?s)\b", said)
    size = re.search(r"Image size: (\d+) bytes", said)
    text = "The image is pulled"
    if took:
        span = float(took[1]) / (1000 if took[2] == "ms" else 1)
        text += f" ({span:.1f} s"
        text += f", {show_memory(int(size[1]))})" if size else ")"
    return text + "."


# -- images ----------------------------------------------------------------------------------


def _image(obj: PodObject, reason: str, said: str) -> Obstacle:
    name = image(obj)
    # Names of images may hold any of the words that are looked for.
    said = re.sub(r'"[^"]*"', "", said).replace(name, "the image")
    error: PodFailed
    if reason == "InvalidImageName":
        return Obstacle(ImageNotFound(f"The image's name {name!r} cannot be read."), True)
    if reason == "ErrImageNeverPull":
        error = ImageNotFound(
            f"The node does not have the image {name}, and may not pull it.",
            "Load it on the nodes, or change the template's image_pull_policy.",
        )
        return Obstacle(error, True)
    if reason == "SignatureValidationFailed":
        error = ImageForbidden(
            f"The signature of the image {name} is not accepted.", "Use a signed image."
        )
        return Obstacle(error, True)
    if _PLATFORM.search(said):
        return Obstacle(
            ImageNotFound(
                f"The image {name} does not exist for the architecture of the pod's node.",
                "Build it for that architecture, or choose nodes of another by the template.",
            ),
            True,
        )
    if _UNREACHABLE.search(said):
        error = PodFailed(
            f"The registry of the image {name} does not answer as it should: "
            f"{wording.innermost(said)}.",
            "It is tried again by itself; check the registry if it stays so.",
        )
        return Obstacle(error, False, 120)
    if _FORBIDDEN.search(said):
        text = f"The registry does not let this cluster pull the image {name}"
        if "does not exist" in said:  # registries do not tell strangers which
            text += ", or has no such image"
        return Obstacle(ImageForbidden(text + "."), True)
    if _ABSENT.search(said):
        return Obstacle(ImageNotFound(f"The registry has no image {name}."), True)
    quoted = wording.innermost(said)
    text = f"The image {name} cannot be pulled" + (f": {quoted}." if quoted else ".")
    return Obstacle(PodFailed(text, "It is tried again by itself."), False, 120)


def _with_cause(said: str, warnings: list[str]) -> str:
    """A back-off's message alone tells nothing; the failed pull before it does."""
    if ": " in said.removeprefix("Back-off pulling image"):
        return said
    return next((text for text in warnings if text.startswith("Failed to pull")), said)


# -- containers ------------------------------------------------------------------------------


def _config(obj: PodObject, said: str) -> Obstacle:
    if missing := _CONFIG.search(said):
        return _missing(obj, missing)
    if _ROOT.search(said):
        error = PodFailed(
            f"The image {image(obj)} runs as root, which kernels may not.",
            "Give the template run_as_user, or build the image with a numeric USER.",
        )
        return Obstacle(error, True)
    return Obstacle(PodFailed(f"The container cannot be made: {wording.clip(said)}."), False)


def _missing(obj: PodObject, found: re.Match[str]) -> Obstacle:
    kind = (found["kind"] or found["where"] or found["kind2"] or "").lower()
    kind = "secret" if kind == "secret" else "config map"
    name, key = found["name"] or found["in"], found["key"] or found["key2"]
    if name == obj.metadata.name or (name or "").startswith(AGENT_MAP):
        # Ours, and made in the same moments as the pod.
        error = PodFailed(
            f"The pod waits for its {kind} {name}.",
            "If that does not appear, whoever made the pod was interrupted: start again.",
        )
        return Obstacle(error, False, 30)
    what = f"The {kind} {name}" if name else f"A {kind}"
    text = f"{what} has no key {key}" if key else f"{what} does not exist in the pod's namespace"
    error = PodFailed(
        f"{text}.", "Create it, or take it out of the template's environment and volumes."
    )
    return Obstacle(error, True)


def _start(obj: PodObject, said: str) -> Obstacle:
    error = explain_start(obj, said)
    return Obstacle(error, isinstance(error, BadInterpreter), 30)


# -- nodes -----------------------------------------------------------------------------------


def _name(resource: str) -> str:
    return {"cpu": "CPU", "ephemeral-storage": "disk space"}.get(resource, resource)


def _needs(obj: PodObject, lacking: list[str]) -> str:
    requests = amounts(obj).requests
    parts = []
    for name in dict.fromkeys(lacking):
        if name == "cpu":
            amount = wording.read_cpu(requests.get(name))
        else:
            amount = wording.read_memory(requests.get(name))
        if amount:
            parts.append(wording.show(name, amount))
    return " and ".join(parts)
