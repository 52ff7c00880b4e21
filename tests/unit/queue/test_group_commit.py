"""The group commit loop over a journal whose writer is told what to answer."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from dispatcher import limits
from dispatcher.errors import JournalFailed, StorageFull
from dispatcher.queue.disk import Disk, JournalSizes, SealedGroup
from dispatcher.queue.group_commit import Group, GroupCommit
from dispatcher.queue.native_journal import GroupOutcome, JournalStats


class FakeWriter:
    """A journal that counts, and holds each write until it is let go."""

    def __init__(self) -> None:
        self.gathered = 0
        self.written: list[int] = []
        self.outcomes: deque[GroupOutcome] = deque()
        self.can_prepare = True
        self.gate: threading.Event | None = None  # None: writes return at once
        self.is_writing = False
        self.is_poisoned = False
        self._sealed = 0
        self._has_spare = False

    def gather(self) -> None:
        self.gathered += 1

    def seal(self) -> bool:
        assert not self.is_writing
        if not self.gathered or self.is_poisoned:
            return False
        self._sealed, self.gathered = self.gathered, 0
        return True

    def write_sync(self) -> None:
        self.is_writing = True
        if self.gate is not None:
            assert self.gate.wait(5)
        self.is_writing = False

    def begin_by_thread(self) -> None:
        raise AssertionError("this disk has no such thread")

    async def wait_for_thread(self) -> None:
        raise AssertionError("this disk has no such thread")

    async def end_by_thread(self) -> None:
        raise AssertionError("this disk has no such thread")

    def gathered_bytes(self) -> int:
        return self.gathered * 1000

    def prepare(self) -> bool:
        assert not self.is_writing
        self._has_spare = self.can_prepare
        return self.can_prepare

    def done(self) -> GroupOutcome:
        assert not self.is_writing
        if not self._sealed:
            return GroupOutcome.NOTHING
        outcome = self.outcomes.popleft() if self.outcomes else GroupOutcome.DURABLE
        if outcome is GroupOutcome.DURABLE:
            self.written.append(self._sealed)
            self._sealed = 0
        return outcome

    def stats(self) -> JournalStats:
        return JournalStats(
            durable_group=len(self.written),
            durable_segment=1,
            oldest_segment=1,
            disk_bytes=0,
            segment_room=0,
            has_spare=self._has_spare,
            is_poisoned=self.is_poisoned,
        )

    def lose_spare(self) -> None:
        self._has_spare = False


class FakeBooks:
    """Remembers which groups were shown, and gathers a state when one is due."""

    def __init__(self, writer: FakeWriter) -> None:
        self.shown: list[Group] = []
        self.states = 0
        self.dead_segments = 0
        self._writer = writer

    def collect(self) -> bool:
        for _ in range(self.states):
            self._writer.gather()
        self.states = 0
        return True

    def show(self, group: Group, segment: int) -> None:
        self.shown.append(group)

    async def keep_space(self, write: Callable[[], Awaitable[None]]) -> None:
        await trio.lowlevel.checkpoint()

    async def free_dead(self) -> bool:
        await trio.lowlevel.checkpoint()
        if not self.dead_segments:
            return False
        self.dead_segments -= 1
        return True


class World:
    def __init__(self, disk: Disk | None = None) -> None:
        self.writer = FakeWriter()
        self.books = FakeBooks(self.writer)
        self.disk = disk or Disk()
        self.stop: Callable[[], None] = lambda: None  # cancels the loop
        self.commit = GroupCommit(self.writer, self.books, self.disk, lambda seconds: None)

    def publish(self) -> Group:
        self.writer.gather()
        self.commit.request()
        return self.commit.group

    async def publish_and_wait(self) -> None:
        await self.publish().durable()


@asynccontextmanager
async def running() -> AsyncIterator[World]:
    world = World()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.commit.run)
        with trio.fail_after(5):
            yield world
        nursery.cancel_scope.cancel()


async def until(condition: Callable[[], bool]) -> None:
    """A thread of the fake is under way; nothing here waits for the clock."""
    while not condition():  # noqa: ASYNC110
        await trio.sleep(0.001)


async def test_one_sync_serves_everyone_who_came_while_the_one_before_was_written() -> None:
    async with running() as world:
        gate = world.writer.gate = threading.Event()
        first = world.publish()
        await until(lambda: world.writer.is_writing)
        later = {id(world.publish()) for _ in range(50)}
        assert len(later) == 1
        second = world.commit.group
        assert not first.is_durable
        assert second is not first
        gate.set()
        await first.durable()
        await second.durable()
        assert world.writer.written == [1, 50]
        assert world.books.shown == [first, second]


async def test_a_group_that_is_asked_for_begins_before_those_of_the_last_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun, begun_before = 0, list[int]()
    may_end = trio.Event()

    async def write(group: SealedGroup) -> None:
        nonlocal begun
        begun += 1
        await may_end.wait()

    async def wait_for(group: Group) -> None:
        await group.durable()
        begun_before.append(begun)

    async def keep_nothing(write: Callable[[], Awaitable[None]]) -> None:
        pass

    world = World()
    world.writer.prepare()
    monkeypatch.setattr(world.disk, "write", write)
    monkeypatch.setattr(world.books, "keep_space", keep_nothing)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.commit.run)
        first = world.publish()
        async with trio.open_nursery() as waiters:
            for _ in range(10):  # tasks take their turns in any order
                waiters.start_soon(wait_for, first)
            await trio.testing.wait_all_tasks_blocked()
            world.publish()
            may_end.set()
        assert begun_before == [2] * 10
        nursery.cancel_scope.cancel()


class BeginningDisk(Disk):
    """Begins a write in a step of the loop, and ends it when it may."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = 0
        self._is_under_way = False
        self._may_end = False
        self._ended = trio.Event()

    def hold(self) -> None:
        """What is begun from now on does not end."""
        self._may_end = False

    def let_end(self) -> None:
        """What was begun ends, and what will be."""
        self._may_end = True
        if self._is_under_way:
            self._ended.set()

    def begin(self, group: SealedGroup) -> bool:
        assert not self._is_under_way
        self.begun += 1
        self._is_under_way = True
        if self._may_end:
            self._ended.set()
        return True

    async def wait_end(self, group: SealedGroup) -> None:
        await self._ended.wait()

    async def end(self, group: SealedGroup) -> None:
        with trio.CancelScope(shield=True):
            await self._ended.wait()
        self._is_under_way = False
        self._ended = trio.Event()


MUCH, LITTLE = JournalSizes().begun_at_once_bytes, JournalSizes().begun_at_once_bytes - 1


@asynccontextmanager
async def publishers(
    count: int, gathered_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[World, BeginningDisk, list[int]]]:
    """Some that publish in one turn of the loop, and wait; how many writes were begun in the step of each."""
    disk, begun_in_step = BeginningDisk(), list[int]()
    world = World(disk)
    world.writer.prepare()
    monkeypatch.setattr(
        world.writer, "gathered_bytes", lambda: gathered_bytes if world.writer.gathered else 0
    )

    class Steps(trio.abc.Instrument):
        def after_task_step(self, task: trio.lowlevel.Task) -> None:
            if task.name.endswith("World.publish_and_wait"):
                begun_in_step.append(disk.begun)

    async with trio.open_nursery() as nursery:
        world.stop = nursery.cancel_scope.cancel
        nursery.start_soon(world.commit.run)
        await trio.testing.wait_all_tasks_blocked()
        steps = Steps()
        trio.lowlevel.add_instrument(steps)
        for _ in range(count):
            nursery.start_soon(world.publish_and_wait)
        await trio.testing.wait_all_tasks_blocked()
        trio.lowlevel.remove_instrument(steps)
        try:
            with trio.fail_after(5):
                yield world, disk, begun_in_step
        finally:
            disk.let_end()
        nursery.cancel_scope.cancel()


async def test_a_large_group_begins_in_the_step_of_its_first_publisher(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with publishers(3, MUCH, monkeypatch) as (world, disk, begun_in_step):
        assert begun_in_step == [1, 1, 1]
        disk.let_end()
        await world.commit.drain()
        assert world.writer.written == [1, 2]
        assert disk.begun == 2


async def test_a_small_group_takes_everyone_who_publishes_in_that_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with publishers(3, LITTLE, monkeypatch) as (world, disk, begun_in_step):
        assert begun_in_step == [0, 0, 0]
        disk.let_end()
        await world.commit.drain()
        assert world.writer.written == [3]


async def test_who_waits_again_for_a_group_that_was_begun_begins_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with publishers(1, MUCH, monkeypatch) as (world, disk, _), trio.open_nursery() as nursery:
        later = world.publish()
        for _ in range(2):
            nursery.start_soon(later.durable)
        await trio.testing.wait_all_tasks_blocked()
        assert disk.begun == 1
        disk.let_end()


async def test_who_waits_for_what_is_durable_begins_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async with publishers(1, MUCH, monkeypatch) as (world, disk, _):
        first = world.commit.group
        disk.let_end()
        await world.commit.drain()
        await trio.testing.wait_all_tasks_blocked()
        begun = disk.begun
        world.writer.gather()
        await first.durable()
        assert disk.begun == begun


async def test_a_loop_that_is_cancelled_sees_a_group_that_was_begun_to_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with publishers(1, MUCH, monkeypatch) as (world, _, _):
        assert world.writer.written == []
    assert world.writer.written == [1]


async def test_behind_a_large_group_the_next_one_needs_the_loop_at_its_end_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    steps = 0

    class Steps(trio.abc.Instrument):
        def before_task_step(self, task: trio.lowlevel.Task) -> None:
            nonlocal steps
            steps += task.name.endswith("GroupCommit.run")

    async with publishers(1, MUCH, monkeypatch) as (world, disk, _), trio.open_nursery() as nursery:
        disk.let_end()
        await trio.testing.wait_all_tasks_blocked()
        assert world.writer.written == [1]
        disk.hold()
        trio.lowlevel.add_instrument(Steps())
        for _ in range(2):
            nursery.start_soon(world.publish_and_wait)
            await trio.testing.wait_all_tasks_blocked()
        assert (disk.begun, steps) == (2, 0)
        disk.let_end()
        await trio.testing.wait_all_tasks_blocked()
        assert steps > 0
        assert world.writer.written == [1, 1, 1]


async def test_behind_a_large_group_a_small_one_is_written_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with publishers(1, MUCH, monkeypatch) as (world, disk, _):
        disk.let_end()
        await trio.testing.wait_all_tasks_blocked()
        monkeypatch.setattr(world.writer, "gathered_bytes", lambda: LITTLE)
        for count in (2, 3):
            for _ in range(count):
                group = world.publish()
            await group.durable()
        assert world.writer.written == [1, 2, 3]


async def test_behind_a_large_group_acks_do_not_wait_for_ever(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: None
) -> None:
    async with publishers(1, MUCH, monkeypatch) as (world, disk, _):
        disk.let_end()
        await trio.testing.wait_all_tasks_blocked()
        world.books.states = 3
        world.commit.request_soon()
        await trio.sleep(limits.ACK_FLUSH_S + 0.01)
        assert world.writer.written == [1, 3]


async def test_a_loop_that_awaits_the_end_of_much_sees_it_when_it_is_cancelled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with publishers(1, MUCH, monkeypatch) as (world, disk, _):
        disk.let_end()
        await trio.testing.wait_all_tasks_blocked()
        disk.hold()
        second = world.publish()
        with trio.move_on_after(0):
            await second.durable()
        assert disk.begun == 2
        world.stop()
        disk.let_end()
    assert world.writer.written == [1, 1]
    assert world.books.shown[-1] is second


async def test_what_a_begun_group_left_out_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = BeginningDisk()
    world = World(disk)
    world.writer.prepare()
    monkeypatch.setattr(world.writer, "gathered_bytes", lambda: MUCH)
    had_room = deque([False, True])
    monkeypatch.setattr(world.books, "collect", had_room.popleft)
    disk.let_end()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.commit.run)
        await trio.testing.wait_all_tasks_blocked()
        await world.publish().durable()
        await trio.testing.wait_all_tasks_blocked()
        assert not had_room
        nursery.cancel_scope.cancel()


async def test_nothing_is_shown_before_it_is_durable() -> None:
    async with running() as world:
        gate = world.writer.gate = threading.Event()
        group = world.publish()
        await until(lambda: world.writer.is_writing)
        assert world.books.shown == []
        assert not group.is_durable
        gate.set()
        await group.durable()
        assert world.books.shown == [group]


async def test_acks_wait_for_company_and_no_longer_than_their_time(autojump_clock: None) -> None:
    async with running() as world:
        began_s = trio.current_time()
        world.books.states = 3
        world.commit.request_soon()
        await trio.testing.wait_all_tasks_blocked()
        assert world.writer.written == []
        await until(lambda: world.writer.written == [3])
        assert trio.current_time() - began_s >= limits.ACK_FLUSH_S


async def test_acks_ride_in_a_publishers_group() -> None:
    async with running() as world:
        world.books.states = 2
        world.commit.request_soon()
        await world.publish().durable()
        assert world.writer.written == [3]


async def test_a_broken_disk_fails_everyone_who_waits_and_everyone_who_comes() -> None:
    async with running() as world:
        gate = world.writer.gate = threading.Event()
        world.writer.outcomes.append(GroupOutcome.POISONED)
        first = world.publish()
        await until(lambda: world.writer.is_writing)
        second = world.publish()
        gate.set()
        for group in (first, second):
            with pytest.raises(JournalFailed):
                await group.durable()
        assert isinstance(world.commit.failure, JournalFailed)
        assert world.books.shown == []
        await world.commit.drain()  # returns: there is nothing to wait for


async def test_a_disk_that_broke_between_groups_fails_who_waits_for_the_next() -> None:
    async with running() as world:
        await world.publish().durable()
        world.writer.is_poisoned = True
        with pytest.raises(JournalFailed):
            await world.publish().durable()
        assert isinstance(world.commit.failure, JournalFailed)
        assert world.writer.written == [1]


async def test_a_full_disk_is_told_at_once_and_tried_again_each_second() -> None:
    async with running() as world:
        world.writer.outcomes.append(GroupOutcome.NO_SPACE)
        group = world.publish()
        with pytest.raises(StorageFull):
            await group.durable()
        assert isinstance(world.commit.failure, StorageFull)
        await until(lambda: world.commit.failure is None)
        assert world.writer.written == [1]
        assert world.books.shown == [group]  # it is delivered after all


async def test_what_is_dead_makes_room_for_a_group_without_a_wait() -> None:
    async with running() as world:
        world.writer.outcomes.extend([GroupOutcome.NO_SPACE] * 3)
        world.books.dead_segments = 3
        began_s = trio.current_time()
        group = world.publish()
        with pytest.raises(StorageFull):
            await group.durable()
        await until(lambda: world.commit.failure is None)
        assert world.books.shown == [group]
        assert trio.current_time() - began_s < limits.JOURNAL_RETRY_S


async def test_publishers_hear_of_a_full_disk_before_a_group_finds_it() -> None:
    async with running() as world:
        world.writer.can_prepare = False
        await world.publish().durable()
        await until(lambda: world.commit.failure is not None)
        assert isinstance(world.commit.failure, StorageFull)
        world.writer.can_prepare = True
        await until(lambda: world.commit.failure is None)


async def test_a_drain_returns_when_all_that_was_gathered_is_durable() -> None:
    async with running() as world:
        await world.commit.drain()  # nothing was
        world.writer.gather()
        await world.commit.drain()
        assert world.writer.written == [1]


async def test_a_cancelled_loop_ends_the_write_that_is_under_way() -> None:
    world = World()
    gate = world.writer.gate = threading.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.commit.run)
        group = world.publish()
        await until(lambda: world.writer.is_writing)
        nursery.cancel_scope.cancel()
        gate.set()
    assert not world.writer.is_writing
    assert group.is_durable or world.books.shown == []
