"""How many shards each replica has: who has fewer asks who has most for one of theirs. Pure.

They say so on the Lease itself: the asker writes its name there, the holder lets go, and others
leave it alone for a while. So no replica has to know which others there are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from .manifests import label

WANTED_BY = label("wanted-by")
"""Annotation of a Lease: the contender that asks for it."""
YIELD = 3.0
"""Seconds for which a lease that was let go for somebody is left to them."""


def to_ask_for(holders: Mapping[str, str], wanted: Mapping[str, str], me: str) -> str | None:
    """The lease to ask for; None: all is well, or we asked already, and will get what we asked for.

    Parameters
    ----------
    holders, wanted
        By lease, who holds it and who asks for it; empty: nobody.
    """
    counts = Counter(who for who in holders.values() if who)
    # What was asked for when there was more to give away counts no more.
    live = {name for name, who in wanted.items() if who and _gives(counts, holders[name], who)}
    if any(wanted[name] == me for name in live):
        return None
    fullest = max(sorted(counts), key=lambda who: counts[who], default=me)
    if not _gives(counts, fullest, me):
        return None
    theirs = [name for name, who in holders.items() if who == fullest and name not in live]
    return max(theirs, default=None)


def to_hand_over(holders: Mapping[str, str], wanted: Mapping[str, str], me: str) -> list[str]:
    """Leases of ours to let go: those who ask will still have no more than we."""
    counts = Counter(who for who in holders.values() if who)
    found = []
    for name, who in sorted(wanted.items()):
        if who and holders.get(name) == me and _gives(counts, me, who):
            found.append(name)
            counts[me] -= 1
            counts[who] += 1
    return found


def _gives(counts: Counter[str], holder: str, asker: str) -> bool:
    """Whether the asker will have no more than the holder afterwards."""
    return counts[holder] >= counts[asker] + 2
