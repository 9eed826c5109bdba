"""How long to leave something alone after it failed. Pure: time and chance come from outside."""

from __future__ import annotations

from collections.abc import Callable


class Backoff:
    """Pauses per key that double from ``first`` to ``most`` seconds, with jitter by ``uniform``.

    What fails while its key is paused belongs to the failure that is known already (ten pods of
    one broken template are one failure), and makes the pause no longer.
    """

    def __init__(self, first: float, most: float, uniform: Callable[[float, float], float]) -> None:
        self.first, self.most = first, most
        self._uniform = uniform
        self._count: dict[str, int] = {}
        self._until: dict[str, float] = {}

    def fail(self, key: str, now: float) -> float:
        """Note a failure; returns for how many seconds the key is paused now."""
        left = self.left(key, now)
        if left:
            return left
        count = self._count[key] = self._count.get(key, 0) + 1
        # The exponent is bounded: 2.0 ** 1100 is an error.
        pause = min(self.most, self.first * 2.0 ** min(count - 1, 30))
        pause *= self._uniform(0.8, 1.2)
        self._until[key] = now + pause
        return pause

    def succeed(self, key: str) -> None:
        """It works: nothing of its failures counts any more."""
        self._count.pop(key, None)
        self._until.pop(key, None)

    def resume(self) -> None:
        """End all pauses; the failures still count."""
        self._until.clear()

    def left(self, key: str, now: float) -> float:
        """Seconds for which the key is paused; 0 when it is not."""
        return max(0.0, self._until.get(key, now) - now)

    def failures(self, key: str) -> int:
        """How often it failed since it worked."""
        return self._count.get(key, 0)

    def keep(self, keys: set[str]) -> None:
        """Forget all others."""
        for key in set(self._count) - keys:
            self.succeed(key)
