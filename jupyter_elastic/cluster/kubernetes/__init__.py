"""The Kubernetes adapter: pods of a namespace, records as its objects."""

from __future__ import annotations

from .cluster import KubernetesCluster

__all__ = ["KubernetesCluster"]
