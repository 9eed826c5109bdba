"""Why there are fewer warm pods than there should be, and what is left alone for how long.

Three kinds, because each ends otherwise: a *template* whose pods fail (it is tried again after
pauses that double), *room* that is missing (tried again as soon as some is given back), and the
*cluster* that does not answer (nobody's fault; tried again soon). No IO; time comes from outside.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Iterable

from ..errors import ElasticError, QuotaFull
from ..model import Pod, PodPhase
from .backoff import Backoff
from .planner import waits_for_node

FIRST_PAUSE = 2.0
MAX_BACKOFF = 300.0
"""Seconds: the first and the longest pause of a template whose pods fail."""
RESYNC = 15.0
"""Seconds after which a refusal for want of room is tried again though nobody gave room back."""
UNREACHABLE = (1.0, 15.0)
"""Seconds: the first and the longest pause when the cluster does not answer."""
VANISHED = 3
"""Pods that vanish one after the other without a word before that counts as a failure."""
_DELETED = ("Deleted", "RoomNeeded")
"""Reasons of pods that somebody deleted, such as another controller: no fault of theirs."""


class Troubles:
    """See the module. One per controller."""

    def __init__(self, grace: float, rng: random.Random, log: logging.Logger) -> None:
        self.grace = grace
        """Seconds a pod may warm before it counts as failed."""
        self.log = log
        self.messages: dict[str, str] = {}
        """Per template, why its target is not met."""
        self._templates = Backoff(FIRST_PAUSE, MAX_BACKOFF, rng.uniform)
        self._room = Backoff(RESYNC, RESYNC, rng.uniform)
        self._cluster = Backoff(*UNREACHABLE, rng.uniform)
        self._warming: dict[str, tuple[float, str]] = {}
        self._vanished: dict[str, int] = {}
        self._pending: dict[str, str] = {}
        """Pods that no node takes so far, with their template."""

    # -- what happens to pods --------------------------------------------------------------

    def see(self, old: Pod | None, new: Pod | None, now: float, *, leading: bool = True) -> None:
        """A pod of the pool changed. Who does not keep the pool judges nobody's failures."""
        pod = new or old
        if pod is None or (pod.kernel_id is not None and pod.phase is not PodPhase.CLAIMED):
            return
        if new is not None and waits_for_node(new):
            self._pending[new.name] = new.template
            if leading:
                self.messages[new.template] = new.message
        else:
            self._pending.pop(pod.name, None)
        if new is not None and new.phase is PodPhase.WARMING:
            if new.kernel_id is None:
                self._warming.setdefault(new.name, (now, new.template))
            return
        was = self._warming.pop(pod.name, None)
        if was is None:
            return
        template = was[1]
        if new is not None and new.phase in (PodPhase.WARM, PodPhase.CLAIMED):
            self.works(template)
        elif not leading or _was_deleted(pod):
            return
        elif pod.reason or pod.message:
            self.failed(template, pod.message or pod.reason, now)
        else:
            count = self._vanished[template] = self._vanished.get(template, 0) + 1
            if count >= VANISHED:
                self.failed(template, f"{count} pods vanished before they were warm.", now)

    def find_pending(self, pods: Iterable[Pod]) -> None:
        """What no node takes of all that waits, also of what was there before our term."""
        pending = [pod for pod in pods if waits_for_node(pod)]
        self._pending = {pod.name: pod.template for pod in pending}
        self.messages.update((pod.template, pod.message) for pod in pending)

    def removed(self, name: str) -> None:
        """We delete the pod: how it ends tells nothing."""
        self._warming.pop(name, None)

    def overdue(self, pods: dict[str, Pod], now: float) -> list[Pod]:
        """Pods that are warming for longer than they may.

        Measured by our own clock since we saw them: a clock that is set says nothing about them.
        """
        for name in set(self._warming) - pods.keys():
            del self._warming[name]
        late = []
        for pod in pods.values():
            if pod.phase is not PodPhase.WARMING or pod.kernel_id is not None or not pod.uid:
                continue  # without a uid: one that only may be there
            since, _ = self._warming.setdefault(pod.name, (now, pod.template))
            if now - since > self.grace:
                late.append(pod)
        return late

    # -- what failed, what works -----------------------------------------------------------

    def works(self, template: str) -> None:
        """A pod of the template is warm."""
        self._templates.succeed(template)
        self._vanished.pop(template, None)
        self.messages.pop(template, None)

    def refused(self, template: str, error: ElasticError, now: float) -> None:
        """A pod could not be created."""
        if isinstance(error, QuotaFull):
            known = self.messages.get(template)
            self._room.fail(template, now)
            self.messages[template] = str(error)
            if known != str(error):
                self.log.info("No warm pod for template %s for now: %s", template, error)
        elif error.retry:
            pause = self._cluster.fail("", now)
            self.messages[template] = str(error)
            self.log.warning("No warm pods for the next %.0f s: %s", pause, error)
        else:
            self.failed(template, str(error), now)

    def is_met(self, template: str) -> None:
        """There are as many as there should be, so there is nothing to tell; failures count on."""
        self.messages.pop(template, None)

    def answered(self) -> None:
        """The cluster does what it is asked."""
        self._cluster.succeed("")

    def has_room(self, template: str) -> None:
        """A pod was created."""
        self._room.succeed(template)

    def failed(self, template: str, message: str, now: float) -> None:
        """A pod of the template will never be warm."""
        first = not self._templates.left(template, now)
        pause = self._templates.fail(template, now)
        self.messages[template] = message
        if first:
            self.log.warning(
                "No warm pod for template %s (attempt %d, next in %.0f s): %s",
                template,
                self.failures(template),
                pause,
                message,
            )

    def room_given(self) -> None:
        """There may be room: what was refused for want of it need not wait any longer."""
        self._room.resume()

    # -- asked by who plans ----------------------------------------------------------------

    def waits_for_node(self, template: str) -> bool:
        """Whether a pod of it waits for a node: more of them would only wait as well."""
        return template in self._pending.values()

    def failures(self, template: str) -> int:
        """Failures of the template since a pod of it was warm."""
        return self._templates.failures(template)

    def left(self, template: str, now: float) -> float:
        """Seconds for which no pod of the template is created."""
        return max(
            self._templates.left(template, now),
            self._room.left(template, now),
            self._cluster.left("", now),
        )

    def keep(self, templates: set[str]) -> None:
        """Forget templates that are no longer offered."""
        self._templates.keep(templates)
        self._room.keep(templates)
        for name in set(self.messages) - templates:
            del self.messages[name]
        for name in set(self._vanished) - templates:
            del self._vanished[name]


def _was_deleted(pod: Pod) -> bool:
    """Whoever deletes a pod may say why in a sentence; what fails has a word for its reason."""
    return pod.reason in _DELETED or " " in pod.reason
