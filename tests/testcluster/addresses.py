"""Addresses and names of one cluster on a machine that may run several.

All are of 198.18.0.0/15, the range kept for tests of networks, so that no real network is hidden.
The cluster sits in a network namespace; one pair of interfaces connects it to the machine, and no
route leads out of it.
"""

from __future__ import annotations

from typing import NamedTuple

SLOTS = 16


class Addresses(NamedTuple):
    """The addresses of the cluster in one of the slots of the machine."""

    slot: int

    @property
    def name(self) -> str:
        """Of the machine's interface, and of the control groups."""
        return f"jetc{self.slot}"

    @property
    def host(self) -> str:
        """The machine, seen from the cluster."""
        return f"198.19.{self.slot * 16 + 8}.1"

    @property
    def node(self) -> str:
        """The real node and the API server, seen from the machine and from pods."""
        return f"198.19.{self.slot * 16 + 8}.2"

    @property
    def pods(self) -> str:
        """Pods of the real node."""
        return f"198.18.{self.slot * 16}.0/21"

    @property
    def fake_pods(self) -> str:
        """Pods that only pretend. Routed into the cluster, where nothing answers for them."""
        return f"198.18.{self.slot * 16 + 8}.1/21"

    @property
    def services(self) -> str:
        """Services; the first address is the API server's."""
        return f"198.19.{self.slot * 16}.0/21"

    @property
    def api_service(self) -> str:
        """Address of the service ``kubernetes``."""
        return f"198.19.{self.slot * 16}.1"

    @property
    def routed(self) -> tuple[str, str]:
        """The two ranges that the machine routes into the cluster."""
        return f"198.18.{self.slot * 16}.0/20", self.services

    @property
    def server(self) -> str:
        """The API server's URL."""
        return f"https://{self.node}:6443"
