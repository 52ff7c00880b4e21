"""Answers in the journal: durable with their request's records or not at all, moved, forgotten, found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import trio
from support.answered_append import append_answered
from support.journal_folder import SMALL, Folder, contents, turn_over
from support.journal_reader import StoredAnswer, read_journal
from support.stored_records import Item, notifications, records_of
from trio.testing import wait_all_tasks_blocked

from dispatcher import limits
from dispatcher.core.idempotency import Answered, Begun, KeyScope, key_scope
from dispatcher.core.journal_space import LiveBytes, cleaning_begins_at
from dispatcher.errors import JournalBehind, JournalFailed, StorageFull, UnprocessableKey
from dispatcher.queue.disk import Disk, JournalSizes, SystemDisk
from dispatcher.queue.interface import Appended, Route, Ticket
from dispatcher.queue.native import NativeQueue
from dispatcher.queue.native_journal import GroupOutcome, NativeJournal

BODY, OTHER = b"a" * 32, b"b" * 32


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def scope(number: int, account: int = 1) -> KeyScope:
    return key_scope(account, "k_1", "/gateway/v1/events", f"once-{number}")


def type_name(thing: object) -> str:
    return type(thing).__name__


def tell(appended: Appended) -> bytes:
    return b"queued %d" % appended.queued


def start(folder: Folder, queue: NativeQueue, key: KeyScope, items: list[Item], *routes: Route) -> Ticket:
    """Begin a request of this key, and append its records."""
    assert queue.answers.begin(key, BODY, folder.now_ms) == Begun()
    return append_answered(queue, records_of(items), routes, folder.now_ms, key, tell)[1]


async def post(folder: Folder, queue: NativeQueue, number: int, count: int = 1, account: int = 1) -> None:
    key = scope(number, account)
    await start(folder, queue, key, notifications(count, first=number), Route(1)).durable()


def repeat(folder: Folder, queue: NativeQueue, number: int, account: int = 1) -> object:
    return queue.answers.begin(scope(number, account), BODY, folder.now_ms)


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(10):
        while not condition():  # noqa: ASYNC110  the loop has threads
            await trio.sleep(0.001)


@pytest.mark.parametrize("is_killed", [True, False])
async def test_an_answer_is_found_again_with_the_records_of_its_request(
    folder: Folder, is_killed: bool
) -> None:
    async with folder.opened(is_killed=is_killed) as (queue, _):
        await post(folder, queue, 7, count=3)
        assert repeat(folder, queue, 7) == Answered(b"queued 3")
    async with folder.opened() as (queue, _):
        assert len(await contents(queue)) == 3
        assert repeat(folder, queue, 7) == Answered(b"queued 3")
        with pytest.raises(UnprocessableKey):
            queue.answers.begin(scope(7), OTHER, folder.now_ms)
        assert repeat(folder, queue, 8) == Begun()
        assert repeat(folder, queue, 7, account=2) == Begun()


async def test_an_answer_to_a_request_that_stored_no_record_is_durable_before_its_ticket_says_so(
    folder: Folder,
) -> None:
    async with folder.opened(is_killed=True) as (queue, _):
        ticket = start(folder, queue, scope(1), notifications(2))
        assert not ticket.is_durable
        await ticket.durable()
    async with folder.opened() as (queue, _):
        assert repeat(folder, queue, 1) == Answered(b"queued 0")


async def test_an_answer_is_not_given_before_it_is_durable(folder: Folder) -> None:
    async with folder.opened() as (queue, _):
        ticket = start(folder, queue, scope(1), notifications(1), Route(1))
        assert repeat(folder, queue, 1) == Answered(b"queued 1", ticket)
        await ticket.durable()
        assert repeat(folder, queue, 1) == Answered(b"queued 1")


@pytest.mark.parametrize("disk", [Disk(), SystemDisk(JournalSizes(begun_at_once_bytes=1))], ids=type_name)
async def test_a_group_that_was_cut_takes_records_and_answer_with_it(folder: Folder, disk: Disk) -> None:
    async with folder.opened(is_killed=True, disk=disk) as (queue, _):
        await post(folder, queue, 0, count=100)
        await post(folder, queue, 1, count=100)  # and now there is a spare segment: the writer is free
        await post(folder, queue, 2, count=100)  # several blocks
    segment = folder.path / "00000001.seg"
    whole = segment.read_bytes()
    last = max(range(4096, len(whole), 4096), key=lambda at: whole[at : at + 4] == b"NDGR" and at)
    blocks = -(-int.from_bytes(whole[last + 40 : last + 44], "little") // 4096)
    assert blocks > 2
    for block in range(blocks):
        at = last + 4096 * block
        segment.write_bytes(whole[:at] + bytes(4096) + whole[at + 4096 :])
        for later in folder.path.glob("*.seg"):
            if later != segment:
                later.unlink()
        async with folder.opened(is_killed=True) as (queue, _):
            assert len(await contents(queue)) == 200
            assert repeat(folder, queue, 1) == Answered(b"queued 100")
            assert repeat(folder, queue, 2) == Begun()


async def test_there_is_room_for_records_and_answer_or_nothing_is_stored(folder: Folder) -> None:
    """Requests of many sizes fill group after group to the last bytes."""
    longest = bytes(limits.IDEMPOTENCY_ANSWER_BYTES_MAX)
    tried = 0
    stored: list[int] = []
    async with folder.opened(sizes=SMALL) as (queue, _):
        assert queue.log is not None
        for _ in range(8):
            refused = 0
            while refused < 20:  # no await: nothing is written meanwhile
                key = scope(tried)
                assert queue.answers.begin(key, BODY, folder.now_ms) == Begun()
                records = records_of(notifications(1, padding=97 * tried % 700))
                try:
                    append_answered(queue, records, [Route(1)], folder.now_ms, key, lambda _: longest)
                except JournalBehind:
                    queue.answers.abandon(key)
                    refused += 1
                else:
                    stored.append(tried)
                tried += 1
            assert queue.stats(1).last_seq == len(stored) == queue.answers.kept
            await queue.log.commit.drain()
    async with folder.opened(sizes=SMALL) as (queue, report):
        assert report.records == len(stored)
        assert [n for n in range(tried) if repeat(folder, queue, n) == Answered(longest)] == stored


async def test_an_answer_is_kept_for_a_day_by_the_wall_clock_however_often_the_queue_was_opened(
    folder: Folder,
) -> None:
    async with folder.opened() as (queue, _):
        await post(folder, queue, 1)
        began_ms = folder.now_ms
    for age_ms in (0, limits.IDEMPOTENCY_LIFETIME_MS - 1, limits.IDEMPOTENCY_LIFETIME_MS):
        folder.now_ms = began_ms + age_ms
        is_kept = age_ms < limits.IDEMPOTENCY_LIFETIME_MS
        async with folder.opened() as (queue, _):
            assert queue.answers.kept == is_kept
            assert isinstance(repeat(folder, queue, 1), Answered) is is_kept


async def test_a_clock_that_was_set_back_makes_no_answer_older_than_those_before_it(folder: Folder) -> None:
    for number in (1, 2):
        async with folder.opened() as (queue, _):
            await start(folder, queue, scope(number), []).durable()
            folder.now_ms -= 50_000
    assert len({answer.answered_unix_ms for answer in stored(folder)}) == 1


# --- a full and a broken disk -------------------------------------------------------------


async def test_on_a_full_disk_an_answer_stays_and_is_given_when_there_is_room(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "JOURNAL_RETRY_S", 0.01)
    async with folder.opened() as (queue, _):
        done = NativeJournal.done
        with monkeypatch.context() as full:
            full.setattr(NativeJournal, "write_sync", lambda journal: None)
            full.setattr(NativeJournal, "done", lambda journal: GroupOutcome.NO_SPACE)
            ticket = start(folder, queue, scope(1), notifications(1), Route(1))
            for _ in range(2):
                with pytest.raises(StorageFull):
                    await ticket.durable()
            assert repeat(folder, queue, 1) == Answered(b"queued 1", ticket)
        assert NativeJournal.done is done
        await until(lambda: ticket.is_durable)
        await ticket.durable()
        assert repeat(folder, queue, 1) == Answered(b"queued 1")
    async with folder.opened() as (queue, _):
        assert repeat(folder, queue, 1) == Answered(b"queued 1")
        assert len(await contents(queue)) == 1


async def test_on_a_broken_disk_an_answer_is_never_given_and_only_the_next_run_knows(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with folder.opened(is_killed=True) as (queue, _):
        await post(folder, queue, 1)
        assert queue.log is not None
        journal = queue.log._journal
        await until(lambda: journal.stats().has_spare)
        with monkeypatch.context() as broken:
            broken.setattr(NativeJournal, "done", lambda journal: GroupOutcome.POISONED)
            ticket = start(folder, queue, scope(2), notifications(1), Route(1))
            with pytest.raises(JournalFailed):
                await ticket.durable()
        found = repeat(folder, queue, 2)
        assert found == Answered(b"queued 1", ticket)
        with pytest.raises(JournalFailed):
            await ticket.durable()
        assert repeat(folder, queue, 1) == Answered(b"queued 1")  # this one is durable
    async with folder.opened() as (queue, _):  # the write had reached the disk after all
        assert repeat(folder, queue, 2) == Answered(b"queued 1")
        assert len(await contents(queue)) == 2


# --- cleaning -----------------------------------------------------------------------------


def stored(folder: Folder) -> list[StoredAnswer]:
    return read_journal(folder.path).answers


async def test_answers_move_on_until_they_are_forgotten_and_no_further(folder: Folder) -> None:
    async with folder.opened(sizes=SMALL) as (queue, _):
        for number in range(40):
            await post(folder, queue, number, account=1 + number % 2)
            folder.now_ms += 1_000
        await turn_over(queue, 8)
    kept = stored(folder)
    assert {answer.key for answer in kept} == {scope(n, 1 + n % 2).digest for n in range(40)}
    assert {answer.answer for answer in kept} == {b"queued 1"}

    folder.now_ms += limits.IDEMPOTENCY_LIFETIME_MS - 20_000 - 1
    async with folder.opened(sizes=SMALL) as (queue, _):
        assert queue.answers.kept == 20
        found = [n for n in range(40) if isinstance(repeat(folder, queue, n, 1 + n % 2), Answered)]
        assert found == list(range(20, 40))
        await turn_over(queue, 8)
        folder.now_ms += 5_000
        await turn_over(queue, 8)
    assert {answer.key for answer in stored(folder)} == {scope(n, 1 + n % 2).digest for n in range(25, 40)}

    folder.now_ms += limits.IDEMPOTENCY_LIFETIME_MS
    async with folder.opened(sizes=SMALL) as (queue, _):
        assert queue.answers.kept == 0
        await turn_over(queue, 8)
    assert stored(folder) == []


async def test_what_newer_keys_took_the_place_of_is_not_moved_on(folder: Folder) -> None:
    async with folder.opened(sizes=SMALL) as (queue, _):
        queue.answers._keys_max = 10
        for number in range(50):
            await post(folder, queue, number)
            folder.now_ms += 1
        await turn_over(queue, 8)
    assert {answer.key for answer in stored(folder)} == {scope(n).digest for n in range(40, 50)}


async def test_an_answer_alone_keeps_a_segment_from_being_taken_for_dead(folder: Folder) -> None:
    async with folder.opened(sizes=SMALL) as (queue, _):
        await start(folder, queue, scope(1), []).durable()
        await turn_over(queue, 20)
    async with folder.opened(sizes=SMALL) as (queue, _):
        assert repeat(folder, queue, 1) == Answered(b"queued 0")


async def test_answers_in_a_segment_that_is_damaged_are_written_again_from_memory(folder: Folder) -> None:
    async with folder.opened(sizes=SMALL) as (queue, _):
        for number in range(600):  # more than one group has room for
            ticket = start(folder, queue, scope(number), [])
        await ticket.durable()
        (folder.path / "00000001.seg").unlink()
        await turn_over(queue, 20)
    async with folder.opened(sizes=SMALL) as (queue, report):
        assert not report.journal.is_damaged
        assert [repeat(folder, queue, number) for number in range(600)] == [Answered(b"queued 0")] * 600


async def test_more_answers_than_the_allowance_of_disk_do_not_move_on_for_ever(folder: Folder) -> None:
    async with folder.opened(sizes=SMALL) as (queue, _):
        assert queue.log is not None
        for number in range(8_000):
            ticket = start(folder, queue, scope(number), [])
            if number % 200 == 199:
                await ticket.durable()
        await turn_over(queue, 2)
        journal = queue.log._journal
        live = LiveBytes(records=0, record_bytes=0, other_bytes=8_000 * 288)
        await until(lambda: journal.stats().disk_bytes <= cleaning_begins_at(live, SMALL.allowance_bytes))
        last = journal.stats().durable_group
        await wait_all_tasks_blocked(0.05)
        assert journal.stats().durable_group <= last + 1
    async with folder.opened(sizes=SMALL) as (queue, _):
        assert queue.answers.kept == 8_000
