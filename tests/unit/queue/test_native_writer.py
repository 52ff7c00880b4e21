"""Groups that a thread of the core's own writes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from dispatcher.errors import MemoryFull
from dispatcher.queue import native_journal
from dispatcher.queue.disk import Disk, SystemDisk
from dispatcher.queue.native_journal import GroupOutcome, JournalOptions, NativeJournal
from dispatcher.queue.native_writer import WriterThread

OPTIONS = JournalOptions(
    journal_id=1,
    oldest_segment=1,
    first_segment=1,
    first_group=1,
    epoch=1,
    created_unix_ms=0,
    is_synced=True,
)


@pytest.fixture(params=[Disk, SystemDisk])
def disk(request: pytest.FixtureRequest) -> Disk:
    made: Disk = request.param()
    return made


@pytest.fixture
def journal(tmp_path: Path, disk: Disk) -> Iterator[NativeJournal]:
    opened = NativeJournal(tmp_path, OPTIONS, disk)
    yield opened
    opened.close()


def size_of_only_file(folder: Path) -> int:
    (file,) = folder.iterdir()
    return file.stat().st_size


def threads() -> int:
    """Of this process, Python's and others."""
    return len(list(Path("/proc/self/task").iterdir()))


def test_without_a_thread_the_journal_does_not_open(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(journal: object) -> WriterThread:
        raise MemoryFull("no thread")

    monkeypatch.setattr(native_journal, "WriterThread", refuse)
    if disk.has_writer_thread:
        with pytest.raises(MemoryFull):
            NativeJournal(tmp_path, OPTIONS, disk)
    else:
        NativeJournal(tmp_path, OPTIONS, disk).close()


def seal_one(journal: NativeJournal) -> None:
    assert journal.gather_state(1, 2, 1, 0, 0)
    assert journal.seal()


async def test_a_group_is_on_the_disk_when_its_write_returns(
    disk: Disk, journal: NativeJournal, tmp_path: Path
) -> None:
    for number in range(1, 20):
        seal_one(journal)
        await disk.write(journal)
        assert journal.done() is GroupOutcome.DURABLE
        assert journal.stats().durable_group == number
    assert size_of_only_file(tmp_path) > 0


async def test_a_write_that_has_begun_is_waited_for_though_it_is_cancelled(
    disk: Disk, journal: NativeJournal
) -> None:
    seal_one(journal)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(disk.write, journal)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert journal.done() is GroupOutcome.DURABLE


async def test_a_write_that_is_cancelled_before_it_begins_never_begins(
    disk: Disk, journal: NativeJournal
) -> None:
    seal_one(journal)
    with trio.CancelScope() as scope:
        scope.cancel()
        await disk.write(journal)
    assert scope.cancelled_caught
    assert journal.done() is GroupOutcome.NOTHING
    await disk.write(journal)
    assert journal.done() is GroupOutcome.DURABLE


async def test_two_writes_at_once_are_refused(tmp_path: Path) -> None:
    disk = SystemDisk()
    journal = NativeJournal(tmp_path, OPTIONS, disk)
    seal_one(journal)
    with pytest.RaisesGroup(RuntimeError):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(disk.write, journal)
            nursery.start_soon(disk.write, journal)
    assert journal.done() is GroupOutcome.DURABLE
    journal.close()


async def test_closing_ends_the_thread(tmp_path: Path) -> None:
    before = threads()
    journal = NativeJournal(tmp_path, OPTIONS, SystemDisk())
    assert threads() == before + 1
    seal_one(journal)
    journal.begin_by_thread()
    await journal.end_by_thread()
    journal.close()
    assert threads() == before
