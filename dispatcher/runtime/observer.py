"""Turns what happens to channels into metrics and log lines."""

from __future__ import annotations

import logging
import math
from typing import Protocol

import trio

from dispatcher import limits
from dispatcher.deliver.sink import DeliveryFailed
from dispatcher.model import Channel
from dispatcher.observe.log import LogEvent, log
from dispatcher.observe.metrics import Metrics
from dispatcher.queue.interface import Loss
from dispatcher.runtime.active_channel import ActiveChannel, LastFailure, LossBurst
from dispatcher.runtime.attempts import AttemptLogs


class Counted(Protocol):
    """A batch, or one message of it."""

    @property
    def events(self) -> int: ...
    @property
    def bytes_count(self) -> int: ...


class Observer:
    """The one place where a delivery's outcome is counted and told."""

    def __init__(self, metrics: Metrics, attempts: AttemptLogs) -> None:
        self.metrics = metrics
        self.attempts = attempts

    def accepted(self, events: int, unrouted: int) -> None:
        """A publisher's events were taken."""
        self.metrics.events_accepted.inc(events)
        if unrouted:
            self.metrics.events_unrouted.inc(unrouted)

    def delivered(self, channel: ActiveChannel, batch: Counted, seconds: float) -> None:
        """A batch was handed over."""
        self._attempt(channel, batch, seconds, None)

    def delivery_failed(
        self, channel: ActiveChannel, batch: Counted, failure: DeliveryFailed, seconds: float
    ) -> None:
        """A batch was not taken."""
        self._attempt(channel, batch, seconds, failure)
        channel.last_failure = LastFailure(at_s=trio.current_time(), reason=str(failure))
        log(
            logging.WARNING,
            LogEvent.DELIVERY_FAILED,
            channel=channel.row.id,
            events=batch.events,
            reason=failure,
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
        burst = channel.losses.get(loss.reason)
        if burst is None:
            burst = channel.losses[loss.reason] = LossBurst(told_s=-math.inf)
        burst.untold_count += loss.count
        if now_s - burst.told_s < limits.LOSS_LOG_INTERVAL_S:
            return
        log(
            logging.WARNING,
            LogEvent.CHANNEL_LOST_EVENTS,
            channel=channel.row.id,
            reason=loss.reason,
            count=burst.untold_count,
            last_seq=loss.last_seq,
        )
        burst.told_s, burst.untold_count = now_s, 0

    def task_failed(self, channel: Channel) -> None:
        """A channel's task ended with an exception that is a bug of ours; logs the traceback."""
        logging.getLogger("dispatcher").exception(
            LogEvent.CHANNEL_TASK_FAILED, extra={"fields": {"channel": channel.id}}
        )

    def _attempt(
        self, channel: ActiveChannel, batch: Counted, seconds: float, failed: DeliveryFailed | None
    ) -> None:
        type_ = channel.row.type.value
        self.metrics.attempts.labels(type_, "success" if failed is None else "failure").inc()
        self.metrics.delivery_seconds.labels(type_).observe(seconds)
        self.metrics.batch_events.observe(batch.events)
        self.attempts.add(
            channel.row.id,
            seconds=seconds,
            events=batch.events,
            bytes_count=batch.bytes_count,
            failed=failed,
        )
