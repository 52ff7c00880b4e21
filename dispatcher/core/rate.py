"""How often something may be done: at most so many times in any period of this length."""

from __future__ import annotations

import msgspec


class Rate(msgspec.Struct, frozen=True, kw_only=True):
    """A bound: ``count_max`` times in any ``period_s``."""

    count_max: int
    period_s: float


class RateWindow(msgspec.Struct, frozen=True):
    """When it was done lately, oldest first; never more than ``Rate.count_max`` times."""

    times_s: tuple[float, ...] = ()


def admit(window: RateWindow, rate: Rate, now_s: float) -> tuple[RateWindow, float]:
    """Do it once more at ``now_s``: the window after it, and 0 when it may be done.

    When it may not, the second value is the wait in seconds until it may, and a
    refusal itself does not count: asking often does not lengthen the wait.
    """
    recent_s = tuple(time_s for time_s in window.times_s if time_s > now_s - rate.period_s)
    if len(recent_s) >= rate.count_max:
        return RateWindow(recent_s), recent_s[0] + rate.period_s - now_s
    return RateWindow((*recent_s, now_s)), 0.0


def is_idle(window: RateWindow, rate: Rate, now_s: float) -> bool:
    """Whether the window says no more than a fresh one, so that it can be forgotten."""
    return not window.times_s or window.times_s[-1] <= now_s - rate.period_s
