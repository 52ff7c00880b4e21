"""What is told to an operator: channels and totals, as they are at this moment.

Read only.  Header values, keys and payloads never get in here.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version

import trio
from msgspec import UNSET, UnsetType

from dispatcher.core.retry import RetryState
from dispatcher.model import ChannelStatus, Durability
from dispatcher.queue.interface import ChannelQueue, ChannelStats
from dispatcher.runtime.active_channel import ActiveChannel
from dispatcher.runtime.attempts import AttemptLogs
from dispatcher.runtime.directory import Directory
from dispatcher.runtime.life_cycle import LifeCycle
from dispatcher.runtime.parking import Parking
from dispatcher.wire.admin_api import (
    ChannelDetail,
    ChannelRow,
    Delivery,
    FailureState,
    ParkedState,
    QueueState,
    RemovalState,
    SendState,
    Totals,
    origin,
)


class Views:
    """Puts together what an operator sees."""

    def __init__(
        self,
        *,
        directory: Directory,
        queue: ChannelQueue,
        life_cycle: LifeCycle,
        parking: Parking,
        attempts: AttemptLogs,
        durability: Durability,
        now_unix_ms: Callable[[], int],
    ) -> None:
        self._directory = directory
        self._queue = queue
        self._life_cycle = life_cycle
        self._parking = parking
        self._attempts = attempts
        self._durability = durability
        self._now_unix_ms = now_unix_ms
        self._started_s = trio.current_time()
        self._version = version("dispatcher")

    def stats(self, channel: ActiveChannel) -> ChannelStats:
        """A channel's queue."""
        return self._queue.stats(channel.row.id)

    def row(
        self,
        channel: ActiveChannel,
        rate_in: float | UnsetType = UNSET,
        rate_out: float | UnsetType = UNSET,
    ) -> ChannelRow:
        """A channel on one line."""
        row, stats = channel.row, self.stats(channel)
        return ChannelRow(
            id=row.id,
            account=self._directory.accounts[row.account_id].name,
            application=self._directory.applications[row.application_id].name,
            type=row.type,
            status=channel.status,
            records=stats.records,
            record_bytes=stats.record_bytes,
            queue_bytes=row.limits.queue_bytes,
            oldest_age_s=self._age_s(stats.oldest_unix_ms),
            confirmed=channel.confirmed_count,
            lost=channel.lost_count,
            failures=channel.retry.failures,
            next_attempt_in_s=_next_attempt_in_s(channel),
            rate_in=rate_in,
            rate_out=rate_out,
        )

    def detail(self, channel: ActiveChannel) -> ChannelDetail:
        """A channel, all that is known of it."""
        row, stats, line = channel.row, self.stats(channel), self.row(channel)
        next_batch = channel.limits()
        parked = self._parking.count(row.id)
        window = None if channel.sink is None else channel.sink.statistics()
        return ChannelDetail(
            **{name: getattr(line, name) for name in line.__struct_fields__},
            target=origin(row.url),
            header_names=sorted(row.headers),
            serialization=row.serialization,
            limits=row.limits,
            queue=QueueState(last_seq=stats.last_seq, settled_seq=stats.settled_seq, gaps=stats.gaps),
            sending=SendState(
                is_bound=channel.is_bound,
                unconfirmed_events=0 if window is None else window.unconfirmed_events,
                unconfirmed_bytes=0 if window is None else window.unconfirmed_bytes,
                frozen_events=None if channel.frozen is None else channel.frozen.events,
                batch_events_max=next_batch.events_max,
                batch_bytes_max=next_batch.bytes_max,
            ),
            parked=ParkedState(events=parked.events, message_bytes=parked.message_bytes),
            failing_for_s=_failing_for_s(channel.retry),
            last_failure=self._last_failure(channel),
            removal=self._removal(channel),
        )

    def deliveries(self, channel: ActiveChannel) -> list[Delivery]:
        """A channel's last attempts, the newest first."""
        return [
            Delivery(
                ended_unix_ms=attempt.ended_unix_ms,
                seconds=attempt.seconds,
                events=attempt.events,
                bytes=attempt.bytes_count,
                outcome="delivered" if attempt.failure is None else "failed",
                error=attempt.failure,
                status=attempt.status,
            )
            for attempt in self._attempts.of(channel.row.id)
        ]

    def totals(
        self,
        by_status: dict[ChannelStatus, int],
        oldest_unix_ms: int | None,
        rate_in: float | UnsetType = UNSET,
        rate_out: float | UnsetType = UNSET,
    ) -> Totals:
        """All channels together; what takes a step for each of them is given."""
        books = self._queue.totals()
        return Totals(
            at_unix_ms=self._now_unix_ms(),
            version=self._version,
            durability=self._durability,
            up_s=round(trio.current_time() - self._started_s, 1),
            channels=self._directory.channel_count,
            by_status=by_status,
            records=books.records,
            record_bytes=books.record_bytes,
            memory_bytes=books.memory_bytes,
            memory_bytes_max=books.memory_bytes_max,
            oldest_age_s=self._age_s(oldest_unix_ms),
            queued=books.queued,
            recovered=books.recovered,
            acked=books.acked,
            expired=books.expired,
            dropped=books.dropped,
            superseded=books.superseded,
            parked=books.parked,
            rejected=books.rejected,
            deleted=books.deleted,
            rate_in=rate_in,
            rate_out=rate_out,
        )

    def _age_s(self, unix_ms: int | None) -> float | None:
        return None if unix_ms is None else round(max(0, self._now_unix_ms() - unix_ms) / 1000, 1)

    def _last_failure(self, channel: ActiveChannel) -> FailureState | None:
        failure = channel.last_failure
        if failure is None:
            return None
        ago_ms = int((trio.current_time() - failure.at_s) * 1000)
        return FailureState(at_unix_ms=self._now_unix_ms() - ago_ms, reason=failure.reason)

    def _removal(self, channel: ActiveChannel) -> RemovalState | None:
        found = self._life_cycle.deadline(channel)
        if found is None:
            return None
        deadline, in_s = found
        return RemovalState(reason=deadline.removal, in_s=round(in_s, 1), timeout_s=deadline.timeout_s)


def _next_attempt_in_s(channel: ActiveChannel) -> float | None:
    """In how many seconds a failed batch goes again; None: nothing waits for that."""
    if channel.retry_now is None:
        return None
    return round(max(0.0, channel.retry.next_attempt_s - trio.current_time()), 1)


def _failing_for_s(retry: RetryState) -> float | None:
    if retry.failing_since_s is None:
        return None
    return round(trio.current_time() - retry.failing_since_s, 1)
