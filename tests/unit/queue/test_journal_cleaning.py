"""What is live is written again before its segment goes, however often, and is known to stand there."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace
from support.journal_folder import FORM, SMALL, Folder, contents, options, publish, turn_over

from dispatcher.model import Position, SliceLimits
from dispatcher.queue.interface import FrozenBatch
from dispatcher.queue.whole_messages import read_messages

KNOWN = {1: options(), 2: options(78)}
ROOMY = replace(SMALL, allowance_bytes=8 * SMALL.segment_bytes)  # cleaned long after it was written


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


async def test_a_backlog_of_an_earlier_run_moves_on_and_on(folder: Folder) -> None:
    async with folder.opened(KNOWN, sizes=ROOMY) as (queue, _):
        await publish(queue, 50, channel=2)
        before = await contents(queue, 2)
    for _ in range(2):
        async with folder.opened(KNOWN, sizes=ROOMY) as (queue, _):
            await turn_over(queue, 24)
            assert await contents(queue, 2) == before
    async with folder.opened(KNOWN, sizes=ROOMY) as (queue, _):
        assert await contents(queue, 2) == before


async def test_a_frozen_batch_outlives_the_segment_that_named_it(folder: Folder) -> None:
    async with folder.opened(KNOWN, sizes=ROOMY) as (queue, _):
        await publish(queue, 30, channel=2)
        batch = await queue.slice(2, None, SliceLimits(events_max=20, bytes_max=1 << 20), FORM)
        assert batch is not None
        before = await read_messages(batch)
        queue.freeze(2, FrozenBatch(first=batch.first, last=batch.last, events=20, form=FORM))
        await turn_over(queue, 3, backlog=1)
    async with folder.opened(KNOWN, sizes=ROOMY) as (queue, _):
        frozen = queue.frozen(2)
        assert frozen is not None
        again = await queue.rebuild(2, frozen.first, frozen.last, frozen.form, frozen.events)
        assert again is not None
        assert await read_messages(again) == before


async def test_a_segment_that_nobody_knows_is_no_longer_one_when_all_has_left_it(folder: Folder) -> None:
    async with folder.opened(KNOWN, sizes=SMALL) as (queue, _):
        await publish(queue, 1_000, channel=2)
    async with folder.opened(KNOWN, sizes=SMALL) as (queue, _):
        assert queue.log is not None
        await turn_over(queue, 3)  # what moves out of an unknown segment makes another one unknown
        queue.settle(2, Position(queue.epoch, 1_000))
        await turn_over(queue, 4)
        assert queue.log._space.books.contents(queue.log._journal.stats().oldest_segment) is not None
