"""Turns what happens to channels into metrics and log lines."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Protocol

import trio

from dispatcher import limits
from dispatcher.core.levels import level_now, room_bytes
from dispatcher.core.life_cycle import Deadline, Removal
from dispatcher.deliver.sink import DeliveryFailed, FailureClass
from dispatcher.errors import DispatcherError
from dispatcher.model import Channel, Position
from dispatcher.observe.log import LogEvent, log, log_failure
from dispatcher.observe.metrics import Metrics
from dispatcher.observe.tracing import Attempt, Tracing
from dispatcher.queue.interface import ChannelStats, Loss
from dispatcher.runtime.active_channel import ActiveChannel, LastFailure, LossBurst
from dispatcher.runtime.attempts import AttemptLogs
from dispatcher.runtime.operator_webhook import OperatorWebhook


class Counted(Protocol):
    """A batch, or one message of it."""

    @property
    def events(self) -> int: ...
    @property
    def bytes_count(self) -> int: ...
    @property
    def first(self) -> Position: ...
    @property
    def last(self) -> Position: ...


FoundAtStart = tuple[LogEvent, str, Mapping[str, object]]
"""What was warned of, what it is about among such events, and the fields of its log line."""


def loss_subject(loss: Loss) -> str:
    """What a loss is about: those of one channel for one reason are told as one."""
    return f"{loss.channel} {loss.reason}"


@cache  # there are 16, and every idle channel has one
def _told(removal: Removal, level: float) -> tuple[Removal, float]:
    return removal, level


class Observer:
    """The one place where a delivery's outcome is counted and told."""

    def __init__(
        self,
        metrics: Metrics,
        attempts: AttemptLogs,
        webhook: OperatorWebhook | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        self.metrics = metrics
        self.attempts = attempts
        self.accepted_events = 0  # of all publishers, who count them here
        self.unrouted_events = 0
        self._webhook = webhook
        self._tracing = tracing

    def delivered(
        self, channel: ActiveChannel, batch: Counted, seconds: float, status: int | None = None
    ) -> None:
        """A batch was handed over; ``status`` is what a callback took it with."""
        self._attempt(channel, batch, seconds, None, status)

    def delivery_failed(
        self, channel: ActiveChannel, batch: Counted, failure: DeliveryFailed, seconds: float
    ) -> None:
        """A batch was not taken."""
        self._attempt(channel, batch, seconds, failure.failure, failure.status)
        channel.last_failure = LastFailure(at_s=trio.current_time(), reason=str(failure))
        log(
            logging.WARNING,
            LogEvent.DELIVERY_FAILED,
            channel=channel.row.id,
            events=batch.events,
            reason=failure,
            error_class=failure.failure,
            seconds=round(seconds, 3),
        )

    def lost(self, channel: ActiveChannel, loss: Loss) -> None:
        """Records left a channel without being delivered: never silently.

        The metrics count every one.  The log tells of the first at once and of those
        that follow in one line per ``limits.LOSS_LOG_INTERVAL_S``, or a full queue under
        load would write a line for every request.
        """
        channel.lost_count += loss.count
        now_s = trio.current_time()
        if channel.losses is None:
            channel.losses = {}
        burst = channel.losses.get(loss.reason)
        if burst is None:
            burst = channel.losses[loss.reason] = LossBurst(told_s=-math.inf)
        burst.untold_count += loss.count
        if now_s - burst.told_s < limits.LOSS_LOG_INTERVAL_S:
            return
        self._tell(
            logging.WARNING,
            LogEvent.CHANNEL_LOST_EVENTS,
            loss_subject(loss),
            {
                "channel": channel.row.id,
                "reason": loss.reason,
                "count": burst.untold_count,
                "last_seq": loss.last_seq,
            },
        )
        burst.told_s, burst.untold_count = now_s, 0

    def queue_grew(self, channel: ActiveChannel, stats: ChannelStats) -> None:
        """A channel's queue may have reached a level that its operator wants to know of."""
        queue_bytes = channel.row.limits.queue_bytes
        level = level_now(channel.queue_level, stats.record_bytes / queue_bytes)
        if level > channel.queue_level:
            self._warn(
                LogEvent.CHANNEL_FILLING,
                "queue",
                level,
                channel=channel.row.id,
                records=stats.records,
                record_bytes=stats.record_bytes,
                queue_bytes=queue_bytes,
                overflow=channel.row.limits.overflow,
            )
        channel.queue_level = level
        channel.room_bytes = room_bytes(stats.record_bytes, queue_bytes)

    def deadline_nears(self, channel: ActiveChannel, deadline: Deadline, now_s: float) -> None:
        """So much of the time is over after which a channel is removed; both on the same clock."""
        warned_of, told = channel.deadline_level
        if warned_of is not deadline.removal:
            told = 0.0
        level = level_now(told, deadline.share(now_s))
        if level > told:
            self._warn(
                LogEvent.CHANNEL_ENDING,
                "removal",
                level,
                channel=channel.row.id,
                reason=deadline.removal,
                in_s=round(deadline.due_s - now_s, 1),
            )
        channel.deadline_level = _told(deadline.removal, level)

    def parked(self, channel: Channel, position: Position, status: int) -> None:
        """An event was set aside, which its callback refused alone with this status."""
        fields = {"channel": channel.id, "epoch": position.epoch, "seq": position.seq, "status": status}
        self._tell(logging.WARNING, LogEvent.EVENT_PARKED, str(channel.id), fields)

    def not_parked(self, channel_id: int, reason: str) -> None:
        """An event that was to be set aside stays, and all that is behind it."""
        fields = {"channel": channel_id, "reason": reason}
        self._tell(logging.WARNING, LogEvent.EVENT_NOT_PARKED, str(channel_id), fields)

    def found_at_start(self, warnings: Iterable[FoundAtStart]) -> None:
        """Have the operator's webhook told of what was logged before there was one."""
        if self._webhook is not None:
            for event, subject, fields in warnings:
                self._webhook.note(event, subject, fields)

    def refusing(self, error: DispatcherError) -> None:
        """Nothing can be stored from now on."""
        self.metrics.is_accepting.set(0)
        fields = {"error_class": error.code, "reason": error.message}
        self._tell(logging.ERROR, LogEvent.STORAGE_REFUSES, "storage", fields)

    def accepting(self) -> None:
        """What could not be stored can be again."""
        self.metrics.is_accepting.set(1)
        self._tell(logging.INFO, LogEvent.STORAGE_ACCEPTS, "storage", {})

    def certificate_read(self, side: str, end_s: float) -> None:
        """A certificate is in use, until ``end_s`` in Unix time."""
        self.metrics.certificate_end.labels(side).set(end_s)

    def certificate_ends(self, side: str, left_s: float) -> None:
        """A certificate in use ends in ``left_s`` seconds, or has ended."""
        level = logging.WARNING if left_s > 0 else logging.ERROR
        self._tell(level, LogEvent.CERTIFICATE_ENDS, side, {"of": side, "in_days": round(left_s / 86_400, 1)})

    def task_failed(self, channel: Channel, error: Exception) -> None:
        """A channel's task ended with an exception that is a bug of ours."""
        log_failure(LogEvent.CHANNEL_TASK_FAILED, error, channel=channel.id)

    def _warn(self, event: LogEvent, kind: str, level: float, **fields: object) -> None:
        percent = round(100 * level)
        self.metrics.warnings.labels(kind, str(percent)).inc()
        self._tell(logging.WARNING, event, str(fields["channel"]), {"percent": percent, **fields})

    def _tell(self, level: int, event: LogEvent, subject: str, fields: Mapping[str, object]) -> None:
        """Log it, and have the operator's webhook told; ``subject``: what it is about, among such events."""
        log(level, event, **fields)
        if self._webhook is not None:
            self._webhook.note(event, subject, fields)

    def _attempt(
        self,
        channel: ActiveChannel,
        batch: Counted,
        seconds: float,
        failure: FailureClass | None,
        status: int | None,
    ) -> None:
        type_ = channel.row.type.value
        deliveries = self.metrics.deliveries[type_]
        if failure is None:
            deliveries.succeeded += 1
        else:
            deliveries.failed += 1
        deliveries.seconds.observe(seconds)
        self.metrics.batch_events.observe(batch.events)
        self.attempts.add(
            channel.row.id,
            seconds=seconds,
            events=batch.events,
            bytes_count=batch.bytes_count,
            failure=failure,
            status=status,
        )
        if self._tracing is not None:
            self._tracing.attempted(
                Attempt(
                    channel=channel.row.id,
                    type=type_,
                    first_seq=batch.first.seq,
                    last_seq=batch.last.seq,
                    seconds=seconds,
                    events=batch.events,
                    bytes_count=batch.bytes_count,
                    failure=failure,
                    status=status,
                )
            )
