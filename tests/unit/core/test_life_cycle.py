"""When a channel is removed: asked of any moment, without waiting for it."""

from __future__ import annotations

import pytest

from dispatcher.config import TierSettings, channel_limits
from dispatcher.core.life_cycle import Removal, judge
from dispatcher.model import ChannelClocks, ChannelType

LIMITS = channel_limits(TierSettings())
DAY_S = 86_400.0


def clocks(**since: float | None) -> ChannelClocks:
    return ChannelClocks(**{"last_event_s": 0.0, **since})  # type: ignore[arg-type]


@pytest.mark.parametrize("type_", list(ChannelType))
def test_a_channel_without_events_goes_after_two_days_and_not_before(type_: ChannelType) -> None:
    before = judge(type_, LIMITS, clocks(), 2 * DAY_S - 1)
    assert (before.removal, before.look_again_s) == (None, 2 * DAY_S)
    assert judge(type_, LIMITS, clocks(), 2 * DAY_S).removal is Removal.IDLE


@pytest.mark.parametrize(
    ("type_", "clock", "removal"),
    [
        (ChannelType.CALLBACK, "failing_since_s", Removal.DELIVERY_FAILURE),
        (ChannelType.WEB_SOCKET, "disconnected_since_s", Removal.DISCONNECTED),
    ],
)
def test_a_day_of_failure_or_without_a_socket_removes(
    type_: ChannelType, clock: str, removal: Removal
) -> None:
    running = clocks(last_event_s=DAY_S, **{clock: 100.0})
    assert judge(type_, LIMITS, running, DAY_S + 99).removal is None
    assert judge(type_, LIMITS, running, DAY_S + 99).look_again_s == DAY_S + 100
    assert judge(type_, LIMITS, running, DAY_S + 100).removal is removal


def test_ten_minutes_without_a_poll_remove() -> None:
    running = clocks(last_event_s=100.0, disconnected_since_s=100.0)
    assert judge(ChannelType.LONG_POLLING, LIMITS, running, 699).removal is None
    assert judge(ChannelType.LONG_POLLING, LIMITS, running, 699).look_again_s == 700
    assert judge(ChannelType.LONG_POLLING, LIMITS, running, 700).removal is Removal.UNPOLLED


def test_an_open_poll_is_looked_at_no_later_than_it_could_be_missed() -> None:
    polled = clocks(last_event_s=100.0, disconnected_since_s=None)
    verdict = judge(ChannelType.LONG_POLLING, LIMITS, polled, 5_000)
    assert (verdict.removal, verdict.look_again_s) == (None, 5_600)


def test_clocks_of_another_type_do_not_count() -> None:
    running = clocks(last_event_s=DAY_S, failing_since_s=0.0, disconnected_since_s=0.0)
    for type_ in (ChannelType.IN_PROCESS,):
        assert judge(type_, LIMITS, running, 1.5 * DAY_S).removal is None
    only_failing = clocks(last_event_s=DAY_S, failing_since_s=0.0)
    for type_ in (ChannelType.WEB_SOCKET, ChannelType.LONG_POLLING):
        assert judge(type_, LIMITS, only_failing, 1.5 * DAY_S).removal is None


def test_a_clock_that_stands_still_is_looked_at_no_later_than_it_could_run_out() -> None:
    for type_ in (ChannelType.CALLBACK, ChannelType.WEB_SOCKET):
        verdict = judge(type_, LIMITS, clocks(last_event_s=10 * DAY_S), 10 * DAY_S)
        assert verdict.look_again_s == 11 * DAY_S
