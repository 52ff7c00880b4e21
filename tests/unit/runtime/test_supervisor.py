"""Many channels and the tasks they share.  What one channel's task does is in ``test_channel_task``."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio
from msgspec.structs import replace
from support.channels import NO_TOTALS, ScriptedSink, channel_row, open_channel, put
from trio.testing import wait_all_tasks_blocked

from dispatcher import limits
from dispatcher.deliver.turns import turns_of_loop
from dispatcher.model import Serialization
from dispatcher.observe.metrics import Metrics
from dispatcher.queue.memory import MemoryQueue
from dispatcher.registry.memory import MemoryRegistry
from dispatcher.runtime.active_channel import ActiveChannel
from dispatcher.runtime.attempts import AttemptLogs
from dispatcher.runtime.channel_task import confirm
from dispatcher.runtime.observer import Observer
from dispatcher.runtime.parking import Parking
from dispatcher.runtime.supervisor import Supervisor


class Stuck(ScriptedSink):
    """Takes nothing, until told."""

    is_open = False

    async def send(self, batch: object) -> None:
        if not self.is_open:
            await trio.sleep_forever()
        await super().send(batch)  # type: ignore[arg-type]


class Waiting(ScriptedSink):
    """Takes nothing until everybody may go on."""

    gate: trio.Event

    async def send(self, batch: object) -> None:
        await self.gate.wait()
        await super().send(batch)  # type: ignore[arg-type]


class House:
    """Channels with one queue and one supervisor."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.nursery = nursery
        self.queue = MemoryQueue(1, 1 << 30)
        observer = Observer(Metrics(lambda: NO_TOTALS), AttemptLogs(lambda: 0))
        parking = Parking(
            registry=MemoryRegistry(),
            queue=self.queue,
            counts={},
            observer=observer,
            now_unix_ms=lambda: 1_000,
        )
        self.supervisor = Supervisor(nursery, turns_of_loop(), self.queue, lambda: 1_000, observer, parking)

    def open(self, number: int, kind: type[ScriptedSink] = ScriptedSink) -> ActiveChannel:
        channel = open_channel(self.queue, channel_row(number=number))
        channel.sink = kind(lambda position: confirm(channel, self.queue, position), ())
        return channel

    def put(self, channel: ActiveChannel, ep: str) -> None:
        put(self.queue, channel, [ep])
        self.supervisor.wake(channel)

    @property
    def tasks(self) -> int:
        return len(self.nursery.child_tasks)


def sent(channel: ActiveChannel) -> list[str]:
    assert isinstance(channel.sink, ScriptedSink)
    return [ep for eps in channel.sink.eps() for ep in eps]


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with trio.open_nursery() as nursery:
        yield House(nursery)
        nursery.cancel_scope.cancel()


async def test_channels_that_send_one_after_the_other_share_a_task(house: House) -> None:
    channels = [house.open(number) for number in range(1, 6)]
    for turn in range(10):
        for channel in channels:
            house.put(channel, f"{turn}")
            await wait_all_tasks_blocked()
    assert all(sent(channel) == [str(turn) for turn in range(10)] for channel in channels)
    assert house.tasks == 1
    await house.supervisor.wait_idle()  # a task that rests does not run


async def test_after_a_burst_no_more_tasks_rest_than_may(house: House) -> None:
    count = 2 * limits.CHANNEL_TASKS_RESTING_MAX
    channels = [house.open(number, Waiting) for number in range(1, count + 1)]
    for _ in range(2):
        Waiting.gate = trio.Event()
        for channel in channels:
            house.put(channel, "a")
        await wait_all_tasks_blocked()
        assert house.tasks == count
        Waiting.gate.set()
        await wait_all_tasks_blocked()
        assert house.tasks == limits.CHANNEL_TASKS_RESTING_MAX
    assert all(sent(channel) == ["a", "a"] for channel in channels)


async def test_many_that_have_something_at_once_need_few_tasks(house: House) -> None:
    channels = [house.open(number) for number in range(1, 500)]
    for channel in channels:
        house.put(channel, "a")
    await wait_all_tasks_blocked()
    assert house.tasks <= limits.CHANNEL_TASKS_RESTING_MAX
    assert all(sent(channel) == ["a"] for channel in channels)


async def test_a_channel_that_always_has_more_lets_the_others_go_first(house: House) -> None:
    """It has a thousand events and sends them one by one; the others have one each."""
    hot, others = house.open(1), [house.open(number) for number in range(2, 200)]
    hot.row = replace(hot.row, serialization=Serialization(max_chunk_size=1))
    for _ in range(1_000):
        house.put(hot, "h")
    for channel in others:
        house.put(channel, "a")
    while not all(sent(channel) for channel in others):
        await trio.lowlevel.checkpoint()
    assert len(sent(hot)) < 300


async def test_what_one_dispatcher_left_in_line_harms_no_other_in_the_loop(house: House) -> None:
    """More than may be under way at once, and ended before the loop has turned."""
    async with trio.open_nursery() as nursery:
        ended = House(nursery)
        channels = [ended.open(number) for number in range(1, 2_000)]
        mine = [house.open(number) for number in range(1, 100)]
        for channel in mine:  # these are under way, and will let the others go
            house.put(channel, "b")
        for channel in channels:
            ended.put(channel, "a")
        nursery.cancel_scope.cancel()
    await wait_all_tasks_blocked()
    await ended.supervisor.wait_idle()
    assert not any(channel.is_running for channel in channels)
    assert all(sent(channel) == ["b"] for channel in mine)
    assert "0 of" in repr(turns_of_loop())


async def test_channel_that_is_stuck_holds_up_no_other(house: House) -> None:
    stuck, other = house.open(1, Stuck), house.open(2)
    house.put(stuck, "a")
    await wait_all_tasks_blocked()
    for ep in ("b", "c"):
        house.put(other, ep)
        await wait_all_tasks_blocked()
    assert sent(other) == ["b", "c"]
    assert house.tasks == 2


async def test_to_stop_a_channel_stops_no_other(house: House) -> None:
    first, second, stuck = house.open(1), house.open(2), house.open(3, Stuck)
    house.put(first, "a")
    await wait_all_tasks_blocked()
    house.put(stuck, "b")  # in the task that the first had
    await wait_all_tasks_blocked()
    house.supervisor.stop(first)
    house.supervisor.stop(second)
    await wait_all_tasks_blocked()
    assert stuck.is_running
    house.put(first, "c")
    await wait_all_tasks_blocked()
    assert sent(first) == ["a", "c"]


async def test_channel_that_was_stopped_runs_again_with_what_came_meanwhile(house: House) -> None:
    channel = house.open(1, Stuck)
    house.put(channel, "a")
    await wait_all_tasks_blocked()
    house.put(channel, "b")
    house.supervisor.stop(channel)
    assert isinstance(channel.sink, Stuck)
    channel.sink.is_open = True
    await wait_all_tasks_blocked()
    assert sent(channel) == ["a", "b"]
    assert not channel.is_running


async def test_stop_that_comes_when_a_channel_has_just_ended_reaches_no_other(house: House) -> None:
    """Its task is not cancelled any more, and whoever has it next sends all."""
    channel, other = house.open(1), house.open(2)

    class StopsItself(ScriptedSink):
        async def send(self, batch: object) -> None:
            await super().send(batch)  # type: ignore[arg-type]
            house.supervisor.stop(channel)  # without a wait after it

    channel.sink = StopsItself(lambda position: confirm(channel, house.queue, position), ())
    for ep in ("a", "b"):
        house.put(channel, ep)
        house.put(other, ep)
        await wait_all_tasks_blocked()
        house.put(other, ep * 2)
        await wait_all_tasks_blocked()
    assert sent(channel) == ["a", "b"]
    assert sent(other) == ["a", "aa", "b", "bb"]


async def test_end_of_everything_ends_tasks_that_rest_and_one_that_was_just_given_a_channel() -> None:
    async with trio.open_nursery() as nursery:
        house = House(nursery)
        first, second = house.open(1), house.open(2)
        for channel in (first, second):
            house.put(channel, "a")
        await wait_all_tasks_blocked()
        house.put(first, "b")  # a task that rested is to run it, and is cancelled before
        nursery.cancel_scope.cancel()
    assert not first.is_running
    await house.supervisor.wait_idle()
