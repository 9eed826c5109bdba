"""Every change of the state directory, each under the lock and each all or nothing.

Runs in one thread of its own per cluster object. Each method tells ``publish`` what is now
written before it returns, in the order of writing, so that a cache fed by it never goes back.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence

import msgspec

from ...errors import (
    Conflict,
    ElasticError,
    Gone,
    KernelExists,
    ResizeUnsupported,
)
from ...model import Kernel, Pod, PodPhase, Template
from ...resources import Resources
from .. import room
from . import birth, cgroups, fate, process, quota
from .machine import Device
from .state import PodRecord, StateDir, Status, next_version

_LOG = logging.getLogger(__name__)

UNOWNED_AFTER = 60.0
"""Seconds after which a pod whose kernel's record is gone (its server died in between) ends."""


class Snapshot(msgspec.Struct, frozen=True):
    """All there is."""

    pods: dict[str, PodRecord]
    kernels: dict[str, Kernel]


Written = tuple[str, PodRecord | Kernel | None]
"""A pod's name or a kernel's id, and its new record; None: removed."""
Publish = Callable[[Snapshot | Sequence[Written]], None]


class Ledger:
    """Synchronous; see the module."""

    def __init__(
        self,
        state: StateDir,
        outfit: birth.Outfit,
        total: Resources,
        devices: Sequence[Device],
        publish: Publish,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._state = state
        self._outfit = outfit
        self._total = total
        self._devices = devices
        self._publish = publish
        self._now = clock

    # -- reading ---------------------------------------------------------------------------

    def scan(self) -> None:
        """Read everything, record what agents have written since, publish it all."""
        with self._state.locked():
            pods = self._state.all_pods()
            for name, record in pods.items():
                if record.pod.phase is PodPhase.GONE:
                    continue
                seen = fate.observe(record.pod, self._state.status(name), self._now())
                if seen is not None:
                    pods[name] = self._put(record, seen)
                    self._fit_limit(pods[name])
            self._publish(Snapshot(pods, self._state.all_kernels()))

    def _fit_limit(self, record: PodRecord) -> None:
        """Now that the overhead is known, set the limit of a pod that was born for a kernel."""
        pod = record.pod
        if pod.phase is PodPhase.CLAIMED and record.group is not None:
            try:
                cgroups.set_memory(record.group, pod.resources.memory + pod.overhead)
            except OSError as error:
                _LOG.warning("The limit of pod %s stays wider for now: %s", pod.name, error)
        self._hold_cpu(record)

    # -- pods ------------------------------------------------------------------------------

    def create(
        self, template: Template, kernel: Kernel | None
    ) -> tuple[PodRecord, list[PodRecord]]:
        """Make a pod; returns it, and the warm pods given up for it."""
        birth.find_interpreter(template, self._outfit.python)
        with self._state.locked():
            pods = self._state.all_pods()
            gpu = kernel.resources.gpu if kernel else None
            gpu_ids = quota.pick_gpus(self._devices, [one.pod for one in pods.values()], gpu)
            resources = kernel.resources if kernel else birth.WARM_SIZE
            given_up = self._make_room(pods, resources, evict=kernel is not None)
            if kernel is None:
                self._state.beat()
            name = room.make_name(template)
            pod = Pod(
                name=name,
                uid=name,
                version=next_version(),
                template=template.name,
                template_hash=template.hash,
                created=self._now(),
                kernel_id=kernel.kernel_id if kernel else None,
                node=platform.node(),
                resources=resources,
                gpu_ids=gpu_ids,
            )
            record = birth.bear(self._state, pod, template, self._outfit, os.environ)
            try:
                self._state.put_pod(record)
            except OSError:
                process.end(name, record.process, record.group)
                if record.group is not None:
                    cgroups.remove(record.group)
                self._state.drop_run(name)
                raise
            self._publish([(name, record)])
            return record, self._give_up(pods, given_up)

    def claim(self, pod: Pod, kernel: Kernel) -> PodRecord:
        """``warm -> claimed``."""
        with self._state.locked():
            try:
                record = self._same(pod)
            except Gone as error:
                raise Conflict(error.message) from error
            if record.pod.phase is not PodPhase.WARM:
                raise Conflict(
                    f"Pod {pod.name} is not warm any more, but {record.pod.phase.value}."
                )
            pods = self._state.all_pods()
            # The resize that follows makes the room; but what it would refuse is refused here,
            # before a warm pod is spent on it.
            self._make_room(pods, kernel.resources, replacing=pod.name, evict=True)
            gpu_ids: tuple[str, ...] = ()
            if kernel.resources.gpu is not None:
                others = [one.pod for one in pods.values()]
                gpu_ids = quota.pick_gpus(self._devices, others, kernel.resources.gpu)
            claimed = msgspec.structs.replace(
                record.pod,
                phase=PodPhase.CLAIMED,
                kernel_id=kernel.kernel_id,
                gpu_ids=gpu_ids,
                resources=msgspec.structs.replace(
                    record.pod.resources, gpu=kernel.resources.gpu if gpu_ids else None
                ),
            )
            record = self._put(record, claimed)
            self._publish([(pod.name, record)])
            return record

    def resize(
        self, pod: Pod, resources: Resources
    ) -> tuple[PodRecord, PodRecord, list[PodRecord]]:
        """Set limits and record them; returns the pod, the pod before, and pods given up."""
        with self._state.locked():
            before = self._same(pod)
            now = before.pod.resources
            if before.pod.phase is not PodPhase.CLAIMED:
                raise Conflict(f"Pod {pod.name} is {before.pod.phase.value}, not claimed.")
            if _gpus(resources) != _gpus(now):
                raise ResizeUnsupported(
                    "The GPUs of a running kernel cannot be changed.",
                    "Start another kernel with the GPUs you need.",
                )
            pods = self._state.all_pods()
            given_up = self._make_room(pods, resources, replacing=pod.name, evict=True)
            resources = msgspec.structs.replace(resources, gpu=now.gpu)
            with self._limits_kept(before):
                if before.group is not None:
                    self._limit(before.group, before.pod, resources)
                record = self._put(before, msgspec.structs.replace(before.pod, resources=resources))
            self._hold_cpu(record)
            self._publish([(pod.name, record)])
            return record, before, self._give_up(pods, given_up)

    @contextlib.contextmanager
    def _limits_kept(self, record: PodRecord) -> Iterator[None]:
        """Put the pod's limits back when what is done inside fails."""
        group = record.group
        if group is None:
            yield
            return
        memory, cpu = cgroups.memory_limit(group), cgroups.cpu_limit(group)
        try:
            yield
        except (OSError, ElasticError):
            try:
                cgroups.set_memory(group, memory)
                cgroups.set_cpu(group, cpu)
            except OSError:
                _LOG.exception("Pod %s could not be given its former limits", record.pod.name)
            raise

    def undo_resize(self, record: PodRecord, before: PodRecord) -> None:
        """Put former resources back after the agent could not be told."""
        with self._state.locked():
            present = self._state.pod(record.pod.name)
            if present is None or present.pod.version != record.pod.version:
                return
            back = self._put(
                present, msgspec.structs.replace(present.pod, resources=before.pod.resources)
            )
            self._publish([(back.pod.name, back)])

    def _limit(self, group: cgroups.Group, pod: Pod, resources: Resources) -> None:
        limit = resources.memory + pod.overhead
        lower = limit < cgroups.memory_limit(group)
        use = max(0, cgroups.memory_use(group) - pod.overhead) if lower else 0
        if lower and use + room.HEADROOM > resources.memory:
            raise room.shrink_refusal(use, resources.memory)
        try:
            cgroups.set_memory(group, limit)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            _LOG.info("The system refused to lower the memory of %s: %s", pod.name, error)
            raise room.shrink_refusal(use, resources.memory) from error
        cgroups.set_cpu(group, resources.cpu)

    def _hold_cpu(self, record: PodRecord) -> None:
        """Where memory has a control group and CPU has none: whole cores, by affinity."""
        if record.group is not None and record.group.cpu is None:
            cores = -(-record.pod.resources.cpu // 1000)
            process.set_affinity(record.pod.name, cgroups.pids(record.group), cores)

    def condemn(self, name: str, reason: str, if_spare: bool = False) -> PodRecord | None:
        """Record that a pod is gone, before its processes are ended.

        None: there is no such pod, or it has been claimed and is to go only ``if_spare``.
        """
        with self._state.locked():
            record = self._state.pod(name)
            if record is None or record.pod.phase is PodPhase.GONE:
                return record
            if if_spare and not room.is_spare(record.pod):
                return None
            record = self._put(record, fate.condemned(record.pod, reason))
            self._publish([(name, record)])
            return record

    def forget(self, name: str) -> None:
        """Remove the record of a pod that is gone. Idempotent."""
        with self._state.locked():
            self._state.drop_pod(name)
            self._publish([(name, None)])

    def settle(self, name: str, dead: process.Process, left: bool) -> PodRecord | None:
        """Decide on a pod whose agent ``dead`` is dead, or has said that it ended.

        ``left``: other processes of the pod are still there, and had time enough. Returns the
        record when this call decided; None when another server did, or there is nothing to
        decide.
        """
        with self._state.locked():
            record = self._state.pod(name)
            if record is None or record.pod.phase is PodPhase.GONE or record.process != dead:
                return None
            status = self._state.status(name)
            if process.alive(dead) and not fate.ended(status):
                return None
            verdict = fate.judge(
                record,
                status,
                left=left,
                this_boot=dead.boot == process.boot_id(),
                log=self._state.log_tail(name, 20),
            )
            if verdict is None:
                record, verdict = self._bring_back(record, status)
            record = self._put(record, verdict)
            self._publish([(name, record)])
            kernel = self._state.kernel(record.pod.kernel_id) if record.pod.kernel_id else None
            if kernel is not None and fate.unmourned(kernel, record.pod):
                self._state.drop_kernel(kernel.kernel_id)
                self._publish([(kernel.kernel_id, None)])
            return record

    def _bring_back(self, record: PodRecord, status: Status | None) -> tuple[PodRecord, Pod]:
        try:
            agent = birth.bring_back(self._state, record)
        except (OSError, ElasticError) as error:
            _LOG.exception("Pod %s cannot be brought back", record.pod.name)
            return record, msgspec.structs.replace(
                fate.condemned(record.pod, "ContainerKilled"),
                message=f"Everything in the pod was killed, and it could not be restarted: {error}",
            )
        _LOG.warning("Everything in pod %s was killed; its agent is back.", record.pod.name)
        return (
            msgspec.structs.replace(record, process=agent),
            fate.brought_back(record.pod, status),
        )

    def sweep(self, log_most: int) -> tuple[list[PodRecord], list[str]]:
        """Look after what nobody else does.

        Returns pods that are gone but not cleaned up, and names of run directories without a
        pod (left by a server that died between making the files and recording the pod).
        """
        rest = []
        with self._state.locked():
            self._state.drop_unfinished(UNOWNED_AFTER)
            self._state.set_aside()
            pods = self._state.all_pods()
            self._drop_abandoned(pods)
            for name, record in pods.items():
                self._state.trim_log(name, log_most)
                kernel_id = record.pod.kernel_id
                old = self._state.pod_age(name) > UNOWNED_AFTER
                unowned = kernel_id is not None and not self._state.has_kernel(kernel_id)
                if record.pod.phase is PodPhase.GONE:
                    if kernel_id is None or self._state.run_dir(name).exists() or (unowned and old):
                        rest.append(record)
                elif unowned and old:
                    gone = self._put(record, fate.condemned(record.pod, "KernelDeleted"))
                    self._publish([(name, gone)])
                    rest.append(gone)
            return rest, self._strays(set(pods))

    def _drop_abandoned(self, pods: dict[str, PodRecord]) -> None:
        for kernel_id, kernel in self._state.all_kernels().items():
            name = kernel.pod or ""
            pod = pods[name].pod if name in pods else None
            age = self._state.pod_age(name) if name in pods else 0.0
            if fate.abandoned(kernel, pod, age, self._now(), UNOWNED_AFTER):
                self._state.drop_kernel(kernel_id)
                self._publish([(kernel_id, None)])

    def _strays(self, known: set[str]) -> list[str]:
        found = []
        for name in os.listdir(self._state.runs):
            if name in known or (self._state.pods / f"{name}.json").exists():
                continue
            with contextlib.suppress(FileNotFoundError):  # somebody else was quicker
                age = time.time() - self._state.run_dir(name).stat().st_mtime
                if age > UNOWNED_AFTER:
                    found.append(name)
        return found

    def group_of_stray(self, name: str) -> cgroups.Group | None:
        """The control group a stray has, as its configuration tells, or as we would make it."""
        try:
            config = msgspec.json.decode((self._state.run_dir(name) / "config.json").read_bytes())
            found = config["cgroup"]
            return msgspec.convert(found, cgroups.Group) if found else None
        except (OSError, KeyError, TypeError, msgspec.MsgspecError):
            return self._outfit.place.group(name) if self._outfit.place else None

    # -- kernels ---------------------------------------------------------------------------

    def create_kernel(self, kernel: Kernel) -> Kernel:
        """Record a kernel whose id is free."""
        with self._state.locked():
            if self._state.has_kernel(kernel.kernel_id):
                raise KernelExists(f"There is a kernel {kernel.kernel_id} already.")
            return self._put_kernel(kernel, "")

    def update_kernel(self, kernel: Kernel) -> Kernel:
        """Compare and swap a kernel's record."""
        with self._state.locked():
            present = self._state.kernel(kernel.kernel_id)
            if present is None:
                raise Conflict(f"Kernel {kernel.kernel_id} is gone.")
            if present.version != kernel.version:
                raise Conflict(f"Kernel {kernel.kernel_id} was changed by somebody else.")
            return self._put_kernel(kernel, present.version)

    def delete_kernel(self, kernel_id: str) -> list[PodRecord]:
        """Remove a kernel's record and condemn its pods; returns these."""
        with self._state.locked():
            condemned = []
            for name, record in self._state.all_pods().items():
                if record.pod.kernel_id != kernel_id:
                    continue
                if record.pod.phase is not PodPhase.GONE:
                    record = self._put(record, fate.condemned(record.pod, "KernelDeleted"))
                    self._publish([(name, record)])
                condemned.append(record)
            self._state.drop_kernel(kernel_id)
            self._publish([(kernel_id, None)])
            return condemned

    def _put_kernel(self, kernel: Kernel, old: str) -> Kernel:
        written = msgspec.structs.replace(kernel, version=next_version(old))
        self._state.put_kernel(written)
        self._publish([(kernel.kernel_id, written)])
        return written

    # -- inside ----------------------------------------------------------------------------

    def _same(self, pod: Pod) -> PodRecord:
        """The stored record, if it is still the one the caller saw."""
        record = self._state.pod(pod.name)
        if record is None or record.pod.phase is PodPhase.GONE:
            raise Gone(f"Pod {pod.name} is gone.")
        if record.pod.uid != pod.uid or record.pod.version != pod.version:
            raise Conflict(f"Pod {pod.name} was changed by somebody else.")
        return record

    def _put(self, record: PodRecord, pod: Pod) -> PodRecord:
        """Write a pod's new record under a new version."""
        versioned = msgspec.structs.replace(pod, version=next_version(record.pod.version))
        written = msgspec.structs.replace(record, pod=versioned)
        self._state.put_pod(written)
        return written

    def _make_room(
        self,
        pods: dict[str, PodRecord],
        asked: Resources,
        *,
        replacing: str | None = None,
        evict: bool,
    ) -> list[str]:
        """Which warm pods to give up; decided first, done last, so that a failure loses none."""
        listed = [one.pod for one in pods.values()]
        return room.make_room(self._total, listed, asked, replacing=replacing, evict=evict)

    def _give_up(self, pods: dict[str, PodRecord], names: list[str]) -> list[PodRecord]:
        evicted = []
        for name in names:
            _LOG.info("Warm pod %s is given up: a kernel needs its room.", name)
            gone = self._put(pods[name], fate.condemned(pods[name].pod, "RoomNeeded"))
            self._publish([(name, gone)])
            evicted.append(gone)
        return evicted


def _gpus(resources: Resources) -> tuple[str, int]:
    gpu = resources.gpu
    return (gpu.kind, gpu.count) if gpu is not None and gpu.count else ("", 0)
