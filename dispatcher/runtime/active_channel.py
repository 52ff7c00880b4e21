"""One registered channel while the dispatcher runs: its row, its sink, where delivery stands.

State only; it is changed by the channel's task, by the sink's confirmations and by
changes of the registration, all on the Trio thread and never across an ``await``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import msgspec
import trio
from msgspec.structs import replace

from dispatcher.core import batching
from dispatcher.core.life_cycle import Removal
from dispatcher.core.refusals import Search
from dispatcher.core.retry import BatchSize, RetryState
from dispatcher.deliver.sink import Sink
from dispatcher.model import Channel, ChannelStatus, Position, SliceLimits
from dispatcher.queue.interface import FrozenBatch

# Values that most channels share: an idle one is little more than what it does not share.
_FRESH = RetryState()
_NO_SEARCH = Search()


@lru_cache(maxsize=256)
def _size(limit_bytes: int) -> BatchSize:
    return BatchSize(limit_bytes=limit_bytes)


class LossBurst(msgspec.Struct):
    """Losses of one reason that follow each other closely: told of once, then in sums."""

    told_s: float  # when the last line was logged, on Trio's clock
    untold_count: int = 0  # records lost since


class LastFailure(msgspec.Struct, frozen=True):
    """Why a delivery failed, in our own words."""

    at_s: float  # on Trio's clock
    reason: str


class ActiveChannel:
    """What delivering one channel needs to remember.

    ``sent`` is the last position handed to the present sink; None means that the
    next slice starts with the oldest record.  ``is_dirty`` says that something came
    since the task last looked, so that no wakeup is lost between looking and ending.
    """

    __slots__ = (
        "confirmed_count",
        "consumer_wakeup",
        "deadline_level",
        "disconnected_since_s",
        "form",
        "frozen",
        "is_dirty",
        "is_gone",
        "is_running",
        "last_event_s",
        "last_failure",
        "losses",
        "lost_count",
        "make_sink",
        "queue_level",
        "retry",
        "retry_now",
        "room_bytes",
        "row",
        "saved_running",
        "scope",
        "search",
        "sent",
        "sink",
        "size",
    )

    def __init__(self, row: Channel) -> None:
        self.row = row
        self.form = batching.form_of(row)
        self.size = _size(batching.bytes_max(row))
        self.retry = _FRESH
        self.search = _NO_SEARCH
        self.frozen: FrozenBatch | None = None
        self.sink: Sink | None = None
        self.make_sink: Callable[[ActiveChannel], Sink] | None = None  # when there is something to send
        self.sent: Position | None = None
        self.losses: dict[str, LossBurst] | None = None  # by reason: those told of lately
        self.last_failure: LastFailure | None = None
        self.queue_level = 0.0  # of core.levels, that was told of last
        self.room_bytes = 0  # that may come in before the queue's level is looked at
        self.deadline_level: tuple[Removal | None, float] = (None, 0.0)  # the same for what removes it next
        self.saved_running: int | None = (
            None  # which clocks ran, as saved last (runtime.life_cycle); None: never
        )
        self.confirmed_count = 0  # records, since the start; and of those lost
        self.lost_count = 0
        self.scope: trio.CancelScope | None = None
        self.retry_now: trio.Event | None = None
        self.consumer_wakeup: trio.Event | None = None  # of a consumer in this process, or of an open poll
        now_s = trio.current_time()
        self.last_event_s = now_s  # on Trio's clock, as the next
        self.disconnected_since_s = now_s if row.type.awaits_clients else None
        self.is_dirty = False
        self.is_running = False
        self.is_gone = False

    def __repr__(self) -> str:
        state = "gone" if self.is_gone else "running" if self.is_running else "idle"
        return f"<ActiveChannel {self.row.id} {self.row.type} {state} sent={self.sent} retry={self.retry}>"

    @property
    def status(self) -> ChannelStatus:
        """How it does, in one word."""
        if self.row.is_paused:
            return ChannelStatus.PAUSED
        if self.row.type.awaits_clients:
            is_alone = self.disconnected_since_s is not None
            return ChannelStatus.DISCONNECTED if is_alone else ChannelStatus.CONNECTED
        return ChannelStatus.FAILING if self.frozen is not None else ChannelStatus.OK

    @property
    def is_bound(self) -> bool:
        """Whether there is where to send, or a consumer who takes."""
        return self.sink is not None or self.make_sink is not None or self.consumer_wakeup is not None

    def ready_sink(self) -> Sink | None:
        """The sink, made now if it was to be made when it is needed."""
        if self.sink is None and self.make_sink is not None:
            self.sink = self.make_sink(self)
            self.make_sink = None
        return self.sink

    @property
    def is_at_rest(self) -> bool:
        """Whether nothing is being sent at this moment."""
        return not self.is_running or self.retry_now is not None

    def limits(self) -> SliceLimits:
        """Bounds of the next slice."""
        bounds = batching.slice_limits(self.row, self.size.limit_bytes)
        return replace(bounds, events_max=self.search.bound(bounds.events_max))

    def replace_row(self, row: Channel) -> None:
        """Take over a changed registration; a new serialization thaws a frozen batch."""
        form = batching.form_of(row)
        if form != self.form or batching.events_max(row) != batching.events_max(self.row):
            self.frozen = None
        self.row, self.form = row, form

    def remember_failing(self, since_s: float) -> None:
        """Its callback has been failing for longer than this run; an attempt is due at once."""
        self.retry = RetryState(failing_since_s=since_s)

    def start_over(self) -> None:
        """Forget past failures; a pause before the next attempt ends now."""
        self.retry = _FRESH
        self.search = _NO_SEARCH
        self.size = _size(batching.bytes_max(self.row))
        self.end_pause()

    def end_pause(self) -> None:
        """Let a pause before the next attempt end now."""
        if self.retry_now is not None:
            self.retry_now.set()
