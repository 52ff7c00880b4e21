"""How far long work is, on stderr, while somebody looks at it; elsewhere nothing at all.

    with progress(is_wanted=not is_json) as bar:
        with bar.step("copying", whole=1000):
            bar.advance(10)

A thread draws the line, so that it moves also while one call of the work takes its time; what
it shows are numbers that the work leaves behind.  The line is rewritten in place by a carriage
return and spaces alone, without colours, and is gone in the end.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

from dispatcher import limits
from dispatcher.cli.progress_text import progress_text


class Bar:
    """What is being done, and how much of it is; without a ``terminal`` nobody is told."""

    def __init__(self, terminal: TextIO | None = None, now_s: Callable[[], float] = time.monotonic) -> None:
        self.label = ""
        self._terminal = terminal
        self._now_s = now_s
        self._began_s = now_s()
        self._whole: int | None = None
        self._look: Callable[[], int] | None = None
        self._done = 0
        self._drawn = 0  # columns
        self._lock = threading.Lock()  # what is shown, and the terminal

    @contextmanager
    def step(
        self, label: str, whole: int | None = None, look: Callable[[], int] | None = None
    ) -> Iterator[None]:
        """Name a part of the work; it takes ``whole`` bytes, when that is known.

        How much is done is what ``advance`` was told or, with ``look``, what that says: it
        is called by another thread, and never after the step.
        """
        with self._lock:
            self.label, self._whole, self._look, self._done = label, whole, look, 0
            self._began_s = self._now_s()
        try:
            yield
        finally:
            with self._lock:
                self._look = None

    def advance(self, count: int) -> None:
        """So many bytes more are done."""
        self._done += count

    def say(self, text: str) -> None:
        """Print a line on stderr, above what is drawn."""
        with self._lock:
            self._erase()
            print(text, file=sys.stderr, flush=True)

    def draw(self) -> None:
        """Show how it stands."""
        with self._lock:
            if self._terminal is None or not self.label:
                return
            done = self._done if self._look is None else self._look()
            elapsed_s = self._now_s() - self._began_s
            text = progress_text(self.label, elapsed_s, done, self._whole, _columns(self._terminal) - 1)
            self._write(f"\r{text.ljust(self._drawn)}")
            self._drawn = len(text)

    def erase(self) -> None:
        """Leave the line as it was before."""
        with self._lock:
            self._erase()

    def _erase(self) -> None:
        if self._drawn:
            self._write(f"\r{' ' * self._drawn}\r")
            self._drawn = 0

    def _write(self, text: str) -> None:
        assert self._terminal is not None
        with suppress(OSError):  # a terminal that has gone is no reason to end the work
            self._terminal.write(text)
            self._terminal.flush()


@contextmanager
def progress(is_wanted: bool = True) -> Iterator[Bar]:
    """A bar for the work inside; drawn when stderr is a terminal, and the work takes its time."""
    if not (is_wanted and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"):
        yield Bar()
        return
    bar, ended = Bar(sys.stderr), threading.Event()
    painter = threading.Thread(target=_paint, args=(bar, ended), name="progress", daemon=True)
    painter.start()
    try:
        yield bar
    finally:
        ended.set()
        painter.join()
        bar.erase()


def _paint(bar: Bar, ended: threading.Event) -> None:
    pause_s = limits.PROGRESS_AFTER_S
    while not ended.wait(pause_s):
        bar.draw()
        pause_s = limits.PROGRESS_EVERY_S


def _columns(terminal: TextIO) -> int:
    """As wide as the terminal is now; some do not know."""
    try:
        return os.get_terminal_size(terminal.fileno()).columns or 80
    except OSError:
        return 80
