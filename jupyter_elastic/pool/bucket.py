"""How fast pods may be created: a token bucket. Pure; the caller says what time it is."""

from __future__ import annotations


class TokenBucket:
    """``burst`` tokens at most, and ``rate`` new ones each second.

    A thousand claims in a second are no reason for a thousand requests in the next one: what is
    created then would only queue elsewhere, in front of what users do.
    """

    def __init__(self, rate: float, burst: int) -> None:
        if rate <= 0 or burst < 1:
            raise ValueError("a bucket that never has a token")
        self.rate, self.burst = rate, burst
        self._tokens = float(burst)
        self._at: float | None = None

    def take(self, now: float) -> bool:
        """Take a token if there is one. A clock that goes backwards brings none."""
        self._fill(now)
        # Not a whole one by a rounding error is one: else its arrival is waited for twice.
        if self._tokens < 1 - 1e-6:
            return False
        self._tokens -= 1
        return True

    def ready_in(self, now: float) -> float:
        """Seconds until there is a token."""
        self._fill(now)
        return max(0.0, (1 - self._tokens) / self.rate)

    def _fill(self, now: float) -> None:
        passed = 0.0 if self._at is None else max(0.0, now - self._at)
        self._at = now
        self._tokens = min(float(self.burst), self._tokens + passed * self.rate)
