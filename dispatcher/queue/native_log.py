"""What the queue tells its journal, and what it learns from it (``group_commit.Books``).

Records are gathered when they are appended.  How a channel stands - the last seq, and up
to where it is settled - is gathered once per group however often it changed, just before
the group is sealed; a restart then finds rings exactly as the last durable group left them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import msgspec

from dispatcher import limits
from dispatcher.core.gap_list import GapList
from dispatcher.core.idempotency import IdempotencyTable, KeptAnswer, KeyScope
from dispatcher.errors import BodyTooLarge, JournalBehind
from dispatcher.queue._core import ffi, lib
from dispatcher.queue.disk import Disk
from dispatcher.queue.group_commit import Group, GroupCommit
from dispatcher.queue.interface import Route
from dispatcher.queue.native_journal import NativeJournal, SegmentCleaner
from dispatcher.queue.native_ring import ChannelRing
from dispatcher.queue.segment_books import Contents, SegmentBooks

_KEY_BYTES = 32  # a scope's digest
_ANSWER_BYTES: int = lib.nd_journal_answer_bytes(_KEY_BYTES, limits.IDEMPOTENCY_ANSWER_BYTES_MAX)


class _Hole(msgspec.Struct, frozen=True):
    """Records that left a ring from behind others that stay."""

    channel: ChannelRing
    first_seq: int
    last_seq: int


class QueueLog:
    """The journal of one ``NativeQueue``."""

    def __init__(
        self,
        journal: NativeJournal,
        channels: Mapping[int, ChannelRing],
        answers: IdempotencyTable,
        epoch: int,
        disk: Disk,
        live_bytes: Callable[[], int],
        now_unix_ms: Callable[[], int],
        earlier: Contents,
    ) -> None:
        """``earlier``: what segments of an earlier run may hold."""
        self._journal = journal
        self._channels = channels
        self._answers = answers
        self._epoch = epoch
        self._disk = disk
        self._live_bytes = live_bytes
        self._now_unix_ms = now_unix_ms
        self._segments = SegmentBooks(earlier)
        self._changed: dict[int, ChannelRing] = {}
        self._holes: list[_Hole] = []
        self._deleted: list[ChannelRing] = []
        self._numbers = ffi.new("uint64_t[]", 16)
        self._stats = ffi.new("nd_ring_stats_t *")
        self.damaged_groups = 0  # found when the journal was opened
        self._damaged_segment = 0
        self._on_shown: Callable[[int], None] = _nobody
        self._on_sync: Callable[[float], None] = _nobody
        self.commit = GroupCommit(journal, self, disk, lambda seconds: self._on_sync(seconds))

    def __repr__(self) -> str:
        return f"<QueueLog {self.commit!r}, {len(self._changed)} channels changed>"

    def report_to(self, on_shown: Callable[[int], None], on_sync: Callable[[float], None]) -> None:
        """Whom to tell of a channel that has new durable records, and of a sync's seconds."""
        self._on_shown = on_shown
        self._on_sync = on_sync

    @property
    def disk_bytes(self) -> int:
        """The place of all segments on the disk."""
        return self._journal.stats().disk_bytes

    def close(self) -> None:
        """Close the files.  ``commit.run`` has ended."""
        self._journal.close()

    # --- what happens to the rings ------------------------------------------------------

    def check_accepting(self) -> None:
        """Raise ``StorageFull`` or ``JournalFailed`` while nothing can become durable."""
        failure = self.commit.failure
        if failure is not None:
            raise failure

    def append(
        self,
        pool: Any,
        raw_routes: Any,
        routes: Sequence[Route],
        records: tuple[Any, ...],
        *,
        has_answer: bool,
    ) -> int:
        """``nd_logged_append``; ``records`` are its arguments from ``block`` to the received time.

        Leaves room for the request's answer, if it has one.  Raises ``JournalBehind`` and
        ``BodyTooLarge`` with nothing stored.
        """
        self.check_accepting()
        if len(routes) > len(self._numbers):
            self._numbers = ffi.new("uint64_t[]", 2 * len(routes))
        for at, route in enumerate(routes):
            self._numbers[at] = route.channel
        reserved_bytes = _ANSWER_BYTES if has_answer else 0
        status: int = lib.nd_logged_append(
            self._journal.raw,
            pool,
            raw_routes,
            self._numbers,
            len(routes),
            *records,
            self._epoch,
            reserved_bytes,
        )
        if status == lib.ND_NO_ROOM:
            self.commit.request()
            raise JournalBehind("more is being posted than the disk takes; try again", retry_after_s=1.0)
        if status == lib.ND_ERR_POISONED:
            self.check_accepting()
        if status == lib.ND_ERR_ARGUMENT:
            _check_size(len(routes), records, self._disk.sizes.group_bytes_max)
        return status

    def appended(self, last_seqs: Mapping[int, int]) -> Group:
        """Records went into channels, up to these seqs; the ticket for them."""
        group = self.commit.group
        group.last_seqs.update(last_seqs)
        self.commit.request()
        return group

    def answered(self, scope: KeyScope, kept: KeptAnswer) -> Group:
        """The append just done has this answer, durable with it: the ticket for both."""
        gathered = self._journal.gather_answer(scope, kept)
        assert gathered, "room was left for it, and nothing came between"
        group = kept.ticket = self.commit.group
        group.answers.append((scope, kept))
        self.commit.request()
        return group

    def changed(self, channel: ChannelRing) -> None:
        """A channel was opened, or the oldest records left it."""
        self._changed[channel.number] = channel
        self.commit.request_soon()

    def lost(self, channel: ChannelRing, first_seq: int, last_seq: int) -> None:
        """All records between two seqs left a channel, perhaps from behind others that stay."""
        lib.nd_ring_stats(channel.ring, self._stats)
        if last_seq > self._stats.settled_seq:
            self._holes.append(_Hole(channel, first_seq, last_seq))
        self.changed(channel)

    def deleted(self, channel: ChannelRing) -> None:
        """A channel is gone."""
        self._changed.pop(channel.number, None)
        self._segments.forget_channel(channel.number)
        self._deleted.append(channel)
        self.commit.request_soon()

    # --- around a group -----------------------------------------------------------------

    def collect(self) -> bool:
        """Gather what changed since the last group."""
        return self._collect_deleted() and self._collect_holes() and self._collect_states()

    def _collect_deleted(self) -> bool:
        while self._deleted:
            channel = self._deleted[-1]
            if not self._journal.gather_deleted(channel.number, channel.incarnation, self._epoch):
                return False
            self._deleted.pop()
        return True

    def _collect_holes(self) -> bool:
        while self._holes:
            hole = self._holes[-1]
            channel = hole.channel
            if channel.ring is not None and not self._journal.gather_hole(
                channel.number, channel.incarnation, self._epoch, hole.first_seq, hole.last_seq
            ):
                return False
            self._holes.pop()
        return True

    def _collect_states(self) -> bool:
        states = self.commit.group.states
        while self._changed:
            number, channel = self._changed.popitem()
            if not self._collect_state(channel):
                self._changed[number] = channel
                return False
            states[number] = self._stats.last_seq
        return True

    def _collect_state(self, channel: ChannelRing) -> bool:
        """Gaps come first: records that are named and still there do less harm than the reverse."""
        number, incarnation = channel.number, channel.incarnation
        lib.nd_ring_stats(channel.ring, self._stats)
        settled_seq, last_seq = self._stats.settled_seq, self._stats.last_seq
        gaps = channel.gaps if channel.gaps is not None else GapList()
        if gaps or channel.has_logged_gaps:
            if not self._journal.gather_gaps(number, incarnation, gaps):
                return False
            channel.has_logged_gaps = len(gaps) > 0
        if not self._journal.gather_state(number, incarnation, self._epoch, settled_seq, last_seq):
            return False
        if channel.frozen or channel.logged_frozen:
            if not self._journal.gather_frozen(number, incarnation, self._epoch, channel.frozen):
                return False
            channel.logged_frozen = channel.frozen
        return True

    def show(self, group: Group, segment: int) -> None:
        """What is durable now may be delivered."""
        self._segments.wrote_states(segment, group.states)
        self._segments.wrote(segment, group.last_seqs)
        self._segments.wrote_answers(segment, _newest_answers(group))
        if group.moved_from:
            self._segments.moved(group.moved_from, segment)
        for _, kept in group.answers:
            kept.ticket = None
        for number, last_seq in group.last_seqs.items():
            channel = self._channels.get(number)
            if channel is not None:
                lib.nd_ring_show(channel.ring, last_seq)
                self._on_shown(number)

    # --- space ---------------------------------------------------------------------------

    async def keep_space(self, commit: Callable[[], Awaitable[None]]) -> None:
        """Clean the oldest segments until the disk holds at most twice what is live, and an allowance.

        Segments in which nothing is live are unlinked without a look into them; when the
        disk is full these alone go, and all of them.  One that cannot be read holds up
        those behind it until nothing in it is live.
        """
        while not self.commit.has_failed and self._has_too_much():
            segment = self._journal.stats().oldest_segment
            if not self._is_dead(segment):
                if segment == self._damaged_segment:
                    return
                if not await self._move_live(segment, commit):
                    self._damaged_segment = segment
                    return
            for number in self._segments.stated_last_in(segment):
                if number in self._channels:
                    self._changed[number] = self._channels[number]
            await commit()
            if self.commit.has_failed:
                return
            await self._disk.run(self._journal.unlink_oldest)
            self._journal.done()
            self._segments.forget_segment(segment)

    def _has_too_much(self) -> bool:
        stats = self._journal.stats()
        if stats.oldest_segment >= stats.durable_segment:
            return False
        if self.commit.is_full:
            return self._is_dead(stats.oldest_segment)
        live_bytes = self._live_bytes() + self._answers.kept * _ANSWER_BYTES
        return stats.disk_bytes > 2 * live_bytes + self._disk.sizes.allowance_bytes

    def _is_dead(self, segment: int) -> bool:
        """Whether every record in a segment is known to be settled, and every answer forgotten."""
        contents = self._segments.contents(segment)
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

    async def _move_live(self, segment: int, commit: Callable[[], Awaitable[None]]) -> bool:
        """Write what is live in a segment again; False when it cannot be read."""
        cleaner = await self._disk.run(lambda: SegmentCleaner(self._journal, segment))
        try:
            if not cleaner.is_whole:
                return False
            while self._move_some(cleaner, segment):
                await commit()
                if self.commit.has_failed:
                    return False
            return True
        finally:
            cleaner.close()

    def _move_some(self, cleaner: SegmentCleaner, segment: int) -> bool:
        before = self._journal.gathered_bytes()
        goes_on = cleaner.move(self._live_channels(), self._live_accounts())
        if self._journal.gathered_bytes() > before:
            self.commit.group.moved_from = segment
        return goes_on

    def _live_accounts(self) -> Any:
        kept_from = sorted(self._answers.kept_from(self._now_unix_ms()).items())
        return ffi.new("nd_live_account[]", kept_from)

    def _live_channels(self) -> Any:
        channels = sorted(self._channels.values(), key=lambda channel: channel.number)
        live = ffi.new("nd_live_channel[]", len(channels))
        for at, channel in enumerate(channels):
            live[at].channel = channel.number
            live[at].incarnation = channel.incarnation
            live[at].ring = channel.ring
        return live


def _newest_answers(group: Group) -> dict[int, int]:
    """The accounts with answers in a group; times never fall, so the last one's is the newest."""
    return {scope.account_id: kept.answered_unix_ms for scope, kept in group.answers}


def _nobody(_: Any) -> None:
    """Nobody asked to be told."""


def _check_size(routes_count: int, records: tuple[Any, ...], group_bytes_max: int) -> None:
    """Tell a request that no group can hold from one whose arguments disagree."""
    _, block_bytes, _, records_count, _ = records
    entries = routes_count * records_count
    request_bytes = lib.nd_journal_request_bytes(block_bytes, records_count, routes_count, entries)
    if request_bytes * 2 > group_bytes_max:
        raise BodyTooLarge("these events reach too many channels for one request; post fewer at a time")
