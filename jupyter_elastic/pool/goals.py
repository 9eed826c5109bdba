"""What the pool is to hold of a template, and when less of it is believed. Pure.

Where a target comes from (an admin's number, a prediction) is not this layer's business: it comes
as a :class:`Goal` with a reason that people can read.
"""

from __future__ import annotations

from collections import deque

import msgspec


class Goal(msgspec.Struct, frozen=True):
    """How many warm pods of a template are wanted, and why."""

    size: int | None
    """None: make none, and leave those there are."""
    reason: str
    firm: bool = True
    """An admin's number, or what a guard allows: it holds at once. Else a lower one has to last."""


class Stabiliser:
    """Believes a lower target only once it has been lower for ``window`` seconds.

    Demand goes up and down within minutes; a pod that is given back and made again a minute later
    has cost its start twice. More is believed at once.
    """

    def __init__(self, window: float) -> None:
        self.window = window
        self._wanted: dict[str, deque[tuple[float, int]]] = {}

    def settle(self, template: str, size: int, now: float, *, present: int = 0) -> int:
        """The target that holds now: the largest of the window.

        ``present`` is how many there are. It counts as wanted when nothing is known of the
        template: a controller that just began does not know what was wanted a minute ago.
        """
        history = self._wanted.get(template)
        if history is None:
            history = self._wanted[template] = deque([(now, max(size, present))])
        # Of what came before only larger ones can matter; each has the time it was last wanted.
        while history and history[-1][1] <= size:
            history.pop()
        history.append((now, size))
        while len(history) > 1 and now - history[0][0] >= self.window:
            # That much was wanted for the last time too long ago.
            history.popleft()
        return history[0][1]

    def forget(self, template: str) -> None:
        """A firm goal: what was wanted before means nothing."""
        self._wanted.pop(template, None)

    def keep(self, templates: set[str]) -> None:
        """Forget all other templates."""
        for name in set(self._wanted) - templates:
            del self._wanted[name]
