"""Wall-clock time for what is stored with events: it never falls and never leaps.

A reading holds for half a millisecond: whoever publishes event by event asks a million
times a second, and looks for itself whether it does.

Two clocks are watched, the wall's and one that nobody can set.  Where the wall's
runs ahead of the other by more than ``limits.CLOCK_STEP_S`` between two readings,
somebody set it forward, and the difference is left out: a step of a day must not
expire a day's events.  Set back, it stands still here until it has caught up; if a
step forward is being undone, that much is simply forgotten again.
"""

from __future__ import annotations

from collections.abc import Callable

from dispatcher import limits


class WallClock:
    """Unix milliseconds, never smaller than before, nor than ``floor_unix_ms``."""

    def __init__(
        self, wall_s: Callable[[], float], steady_s: Callable[[], float], floor_unix_ms: int = 0
    ) -> None:
        self._wall_s = wall_s
        self.steady_s = steady_s  # the other clock
        self._wall_seen_s = wall_s()
        self.seen_s = steady_s()  # when the reading was taken that holds, on the other clock
        self.kept_until_s = self.seen_s + limits.CLOCK_KEPT_S
        self._left_out_s = 0.0
        self.kept_ms = max(floor_unix_ms, int(self._wall_seen_s * 1000))

    def unix_ms(self) -> int:
        """Now, in milliseconds since 1970."""
        steady_s = self.steady_s()
        return self.kept_ms if self.seen_s <= steady_s < self.kept_until_s else self.read(steady_s)

    def read(self, steady_s: float) -> int:
        """Take a new reading, now that the other clock says this."""
        wall_s = self._wall_s()
        step_s = (wall_s - self._wall_seen_s) - (steady_s - self.seen_s)
        if abs(step_s) > limits.CLOCK_STEP_S:
            self._left_out_s = max(0.0, self._left_out_s + step_s)
        self._wall_seen_s, self.seen_s = wall_s, steady_s
        self.kept_until_s = steady_s + limits.CLOCK_KEPT_S
        self.kept_ms = max(self.kept_ms, int((wall_s - self._left_out_s) * 1000))
        return self.kept_ms

    def raise_floor(self, unix_ms: int) -> None:
        """Stand still until this moment has been reached."""
        self.kept_ms = max(self.kept_ms, unix_ms)
