"""What a scrape of the metrics reads from the rest of the program.

Counters count themselves.  The books are one reading of the queue, in the step that writes the
page, so that they balance in each.  Only channels have to be looked at one by one; that goes in
steps before, since a hundred thousand of them take a third of a second.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import msgspec

from dispatcher import limits
from dispatcher.deliver.turns import Turns
from dispatcher.observe.metrics import Metrics, RecordTotals
from dispatcher.queue.interface import ChannelQueue
from dispatcher.runtime.directory import Directory
from dispatcher.runtime.observer import Observer


class _Seen(msgspec.Struct, frozen=True):
    """The channels, looked at one by one."""

    count: dict[tuple[str, str], int]  # by type and status
    oldest_unix_ms: int | None  # event in any of their queues


class Scrape:
    """Makes the page of metrics."""

    def __init__(
        self,
        *,
        directory: Directory,
        queue: ChannelQueue,
        turns: Turns,
        observer: Callable[[], Observer],
        now_unix_ms: Callable[[], int],
    ) -> None:
        """``observer`` is asked for later: it counts with the metrics made here."""
        self._directory = directory
        self._queue = queue
        self._turns = turns
        self._observer = observer
        self._now_unix_ms = now_unix_ms
        self._seen = _Seen({}, None)
        self.metrics = Metrics(self._record_totals, turns.seconds)

    async def page(self, accept: str) -> tuple[bytes, str]:
        """The exposition a scraper asked for, and its content type."""
        self._seen = await self._look()
        return self.metrics.render(accept)

    async def _look(self) -> _Seen:
        count: Counter[tuple[str, str]] = Counter()
        oldest_unix_ms: int | None = None
        for number, channel in enumerate(self._directory.channels(), 1):
            if number % limits.FLEET_CHANNELS_PER_STEP == 0:
                await self._turns.give_way()
            if channel.is_gone:
                continue
            count[channel.row.type.value, channel.status.value] += 1
            oldest = self._queue.stats(channel.row.id).oldest_unix_ms
            if oldest is not None:
                oldest_unix_ms = min(oldest, oldest_unix_ms or oldest)
        return _Seen(dict(count), oldest_unix_ms)

    def _record_totals(self) -> RecordTotals:
        totals, observer, seen = self._queue.totals(), self._observer(), self._seen
        now_unix_ms = self._now_unix_ms()
        oldest_unix_ms = min(now_unix_ms, seen.oldest_unix_ms or now_unix_ms)
        return RecordTotals(
            accepted=observer.accepted_events,
            unrouted=observer.unrouted_events,
            queued=totals.queued,
            recovered=totals.recovered,
            acked=totals.acked,
            expired=totals.expired,
            deleted=totals.deleted,
            dropped=totals.dropped,
            superseded=totals.superseded,
            parked=totals.parked,
            rejected=totals.rejected,
            records=totals.records,
            record_bytes=totals.record_bytes,
            memory_bytes=totals.memory_bytes,
            scratch_bytes=totals.scratch_bytes,
            journal_bytes=totals.journal_bytes,
            channels=seen.count,
            oldest_age_s=(now_unix_ms - oldest_unix_ms) / 1000,
        )
