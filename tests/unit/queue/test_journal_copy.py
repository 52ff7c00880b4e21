"""A journal copied while it is written to and cleaned: every copy holds what was durable when it began."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import trio
import trio.lowlevel
from support.journal_folder import SMALL, Folder, contents, options, publish

from dispatcher.errors import DataFolderError
from dispatcher.model import Position
from dispatcher.queue import journal_copy
from dispatcher.queue.disk import Disk
from dispatcher.queue.journal_copy import HeldJournal
from dispatcher.queue.native import NativeQueue

KNOWN = {1: options(), 2: options(incarnation=88)}


def create(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)


def copy(source: Path, target: Path) -> int:
    target.mkdir()
    with HeldJournal(source) as held:
        return held.copy_to(target, create, lambda count: None)


async def recovered(target: Path) -> tuple[list[str], list[str], bool]:
    """What a copy holds of channels 1 and 2, and whether anything in it is damaged."""
    async with Folder(target).opened(KNOWN, disk=Disk(SMALL)) as (queue, report):
        ones = [path for path, _ in await contents(queue, 1)]
        twos = [path for path, _ in await contents(queue, 2)]
        return ones, twos, report.journal.is_damaged or bool(report.lost)


class Churn:
    """Publishes and settles in channel 1, so that segments go all the time; channel 2 only grows."""

    def __init__(self, queue: NativeQueue) -> None:
        self.queue = queue
        self.kept = 0  # in channel 2, durable
        self.turns = 0
        self.is_over = False

    async def run(self) -> None:
        while not self.is_over:
            await publish(self.queue, 300, start=1 + 300 * self.turns)
            self.queue.settle(1, Position(self.queue.epoch, self.queue.stats(1).last_seq))
            await publish(self.queue, 2, channel=2, start=self.kept + 1)
            self.kept += 2
            self.turns += 1


async def test_a_copy_under_load_holds_all_that_was_durable_before_it_began(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    counts = []
    async with Folder(source).opened(KNOWN, sizes=SMALL, seconds_max=60) as (queue, _):
        churn = Churn(queue)
        assert queue.log is not None
        journal = queue.log._journal
        async with trio.open_nursery() as nursery:
            nursery.start_soon(churn.run)
            for turn in range(12):
                oldest = journal.stats().oldest_segment
                while journal.stats().oldest_segment < oldest + 2:  # cleaning is at work
                    await trio.lowlevel.checkpoint()
                before = churn.kept
                await trio.to_thread.run_sync(copy, source, tmp_path / f"copy{turn}")
                counts.append((before, churn.kept))
            churn.is_over = True
    for turn, (before, after) in enumerate(counts):
        _, twos, is_damaged = await recovered(tmp_path / f"copy{turn}")
        assert not is_damaged
        assert before <= len(twos) <= after + 2
        assert len(set(twos)) == len(twos)


async def test_what_cleaning_takes_away_meanwhile_is_in_the_copy(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "copy"
    source.mkdir()
    target.mkdir()
    async with Folder(source).opened(KNOWN, sizes=SMALL) as (queue, _):
        await publish(queue, 5, channel=2)
        with HeldJournal(source) as held:
            churn = Churn(queue)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(churn.run)
                while (source / "00000001.seg").exists():  # noqa: ASYNC110  the disk has no event
                    await trio.sleep(0.001)
                churn.is_over = True
            assert held.copy_to(target, create, lambda count: None) >= 1
    _, twos, is_damaged = await recovered(target)
    assert len(twos) == 5  # as it was when it was held, and nothing after it
    assert not is_damaged


async def test_what_was_written_after_the_end_was_found_is_left_out(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "copy"
    source.mkdir()
    target.mkdir()
    async with Folder(source).opened(KNOWN, sizes=SMALL) as (queue, _):
        await publish(queue, 3)
        with HeldJournal(source) as held:
            await publish(queue, 3, start=4)
            held.copy_to(target, create, lambda count: None)
    ones, _, is_damaged = await recovered(target)
    assert (len(ones), is_damaged) == (3, False)


async def test_damage_is_copied_as_it_is_and_what_is_behind_it_too(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "copy"
    source.mkdir()
    async with Folder(source).opened(KNOWN, sizes=SMALL) as (queue, _):
        for number in range(1, 4):
            await publish(queue, 1, start=number)
            await queue.log.commit.drain()
    newest = max(path for path in source.glob("*.seg") if any(path.read_bytes()[:64]))
    content = bytearray(newest.read_bytes())
    content[4096:4100] = b"\0\0\0\0"  # the first group's magic
    newest.write_bytes(content)
    await trio.to_thread.run_sync(copy, source, target)
    ones, _, is_damaged = await recovered(target)
    assert is_damaged
    assert len(ones) == 2


def test_a_folder_without_a_journal_gives_an_empty_copy(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    assert copy(tmp_path / "source", tmp_path / "copy") == 0


def test_a_segment_that_is_cut_short_is_told(tmp_path: Path) -> None:
    (tmp_path / "00000001.seg").write_bytes(b"NDSG")
    with pytest.raises(DataFolderError, match="cut short"):
        HeldJournal(tmp_path)


async def test_a_segment_that_comes_while_the_others_are_opened_is_in_the_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it was made for may be all that is left of a segment that went before it could be opened."""
    source = tmp_path / "source"
    source.mkdir()
    async with Folder(source).opened(KNOWN, sizes=SMALL) as (queue, _):
        await publish(queue, 3)
    async with Folder(source).opened(KNOWN, sizes=SMALL) as (queue, _):  # begins a segment
        await publish(queue, 3, start=4)
    listed = journal_copy._numbers
    seen_first = iter([[1]])
    monkeypatch.setattr(journal_copy, "_numbers", lambda folder: next(seen_first, None) or listed(folder))
    await trio.to_thread.run_sync(copy, source, tmp_path / "copy")
    ones, _, is_damaged = await recovered(tmp_path / "copy")
    assert (len(ones), is_damaged) == (6, False)
