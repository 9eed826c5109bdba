"""How a template's pods are made on Kubernetes, as far as only its admin may say. Plain data.

What Kubernetes defines and we only pass on (affinity, tolerations, volumes ...) stays the JSON of
the Kubernetes API. Checked by :mod:`jupyter_elastic.templates.podoptions`; users reach none of it.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

GROUP = "elastic.jupyter.org"
"""The API group of our own resources; labels and annotations of ours begin with it."""
API_VERSION = f"{GROUP}/v1alpha1"

PullPolicy = Literal["Always", "IfNotPresent", "Never"]


class GpuNode(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What stands for a kind of GPU in this cluster."""

    resource: str
    """The extended resource, such as ``nvidia.com/gpu``."""
    node_selector: dict[str, str] = {}
    """Labels of the nodes that have this kind, besides those of the pod."""


class OwnerVolume(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A volume for the kernel's owner.

    ``{owner}`` in ``claim`` and ``sub_path`` stands for the owner in the letters of a name.
    Exactly one of ``claim`` and ``claim_template`` is given.
    """

    mount_path: str
    claim: str | None = None
    """The name of a PersistentVolumeClaim."""
    claim_template: dict[str, Any] | None = None
    """The spec of a PersistentVolumeClaim that is made for each owner once, and kept."""
    sub_path: str = ""


class PodOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``kubernetes`` of a template, ``spec.pod`` of a KernelTemplate object."""

    node_selector: dict[str, str] = {}
    tolerations: tuple[dict[str, Any], ...] = ()
    affinity: dict[str, Any] = {}
    topology_spread: tuple[dict[str, Any], ...] = ()
    priority_class: str = ""
    """Of warm and claimed pods alike: a pod's priority cannot change later."""
    image_pull_secrets: tuple[str, ...] = ()
    """Names of Secrets."""
    image_pull_policy: PullPolicy | None = None
    runtime_class: str = ""
    service_account: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    volumes: tuple[dict[str, Any], ...] = ()
    volume_mounts: tuple[dict[str, Any], ...] = ()
    """Each names one of ``volumes``."""
    security_context: dict[str, Any] = {}
    """Of the pod, over our defaults."""
    run_as_user: int | None = None
    run_as_group: int | None = None
    fs_group: int | None = None
    gpus: dict[str, GpuNode] = {}
    """By kind; a kind that is not here is itself the name of an extended resource."""
    owner_volume: OwnerVolume | None = None
    root_dir: str | None = None
    """Where the pods see the directory that is the Jupyter server's root."""
