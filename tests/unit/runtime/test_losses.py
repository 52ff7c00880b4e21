"""A loss is always counted, and told of without flooding the log."""

from __future__ import annotations

import pytest
import trio
from support.channels import NO_TOTALS, channel_row
from trio.testing import MockClock

from dispatcher import limits
from dispatcher.errors import MemoryFull
from dispatcher.model import Notification
from dispatcher.observe.log import LogEvent
from dispatcher.observe.metrics import Metrics
from dispatcher.queue.interface import Loss
from dispatcher.queue.memory import MemoryQueue
from dispatcher.runtime.active_channel import ActiveChannel
from dispatcher.runtime.app import open_dispatcher
from dispatcher.runtime.attempts import AttemptLogs
from dispatcher.runtime.observer import Observer
from dispatcher.runtime.world import World


def loss(count: int, reason: str = "overflow") -> Loss:
    return Loss(channel=1, reason=reason, count=count, record_bytes=0, first_seq=1, last_seq=count)


async def test_a_burst_is_one_line_and_the_next_line_has_the_sum(
    caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    observer, channel = (
        Observer(Metrics(lambda: NO_TOTALS), AttemptLogs(lambda: 0)),
        ActiveChannel(channel_row()),
    )
    for _ in range(1000):
        observer.lost(channel, loss(3))
    await trio.sleep(limits.LOSS_LOG_INTERVAL_S)
    observer.lost(channel, loss(1))
    counts = [record.fields["count"] for record in caplog.records]  # type: ignore[attr-defined]
    assert counts == [3, 999 * 3 + 1]


async def test_each_reason_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    observer, channel = (
        Observer(Metrics(lambda: NO_TOTALS), AttemptLogs(lambda: 0)),
        ActiveChannel(channel_row()),
    )
    observer.lost(channel, loss(1, "overflow"))
    observer.lost(channel, loss(1, "expired"))
    assert [record.fields["reason"] for record in caplog.records] == ["overflow", "expired"]  # type: ignore[attr-defined]


async def test_what_was_dropped_for_an_append_that_failed_is_told_of_at_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World(queue=lambda epoch, memory_bytes: MemoryQueue(epoch, 4_000))
    async with open_dispatcher(world=world) as hub:
        application = await hub.ensure_application(await hub.ensure_account(), "app")
        await hub.register_websocket(application)
        hub.publish(application, Notification("d", "/1"))
        with pytest.raises(MemoryFull):
            hub.publish(application, Notification("d", "/1", b"x" * 10_000))
        told = [record.fields for record in caplog.records if record.msg == LogEvent.CHANNEL_LOST_EVENTS]  # type: ignore[attr-defined]
        assert [(fields["reason"], fields["count"]) for fields in told] == [("memory", 1)]
        hub.publish(application, Notification("d", "/1"))
    assert len([record for record in caplog.records if record.msg == LogEvent.CHANNEL_LOST_EVENTS]) == 1
