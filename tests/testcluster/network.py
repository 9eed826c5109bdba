"""Connects the cluster's network namespace with the machine, and claims a slot by it."""

from __future__ import annotations

import subprocess

from . import needs
from .addresses import SLOTS, Addresses

UPLINK = "uplink"


class NoSlot(Exception):
    """All slots are taken."""


def _ip(*arguments: str, inside: int | None = None) -> subprocess.CompletedProcess[str]:
    """Run ``ip``, on the machine or in the network namespace of a process."""
    ip, nsenter = needs.which("ip"), needs.which("nsenter")
    assert ip is not None  # missing_for_up() looked
    assert nsenter is not None
    enter = [] if inside is None else [nsenter, "--target", str(inside), "--net"]
    return subprocess.run([*enter, ip, *arguments], capture_output=True, text=True)


def _must(done: subprocess.CompletedProcess[str]) -> None:
    if done.returncode:
        raise OSError(f"{' '.join(map(str, done.args))}: {done.stderr.strip()}")


def connect(pid: int) -> Addresses:
    """Connect the namespace of a process by the first free slot.

    The name of the interface can exist only once, which makes the claim safe against others.
    """
    for slot in range(SLOTS):
        addresses = Addresses(slot)
        if any(_ip("-4", "route", "show", "root", net).stdout for net in addresses.routed):
            continue
        pair = ("type", "veth", "peer", "name", UPLINK, "netns", str(pid))
        if _ip("link", "add", addresses.name, *pair).returncode == 0:
            break
    else:
        raise NoSlot(f"{SLOTS} test clusters run on this machine already, or it routes 198.18/15")
    _must(_ip("addr", "add", f"{addresses.node}/30", "dev", UPLINK, inside=pid))
    _must(_ip("link", "set", UPLINK, "up", inside=pid))
    _must(_ip("addr", "add", f"{addresses.host}/30", "dev", addresses.name))
    _must(_ip("link", "set", addresses.name, "up"))
    for net in addresses.routed:
        _must(_ip("route", "add", net, "via", addresses.node))
    return addresses


def disconnect(addresses: Addresses) -> None:
    """Take the connection away, with the routes over it; fine if it is gone."""
    _ip("link", "del", addresses.name)
