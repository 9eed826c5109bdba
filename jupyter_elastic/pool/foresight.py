"""What a controller keeps of demand, and how it turns what it sees into targets. Pure.

One for each namespace. The controller tells it every change of kernels and pods, asks for
:meth:`Foresight.targets` whenever it reconciles, and stores :meth:`Foresight.to_json` now and then,
so that the next controller does not have to learn anew. Standing by, it should watch as well.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from ..model import Capacity, Kernel, Pod, PodPhase, Template
from ..resources import MIB, Gpu, Resources
from .demand import Demand
from .schedule import Floor
from .share import Room, limits_of
from .targets import Line, Settings, Snapshot, Target, targets

WARM = Resources(cpu=100, memory=128 * MIB)
"""What a warm pod takes as long as none was seen."""
KEPT = 200
"""Templates whose demand is kept at most."""


class Foresight:
    """The demand for all templates of one namespace, and the targets that follow.

    Parameters
    ----------
    offset
        Seconds from UTC to the time of day by which people live here.
    gives_gpus
        Whether warm pods hold the GPUs that their template gives by default.
    schedule
        By template, what admins know beforehand.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        offset: float = 0.0,
        gives_gpus: bool = False,
        schedule: Mapping[str, Iterable[Floor]] | None = None,
    ) -> None:
        self.settings = settings or Settings()
        self.offset = offset
        self.gives_gpus = gives_gpus
        self.schedule = schedule or {}
        self.demand: dict[str, Demand] = {}
        self.found: dict[str, Target] = {}
        """What :meth:`targets` returned last."""
        self._room: Room | None = None
        self._counted: tuple[str, ...] = ()
        self._predicted: list[Template] = []

    # -- what is seen ----------------------------------------------------------------------

    def saw_kernel(self, old: Kernel | None, new: Kernel | None, now: float) -> None:
        """A record changed. A start counts once: when it is known whether it was warm."""
        if new is not None and new.start is not None and (old is None or old.start is None):
            self.demand_of(new.template, now).observe(now, new.start == "warm")

    def saw_pod(self, old: Pod | None, new: Pod | None, now: float) -> None:
        """A pod changed. One that became warm tells how long that takes."""
        if (
            old is not None
            and new is not None
            and old.phase is PodPhase.WARMING
            and new.phase is PodPhase.WARM
        ):
            warm = new.warm_since if new.warm_since is not None else now
            self.demand_of(new.template, now).refilled(warm - new.created)

    def demand_of(self, template: str, now: float) -> Demand:
        """The demand for a template; of one not heard of, since ``now``."""
        demand = self.demand.get(template)
        if demand is None:
            demand = self.demand[template] = Demand(now, offset=self.offset)
            while len(self.demand) > KEPT:
                others = (name for name in self.demand if name != template)
                del self.demand[min(others, key=lambda name: self.demand[name].last_start)]
        return demand

    # -- what follows ----------------------------------------------------------------------

    def targets(
        self,
        templates: Mapping[str, Template],
        sizes: Mapping[str, int],
        capacity: Capacity,
        pods: Iterable[Pod],
        now: float,
        *,
        schedule: Mapping[str, Iterable[Floor]] | None = None,
    ) -> dict[str, Target]:
        """The target of every template.

        Parameters
        ----------
        sizes
            What admins fixed; templates without an entry are predicted, ``pool.size`` at least.
        """
        pods = list(pods)
        lines = []
        for name, template in templates.items():
            demand = self.demand_of(name, now)
            demand.advance(now)
            lines.append(
                Line(
                    template=name,
                    cost=self.cost(template, pods, capacity.counts),
                    size=sizes.get(name),
                    minimum=template.pool.size,
                    schedule=tuple((schedule or self.schedule).get(name, ())),
                    demand=demand,
                )
            )
        self._room, self._counted = room_of(capacity, pods), tuple(capacity.counts)
        self._predicted = [one for name, one in templates.items() if name not in sizes]
        snapshot = Snapshot(
            lines=lines,
            room=self._room,
            settings=self.settings,
            previous=self.found,
            offset=self.offset,
        )
        self.found = targets(snapshot, now)
        return self.found

    def has_room(
        self, template: Template, pods: Iterable[Pod], coming: Iterable[Template] = ()
    ) -> bool:
        """Whether the guards hold with one more warm pod of the template.

        Targets leave aside that pods which are replaced are there until their successors are warm.
        What an admin wants of a template is held to the ceiling only.

        Parameters
        ----------
        coming
            Templates of which pods are being created that ``pods`` does not show.
        """
        if self._room is None:
            return True
        pods, coming = list(pods), list(coming)
        limits = limits_of(
            self._room,
            [self.cost(one, pods, self._counted) for one in self._predicted],
            share=self.settings.share,
            ceiling=self.settings.ceiling,
            most=self.settings.most,
        )
        waiting = [pod for pod in pods if _is_waiting(pod)]
        taken: Counter[str] = Counter()
        for pod in waiting:
            taken.update(self._cost(pod.resources, pod.resources.gpu, self._counted))
        for one in coming:
            taken.update(self.cost(one, pods, self._counted))
        hashes = [pod.template_hash for pod in waiting] + [one.hash for one in coming]
        target = self.found.get(template.name)
        predicted = (
            target is not None
            and target.size > target.floor
            and hashes.count(template.hash) >= target.floor
        )
        if predicted and len(hashes) >= limits.most:
            return False
        return limits.fits(taken, self.cost(template, pods, self._counted), predicted=predicted)

    def cost(
        self, template: Template, pods: Iterable[Pod], counted: Iterable[str] = ()
    ) -> dict[str, int]:
        """What a warm pod of a template takes: as its latest one does, and one of all counted."""
        mine = [p for p in pods if _is_waiting(p) and p.template == template.name]
        seen = max(mine, key=lambda pod: pod.created, default=None)
        size = seen.resources if seen is not None else WARM
        gpu: Gpu | None = size.gpu
        if gpu is None and self.gives_gpus:
            gpu = template.resources.default().gpu
        return self._cost(size, gpu, counted)

    def _cost(self, size: Resources, gpu: Gpu | None, counted: Iterable[str]) -> dict[str, int]:
        cost = {**dict.fromkeys(["pods", *counted], 1), "cpu": size.cpu, "memory": size.memory}
        return {**cost, gpu.kind: gpu.count} if gpu else cost

    # -- kept over restarts ----------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        """Some KB for each template that was ever started."""
        return {name: one.to_json() for name, one in sorted(self.demand.items())}

    def restore(self, data: object, now: float) -> None:
        """Take what another controller stored, where it has watched for longer than this one."""
        for name, stored in data.items() if isinstance(data, dict) else ():
            demand = Demand.from_json(stored, now=now, offset=self.offset)
            mine = self.demand.get(name)
            if mine is None or demand.born < mine.born:
                demand.resume(now)
                self.demand[name] = demand


def room_of(capacity: Capacity, pods: Iterable[Pod]) -> Room:
    """The quota, and what of it is taken by all but the pods that wait."""
    cpu, memory = capacity.used.cpu, capacity.used.memory
    gpus, counts = dict(capacity.gpus_used), dict(capacity.counts_used)
    for pod in pods:
        if _is_waiting(pod):
            counts = {name: count - 1 for name, count in counts.items()}
            cpu, memory = cpu - pod.resources.cpu, memory - pod.resources.memory
            gpu = pod.resources.gpu
            if gpu is not None and gpu.kind in gpus:
                gpus[gpu.kind] -= gpu.count
    return Room(
        total={
            "cpu": capacity.total.cpu,
            "memory": capacity.total.memory,
            **capacity.gpus,
            **capacity.counts,
        },
        used={
            "cpu": max(0, cpu),
            "memory": max(0, memory),
            **{name: max(0, count) for name, count in (gpus | counts).items()},
        },
    )


def _is_waiting(pod: Pod) -> bool:
    return pod.kernel_id is None and pod.phase in (PodPhase.WARMING, PodPhase.WARM)
