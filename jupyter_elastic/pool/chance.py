"""How likely it is that the n-th warm pod is needed: tails of counts. Pure.

Starts come in clumps, so a Poisson distribution says too little; the negative binomial one has a
second parameter, here the *dispersion*: variance divided by mean, 1 for Poisson.
"""

from __future__ import annotations

import math
from functools import lru_cache

MOST = 1000
"""Pods of one template at most; also what ``KernelPool`` accepts."""
_NORMAL_FROM = 200.0
"""Mean from which a normal distribution is near enough (and nothing underflows)."""


def tail(mean: float, dispersion: float, least: float) -> list[float]:
    """``P(N >= 1), P(N >= 2), ...`` of a negative binomial count, as long as above ``least``.

    The length of the list is the quantile ``1 - least``: the smallest n that is exceeded with no
    more than that probability. At most :data:`MOST` long; empty for a mean of zero or less.
    """
    if not mean > 0:  # also for a NaN
        return []
    least = max(least, 1e-9)
    dispersion = max(1.0, dispersion)
    if mean > _NORMAL_FROM:
        return _normal_tail(mean, dispersion, least)
    excess = dispersion - 1.0
    if excess < 1e-6:
        term = math.exp(-mean)
        size, ratio = 0.0, 0.0
    else:
        size = mean / excess
        ratio = excess / dispersion
        term = math.exp(-size * math.log(dispersion))
    found: list[float] = []
    above = 1.0 - term
    count = 0
    while above > least and count < MOST:
        found.append(above)
        count += 1
        grow = mean / count if ratio == 0.0 else (size + count - 1) / count * ratio
        term *= grow
        above -= term
    return found


def _normal_tail(mean: float, dispersion: float, least: float) -> list[float]:
    scale = math.sqrt(2 * mean * dispersion)
    found: list[float] = []
    for count in range(1, MOST + 1):
        above = 0.5 * math.erfc((count - 0.5 - mean) / scale)
        if above <= least:
            break
        found.append(above)
    return found


@lru_cache(maxsize=65536)
def again(count: int, peak: int) -> float:
    """How likely ``count`` starts at once are, at a time of the week that once saw ``peak``."""
    if peak <= 0:
        return 0.0
    return 0.5 * math.erfc((count - 0.5 - peak) / (0.7 * math.sqrt(2 * peak)))
