"""Starts that find no room wait for it, in an order that is fair to all owners.

Who waits stands in the records: ``Queued``, with the reason ``WaitingForRoom`` and a deadline that
its server moves on as long as it lives. From them every server knows the order (:mod:`.places`),
and a start is tried only when it is its turn. So there is no list to be kept, nobody
who keeps it, and a server that ends holds nobody up for longer than :data:`HEARD`.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import defaultdict, deque
from collections.abc import Callable

from msgspec.structs import replace

from ..cluster.base import Change, Cluster
from ..errors import ElasticError, QueueFull, QuotaFull, StartCancelled
from ..model import WAITING_FOR_ROOM, Kernel, KernelPhase, PodPhase
from ..waits import event_or_timeout
from .getting import Hold
from .places import PATIENT, Place, estimate, line_of, may_try, next_turn, places, sentence
from .progress import STARTING_PHASES, Progress
from .records import NotMine, Records

HEARD = 60.0
"""Seconds after the last word of a server until a start that waited there keeps nobody back."""
RENEW = 20.0
"""Seconds between two such words."""
TELL, TELL_LATER, NEAR = 4.0, 15.0, 5
"""Seconds between two words of a changed place, for the first ``NEAR`` and for those behind."""
RETRY = 3.0
"""Seconds until one whose turn it is tries although nothing is known to have become free."""
LEAST = 0.2
"""Seconds between two tries at the least."""
BLOCKED = "blocked"
"""Name of the step that says what is in the way."""
LOOK, LOOK_SOON = 1.0, 0.02
"""Seconds between two looks at the order: when nothing happens, and after something did."""
SERVED = 50
"""Starts that got room that are remembered for each line, to estimate how long others wait."""


class Queue:
    """See the module. One per launcher.

    Parameters
    ----------
    timeout
        Seconds a start waits for room; 0: it fails at once.
    per_owner
        Starts of one owner that may wait; 0: as many as there are.
    """

    def __init__(
        self,
        cluster: Cluster,
        records: Records,
        progress: Progress,
        *,
        timeout: float,
        per_owner: int,
        log: logging.Logger,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._cluster = cluster
        self._records = records
        self._progress = progress
        self._timeout = timeout
        self._per_owner = per_owner
        self._log = log
        self._clock = clock
        self._line: dict[str, Kernel] = {}
        """All that wait, of every server."""
        self._places: dict[str, Place] = {}
        self._since: dict[str, float] = {}
        """Whose turn it is, and since when that has been seen here, by the loop's clock."""
        self._served: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=SERVED))
        self._waiters: dict[str, asyncio.Event] = {}
        """Of this process."""
        self._freed = 0
        """How often something became free."""
        self._joining = asyncio.Lock()
        self._looked = 0.0
        self._soon: asyncio.TimerHandle | None = None
        self._dispose: Callable[[], None] | None = None

    @property
    def takes(self) -> bool:
        """Whether starts wait for room at all."""
        return self._timeout > 0

    def close(self) -> None:
        """Stop watching. Idempotent."""
        if self._dispose is not None:
            self._dispose()
            self._dispose = None
        if self._soon is not None:
            self._soon.cancel()
            self._soon = None

    # -- what a start asks -----------------------------------------------------------------

    def check(self, owner: str) -> None:
        """Raise QueueFull where so many starts of the owner wait that no other may."""
        if not self.takes or not self._per_owner:
            return
        self._watch()
        now = self._clock()
        count = sum(one.owner == owner and one.waits_for_room(now) for one in self._line.values())
        if count >= self._per_owner:
            raise QueueFull(
                f"{count} starts of {owner} wait for room already, and no more may"
                " (c.ElasticKernels.queue_per_owner)."
            )

    def must_wait(self, kernel: Kernel) -> bool:
        """Whether others were there first, so that a new start is not even to try.

        A kernel that moves has given its own room back a moment ago, and may try.
        """
        if not self.takes or kernel.phase is KernelPhase.MOVING:
            return False
        self._watch()
        line, now = line_of(kernel), self._clock()
        stuck = asyncio.get_running_loop().time() - PATIENT
        return any(
            one.waits_for_room(now)
            and line_of(one) == line
            and one.kernel_id != kernel.kernel_id
            and self._since.get(one.kernel_id, stuck) >= stuck
            for one in self._line.values()
        )

    def trying(self, hold: Hold) -> None:
        """The start is tried now: whatever becomes free from here on is a reason to try again."""
        hold.seen = self._freed

    async def wait(
        self, hold: Hold, refusal: QuotaFull | None, patience: float | None = None
    ) -> None:
        """Return when it is the start's turn to try, perhaps again.

        Parameters
        ----------
        refusal
            What it was refused with; None: it has not tried.
        patience
            Seconds it waits in all, where that is less than usual.

        Raises
        ------
        QuotaFull
            Nothing became free in time.
        QueueFull
            Too many of its owner wait.
        StartCancelled, NotMine
            The record is gone, or somebody else starts the kernel by now.
        """
        self._watch()
        loop = asyncio.get_running_loop()
        if refusal is not None:
            hold.why = refusal.message
        seconds = self._timeout if patience is None else min(patience, self._timeout)
        if hold.wait_until is None:
            hold.wait_until = loop.time() + seconds
        if hold.turn is None or hold.kernel.reason != WAITING_FOR_ROOM:
            await self._join(hold)
        kernel_id = hold.kernel.kernel_id
        changed = self._waiters[kernel_id] = asyncio.Event()
        try:
            await self._until_turn(hold, changed)
        except _Impatient:
            raise _too_long(refusal, seconds) from None
        finally:
            del self._waiters[kernel_id]

    # -- waiting ---------------------------------------------------------------------------

    async def _until_turn(self, hold: Hold, changed: asyncio.Event) -> None:
        """Return when it is its turn, and something speaks for trying. Raises _Impatient."""
        kernel_id, loop = hold.kernel.kernel_id, asyncio.get_running_loop()
        assert hold.wait_until is not None
        begun = loop.time()
        retry_at = begun + RETRY * random.uniform(0.7, 1.3)
        renew = RENEW * random.uniform(0.7, 1.0)
        mine_before: bool | None = None
        while True:
            changed.clear()
            now = loop.time()
            if kernel_id not in self._cluster.kernels():
                raise StartCancelled(f"Kernel {kernel_id} was deleted while it waited for room.")
            if now >= hold.wait_until:
                raise _Impatient
            place = self._place(hold)
            mine = kernel_id in self._since
            if mine and mine_before is False:
                hold.seen = None  # it has not tried since it is its turn
            mine_before = mine
            try_at = begun + LEAST if mine and self._freed != hold.seen else retry_at
            if mine and now >= try_at:
                return
            pause = TELL if place is not None and place.place <= NEAR else TELL_LATER
            news = place is not None and place[:2] != hold.told and now >= hold.told_at + pause
            if news or now >= hold.told_at + renew:
                await self._renew(hold, place)
            next_look = min(now + LOOK, hold.wait_until, try_at if mine else now + LOOK)
            await event_or_timeout(changed, max(next_look - now, LEAST / 10))

    async def _join(self, hold: Hold) -> None:
        kernel = hold.kernel
        # One after the other, so that those of one burst see each other.
        async with self._joining:
            if hold.turn is None:
                if kernel.reason == WAITING_FOR_ROOM:
                    hold.turn = kernel.turn  # it waited in a server that is gone
                else:
                    self.check(kernel.owner)
                    hold.turn = next_turn(kernel, self._line.values(), self._clock())
            mine = self._waiting(kernel, hold.turn)
            line = {**self._line, kernel.kernel_id: mine}
            await self._write(hold, places(line.values(), self._clock())[kernel.kernel_id])
            self._line[kernel.kernel_id] = hold.kernel
        self._look()
        self._log.info("Kernel %s: %s", kernel.kernel_id, hold.kernel.message)

    async def _renew(self, hold: Hold, place: Place | None) -> None:
        """Let others know that somebody waits here; what fails passingly is tried again later."""
        place = place or Place(*(hold.told or (1, 1)), hold.turn or 0, line_of(hold.kernel))
        try:
            await self._write(hold, place)
        except (NotMine, StartCancelled):
            raise
        except ElasticError as error:
            if not error.retry:
                raise
            self._log.warning(
                "The record of kernel %s, which waits, is not renewed: %s",
                hold.kernel.kernel_id,
                error,
            )

    async def _write(self, hold: Hold, place: Place) -> None:
        kernel_id = hold.kernel.kernel_id
        now = self._clock()
        text = sentence(place, estimate(place.place, self._served[line_of(hold.kernel)], now))
        text = f"{text} {hold.why}".strip()
        if place[:2] != hold.told:
            self._progress.say(kernel_id, BLOCKED, text)
        hold.told, hold.turn = place[:2], place.turn
        hold.told_at = asyncio.get_running_loop().time()
        steps = self._progress.of(kernel_id)

        def edit(kernel: Kernel) -> Kernel:
            return replace(self._waiting(kernel, place.turn), message=text, steps=steps)

        hold.kernel = await self._records.update_mine(hold.kernel, edit)

    def _waiting(self, kernel: Kernel, turn: int) -> Kernel:
        """The record of a kernel that waits, heard now."""
        moves = kernel.phase is KernelPhase.MOVING
        return replace(
            kernel,
            phase=KernelPhase.MOVING if moves else KernelPhase.QUEUED,
            reason=WAITING_FOR_ROOM,
            turn=turn,
            pod=None,
            start=None,
            deadline=self._clock() + HEARD,
        )

    # -- watching --------------------------------------------------------------------------

    def _watch(self) -> None:
        if self._dispose is None:
            self._dispose = self._cluster.subscribe(self._on_change)
            known = self._cluster.kernels().items()
            self._line = {name: kernel for name, kernel in known if _is_waiting(kernel)}
            self._look()

    def _on_change(self, change: Change) -> None:
        new = change.new
        if change.kind == "kernel":
            was = self._line.pop(change.name, None)
            if isinstance(new, Kernel) and _is_waiting(new):
                self._line[change.name] = new
            elif was is None:
                return
            elif isinstance(new, Kernel) and new.phase is not KernelPhase.FAILED:
                self._served[line_of(new)].append(self._clock())
        elif change.kind == "capacity" or (
            change.kind == "pod" and (new is None or new.phase is PodPhase.GONE)
        ):
            self._freed += 1
        else:
            return
        if (self._line or self._waiters) and self._soon is None:
            self._soon = asyncio.get_running_loop().call_later(LOOK_SOON, self._look)

    def _place(self, hold: Hold) -> Place | None:
        """As last seen; None: the record is not seen yet, or was not renewed for too long."""
        if asyncio.get_running_loop().time() > self._looked + LOOK:
            self._look()
        return self._places.get(hold.kernel.kernel_id)

    def _look(self) -> None:
        """See how everybody stands, and wake those of this process whom that may concern."""
        if self._soon is not None:
            self._soon.cancel()
            self._soon = None
        self._looked = now = asyncio.get_running_loop().time()
        before, self._places = self._places, places(self._line.values(), self._clock())
        turn = may_try(self._places, self._since, now)
        self._since = {kernel_id: self._since.get(kernel_id, now) for kernel_id in turn}
        for kernel_id, changed in self._waiters.items():
            if kernel_id in self._since or self._places.get(kernel_id) != before.get(kernel_id):
                changed.set()


class _Impatient(Exception):
    """It has waited long enough."""


def _is_waiting(kernel: Kernel) -> bool:
    """Whether the record says so, be it heard lately or not."""
    return kernel.reason == WAITING_FOR_ROOM and kernel.phase in STARTING_PHASES


def _too_long(refusal: QuotaFull | None, seconds: float) -> QuotaFull:
    cause = "Others who asked earlier wait for room." if refusal is None else refusal.message
    error = QuotaFull(f"{cause} No room became free within {seconds:.0f} s.")
    error.retry_after = RENEW
    return error
