"""Who of several controllers looks after which namespaces: leases by hashed shard. Pure.

With one shard one controller does everything and the others stand by. With more, each lease is
contended for on its own, so that the work can spread. A namespace is in the same shard for all who
count as many shards; two who do not may keep the same pool, which does no harm and is of no use.
"""

from __future__ import annotations

import zlib


def lease_name(shard: int, shards: int) -> str:
    """The lease of a shard; never that of a single namespace's pool."""
    if not 0 <= shard < shards:
        raise ValueError(f"shard {shard} of {shards}")
    return f"shard-{shard}-of-{shards}"


def shard_of(namespace: str, shards: int) -> int:
    """The shard of a namespace.

    By rendezvous: with one shard more, only the namespaces that go to the new one move.
    """
    return max(range(shards), key=lambda shard: (_weight(namespace, shard), shard))


def _weight(namespace: str, shard: int) -> int:
    # CRC alone is linear: the order of two shards would be the same for half of all names.
    mixed = zlib.crc32(f"{shard}/{namespace}/{shard}".encode())
    mixed = (mixed ^ (mixed >> 16)) * 0x85EBCA6B & 0xFFFFFFFF
    mixed = (mixed ^ (mixed >> 13)) * 0xC2B2AE35 & 0xFFFFFFFF
    return mixed ^ (mixed >> 16)
