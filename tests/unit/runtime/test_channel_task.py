"""The life of a delivery, on a mock clock and the model queue."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from itertools import chain

import pytest
import trio
from msgspec.structs import replace
from support.channels import NO_TOTALS, ScriptedSink, channel_row, open_channel, put
from trio.testing import MockClock, wait_all_tasks_blocked

from dispatcher.deliver.sink import DeliveryFailed, FailureClass, OutgoingBatch, SinkClosed
from dispatcher.deliver.turns import turns_of_loop
from dispatcher.model import ChannelType, Position, Serialization
from dispatcher.observe.metrics import Metrics
from dispatcher.queue.memory import MemoryQueue
from dispatcher.registry.memory import MemoryRegistry
from dispatcher.runtime.active_channel import ActiveChannel
from dispatcher.runtime.attempts import AttemptLogs
from dispatcher.runtime.channel_task import confirm
from dispatcher.runtime.observer import Observer
from dispatcher.runtime.parking import Parking
from dispatcher.runtime.supervisor import Supervisor


class House:
    """One channel with its queue and supervisor."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.queue = MemoryQueue(1, 1 << 30)
        self.now_ms = 1_000
        observer = Observer(Metrics(lambda: NO_TOTALS), AttemptLogs(lambda: 0))
        parking = Parking(
            registry=MemoryRegistry(),
            queue=self.queue,
            counts={},
            observer=observer,
            now_unix_ms=lambda: self.now_ms,
        )
        self.supervisor = Supervisor(
            nursery, turns_of_loop(), self.queue, lambda: self.now_ms, observer, parking
        )
        self.channel: ActiveChannel

    def open(self, *script: Exception | None, confirms: bool = True, **row: object) -> ScriptedSink:
        self.channel = open_channel(self.queue, channel_row(**row))  # type: ignore[arg-type]
        return self.bind(*script, confirms=confirms)

    def bind(self, *script: Exception | None, confirms: bool = True) -> ScriptedSink:
        sink = ScriptedSink(
            lambda position: confirm(self.channel, self.queue, position), script, confirms=confirms
        )
        self.channel.sink = sink
        return sink

    def put(self, *eps: str) -> None:
        put(self.queue, self.channel, eps, self.now_ms)
        self.supervisor.wake(self.channel)


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with trio.open_nursery() as nursery:
        yield House(nursery)
        nursery.cancel_scope.cancel()


def failed(status: int, retry_after_s: float | None = None) -> DeliveryFailed:
    return DeliveryFailed(FailureClass.STATUS, status=status, retry_after_s=retry_after_s)


def set_paused(channel: ActiveChannel, is_paused: bool) -> None:
    channel.replace_row(replace(channel.row, is_paused=is_paused))


async def test_an_idle_channel_has_no_task(house: House, autojump_clock: MockClock) -> None:
    sink = house.open()
    assert not house.channel.is_running
    house.put("a")
    await wait_all_tasks_blocked()
    assert sink.eps() == [["a"]]
    assert not house.channel.is_running
    assert house.queue.stats(1).records == 0


async def test_a_paused_channel_stores_and_sends_nothing_until_it_is_resumed(
    house: House, autojump_clock: MockClock
) -> None:
    sink = house.open()
    set_paused(house.channel, True)
    house.put("a")
    assert not house.channel.is_running  # no task for what it would not send
    await trio.sleep(1_000)
    assert (sink.eps(), house.queue.stats(1).records) == ([], 1)
    assert not house.channel.is_running
    set_paused(house.channel, False)
    house.supervisor.wake(house.channel)
    await wait_all_tasks_blocked()
    assert sink.eps() == [["a"]]


async def test_a_batch_that_failed_before_a_pause_goes_again_as_it_was_afterwards(
    house: House, autojump_clock: MockClock
) -> None:
    sink = house.open(failed(503))
    house.put("a")
    await wait_all_tasks_blocked()
    set_paused(house.channel, True)
    house.channel.end_pause()
    house.put("b")
    await trio.sleep(1_000)
    assert (sink.eps(), house.channel.is_running) == ([["a"]], False)
    set_paused(house.channel, False)
    house.supervisor.wake(house.channel)
    await wait_all_tasks_blocked()
    assert sink.eps() == [["a"], ["a"], ["b"]]


async def test_events_that_come_during_a_send_follow_in_order(
    house: House, autojump_clock: MockClock
) -> None:
    sink = house.open()
    house.put("a", "b")
    await trio.lowlevel.checkpoint()
    house.put("c")
    house.put("d")
    await wait_all_tasks_blocked()
    assert list(chain(*sink.eps())) == ["a", "b", "c", "d"]


async def test_others_have_a_turn_between_the_batches_of_a_sink_that_takes_them_at_once(
    house: House, autojump_clock: MockClock
) -> None:
    class Greedy(ScriptedSink):
        async def send(self, batch: OutgoingBatch) -> None:  # no checkpoint
            sizes.append(batch.events)
            if len(sizes) == 1:
                trio.lowlevel.spawn_system_task(other)

    async def other() -> None:
        sizes.append(0)

    sizes: list[int] = []
    house.open(batch_events=100)
    house.channel.sink = Greedy(lambda position: None)
    house.put(*map(str, range(300)))
    await wait_all_tasks_blocked()
    assert sizes == [100, 0, 100, 100] or sizes == [100, 100, 0, 100]


async def test_a_failed_batch_goes_again_byte_for_byte_then_the_rest(
    house: House, autojump_clock: MockClock
) -> None:
    sink = house.open(failed(500), failed(503))
    house.put("a", "b")
    await wait_all_tasks_blocked()
    house.put("c")
    await trio.sleep(10)
    assert sink.attempts[0] == sink.attempts[1] == sink.attempts[2]
    assert sink.eps()[3:] == [["c"]]


async def test_pauses_double_up_to_the_bound_and_success_resets_them(
    house: House, autojump_clock: MockClock
) -> None:
    sink = house.open(*[failed(500)] * 9, None, failed(500))
    house.put("a")
    await trio.sleep(1000)
    gaps = [round(b - a) for a, b in zip(sink.times_s, sink.times_s[1:], strict=False)]
    assert gaps == [1, 2, 4, 8, 16, 32, 64, 120, 120]
    house.put("b")
    await trio.sleep(1.5)
    assert round(sink.times_s[-1] - sink.times_s[-2]) == 1


async def test_retry_after_lengthens_a_pause(house: House, autojump_clock: MockClock) -> None:
    sink = house.open(failed(429, 30.0))
    house.put("a")
    await trio.sleep(60)
    assert round(sink.times_s[1] - sink.times_s[0]) == 30


async def test_413_halves_the_batch_at_once_and_keeps_the_order(
    house: House, autojump_clock: MockClock
) -> None:
    sink = house.open(failed(413), batch_bytes=200_000)
    house.put(*[f"device-{n:04}" for n in range(4_000)])
    await wait_all_tasks_blocked()
    first, second = sink.eps()[:2]
    assert len(second) <= len(first) * 0.55
    assert second == first[: len(second)]
    assert list(chain(*sink.eps()[1:])) == [f"device-{n:04}" for n in range(4_000)]
    assert sink.times_s[1] == sink.times_s[0]


async def test_413_for_a_single_event_pauses_instead_of_spinning(
    house: House, autojump_clock: MockClock
) -> None:
    sink = house.open(*[failed(413)] * 3)
    house.put("a")
    await trio.sleep(20)
    assert [round(b - a) for a, b in zip(sink.times_s, sink.times_s[1:], strict=False)] == [1, 2, 4]


async def test_an_event_past_its_lifetime_is_never_sent(house: House, autojump_clock: MockClock) -> None:
    sink = house.open(failed(500), event_lifetime_s=10.0)
    house.put("old", "old2")
    await wait_all_tasks_blocked()
    house.now_ms += 10_001
    house.put("new")
    await trio.sleep(5)
    assert sink.eps() == [["old", "old2"], ["new"]]
    assert house.queue.totals().expired == 2


async def test_a_changed_serialization_thaws_the_frozen_batch(
    house: House, autojump_clock: MockClock
) -> None:
    sink = house.open(failed(500))
    house.put("a")
    await wait_all_tasks_blocked()
    house.channel.replace_row(channel_row(serialization=Serialization(include_uid=True)))
    await trio.sleep(2)
    assert sink.attempts[0] != sink.attempts[1]
    assert b'"uid"' in sink.attempts[1][0]


async def test_a_new_sink_starts_at_once_with_what_was_not_confirmed(
    house: House, autojump_clock: MockClock
) -> None:
    first = house.open(failed(500))
    house.put("a")
    await wait_all_tasks_blocked()
    second = house.bind()
    house.channel.start_over()
    await wait_all_tasks_blocked()
    assert (first.eps(), second.eps()) == ([["a"]], [["a"]])


async def test_a_closed_sink_is_taken_away_and_the_next_gets_what_was_unconfirmed(
    house: House, autojump_clock: MockClock
) -> None:
    house.open(None, SinkClosed(), confirms=False, type_=ChannelType.WEB_SOCKET)
    house.put("a")
    await wait_all_tasks_blocked()
    house.put("b")
    await wait_all_tasks_blocked()
    assert house.channel.sink is None
    second = house.bind()
    house.supervisor.wake(house.channel)
    await wait_all_tasks_blocked()
    assert second.eps() == [["a", "b"]]


async def test_without_a_sink_events_wait(house: House, autojump_clock: MockClock) -> None:
    house.open(type_=ChannelType.WEB_SOCKET)
    house.channel.sink = None
    house.put("a")
    await wait_all_tasks_blocked()
    assert house.queue.stats(1).records == 1
    assert not house.channel.is_running


async def test_a_bug_in_one_channel_is_contained_and_tried_again(
    house: House, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    sink = house.open(ZeroDivisionError())
    house.put("a")
    await trio.sleep(3)
    assert sink.eps() == [["a"], ["a"]]
    assert "channel.task-failed" in caplog.text


async def test_a_stopped_channel_sends_nothing_more(house: House, autojump_clock: MockClock) -> None:
    sink = house.open(failed(500))
    house.put("a")
    await wait_all_tasks_blocked()
    house.channel.is_gone = True
    house.queue.delete_channel(1)
    house.supervisor.stop(house.channel)
    house.supervisor.wake(house.channel)
    await trio.sleep(10)
    assert len(sink.attempts) == 1


async def test_confirming_a_deleted_channel_does_nothing() -> None:
    queue = MemoryQueue(1, 1 << 20)
    channel = open_channel(queue, channel_row())
    put(queue, channel, ["a"])
    queue.delete_channel(1)
    channel.is_gone = True
    assert confirm(channel, queue, Position(1, 1)) == 0


# --- gaps -----------------------------------------------------------------------------

TELLING = Serialization(include_gaps=True)


def gaps_of(attempt: list[bytes]) -> list[tuple[int, int, str]]:
    gaps = json.loads(attempt[0]).get("gaps", ())
    return [(gap["first_seq"], gap["count"], gap["reason"]) for gap in gaps]


async def test_gaps_alone_are_sent_confirmed_and_not_sent_again(
    house: House, autojump_clock: MockClock
) -> None:
    sink = house.open(serialization=TELLING)
    put(house.queue, house.channel, ["a", "b"])
    house.queue.expire(1, 2_000)
    house.supervisor.wake(house.channel)
    await wait_all_tasks_blocked()
    assert [gaps_of(attempt) for attempt in sink.attempts] == [[(1, 2, "expired")]]
    assert house.queue.stats(1).gaps == 0
    house.put("c")
    await wait_all_tasks_blocked()
    assert len(sink.attempts) == 2
    assert gaps_of(sink.attempts[1]) == []


async def test_gaps_alone_that_fail_go_again_as_they_were_and_what_came_meanwhile_follows(
    house: House, autojump_clock: MockClock
) -> None:
    sink = house.open(failed(500), failed(413), serialization=TELLING)
    put(house.queue, house.channel, ["a", "b"])
    house.queue.expire(1, 2_000)
    house.supervisor.wake(house.channel)
    await wait_all_tasks_blocked()
    house.now_ms = 3_000
    house.put("c")
    await trio.sleep(10)
    first, second, third, fourth = sink.attempts
    assert first == second == third
    assert gaps_of(first) == [(1, 2, "expired")]
    assert "gaps" not in json.loads(fourth[0])


async def test_a_frozen_batch_that_expires_is_told_with_the_gap_that_it_was_to_tell(
    house: House, autojump_clock: MockClock
) -> None:
    sink = house.open(failed(500), serialization=TELLING, event_lifetime_s=10)
    put(house.queue, house.channel, ["a"])
    house.queue.expire(1, 2_000)
    house.put("b")
    await wait_all_tasks_blocked()
    house.now_ms = 20_000
    await trio.sleep(10)
    assert [gaps_of(attempt) for attempt in sink.attempts] == [
        [(1, 1, "expired")],
        [(1, 1, "expired"), (2, 1, "expired")],
    ]
