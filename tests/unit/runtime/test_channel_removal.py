"""The task that removes what has had its time, on a mock clock."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
from msgspec.structs import replace
from support.channels import NO_TOTALS, channel_row, open_channel, put
from trio.testing import MockClock

from dispatcher import limits
from dispatcher.core.life_cycle import Removal
from dispatcher.core.retry import RetryState
from dispatcher.errors import DispatcherError, StorageFull, Unavailable
from dispatcher.model import Channel, ChannelClocks, ChannelType
from dispatcher.observe.metrics import Metrics
from dispatcher.queue.memory import MemoryQueue
from dispatcher.registry.interface import Identities, LifeTimes
from dispatcher.registry.memory import MemoryRegistry
from dispatcher.runtime.active_channel import ActiveChannel
from dispatcher.runtime.attempts import AttemptLogs
from dispatcher.runtime.directory import Directory
from dispatcher.runtime.life_cycle import LifeCycle
from dispatcher.runtime.observer import Observer

DAY_S = 86_400.0
NOBODY = Identities(accounts=(), applications=(), keys=())


class House:
    """A life cycle over the models, which notes when what is removed."""

    def __init__(self, nursery: trio.Nursery, startup_grace_s: float = 0.0, up_before_s: float = 0.0) -> None:
        self.queue = MemoryQueue(1, 1 << 30)
        self.registry = MemoryRegistry()
        self.directory = Directory(b"", NOBODY)
        self.removed: list[tuple[int, Removal, float]] = []
        self.refusals: list[DispatcherError] = []  # what the next removals raise
        self.woken: list[ActiveChannel] = []
        self.began_s = trio.current_time()
        self.life_cycle = LifeCycle(
            directory=self.directory,
            queue=self.queue,
            registry=self.registry,
            observer=Observer(Metrics(lambda: NO_TOTALS), AttemptLogs(lambda: 0)),
            wake=self.woken.append,
            now_unix_ms=self.unix_ms,
            startup_grace_s=startup_grace_s,
            up_before_s=up_before_s,
        )
        nursery.start_soon(self.life_cycle.run, self.remove)

    def unix_ms(self) -> int:
        return int((trio.current_time() - self.began_s) * 1000) + 1_000

    async def remove(self, channel: ActiveChannel, removal: Removal) -> None:
        if self.refusals:
            raise self.refusals.pop()
        self.removed.append((channel.row.id, removal, round(trio.current_time() - self.began_s)))
        self.directory.remove_channel(channel)

    def open(
        self, type_: ChannelType = ChannelType.CALLBACK, number: int = 1, **tier: object
    ) -> ActiveChannel:
        channel = open_channel(self.queue, channel_row(type_, number, **tier))
        self.directory.add_channel(channel)
        self.life_cycle.watch(channel)
        return channel


async def in_house(work: Callable[[House], Awaitable[None]], **options: float) -> House:
    async with trio.open_nursery() as nursery:
        house = House(nursery, **options)
        await work(house)
        nursery.cancel_scope.cancel()
    return house


async def test_a_channel_without_events_is_removed_after_its_time(autojump_clock: MockClock) -> None:
    async def work(house: House) -> None:
        house.open()
        await trio.sleep(3 * DAY_S)

    assert (await in_house(work)).removed == [(1, Removal.IDLE, 2 * DAY_S)]


async def test_events_that_come_in_move_the_end_away(autojump_clock: MockClock) -> None:
    async def work(house: House) -> None:
        channel = house.open()
        for _ in range(5):
            await trio.sleep(DAY_S)
            channel.last_event_s = trio.current_time()
        assert house.removed == []
        await trio.sleep(2 * DAY_S + 1)

    assert (await in_house(work)).removed == [(1, Removal.IDLE, 7 * DAY_S)]


async def test_while_a_channel_is_paused_it_does_not_fail_but_events_are_still_missed(
    autojump_clock: MockClock,
) -> None:
    async def work(house: House) -> None:
        channel = house.open()
        channel.replace_row(replace(channel.row, is_paused=True))
        channel.remember_failing(trio.current_time() - DAY_S / 2)
        await trio.sleep(1.5 * DAY_S)
        assert house.removed == []
        await trio.sleep(DAY_S)

    assert (await in_house(work)).removed == [(1, Removal.IDLE, 2 * DAY_S)]


async def test_a_day_without_a_socket_removes_and_one_that_connects_does_not(
    autojump_clock: MockClock,
) -> None:
    async def work(house: House) -> None:
        house.open(ChannelType.WEB_SOCKET, 1)
        house.open(ChannelType.WEB_SOCKET, 2).disconnected_since_s = None
        await trio.sleep(1.5 * DAY_S)

    assert (await in_house(work)).removed == [(1, Removal.DISCONNECTED, DAY_S)]


async def test_ten_minutes_without_a_poll_remove_and_one_that_is_open_does_not(
    autojump_clock: MockClock,
) -> None:
    async def work(house: House) -> None:
        house.open(ChannelType.LONG_POLLING, 1)
        house.open(ChannelType.LONG_POLLING, 2).disconnected_since_s = None
        await trio.sleep(DAY_S)

    assert (await in_house(work)).removed == [(1, Removal.UNPOLLED, 600)]


async def test_a_day_of_failure_removes_a_callback(autojump_clock: MockClock) -> None:
    async def work(house: House) -> None:
        channel = house.open()
        await trio.sleep(1000)
        channel.retry = RetryState(failures=1, failing_since_s=trio.current_time())
        await trio.sleep(1.5 * DAY_S)

    assert (await in_house(work)).removed == [(1, Removal.DELIVERY_FAILURE, 1000 + DAY_S)]


async def test_nothing_is_removed_in_the_first_minutes_of_a_run(autojump_clock: MockClock) -> None:
    async def work(house: House) -> None:
        house.open(idle_timeout_s=1.0)
        await trio.sleep(1000)

    assert (await in_house(work, startup_grace_s=300)).removed == [(1, Removal.IDLE, 300)]


@pytest.mark.parametrize("refusal", [Unavailable("locked"), StorageFull("the disk is full")])
async def test_a_channel_that_cannot_be_removed_now_is_removed_later_and_holds_up_no_other(
    autojump_clock: MockClock, refusal: DispatcherError
) -> None:
    async def work(house: House) -> None:
        house.open(number=1)
        house.refusals = [refusal]
        await trio.sleep(5)
        house.open(number=2)
        await trio.sleep(3 * DAY_S)

    removed = (await in_house(work)).removed
    assert removed == [(2, Removal.IDLE, 5 + 2 * DAY_S), (1, Removal.IDLE, 60 + 2 * DAY_S)]


async def test_a_full_disk_does_not_end_the_watch(autojump_clock: MockClock) -> None:
    class FullRegistry(MemoryRegistry):
        async def save_life_times(self, life_times: LifeTimes) -> None:
            raise StorageFull("the disk is full")

    async def work(house: House) -> None:
        house.life_cycle._registry = FullRegistry()
        house.open()
        await trio.sleep(3 * DAY_S)

    assert (await in_house(work)).removed == [(1, Removal.IDLE, 2 * DAY_S)]


async def test_channels_that_come_and_go_leave_no_timers(autojump_clock: MockClock) -> None:
    async def work(house: House) -> None:
        house.open(number=1)
        for number in range(2, 5_000):
            house.directory.remove_channel(house.open(number=number))
        assert len(house.life_cycle._timers) < 2 * limits.CHANNELS_PER_STEP
        await trio.sleep(3 * DAY_S)

    assert (await in_house(work)).removed == [(1, Removal.IDLE, 2 * DAY_S)]


async def test_others_get_their_turn_while_many_channels_are_due(autojump_clock: MockClock) -> None:
    turns_seen: list[int] = []

    async def work(house: House) -> None:
        turns = 0
        for number in range(1, 6 * limits.CHANNELS_PER_STEP):
            house.open(number=number)
        find_channel = house.directory.find_channel

        def noticing(number: int) -> ActiveChannel | None:
            turns_seen.append(turns)
            return find_channel(number)

        house.directory.find_channel = noticing  # type: ignore[method-assign]
        for _ in range(20):
            await trio.lowlevel.checkpoint()
            turns += 1

    await in_house(work)
    assert turns_seen[-1] - turns_seen[0] >= 2


async def test_events_past_their_lifetime_leave_a_channel_that_nobody_reads(
    autojump_clock: MockClock,
) -> None:
    async def work(house: House) -> None:
        channel = house.open(ChannelType.WEB_SOCKET, websocket_disconnected_timeout_s=9e9, idle_timeout_s=9e9)
        await trio.sleep(10 * DAY_S)
        put(house.queue, channel, ["a"], house.unix_ms())
        await trio.sleep(DAY_S / 2)
        put(house.queue, channel, ["b"], house.unix_ms())
        await trio.sleep(DAY_S / 2 + 1)
        assert house.queue.stats(1).records == 1
        await trio.sleep(DAY_S / 2)
        assert house.queue.stats(1).records == 0

    await in_house(work)


async def test_what_is_being_sent_is_left_to_the_channels_own_task(autojump_clock: MockClock) -> None:
    async def work(house: House) -> None:
        channel = house.open(idle_timeout_s=9e9)
        put(house.queue, channel, ["a"], house.unix_ms())
        channel.is_running = True
        await trio.sleep(DAY_S + 10)
        assert house.queue.stats(1).records == 1
        channel.is_running = False
        await trio.sleep(1)
        assert house.queue.stats(1).records == 0

    await in_house(work)


async def test_clocks_are_saved_and_go_on_where_an_earlier_run_stopped(autojump_clock: MockClock) -> None:
    async def first_run(house: House) -> None:
        row = await house.registry.add_channel(await registered(house))
        channel = house.open(number=row.id)
        channel.retry = RetryState(failures=1, failing_since_s=trio.current_time())
        await trio.sleep(DAY_S - 10)
        await house.life_cycle.save()

    first = await in_house(first_run)
    saved = (await first.registry.load()).life_times
    assert saved.up_s == pytest.approx(DAY_S - 10)

    await trio.sleep(5 * DAY_S)  # down: not counted

    async def second_run(house: House) -> None:
        channel = house.open()
        house.life_cycle.restore(channel, saved.clocks[1])
        await trio.sleep(100)

    second = await in_house(second_run, up_before_s=saved.up_s)
    assert second.removed == [(1, Removal.DELIVERY_FAILURE, 10)]


async def test_clocks_are_saved_every_minute(autojump_clock: MockClock) -> None:
    async def work(house: House) -> None:
        row = await house.registry.add_channel(await registered(house))
        house.open(number=row.id)
        await trio.sleep(61)
        life_times = (await house.registry.load()).life_times
        assert life_times.up_s == pytest.approx(60)
        assert life_times.clocks == {1: ChannelClocks(last_event_s=0.0)}

    await in_house(work)


async def registered(house: House) -> Channel:
    account = await house.registry.ensure_account("a", "commercial")
    application = await house.registry.create_application(account.id, "a", 0)
    return replace(channel_row(), application_id=application.id)


async def test_a_channel_whose_events_expired_is_woken_to_tell_of_them(autojump_clock: MockClock) -> None:
    async def work(house: House) -> None:
        channel = house.open(event_lifetime_s=60.0)
        put(house.queue, channel, ["a"], unix_ms=house.unix_ms())
        await trio.sleep(30)
        assert house.woken == []
        await trio.sleep(60)
        assert house.woken == [channel]

    await in_house(work)


class WatchedRegistry(MemoryRegistry):
    """Notes which clocks each save had; refuses those that it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.saves: list[dict[int, ChannelClocks]] = []
        self.is_full = False

    async def save_life_times(self, life_times: LifeTimes) -> None:
        if self.is_full:
            raise StorageFull("the disk is full")
        self.saves.append(dict(life_times.clocks))


async def test_only_clocks_that_moved_are_saved_again(autojump_clock: MockClock) -> None:
    registry = WatchedRegistry()

    async def work(house: House) -> None:
        house.life_cycle._registry = registry
        idle, socket, callback = (
            house.open(type_, number)
            for number, type_ in enumerate(
                (ChannelType.WEB_SOCKET, ChannelType.WEB_SOCKET, ChannelType.CALLBACK), 1
            )
        )

        async def saved() -> dict[int, ChannelClocks]:
            await trio.sleep(1)
            await house.life_cycle.save()
            return registry.saves[-1]

        assert set(await saved()) == {1, 2, 3}
        assert await saved() == {}
        socket.disconnected_since_s = None
        callback.remember_failing(trio.current_time() - 0.5)
        assert set(await saved()) == {2, 3}
        assert await saved() == {}
        callback.replace_row(replace(callback.row, is_paused=True))  # its clock of failure stands still
        assert set(await saved()) == {3}
        callback.replace_row(replace(callback.row, is_paused=False))  # and goes on where it stood
        socket.disconnected_since_s = trio.current_time()
        assert set(await saved()) == {2, 3}
        idle.last_event_s = trio.current_time()
        registry.is_full = True
        await trio.sleep(1)
        await house.life_cycle.save()
        registry.is_full = False
        assert set(await saved()) == {1}  # what could not be saved then
        assert await saved() == {}

    await in_house(work)


async def test_clocks_of_an_earlier_run_are_saved_when_they_move_and_not_before(
    autojump_clock: MockClock,
) -> None:
    registry = WatchedRegistry()

    async def work(house: House) -> None:
        house.life_cycle._registry = registry
        await trio.sleep(1)
        for number in (1, 2):
            channel = house.open(ChannelType.WEB_SOCKET, number)
            house.life_cycle.restore(channel, ChannelClocks(last_event_s=400.0, disconnected_since_s=450.0))
        channel.last_event_s = trio.current_time()
        await house.life_cycle.save()
        assert registry.saves == [{2: ChannelClocks(last_event_s=501.0, disconnected_since_s=450.0)}]

    await in_house(work, up_before_s=500.0)


async def test_an_event_that_comes_while_clocks_are_being_saved_is_saved_with_the_next(
    autojump_clock: MockClock,
) -> None:
    registry = WatchedRegistry()

    async def work(house: House) -> None:
        house.life_cycle._registry = registry
        first, *_ = [house.open(number=number) for number in range(1, 2 * limits.CHANNELS_PER_STEP)]
        await house.life_cycle.save()
        await trio.sleep(1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(house.life_cycle.save)
            await trio.lowlevel.checkpoint()  # it is between two steps
            first.last_event_s = trio.current_time()
        await house.life_cycle.save()
        assert set(registry.saves[-1]) == {1}

    await in_house(work)
