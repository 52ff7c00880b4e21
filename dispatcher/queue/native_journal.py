"""The journal's handle: what ``native/include/nd_journal.h`` offers, in Python's words.

Beside ``native.py`` and ``native_recovery.py`` the only importer of the extension.
Functions marked *Blocks* belong on a worker thread; while one of them runs, nobody may
call ``seal`` or ``done`` (``group_commit`` sees to both).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from enum import Enum
from pathlib import Path
from typing import Any

import msgspec

from dispatcher import limits
from dispatcher.core.gap_list import GapList
from dispatcher.core.idempotency import KeptAnswer, KeyScope
from dispatcher.errors import DataFolderError, MemoryFull
from dispatcher.queue._core import ffi, lib
from dispatcher.queue.disk import Disk
from dispatcher.queue.interface import FrozenBatch
from dispatcher.queue.native_form import form_flags, write_gap
from dispatcher.queue.native_ring import ChannelRing
from dispatcher.queue.native_writer import WriterThread


class GroupOutcome(Enum):
    """What became of the sealed group."""

    DURABLE = "durable"
    NO_SPACE = "no space"  # it stays sealed: write it again
    POISONED = "poisoned"
    NOTHING = "nothing"  # none was sealed


class JournalOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Where and how to go on writing."""

    journal_id: int
    oldest_segment: int
    first_segment: int
    first_group: int
    epoch: int
    created_unix_ms: int
    is_synced: bool  # False: a group counts as durable when it was written


class JournalStats(msgspec.Struct, frozen=True, kw_only=True):
    """The journal's figures; those of the disk as they were when ``done`` was last called."""

    durable_group: int
    durable_segment: int
    oldest_segment: int
    disk_bytes: int
    segment_room: int  # bytes left in the segment that is being written
    has_spare: bool
    is_poisoned: bool


_OUTCOMES = {
    lib.ND_OK: GroupOutcome.DURABLE,
    lib.ND_EMPTY: GroupOutcome.NOTHING,
    lib.ND_ERR_POISONED: GroupOutcome.POISONED,
}


def files_of(disk: Disk) -> Any:
    """The table of a disk's system calls."""
    return lib.nd_files_posix() if disk.files is None else disk.files


class NativeJournal:
    """The writing side of the journal in one folder."""

    def __init__(self, folder: Path, options: JournalOptions, disk: Disk) -> None:
        """Raises ``DataFolderError``, and ``MemoryFull`` without memory or a thread for it."""
        raw = ffi.new(
            "nd_journal_options *",
            {
                "journal_id": options.journal_id,
                "segment_bytes": disk.sizes.segment_bytes,
                "group_bytes_max": disk.sizes.group_bytes_max,
                "oldest_segment": options.oldest_segment,
                "first_segment": options.first_segment,
                "first_group": options.first_group,
                "epoch": options.epoch,
                "created_unix_ms": options.created_unix_ms,
                "is_synced": options.is_synced,
            },
        )
        self.folder = folder
        self.files = files_of(disk)
        self._segment_bytes = disk.sizes.segment_bytes
        self._unit = ffi.new("nd_channel_unit *")
        self._stats = ffi.new("nd_journal_stats_t *")
        self._gaps = ffi.new("nd_gap[]", limits.GAPS_PER_CHANNEL_MAX)
        out = ffi.new("nd_journal **")
        path = bytes(folder)
        status = lib.nd_journal_open(lib.nd_io_posix(), self.files, path, raw, out)
        if status == lib.ND_ERR_FULL:
            raise MemoryFull("the machine has no memory left for the journal's buffers")
        if status != lib.ND_OK:
            raise DataFolderError(f"{folder}: its path is too long, or its segments cannot be continued")
        self.raw: Any = out[0]
        self._thread: WriterThread | None = None
        if disk.has_writer_thread:
            self._begin_thread()

    def _begin_thread(self) -> None:
        """At the start, so that a machine without a thread to spare refuses it, and no publisher later."""
        try:
            self._thread = WriterThread(self.raw)
        except MemoryFull:
            self.close()
            raise

    def close(self) -> None:
        """Close its files; what was not written is lost.  *Blocks* while something is being written."""
        if self._thread is not None:
            self._thread.close()
            self._thread = None
        lib.nd_journal_close(self.raw)
        self.raw = ffi.NULL

    # --- gathering --------------------------------------------------------------------

    def gather_state(
        self, channel: int, incarnation: int, epoch: int, settled_seq: int, last_seq: int
    ) -> bool:
        """Say how a channel stands; False: not before the next seal."""
        return self._gather(lib.ND_UNIT_STATE, channel, incarnation, epoch, settled_seq, last_seq)

    def gather_hole(self, channel: int, incarnation: int, epoch: int, first_seq: int, last_seq: int) -> bool:
        """Say that all records of a channel from one seq to another are gone."""
        return self._gather(lib.ND_UNIT_DROPPED, channel, incarnation, epoch, first_seq, last_seq)

    def gather_frozen(self, channel: int, incarnation: int, epoch: int, batch: FrozenBatch | None) -> bool:
        """Say which batch of a channel is to be sent again as it was."""
        if batch is None:
            return self._gather(lib.ND_UNIT_FROZEN, channel, incarnation, epoch, 0, 0)
        self._unit.form = form_flags(batch.form)
        self._unit.events = batch.events
        gathered = self._gather(
            lib.ND_UNIT_FROZEN, channel, incarnation, batch.first.epoch, batch.first.seq, batch.last.seq
        )
        self._unit.form = self._unit.events = 0
        return gathered

    def gather_gaps(self, channel: int, incarnation: int, gaps: GapList) -> bool:
        """Say which gaps a channel's receiver has not confirmed: all of them."""
        if len(gaps) > len(self._gaps):
            self._gaps = ffi.new("nd_gap[]", 2 * len(gaps))
        for at, known in enumerate(gaps):
            write_gap(self._gaps[at], known)
        gathered: bool = (
            lib.nd_journal_gather_gaps(self.raw, channel, incarnation, self._gaps, len(gaps)) == lib.ND_OK
        )
        return gathered

    def gather_deleted(self, channel: int, incarnation: int, epoch: int) -> bool:
        """Say that a channel is gone."""
        return self._gather(lib.ND_UNIT_DELETED, channel, incarnation, epoch, 0, 0)

    def gather_answer(self, scope: KeyScope, kept: KeptAnswer) -> bool:
        """Keep an answer; False: not before the next seal."""
        with (
            ffi.from_buffer("uint8_t[]", kept.body_sha256) as body_sha256,
            ffi.from_buffer("uint8_t[]", scope.digest) as key,
            ffi.from_buffer("uint8_t[]", kept.answer) as answer,
        ):
            raw = ffi.new(
                "nd_journal_answer *",
                {
                    "account": scope.account_id,
                    "answered_unix_ms": kept.answered_unix_ms,
                    "body_sha256": body_sha256,
                    "key": key,
                    "key_bytes": len(key),
                    "answer": answer,
                    "answer_bytes": len(answer),
                },
            )
            gathered: bool = lib.nd_journal_gather_answer(self.raw, raw) == lib.ND_OK
            return gathered

    def _gather(
        self, unit_type: int, channel: int, incarnation: int, epoch: int, first_seq: int, last_seq: int
    ) -> bool:
        unit = self._unit
        unit.type = unit_type
        unit.channel = channel
        unit.incarnation = incarnation
        unit.epoch = epoch
        unit.first_seq = first_seq
        unit.last_seq = last_seq
        gathered: bool = lib.nd_journal_gather_channel(self.raw, unit) == lib.ND_OK
        return gathered

    def seal(self) -> bool:
        """Hand what was gathered to the writer; False when there is nothing to write."""
        sealed: bool = lib.nd_journal_seal(self.raw) == lib.ND_OK
        return sealed

    def done(self) -> GroupOutcome:
        """Take note of what the writer did."""
        return _OUTCOMES.get(lib.nd_journal_group_done(self.raw), GroupOutcome.NO_SPACE)

    def gathered_bytes(self) -> int:
        """How much stands in the group that is being gathered."""
        lib.nd_journal_stats(self.raw, self._stats)
        gathered: int = self._stats.gathered_bytes
        return gathered

    def stats(self) -> JournalStats:
        """The figures."""
        raw = self._stats
        lib.nd_journal_stats(self.raw, raw)
        return JournalStats(
            durable_group=raw.durable_group,
            durable_segment=raw.durable_segment,
            oldest_segment=raw.oldest_segment,
            disk_bytes=raw.segments * self._segment_bytes,
            segment_room=raw.segment_room,
            has_spare=bool(raw.has_spare),
            is_poisoned=bool(raw.is_poisoned),
        )

    # --- writing ----------------------------------------------------------------------

    def write_sync(self) -> None:
        """Write the sealed group, and wait until it is on the disk.  *Blocks.*"""
        lib.nd_journal_write_sync(self.raw)

    def begin_by_thread(self) -> None:
        """Begin the same on the journal's own thread, whose end no interpreter's lock delays.

        There is one on a disk that ``has_writer_thread``.
        """
        assert self._thread is not None
        self._thread.begin()

    async def wait_for_thread(self) -> None:
        """Wait for the end of what was begun, or is begun meanwhile.  Cancellation: only the wait ends."""
        assert self._thread is not None
        await self._thread.wait()

    async def end_by_thread(self) -> None:
        """Wait for it, cancelled or not."""
        assert self._thread is not None
        await self._thread.end()

    def prepare(self) -> bool:
        """Preallocate the spare segment; False: the disk is full.  *Blocks.*"""
        prepared: bool = lib.nd_journal_prepare(self.raw) == lib.ND_OK
        return prepared

    def unlink_oldest(self) -> bool:
        """Remove the oldest segment, whose live contents were moved.  *Blocks.*"""
        unlinked: bool = lib.nd_journal_unlink_oldest(self.raw) == lib.ND_OK
        return unlinked


class CleaningStep(Enum):
    """What came of one step of writing records again."""

    MORE = "more"  # take the next step
    WAIT = "wait"  # take it when the group was written
    FETCH = "fetch"  # take it when the record that comes next is in memory again
    DONE = "done"


_STEPS = {
    lib.ND_OK: CleaningStep.MORE,
    lib.ND_NO_ROOM: CleaningStep.WAIT,
    lib.ND_COLD: CleaningStep.FETCH,
    lib.ND_EMPTY: CleaningStep.DONE,
    lib.ND_ERR_CORRUPT: CleaningStep.DONE,  # what cannot be found in a ring cannot be delivered either
    lib.ND_ERR_POISONED: CleaningStep.WAIT,
}


class SegmentCleaner:
    """Writes what is live in the oldest segment again, in small steps."""

    def __init__(self, journal: NativeJournal, segment: int) -> None:
        """Read the segment.  *Blocks.*  ``is_whole`` says whether all of it could be read.

        Raises ``MemoryFull``.
        """
        out = ffi.new("nd_cleaner **")
        is_whole = ffi.new("uint32_t *")
        status = lib.nd_cleaner_open(
            lib.nd_io_posix(), journal.files, bytes(journal.folder), segment, out, is_whole
        )
        if status != lib.ND_OK:
            raise MemoryFull("the machine has no memory left to read a segment of the journal with")
        self.is_whole = bool(is_whole[0])
        self._journal = journal
        self._raw = out[0]

    def move(self, channels: Any, accounts: Any, bytes_max: int) -> CleaningStep:
        """Gather some records and answers that are live.

        Live are those of these channels (``nd_live_channel[]``) and accounts (``nd_live_account[]``).
        """
        return _STEPS[
            lib.nd_cleaner_move(
                self._raw, self._journal.raw, channels, len(channels), accounts, len(accounts), bytes_max
            )
        ]

    def copying(self, channel: ChannelRing, last_seq: int) -> RingCopy:
        """Gathers a channel's records up to a seq, as its ring has them."""
        return RingCopy(self._raw, self._journal, channel, last_seq)

    def close(self) -> None:
        """Give its memory back.  *Blocks*: it is as much as a segment."""
        lib.nd_cleaner_close(self._raw)
        self._raw = ffi.NULL


class RingCopy:
    """A channel's records up to a seq, gathered as its ring has them: each call is a step."""

    def __init__(self, cleaner: Any, journal: NativeJournal, channel: ChannelRing, last_seq: int) -> None:
        self.channel = channel
        self._cleaner = cleaner
        self._journal = journal
        self._last_seq = last_seq
        self._raw = ffi.new("nd_live_channel *", (channel.number, channel.incarnation, ffi.NULL))
        self._seq = ffi.new("uint64_t *", 1)

    def __call__(self, bytes_max: int) -> CleaningStep:
        if self.channel.ring is None:
            return CleaningStep.DONE
        self._raw.ring = self.channel.ring
        journal = self._journal.raw
        return _STEPS[
            lib.nd_cleaner_copy(self._cleaner, journal, self._raw, self._seq, self._last_seq, bytes_max)
        ]

    @property
    def next_seq(self) -> int:
        """Where the next step goes on."""
        seq: int = self._seq[0]
        return seq


def copying_answers(
    journal: NativeJournal, answers: Iterable[tuple[KeyScope, KeptAnswer]]
) -> Callable[[int], CleaningStep]:
    """A step that gathers some of the answers."""
    left = deque(answers)

    def step(bytes_max: int) -> CleaningStep:
        full_bytes = journal.gathered_bytes() + bytes_max
        while left:
            if journal.gathered_bytes() >= full_bytes:
                return CleaningStep.MORE
            if not journal.gather_answer(*left[0]):
                return CleaningStep.WAIT
            left.popleft()
        return CleaningStep.DONE

    return step
