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
from dispatcher.runtime.active_channel import ActiveChannel, LossBurst


class Counted(Protocol):
    """A batch, or one message of it."""

    @property
    def events(self) -> int: ...


class Observer:
    """The one place where a delivery's outcome is counted and told."""

    def __init__(self, metrics: Metrics) -> None:
        self.metrics = metrics

    def accepted(self, events: int, unrouted: int) -> None:
        """A publisher's events were taken."""
        self.metrics.events_accepted.inc(events)
        if unrouted:
            self.metrics.events_unrouted.inc(unrouted)

    def delivered(self, channel: Channel, batch: Counted, seconds: float) -> None:
        """A batch was handed over."""
        self._attempt(channel, batch, seconds, "success")

    def delivery_failed(
        self, channel: Channel, batch: Counted, failure: DeliveryFailed, seconds: float
    ) -> None:
        """A batch was not taken."""
        self._attempt(channel, batch, seconds, "failure")
        log(
            logging.WARNING,
            LogEvent.DELIVERY_FAILED,
            channel=channel.id,
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

    def _attempt(self, channel: Channel, batch: Counted, seconds: float, outcome: str) -> None:
        self.metrics.attempts.labels(channel.type.value, outcome).inc()
        self.metrics.delivery_seconds.labels(channel.type.value).observe(seconds)
        self.metrics.batch_events.observe(batch.events)
