"""``jupyter console`` on a terminal, as somebody types into it."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path


class Terminal:
    """What the program said, and its keyboard."""

    def __init__(self, pid: int, descriptor: int) -> None:
        self._pid = pid
        self._descriptor = descriptor
        self._said = b""
        self._over = False

    @property
    def text(self) -> str:
        """All that it said."""
        return self._said.decode(errors="replace")

    def type(self, line: str) -> None:
        """A line, and the key behind it."""
        os.write(self._descriptor, line.encode() + b"\n")

    def read(self, wanted: str, timeout: float = 60) -> None:
        """Wait until it said this."""
        deadline = time.monotonic() + timeout
        while wanted not in self.text:
            assert time.monotonic() < deadline, self.text
            assert self._more(), self.text

    def end(self, timeout: float = 60) -> int:
        """Wait until it ended; its exit status."""
        deadline = time.monotonic() + timeout
        while self._more():
            assert time.monotonic() < deadline, self.text
        status = os.waitpid(self._pid, 0)[1]
        self._over = True
        return os.waitstatus_to_exitcode(status)

    def close(self) -> None:
        """Whatever it does now, it ends."""
        if not self._over:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
        os.close(self._descriptor)

    def _more(self) -> bool:
        """Read what there is within a moment; false once it closed the terminal."""
        if select.select([self._descriptor], [], [], 1.0)[0]:
            try:
                self._said += os.read(self._descriptor, 4096)
            except OSError:
                return False
        return True


@contextlib.contextmanager
def console(folder: Path, environment: dict[str, str], *options: str) -> Iterator[Terminal]:
    """Run it in a folder."""
    pid, descriptor = pty.fork()
    if pid == 0:
        os.chdir(folder)
        words = [sys.executable, "-m", "jupyter", "console", "--simple-prompt", *options]
        os.execvpe(sys.executable, words, environment)
    terminal = Terminal(pid, descriptor)
    try:
        yield terminal
    finally:
        terminal.close()
