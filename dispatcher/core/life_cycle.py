"""When a channel is removed, and when it is worth looking again.  Pure.

Removal clocks count only the time that the dispatcher was up: all moments here are
seconds of *up time*, which goes on across restarts and stands still in between.
Event age is another matter (wall time, downtime included) and is not decided here.
"""

from __future__ import annotations

import math
from enum import StrEnum

import msgspec

from dispatcher.model import ChannelClocks, ChannelLimits, ChannelType


class Removal(StrEnum):
    """Why a channel is removed, in the words of logs."""

    IDLE = "no events came in"
    DELIVERY_FAILURE = "delivery failed all the time"
    DISCONNECTED = "no socket was connected"
    UNPOLLED = "nobody polled"


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What to do about a channel now: remove it, or look again at ``look_again_s``."""

    removal: Removal | None
    look_again_s: float


class Deadline(msgspec.Struct, frozen=True, kw_only=True):
    """A clock that runs, and what happens when it runs out."""

    removal: Removal
    due_s: float
    timeout_s: float

    def share(self, now_s: float) -> float:
        """How much of the time is over, from 0 on."""
        return max(0.0, 1 - (self.due_s - now_s) / self.timeout_s)

    def at(self, share: float) -> float:
        """When so much of the time will be over."""
        return self.due_s - (1 - share) * self.timeout_s


def next_deadline(type_: ChannelType, limits: ChannelLimits, clocks: ChannelClocks) -> Deadline | None:
    """The clock that runs out first; None: none runs."""
    running = [
        Deadline(removal=removal, due_s=since_s + timeout_s, timeout_s=timeout_s)
        for since_s, timeout_s, removal in _clocks(type_, limits, clocks)
        if since_s is not None
    ]
    return min(running, key=lambda deadline: deadline.due_s, default=None)


def judge(type_: ChannelType, limits: ChannelLimits, clocks: ChannelClocks, now_s: float) -> Verdict:
    """Say whether a channel is to be removed at ``now_s``.

    ``look_again_s`` is exact without anyone telling us of activity: activity only
    moves a deadline away, and a clock that is not running now can run out no sooner
    than its whole time from now.
    """
    look_again_s = math.inf
    for since_s, timeout_s, removal in _clocks(type_, limits, clocks):
        due_s = (now_s if since_s is None else since_s) + timeout_s
        if due_s <= now_s:
            return Verdict(removal=removal, look_again_s=now_s)
        look_again_s = min(look_again_s, due_s)
    return Verdict(removal=None, look_again_s=look_again_s)


def _clocks(
    type_: ChannelType, limits: ChannelLimits, clocks: ChannelClocks
) -> list[tuple[float | None, float, Removal]]:
    """The clocks of a type: since when each runs (None: it does not), for how long, and what then."""
    found: list[tuple[float | None, float, Removal]] = [
        (clocks.last_event_s, limits.idle_timeout_s, Removal.IDLE)
    ]
    if type_ is ChannelType.CALLBACK:
        found.append((clocks.failing_since_s, limits.delivery_failure_timeout_s, Removal.DELIVERY_FAILURE))
    elif type_ is ChannelType.WEB_SOCKET:
        found.append(
            (clocks.disconnected_since_s, limits.websocket_disconnected_timeout_s, Removal.DISCONNECTED)
        )
    elif type_ is ChannelType.LONG_POLLING:
        found.append((clocks.disconnected_since_s, limits.long_poll_idle_s, Removal.UNPOLLED))
    return found
