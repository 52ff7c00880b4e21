"""How an event is found that its receiver refuses, and when it may be set aside.  Pure.

A receiver that answers 400 or 422 says that it understood the request and does not want what
is in it.  Of a batch that may be one event.  So the next batch has half as many, until one
event is refused that came alone; what is taken lets the batches grow again, twofold.

One refusal proves little: a receiver that is broken refuses everything.  The event goes
again after the channel's pause, and is set aside when it is refused again.  Pauses grow
until something is taken, so a broken receiver costs an event for each of its longest
pauses, and at most ``limits.PARKED_EVENTS_PER_CHANNEL_MAX`` of them.
"""

from __future__ import annotations

import msgspec

from dispatcher import limits
from dispatcher.model import Position

_REFUSALS = (400, 422)


class Search(msgspec.Struct, frozen=True, kw_only=True):
    """Where a channel stands in its search.  A fresh one searches for nothing."""

    events_max: int | None = None  # of the next batch; None: as many as ever
    position: Position | None = None  # of the event that was refused alone last
    refusals: int = 0  # of that event, in a row

    @property
    def may_park(self) -> bool:
        """Whether the event refused last was refused often enough to be set aside."""
        return self.refusals >= limits.REFUSALS_BEFORE_PARKING

    def bound(self, events_max: int) -> int:
        """How many events the next batch may have, of so many that are allowed."""
        return events_max if self.events_max is None else min(events_max, self.events_max)


def is_refusal(status: int | None) -> bool:
    """Whether an answer says that the receiver does not want these events."""
    return status in _REFUSALS


def after_refusal(search: Search, position: Position, events: int) -> Search:
    """A batch of so many events that ends at a position was refused."""
    if events > 1:
        return Search(events_max=events // 2)
    is_same = search.position == position
    return Search(events_max=1, position=position, refusals=search.refusals + 1 if is_same else 1)


def after_taken(search: Search, events_max: int) -> Search:
    """A batch was taken; ``events_max`` is how many events a batch may have in the end."""
    if search.events_max is None or search.events_max * 2 >= events_max:
        return Search()
    return Search(events_max=search.events_max * 2)
