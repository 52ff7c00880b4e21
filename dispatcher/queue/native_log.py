"""What the queue tells its journal, and what it learns from it (``group_commit.Books``).

Records are gathered when they are appended.  How a channel stands - the last seq, and up
to where it is settled - is gathered once per group however often it changed, just before
the group is sealed; a restart then finds rings exactly as the last durable group left them.
"""

from __future__ import annotations

from array import array
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from dispatcher import limits
from dispatcher.core.gap_list import GapList
from dispatcher.core.idempotency import IdempotencyTable, KeptAnswer, KeyScope
from dispatcher.core.journal_space import LiveBytes
from dispatcher.errors import BodyTooLarge, JournalBehind
from dispatcher.queue._core import ffi, lib
from dispatcher.queue.disk import Disk
from dispatcher.queue.group_commit import Group, GroupCommit
from dispatcher.queue.native_journal import NativeJournal
from dispatcher.queue.native_ring import ChannelRing
from dispatcher.queue.native_space import Fetch, JournalSpace
from dispatcher.queue.segment_books import Contents

_KEY_BYTES = 32  # a scope's digest
ANSWER_BYTES: int = lib.nd_journal_answer_bytes(_KEY_BYTES, limits.IDEMPOTENCY_ANSWER_BYTES_MAX)
_STATE_BYTES: int = ffi.sizeof("nd_channel_unit")


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
        rings: Any,
        channels: Mapping[int, ChannelRing],
        answers: IdempotencyTable,
        epoch: int,
        disk: Disk,
        held: Callable[[], tuple[int, int]],
        fetch: Fetch,
        now_unix_ms: Callable[[], int],
        earlier: Contents,
    ) -> None:
        """``rings`` are the ``nd_channels`` of ``channels``, ``earlier`` what older segments may hold."""
        self._journal = journal
        self._rings = rings
        self._channels = channels
        self._answers = answers
        self._epoch = epoch
        self._disk = disk
        self._held = held
        self._space = JournalSpace(
            journal, disk, channels, answers, earlier, self._live_bytes, self._restate, fetch, now_unix_ms
        )
        self._changed: dict[int, ChannelRing] = {}
        self._holes: list[_Hole] = []
        self._deleted: list[ChannelRing] = []
        self._stats = ffi.new("nd_ring_stats_t *")
        self.damaged_groups = 0  # found when the journal was opened
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

    @property
    def journal(self) -> Any:
        """The core's journal."""
        return self._journal.raw

    def is_taking(self) -> bool:
        """Whether ``publish`` has a chance."""
        commit, space = self.commit, self._space
        if commit.has_failed or commit.is_full:
            return False
        return not (space.holds_back and space.is_behind(commit.group))

    def publish(self, pool: Any, arguments: tuple[Any, ...], published: Any, *, has_answer: bool) -> int:
        """``nd_publish`` with its ``arguments`` from ``numbers`` to ``received_unix_ms``.

        Leaves room for the request's answer, if it has one.  Raises ``JournalBehind`` and
        ``BodyTooLarge`` with nothing stored.
        """
        self.check_accepting()
        if self._space.is_behind(self.commit.group):
            raise _journal_behind()
        reserved_bytes = ANSWER_BYTES if has_answer else 0
        status: int = lib.nd_publish(
            self._rings, pool, self._journal.raw, *arguments, self._epoch, reserved_bytes, published
        )
        if status == lib.ND_NO_ROOM:
            self.commit.request()
            raise _journal_behind()
        if status == lib.ND_ERR_POISONED:
            self.check_accepting()
        if status == lib.ND_ERR_ARGUMENT:
            _check_size(arguments, self._disk.sizes.group_bytes_max)
        return status

    def appended(self, last_seqs: Mapping[int, int]) -> Group:
        """Records went into channels, up to these seqs; the ticket for them."""
        group = self.commit.group
        group.last_seqs.update(last_seqs)
        self.commit.request()
        return group

    def appended_to(self, channel: int, last_seq: int) -> Group:
        """The same for one channel."""
        group = self.commit.group
        group.last_seqs[channel] = last_seq
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
        self._space.forget_channel(channel)
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
            stats = self._stats
            states[number] = stats.last_seq if stats.settled_seq < stats.last_seq else 0
        self._changed = {}  # an emptied one stays as large as it was
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
        books = self._space.books
        books.wrote_states(segment, group.states)
        books.wrote(segment, group.last_seqs)
        books.wrote_answers(segment, _newest_answers(group))
        if group.moved_from:
            books.moved(group.moved_from, segment)
        for _, kept in group.answers:
            kept.ticket = None
        numbers, last_seqs = array("Q", group.last_seqs), array("Q", group.last_seqs.values())
        with (
            ffi.from_buffer("uint64_t[]", numbers) as which,
            ffi.from_buffer("uint64_t[]", last_seqs) as upto,
        ):
            lib.nd_channels_show(self._rings, which, upto, len(numbers))
        for number in numbers:
            if number in self._channels:
                self._on_shown(number)

    # --- space ---------------------------------------------------------------------------

    async def keep_space(self, write: Callable[[], Awaitable[None]]) -> None:
        """Give segments back that are not needed, once the disk holds too much."""
        await self._space.keep(self.commit, write)

    async def free_dead(self) -> bool:
        """Give the oldest segment back if nothing in it is needed; whether one went."""
        return await self._space.free_dead()

    def _restate(self, number: int) -> None:
        self._changed[number] = self._channels[number]

    def _live_bytes(self) -> LiveBytes:
        records, record_bytes = self._held()
        other_bytes = self._answers.kept * ANSWER_BYTES + len(self._channels) * _STATE_BYTES
        return LiveBytes(records, record_bytes, other_bytes)


def _newest_answers(group: Group) -> dict[int, int]:
    """The accounts with answers in a group; times never fall, so the last one's is the newest."""
    return {scope.account_id: kept.answered_unix_ms for scope, kept in group.answers}


def _journal_behind() -> JournalBehind:
    return JournalBehind("more is being posted than the disk takes; try again", retry_after_s=1.0)


def _nobody(_: Any) -> None:
    """Nobody asked to be told."""


def _check_size(arguments: tuple[Any, ...], group_bytes_max: int) -> None:
    """Tell a request that no group can hold from one whose arguments disagree."""
    _, channels_count, _, _, _, block_bytes, _, records_count, _ = arguments
    entries = channels_count * records_count
    request_bytes = lib.nd_journal_request_bytes(block_bytes, records_count, channels_count, entries)
    if request_bytes * 2 > group_bytes_max:
        raise BodyTooLarge("these events reach too many channels for one request; post fewer at a time")
