"""Figures for Prometheus, all of them; docs/metrics.md explains each.

They are in the process's own registry, so a Jupyter server shows them at ``/metrics`` beside its
own, and ``jupyter elastic controller`` likewise. What the cluster's records tell (pods, kernels,
starts, resizes) is told by whoever keeps the pool and by nobody else: then a sum over all processes
is right however many servers there are, and starts by clients without a server count too.
"""

from __future__ import annotations

from collections import Counter as Count
from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

from prometheus_client import REGISTRY, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from .cluster.base import Change, Cluster
from .model import UNLIMITED, Capacity, Kernel, KernelPhase, PodPhase

PREFIX = "jupyter_elastic_"
_STARTING = (KernelPhase.QUEUED, KernelPhase.STARTING, KernelPhase.MOVING)
_START_BUCKETS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2.5, 5, 10, 20, 45, 90, 180, 600)
_CLAIM_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1, 2.5, 5, 10)
_REASONS = 50
"""Reasons of failures that are told apart; records may say anything."""

KERNEL_STARTS = Counter(
    f"{PREFIX}kernel_starts",
    "Kernels that got a pod: a warm one or a cold one",
    ["template", "start"],
)
CLAIM_SECONDS = Histogram(
    f"{PREFIX}kernel_claim_seconds",
    "From the request to the claim of a warm pod",
    ["template"],
    buckets=_CLAIM_BUCKETS,
)
START_SECONDS = Histogram(
    f"{PREFIX}kernel_start_seconds",
    "From the request to a kernel that answers",
    ["template", "start"],
    buckets=_START_BUCKETS,
)
KERNEL_FAILURES = Counter(
    f"{PREFIX}kernel_failures", "Kernels that became Failed", ["template", "reason"]
)
RESIZES = Counter(f"{PREFIX}kernel_resizes", "Resizes of running kernels", ["outcome", "reason"])
POOL_CREATIONS = Counter(
    f"{PREFIX}pool_creations",
    "Warm pods asked for: created, refused for want of room, or failed",
    ["template", "outcome"],
)
POOL_DELETIONS = Counter(f"{PREFIX}pool_deletions", "Warm pods given back by the controller")
RECONCILE_SECONDS = Histogram(
    f"{PREFIX}pool_reconcile_seconds", "One look at the pool, with the creations that it led to"
)
RECONCILE_FAILURES = Counter(
    f"{PREFIX}pool_reconcile_failures", "Looks at the pool that failed, and were repeated"
)
LEADER_CHANGES = Counter(
    f"{PREFIX}pool_leader_changes", "How often this process began to keep the pool"
)


class Source(Protocol):
    """What is asked of a controller at a scrape."""

    cluster: Cluster
    lease: str
    capacity: Capacity | None
    owners_shown: int
    namespace: str
    """A label of its figures, where a process keeps several pools; else empty."""

    @property
    def leading(self) -> bool:
        """Whether it keeps the pool."""

    def targets(self) -> dict[str, int]:
        """Warm pods wanted, per template."""

    def pauses(self) -> dict[str, float]:
        """Seconds for which no pod of a template is made."""


class PoolCollector(Collector):
    """Reads the controllers of this process when it is scraped; nothing can be out of date."""

    def __init__(self) -> None:
        self._sources: dict[int, Source] = {}

    def add(self, source: Source) -> None:
        """Show this one. Idempotent."""
        self._sources[id(source)] = source

    def remove(self, source: Source) -> None:
        """Show it no more. Idempotent."""
        self._sources.pop(id(source), None)

    def collect(self) -> Iterable[Metric]:
        """See prometheus_client."""
        leader = _gauge(
            "pool_leader", "Whether this process keeps the pool (1) or not (0)", "lease"
        )
        pods = _gauge("pool_pods", "Pods, by phase", "template", "phase")
        target = _gauge("pool_target_pods", "Warm pods wanted", "template")
        pauses = _gauge("pool_paused_seconds", "For how long no pod is made, after failures or for "
                        "want of room", "template")  # fmt: skip
        kernels = _gauge("kernels", "Kernels, by phase", "template", "phase")
        owners = _gauge("owner_kernels", "Kernels of those who have most", "owner")
        cores = _gauge("quota_cores", "CPU of the quota: total and used", "state")
        memory = _gauge("quota_memory_bytes", "Memory of the quota: total and used", "state")
        gpus = _gauge("quota_gpus", "GPUs of the quota: total and used", "kind", "state")
        counts = _gauge("quota_objects", "Pods (and the like) of the quota: total and used", "kind",
                        "state")  # fmt: skip
        for source in tuple(self._sources.values()):
            leading = source.leading
            _add(source, leader, leading, lease=source.lease)
            if not leading:
                continue
            for (template, phase), count in _pods(source.cluster).items():
                _add(source, pods, count, template=template, phase=phase)
            for template, size in source.targets().items():
                _add(source, target, size, template=template)
            for template, seconds in source.pauses().items():
                _add(source, pauses, seconds, template=template)
            every = source.cluster.kernels().values()
            for (template, phase), count in Count(
                (k.template, k.phase.value) for k in every
            ).items():
                _add(source, kernels, count, template=template, phase=phase)
            for owner, count in _owners((k.owner for k in every), source.owners_shown):
                _add(source, owners, count, owner=owner)
            if source.capacity is not None:
                _quota(source, source.capacity, cores, memory, gpus, counts)
        return [leader, pods, target, pauses, kernels, owners, cores, memory, gpus, counts]


def _gauge(name: str, about: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"{PREFIX}{name}", about, labels=labels)


def _pods(cluster: Cluster) -> Mapping[tuple[str, str], int]:
    """A pod that warms for a kernel is none of the pool, and not claimed yet."""
    return Count(
        (
            pod.template,
            "starting" if pod.kernel_id and pod.phase is PodPhase.WARMING else pod.phase.value,
        )
        for pod in cluster.pods().values()
        if pod.phase is not PodPhase.GONE
    )


def _owners(owners: Iterable[str], shown: int) -> Iterator[tuple[str, int]]:
    """Those with most kernels, and the others together: never more series than was allowed."""
    if shown <= 0:
        return
    ranked = sorted(Count(owners).items(), key=lambda one: (-one[1], one[0]))
    yield from ranked[:shown]
    rest = sum(count for _, count in ranked[shown:])
    if rest:
        yield "(others)", rest


def _add(source: Source, family: GaugeMetricFamily, value: float, **labels: str) -> None:
    where = {"namespace": source.namespace} if source.namespace else {}
    family.add_sample(family.name, {**where, **labels}, value)


def _quota(
    source: Source,
    capacity: Capacity,
    cores: GaugeMetricFamily,
    memory: GaugeMetricFamily,
    gpus: GaugeMetricFamily,
    objects: GaugeMetricFamily,
) -> None:
    for state, some in (("total", capacity.total), ("used", capacity.used)):
        if some.cpu < UNLIMITED:
            _add(source, cores, some.cpu / 1000, state=state)
        if some.memory < UNLIMITED:
            _add(source, memory, some.memory, state=state)
    for state, counts in (("total", capacity.gpus), ("used", capacity.gpus_used)):
        for kind, count in counts.items():
            _add(source, gpus, count, kind=kind, state=state)
    for state, counts in (("total", capacity.counts), ("used", capacity.counts_used)):
        for kind, count in counts.items():
            _add(source, objects, count, kind=kind, state=state)


POOL = PoolCollector()
REGISTRY.register(POOL)

_known_reasons: set[str] = set()


def count_kernel(change: Change) -> None:
    """Count what a change of a kernel's record tells; called by who keeps the pool."""
    old, new = change.old, change.new
    if change.kind != "kernel" or not isinstance(new, Kernel):
        return
    was = old if isinstance(old, Kernel) else None
    if new.start and new.pod and (was is None or was.pod != new.pod):
        KERNEL_STARTS.labels(new.template, new.start).inc()
    if new.phase is KernelPhase.FAILED and (was is None or was.phase is not KernelPhase.FAILED):
        KERNEL_FAILURES.labels(new.template, _reason(new.reason)).inc()
    if new.phase is KernelPhase.RUNNING and was is not None and was.phase in _STARTING:
        _observe_start(new)
    resize = new.resize
    if resize and resize.state != "InProgress" and (was is None or was.resize != resize):
        RESIZES.labels(resize.state.lower(), _reason(resize.reason)).inc()


def _observe_start(kernel: Kernel) -> None:
    times = {step.name: step.time for step in reversed(kernel.steps)}
    begun = times.get("queued")
    if begun is None or not kernel.start:
        return
    if "kernel-up" in times:
        START_SECONDS.labels(kernel.template, kernel.start).observe(times["kernel-up"] - begun)
    if "claimed" in times:
        CLAIM_SECONDS.labels(kernel.template).observe(times["claimed"] - begun)


def _reason(reason: str) -> str:
    """A reason as a label: ours are some dozens, but whoever may write records may write more."""
    if reason not in _known_reasons:
        if len(_known_reasons) >= _REASONS or not (not reason or reason.isidentifier()):
            return "(other)"
        _known_reasons.add(reason)
    return reason


def names() -> set[str]:
    """Every name under which figures are shown; a dashboard may use these and no others."""
    found = {sample for one in REGISTRY.collect() for sample in _shown(one)}
    return {name for name in found if name.startswith(PREFIX)}


def _shown(family: Metric) -> set[str]:
    suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum")}
    return {family.name + suffix for suffix in suffixes.get(family.type, ("",))}
