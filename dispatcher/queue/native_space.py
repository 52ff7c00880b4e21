"""The journal's space: what is needed of its oldest segments is written again, and they go.

    | live . . live | . . live . |  ...  | being written | spare |
        |                 |                  ^
        +-----------------+---- moved -------+

When and how fast is decided in ``core.journal_space``.  Everything here runs in the task of
``group_commit``, between its groups; a step of moving is one native call, and others get
their turn after each.

A segment that cannot be read whole stops nothing: the rings are the working copy, so what is
missing is written again from them.  What was damaged before the start is not in the rings,
and was reported then.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

import trio

from dispatcher import limits
from dispatcher.core.idempotency import IdempotencyTable
from dispatcher.core.journal_space import (
    LiveBytes,
    cleaning_begins_at,
    is_worth_moving,
    moves_due,
    publishers_bytes_max,
    publishers_wait_at,
    step_bytes,
)
from dispatcher.errors import MemoryFull
from dispatcher.queue._core import ffi, lib
from dispatcher.queue.disk import Disk
from dispatcher.queue.group_commit import Group, GroupCommit
from dispatcher.queue.native_journal import (
    CleaningStep,
    JournalStats,
    NativeJournal,
    RingCopy,
    SegmentCleaner,
    copying_answers,
)
from dispatcher.queue.native_ring import ChannelRing
from dispatcher.queue.segment_books import Contents, SegmentBooks

Write = Callable[[], Awaitable[None]]  # writes the group that is gathering, and sees to the next segment
Step = Callable[[int], CleaningStep]  # gathers about so many bytes
Fetch = Callable[[ChannelRing, int], Awaitable[bool]]  # brings a record into memory; False: not now


class JournalSpace:
    """Which segments are needed, and the work of needing them no more.

    ``earlier`` is what segments of an earlier run may hold, ``live_bytes`` says what the journal
    must hold, ``restate`` has a channel's state gathered with the next group, and ``fetch``
    brings records of a channel into memory, from a seq on.

    Invariant: a segment is unlinked by ``free_dead`` alone, which asks the books.  Whoever waits
    for a group may find that a full disk has taken the oldest segment meanwhile.
    """

    def __init__(
        self,
        journal: NativeJournal,
        disk: Disk,
        channels: Mapping[int, ChannelRing],
        answers: IdempotencyTable,
        earlier: Contents,
        live_bytes: Callable[[], LiveBytes],
        restate: Callable[[int], None],
        fetch: Fetch,
        now_unix_ms: Callable[[], int],
    ) -> None:
        self.books = SegmentBooks(earlier, channels)
        self.holds_back = False  # publishers, until cleaning has caught up
        self._publishers_bytes_max = publishers_bytes_max(disk.sizes.group_bytes_max)
        self._journal = journal
        self._disk = disk
        self._channels = channels
        self._answers = answers
        self._live_bytes = live_bytes
        self._restate = restate
        self._fetch = fetch
        self._now_unix_ms = now_unix_ms
        self._stats = ffi.new("nd_ring_stats_t *")
        self._live = _LiveChannels([])

    def forget_channel(self, channel: ChannelRing) -> None:
        """A channel is gone, and its ring with it."""
        self.books.forget_channel(channel)
        self._live.forget(channel.number)

    def is_behind(self, group: Group) -> bool:
        """Whether publishers have to wait for the group after this one, because cleaning has to catch up."""
        return self.holds_back and self._published_bytes(group) > self._publishers_bytes_max

    def _published_bytes(self, group: Group) -> int:
        """What others than cleaning have gathered in the open group."""
        return self._journal.gathered_bytes() - group.moved_bytes

    async def keep(self, commit: GroupCommit, write: Write) -> None:
        """Clean the oldest segments while the disk holds too much.

        Segments in which nothing is needed go without a look into them.
        """
        try:
            while not commit.has_failed and self._is_due(commit.is_full):
                segment = self._journal.stats().oldest_segment
                if self._is_needed(segment) and not await self._empty(segment, commit, write):
                    return
                if not await self.free_dead():
                    return
        finally:
            self.holds_back = False

    async def free_dead(self) -> bool:
        """Unlink the oldest segment if nothing in it is needed; whether one went."""
        stats = self._journal.stats()
        segment = stats.oldest_segment
        if segment >= stats.durable_segment or self._is_needed(segment):
            return False
        is_gone = await self._disk.run(self._journal.unlink_oldest)
        self._journal.done()
        if is_gone:
            self.books.forget_segment(segment)
        return is_gone

    def _is_due(self, is_full: bool) -> bool:
        stats = self._journal.stats()
        segment = stats.oldest_segment
        if segment >= stats.durable_segment:
            return False
        live, sizes = self._live_bytes(), self._disk.sizes
        if is_full:
            return self._is_dead(segment) or self._is_worth_moving(stats, live)
        return stats.disk_bytes > cleaning_begins_at(live, sizes.allowance_bytes)

    def _is_worth_moving(self, stats: JournalStats, live: LiveBytes) -> bool:
        return is_worth_moving(live, stats.disk_bytes, stats.segment_room, self._disk.sizes.segment_bytes)

    def _is_needed(self, segment: int) -> bool:
        return not self._is_dead(segment) or bool(self.books.stated_last_in(segment))

    def _is_dead(self, segment: int) -> bool:
        """Whether every record in a segment is known to be settled, and every answer forgotten."""
        contents = self.books.contents(segment)
        for number, last_seq in contents.last_seqs.items():
            channel = self._channels.get(number)
            if channel is not None:
                lib.nd_ring_stats(channel.ring, self._stats)
                if self._stats.settled_seq < last_seq:
                    return False
        kept_from = self._answers.kept_from(self._now_unix_ms()) if contents.answered_unix_ms else {}
        return not any(
            account in kept_from and kept_from[account] <= newest
            for account, newest in contents.answered_unix_ms.items()
        )

    # --- moving -------------------------------------------------------------------------

    async def _empty(self, segment: int, commit: GroupCommit, write: Write) -> bool:
        """Write again what is needed of a segment; False: not now."""
        if not self._is_dead(segment) and not await self._move_live(segment, commit, write):
            return False
        for number in self.books.stated_last_in(segment):
            self._restate(number)
        await write()
        if commit.has_failed:
            return False
        self.books.emptied(segment)
        return True

    async def _move_live(self, segment: int, commit: GroupCommit, write: Write) -> bool:
        live = self._live = await self._list_channels()
        try:
            cleaner = await self._disk.run(lambda: SegmentCleaner(self._journal, segment))
        except MemoryFull:
            return False
        try:
            for step in self._steps(segment, cleaner, live):
                if not await self._gather(step, segment, commit, write):
                    return False
        finally:
            with trio.CancelScope(shield=True):
                await self._disk.run(cleaner.close)
        return True

    def _steps(self, segment: int, cleaner: SegmentCleaner, live: _LiveChannels) -> Iterator[Step]:
        """What is to be done with a segment, in turn; what cannot be read is taken from memory."""
        yield lambda bytes_max: cleaner.move(live.raw, self._live_accounts(), bytes_max)
        if cleaner.is_whole:
            return
        for number, last_seq in list(self.books.contents(segment).last_seqs.items()):
            channel = self._channels.get(number)
            if channel is not None:
                yield cleaner.copying(channel, last_seq)
        yield copying_answers(self._journal, self._answers.oldest_first())

    async def _gather(self, step: Step, segment: int, commit: GroupCommit, write: Write) -> bool:
        """Take steps until all is gathered, a group after the other; False when that cannot be done now."""
        while (outcome := await self._fill_group(step, segment, commit)) is not CleaningStep.DONE:
            if outcome is CleaningStep.FETCH:
                assert isinstance(step, RingCopy)
                if not await self._fetch(step.channel, step.next_seq):
                    return False
                continue
            await write()
            if commit.has_failed:
                return False
            if commit.is_full and not self._is_worth_moving(self._journal.stats(), self._live_bytes()):
                return False
        return True

    async def _fill_group(self, step: Step, segment: int, commit: GroupCommit) -> CleaningStep:
        """Gather a group's share of moves, in steps; what has to come before the next."""
        sizes = self._disk.sizes
        disk_bytes = self._journal.stats().disk_bytes
        self.holds_back = disk_bytes > publishers_wait_at(self._live_bytes(), sizes.allowance_bytes)
        group = commit.group
        due_bytes = moves_due(self._published_bytes(group), sizes.group_bytes_max)
        while group.moved_bytes < due_bytes:
            before_bytes = self._journal.gathered_bytes()
            outcome = step(step_bytes(sizes.group_bytes_max))
            moved_bytes = self._journal.gathered_bytes() - before_bytes
            if moved_bytes:
                group.moved_from = segment
                group.moved_bytes += moved_bytes
            if outcome is not CleaningStep.MORE:
                return outcome
            await trio.lowlevel.checkpoint()
        return CleaningStep.WAIT

    def _live_accounts(self) -> Any:
        kept_from = sorted(self._answers.kept_from(self._now_unix_ms()).items())
        return ffi.new("nd_live_account[]", kept_from)

    async def _list_channels(self) -> _LiveChannels:
        """The channels that exist; one that is opened later has nothing in the oldest segment."""
        live = self._live = _LiveChannels(sorted(self._channels))
        for at, number in enumerate(live.numbers):
            channel = self._channels.get(number)
            if channel is not None:
                live.raw[at].incarnation = channel.incarnation
                live.raw[at].ring = channel.ring
            if at % limits.CHANNELS_PER_STEP == limits.CHANNELS_PER_STEP - 1:
                await trio.lowlevel.checkpoint()
        return live


class _LiveChannels:
    """``nd_live_channel[]`` in the order of numbers; one whose channel has gone has no ring."""

    def __init__(self, numbers: list[int]) -> None:
        self.numbers = numbers
        self.raw: Any = ffi.new("nd_live_channel[]", len(numbers))
        for at, number in enumerate(numbers):
            self.raw[at].channel = number

    def forget(self, number: int) -> None:
        at = bisect_left(self.numbers, number)
        if at < len(self.numbers) and self.numbers[at] == number:
            self.raw[at].ring = ffi.NULL
