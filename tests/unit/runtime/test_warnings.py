"""Warnings before a queue is full and before a channel is removed."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import trio
from support.admin_api import Operator, open_operator
from trio.testing import MockClock

from dispatcher.model import Notification

DAY_S = 86_400


def told(caplog: pytest.LogCaptureFixture, event: str) -> list[dict[str, Any]]:
    return [record.fields for record in caplog.records if record.message == event]  # type: ignore[attr-defined]


def metric(operator: Operator, kind: str, percent: int) -> float | None:
    labels = {"kind": kind, "percent": str(percent)}
    return operator.house.hub.parts.metrics.registry.get_sample_value(
        "dispatcher_channel_warnings_total", labels
    )


async def test_a_queue_that_fills_warns_once_at_each_level_and_again_after_it_was_emptied(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    async with open_operator() as operator:
        hub, application = operator.house.hub, operator.house.application
        async with hub.consume(application):
            pass
        event = Notification("dev-1", "/1", b"x" * 100_000)
        for _ in range(2):
            for _ in range(400):
                hub.publish(application, event)
            await operator.house.events()
        warnings = told(caplog, "channel.filling")
        assert [one["percent"] for one in warnings] == [50, 70, 90, 50, 70, 90]
        for one in warnings:
            assert one["record_bytes"] / one["queue_bytes"] == pytest.approx(one["percent"] / 100, abs=0.01)
        assert metric(operator, "queue", 90) == 2


async def test_a_queue_in_which_little_stays_warns_of_nothing(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_operator() as operator:
        hub, application = operator.house.hub, operator.house.application
        async with hub.consume(application):
            pass
        for _ in range(30):
            for _ in range(20):
                hub.publish(application, Notification("dev-1", "/1", b"x" * 100_000))
            await operator.house.events()
        assert told(caplog, "channel.filling") == []


async def test_a_channel_without_its_socket_is_told_of_three_times_before_it_is_removed(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    async with open_operator() as operator:
        number = await operator.channel_of(operator.house.application)
        await trio.sleep(0.95 * DAY_S)
        warnings = told(caplog, "channel.ending")
        assert [(one["percent"], one["channel"]) for one in warnings] == [
            (50, number),
            (70, number),
            (90, number),
        ]
        assert [one["in_s"] for one in warnings] == [
            pytest.approx(share * DAY_S, abs=60) for share in (0.5, 0.3, 0.1)
        ]
        assert {one["reason"] for one in warnings} == {"no socket was connected"}
        assert metric(operator, "removal", 90) == 1
        assert (await operator.ask("GET", f"channels/{number}"))["id"] == number
        await trio.sleep(0.06 * DAY_S)
        await operator.ask("GET", f"channels/{number}", status=404)


async def test_a_channel_whose_clock_starts_anew_is_not_near_its_end(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    async with open_operator() as operator:
        hub, application = operator.house.hub, operator.house.application
        async with hub.consume(application):
            pass
        for _ in range(8):
            await trio.sleep(0.9 * DAY_S)  # 45 % of its two days without events
            hub.publish(application, Notification("dev-1", "/1", b"x"))
        assert told(caplog, "channel.ending") == []
        await trio.sleep(1.2 * DAY_S)
        assert [one["percent"] for one in told(caplog, "channel.ending")] == [50]
