"""A kernel's five ports, kept for it as long as its pod lives.

A socket that is bound (with SO_REUSEADDR) but never listens keeps the port from being handed out
to others, while the kernel may still bind and listen on it: so ports can be chosen before the
kernel exists, whatever its language, and are the same after each restart.
"""

from __future__ import annotations

import errno
import os
import socket
from typing import Dict, Iterable, Mapping, Optional, Set

NAMES = ("shell_port", "iopub_port", "stdin_port", "control_port", "hb_port")


class PortInUse(Exception):
    """Somebody else listens on a port that the kernel must have."""


def _bind(ip: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind(("" if ip == "*" else ip, port))
    except OSError:
        sock.close()
        raise
    return sock


class Ports:
    """Five reserved ports on ``ip``; ``wanted`` None or 0 means any free one.

    Raises
    ------
    PortInUse
        A wanted port is taken.
    """

    def __init__(self, ip: str, wanted: Optional[Mapping[str, int]]) -> None:
        self.ip = ip
        self.numbers: Dict[str, int] = {}
        self._held = []
        for name in NAMES:
            port = int((wanted or {}).get(name) or 0)
            try:
                sock = _bind(ip, port)
            except OSError as error:
                self.close()
                raise PortInUse(f"{name} {port} cannot be bound on {ip}: {error}") from error
            self._held.append(sock)
            self.numbers[name] = sock.getsockname()[1]

    def taken(self) -> Optional[str]:
        """The name of a port on which somebody listens now, else None."""
        for name, port in self.numbers.items():
            try:
                probe = _bind(self.ip, port)
            except OSError:
                return name
            try:
                probe.listen(1)
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
                return name
            finally:
                probe.close()
        return None

    def close(self) -> None:
        """Let the ports go."""
        for sock in self._held:
            sock.close()
        self._held.clear()


def clients(port: int, own: Iterable[int] = ()) -> int:
    """Established TCP connections to a local port, without those from the processes ``own``.

    A kernel is connected to its own shell channel (for its debugger).
    """
    inodes: Dict[str, str] = {}
    peers = []
    for path in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(path, encoding="ascii") as file:
                next(file, None)
                for line in file:
                    words = line.split()
                    if words[3] != "01":
                        continue
                    inodes[words[1]] = words[9]
                    if int(words[1].rpartition(":")[2], 16) == port:
                        peers.append(words[2])
        except FileNotFoundError:
            continue  # no IPv6 here
    mine = set().union(*map(_sockets, own))
    return sum(inodes.get(peer) not in mine for peer in peers)


def _sockets(pid: int) -> Set[str]:
    """Inodes of a process's sockets."""
    found = set()
    try:
        for name in os.listdir(f"/proc/{pid}/fd"):
            try:
                target = os.readlink(f"/proc/{pid}/fd/{name}")
            except FileNotFoundError:
                continue  # closed meanwhile
            if target.startswith("socket:["):
                found.add(target[8:-1])
    except FileNotFoundError:
        return found  # the process ended
    return found
