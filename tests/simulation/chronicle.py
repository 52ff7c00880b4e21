"""What happened in a run, in order: a digest to compare runs by, and the last lines to read."""

from __future__ import annotations

import hashlib
from collections import deque

import trio

_LINES_KEPT = 400


class Violation(AssertionError):
    """A promise was broken."""


class Chronicle:
    """Takes note of everything that is seen from outside."""

    def __init__(self, *, is_loud: bool = False) -> None:
        self.lines: deque[str] = deque(maxlen=_LINES_KEPT)
        self.count = 0
        self._hash = hashlib.sha256()
        self._is_loud = is_loud

    def note(self, what: str) -> None:
        """One thing happened now."""
        line = f"{trio.current_time():11.6f} {what}"
        self.count += 1
        self._hash.update(line.encode() + b"\n")
        self.lines.append(line)
        if self._is_loud:
            print(line)

    def digest(self) -> str:
        """The same for two runs in which the same happened."""
        return self._hash.hexdigest()
