"""What is remembered of attempts, and in how little."""

from __future__ import annotations

from dispatcher import limits
from dispatcher.deliver.sink import FailureClass
from dispatcher.runtime.attempts import Attempt, AttemptLogs

MOST = limits.ATTEMPTS_PER_CHANNEL_MAX


def add(
    logs: AttemptLogs,
    channel: int,
    events: int,
    failure: FailureClass | None = None,
    status: int | None = None,
) -> None:
    logs.add(channel, seconds=0.25, events=events, bytes_count=7 * events, failure=failure, status=status)


def test_attempts_come_back_the_newest_first() -> None:
    logs = AttemptLogs(lambda: 1_767_225_600_123)
    assert logs.of(1) == []
    add(logs, 1, 3)
    add(logs, 1, 4, FailureClass.STATUS, 503)
    add(logs, 1, 5, status=204)
    add(logs, 2, 6, FailureClass.DNS)
    first = Attempt(ended_unix_ms=1_767_225_600_123, seconds=0.25, events=3, bytes_count=21)
    assert logs.of(1)[2] == first
    assert [(one.events, one.failure, one.status) for one in logs.of(1)] == [
        (5, None, 204),
        (4, FailureClass.STATUS, 503),
        (3, None, None),
    ]
    assert [(one.failure, one.status) for one in logs.of(2)] == [(FailureClass.DNS, None)]


def test_of_each_channel_the_last_hundred_are_kept() -> None:
    logs = AttemptLogs(lambda: 0)
    for count in (MOST - 1, MOST, MOST + 1, 2 * MOST, 2 * MOST + 7):
        logs.forget(1)
        for events in range(count):
            add(logs, 1, events)
        assert [one.events for one in logs.of(1)] == list(range(count))[::-1][:MOST]


def test_when_too_many_channels_have_some_the_one_that_tried_longest_ago_is_forgotten() -> None:
    logs = AttemptLogs(lambda: 0, channels_max=2)
    for channel in (1, 2, 1, 3):
        add(logs, channel, channel)
    assert [bool(logs.of(channel)) for channel in (1, 2, 3)] == [True, False, True]


def test_sizes_that_do_not_fit_are_the_most_that_do() -> None:
    logs = AttemptLogs(lambda: 0)
    logs.add(1, seconds=1e9, events=2**40, bytes_count=2**40)
    (attempt,) = logs.of(1)
    assert (attempt.events, attempt.bytes_count) == (2**32 - 1, 2**32 - 1)
