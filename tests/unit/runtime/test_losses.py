"""A loss is always counted, and told of without flooding the log."""

from __future__ import annotations

import pytest
import trio
from support.channels import NO_TOTALS, channel_row
from trio.testing import MockClock

from dispatcher import limits
from dispatcher.observe.metrics import Metrics
from dispatcher.queue.interface import Loss
from dispatcher.runtime.active_channel import ActiveChannel
from dispatcher.runtime.observer import Observer


def loss(count: int, reason: str = "overflow") -> Loss:
    return Loss(channel=1, reason=reason, count=count, record_bytes=0, first_seq=1, last_seq=count)


async def test_a_burst_is_one_line_and_the_next_line_has_the_sum(
    caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    observer, channel = Observer(Metrics(lambda: NO_TOTALS)), ActiveChannel(channel_row())
    for _ in range(1000):
        observer.lost(channel, loss(3))
    await trio.sleep(limits.LOSS_LOG_INTERVAL_S)
    observer.lost(channel, loss(1))
    counts = [record.fields["count"] for record in caplog.records]  # type: ignore[attr-defined]
    assert counts == [3, 999 * 3 + 1]


async def test_each_reason_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    observer, channel = Observer(Metrics(lambda: NO_TOTALS)), ActiveChannel(channel_row())
    observer.lost(channel, loss(1, "overflow"))
    observer.lost(channel, loss(1, "expired"))
    assert [record.fields["reason"] for record in caplog.records] == ["overflow", "expired"]  # type: ignore[attr-defined]
