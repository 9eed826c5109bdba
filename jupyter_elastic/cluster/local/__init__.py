"""The local cluster: a pod is an agent and its processes on this machine.

Modules, each knowing only those before it: ``cgroups`` (limits), ``process`` (spawn, identity,
end), ``machine`` (how much there is), ``quota`` (pure accounting), ``state`` (the directory that
is the truth), ``birth`` (making a pod), ``fate`` (pure: what becomes of one), ``ledger`` (every
change, under the lock), ``cache``, ``keeper`` (looks after agents), ``watch``, ``cluster``.
"""

from __future__ import annotations

from .cluster import LocalCluster

__all__ = ["LocalCluster"]
