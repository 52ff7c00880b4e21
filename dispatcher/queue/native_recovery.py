"""A queue with a journal, opened: what an earlier run left is found again.

The journal is the truth about contents, the registry about what exists: a channel of the
journal that is not known is left out, one that is known but not in the journal begins
empty.

Every start begins an epoch.  A log whose tail is gone looks like a shorter one, so nobody
can say that all numbers ever given stand in it; in a new epoch they may be given again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import trio

from dispatcher import limits
from dispatcher.core.gap_list import KnownGap
from dispatcher.core.idempotency import FoundAnswers, KeptAnswer, KeyScope
from dispatcher.errors import DataFolderError, MemoryFull
from dispatcher.model import GAP_REASONS, Durability, Position
from dispatcher.queue._core import ffi, lib
from dispatcher.queue.disk import Disk
from dispatcher.queue.interface import FrozenBatch, Loss, QueueOptions
from dispatcher.queue.losses import loss_of
from dispatcher.queue.native import NativeQueue
from dispatcher.queue.native_form import form_of, read_gap
from dispatcher.queue.native_journal import JournalOptions, NativeJournal, files_of
from dispatcher.queue.native_ring import ChannelRing

_ALL_SEGMENTS = 2**64 - 1
_NO_ANSWERS = 2**64 - 1  # none is that young


class JournalReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a journal holds, as ``nd_recovery.h`` describes it."""

    journal_id: int  # 0: there is no journal
    oldest_segment: int
    newest_segment: int
    segments: int
    groups: int
    units: int
    group_bytes: int
    last_group: int
    last_epoch: int
    damaged_groups: int
    damaged_segment: int
    damaged_group: int
    last_damaged_group: int
    damaged_segments: int
    cut_groups: int
    is_synced: bool
    is_clean_end: bool

    @property
    def is_damaged(self) -> bool:
        """Whether something that was durable is gone."""
        return self.damaged_groups > 0 or self.damaged_segments > 0


class FoundChannel(msgspec.Struct, frozen=True, kw_only=True):
    """A channel as the log ended."""

    index: int
    channel: int
    incarnation: int
    last_seq: int
    settled_seq: int
    is_deleted: bool
    frozen: FrozenBatch | None  # to be sent again as it was
    gaps: tuple[KnownGap, ...]  # that its receiver did not confirm


class LostRecords(msgspec.Struct, frozen=True):
    """Records that were durable and are not there any more."""

    index: int  # of the channel
    loss: Loss
    is_exact: bool  # False: some may have been delivered, or named as another loss, before


class Restored(msgspec.Struct, frozen=True, kw_only=True):
    """What was put into rings again."""

    records: int
    newest_unix_ms: int  # the time of the latest record or answer in the log


class RecoveryReport(msgspec.Struct, frozen=True, kw_only=True):
    """What an opened queue found."""

    journal: JournalReport
    records: int
    lost: tuple[LostRecords, ...]  # of channels that exist
    silent_channels: int  # of which nothing behind the damage speaks: what they lost is not known
    unknown_channels: int  # in the journal, not in the registry
    missing_channels: int  # in the registry, not in the journal

    def lost_records(self, reason: str) -> int:
        """How many are gone for one reason."""
        return sum(one.loss.count for one in self.lost if one.loss.reason == reason)


class JournalReader:
    """Reads a journal; all but ``secure`` leave it as it is.  Its plain methods *block*."""

    def __init__(self, folder: Path, disk: Disk) -> None:
        self._folder = folder
        self._disk = disk
        self._files = files_of(disk)
        self._restore: Any = ffi.NULL
        out = ffi.new("nd_recovery **")
        status = lib.nd_recovery_open(lib.nd_io_posix(), self._files, bytes(folder), 0, _ALL_SEGMENTS, out)
        if status == lib.ND_ERR_ARGUMENT:
            raise DataFolderError(f"{folder}: written by a newer version of the dispatcher; use that one")
        self._check(status)
        self._recovery = out[0]

    def passed_bytes(self) -> int:
        """Bytes of segments read so far, all passes together; another thread may ask, until ``close``."""
        passed: int = lib.nd_recovery_passed_bytes(self._recovery)
        return passed

    def close(self) -> None:
        """Give its memory back."""
        lib.nd_restore_close(self._restore)
        lib.nd_recovery_close(self._recovery)
        self._restore = self._recovery = ffi.NULL

    def scan(
        self, answers: FoundAnswers | None = None, answers_from_unix_ms: int = _NO_ANSWERS
    ) -> list[FoundChannel]:
        """Read the log once, and a damaged one twice; what is known of each channel.

        Answers that young are added to those given.
        """
        out = ffi.new("nd_restore **")
        self._check(lib.nd_restore_open(lib.nd_io_posix(), self._recovery, out))
        self._restore = out[0]
        answer = ffi.new("nd_journal_answer *")
        while (status := lib.nd_restore_scan(self._restore, answers_from_unix_ms, answer)) == lib.ND_OK:
            if answers is not None:
                answers.add(*_answer(answer))
        self._check(lib.ND_OK if status == lib.ND_EMPTY else status)
        self._check(lib.nd_restore_find_missing(self._restore))
        raw = ffi.new("nd_restored_channel *")
        found = []
        for index in range(lib.nd_restore_channels(self._restore)):
            lib.nd_restore_channel(self._restore, index, raw)
            found.append(
                FoundChannel(
                    index=index,
                    channel=raw.channel,
                    incarnation=raw.incarnation,
                    last_seq=raw.last_seq,
                    settled_seq=raw.settled_seq,
                    is_deleted=bool(raw.is_deleted),
                    frozen=_frozen(raw),
                    gaps=self._gaps(index, raw.gaps),
                )
            )
        return found

    def secure(self) -> None:
        """Make durable what an earlier run wrote last; after ``scan``."""
        newest_segment = self.report().newest_segment
        status = lib.nd_secure(lib.nd_io_posix(), self._files, bytes(self._folder), newest_segment)
        if status not in (lib.ND_OK, lib.ND_ERR_FULL):
            raise DataFolderError(
                f"{self._folder}: what was written last cannot be made safe; check the disk"
            )
        self._check(status)

    def _gaps(self, index: int, count: int) -> tuple[KnownGap, ...]:
        gaps = ffi.new("nd_gap[]", count)
        self._check(lib.nd_restore_gaps(self._restore, index, gaps))
        return tuple(read_gap(gap) for gap in gaps)

    def lost(self) -> list[LostRecords]:
        """What the log is known to have lost, and after ``load`` what the rings had no room for."""
        raw = ffi.new("nd_lost *")
        channel = ffi.new("nd_restored_channel *")
        found = []
        for at in range(lib.nd_restore_losses(self._restore)):
            lib.nd_restore_loss(self._restore, at, raw)
            lib.nd_restore_channel(self._restore, raw.channel, channel)
            loss = loss_of(channel.channel, GAP_REASONS[raw.reason - 1], raw.removed)
            found.append(LostRecords(raw.channel, loss, bool(raw.is_exact)))
        return found

    def silent_channels(self) -> int:
        """Channels of which nothing behind the damage speaks; counts those that do not exist too."""
        stats = ffi.new("nd_restore_stats_t *")
        lib.nd_restore_stats(self._restore, stats)
        silent: int = stats.silent_channels
        return silent

    def report(self) -> JournalReport:
        """What was found; complete after ``scan``."""
        raw = ffi.new("nd_recovery_report_t *")
        lib.nd_recovery_report(self._recovery, raw)
        flags = {"is_synced", "is_clean_end"}
        names = JournalReport.__struct_fields__
        return JournalReport(**{n: bool(getattr(raw, n)) if n in flags else getattr(raw, n) for n in names})

    def bind(self, bound: Mapping[int, ChannelRing]) -> int:
        """Say which rings are to be filled, by the index of their channel; with about how many bytes."""
        for index, channel in bound.items():
            lib.nd_restore_bind(self._restore, index, channel.ring)
        live_bytes: int = lib.nd_restore_live_bytes(self._restore)
        return live_bytes

    async def load(self, pool: Any, live_bytes: int) -> Restored:
        """Fill the rings, while another thread takes the memory for them from the machine."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._disk.run_beside, lambda: lib.nd_pool_bring(pool, live_bytes))
            status = await self._disk.run(lambda: lib.nd_restore_load(self._restore, pool))
        lib.nd_pool_brought(pool, live_bytes)
        self._check(status)
        stats = ffi.new("nd_restore_stats_t *")
        lib.nd_restore_stats(self._restore, stats)
        return Restored(records=stats.records, newest_unix_ms=stats.newest_unix_ms)

    def _check(self, status: int) -> None:
        if status == lib.ND_ERR_FULL:
            raise MemoryFull("there is no memory left to read the journal with; raise storage.memory_bytes")
        if status == lib.ND_ERR_NOSPACE:
            raise DataFolderError(
                f"{self._folder}: its queues do not fit into memory, and the disk has no room to keep the "
                "rest at hand: make room on it, or raise storage.memory_bytes or storage.disk_bytes"
            )
        if status != lib.ND_OK:
            raise DataFolderError(f"{self._folder}: the disk does not give the journal back; check it")


def _answer(raw: Any) -> tuple[KeyScope, KeptAnswer]:
    scope = KeyScope(raw.account, ffi.buffer(raw.key, raw.key_bytes)[:])
    return scope, KeptAnswer(
        body_sha256=ffi.buffer(raw.body_sha256, 32)[:],
        answer=ffi.buffer(raw.answer, raw.answer_bytes)[:],
        answered_unix_ms=raw.answered_unix_ms,
    )


def _frozen(raw: Any) -> FrozenBatch | None:
    if not raw.frozen_first_seq:
        return None
    is_alone = raw.frozen_events == 0  # gaps without records
    return FrozenBatch(
        first=Position(raw.frozen_epoch, raw.frozen_first_seq, is_alone),
        last=Position(raw.frozen_epoch, raw.frozen_last_seq, is_alone),
        events=raw.frozen_events,
        form=form_of(raw.frozen_form),
    )


async def open_durable_queue(
    folder: Path,
    durability: Durability,
    memory_bytes_max: int,
    known: Mapping[int, QueueOptions],
    *,
    disk_bytes_max: int = 0,
    disk: Disk,
    next_epoch: Callable[[], Awaitable[int]],
    new_journal_id: Callable[[], int],
    now_unix_ms: Callable[[], int],
) -> tuple[NativeQueue, RecoveryReport]:
    """Open the queue of a data folder, with what its journal holds for the known channels.

    Each of them still wants its ``open_channel``.  ``queue.log.commit.run`` and
    ``queue.residency.run`` must then be started by whoever owns the queue.  ``disk_bytes_max`` bounds
    what does not fit into memory; 0: nothing does.

    Raises ``DataFolderError`` and ``MemoryFull``.  Cancellation waits for the disk.
    """
    reader = await disk.run(lambda: JournalReader(folder, disk))
    try:
        answers = FoundAnswers()
        answers_from_unix_ms = max(0, now_unix_ms() - limits.IDEMPOTENCY_LIFETIME_MS + 1)
        found = await disk.run(lambda: reader.scan(answers, answers_from_unix_ms))
        await disk.run(reader.secure)
        report = reader.report()
        mine = {
            channel.index: channel
            for channel in found
            if not channel.is_deleted
            and channel.channel in known
            and known[channel.channel].incarnation == channel.incarnation
        }
        epoch = max(await next_epoch(), report.last_epoch + 1)
        queue = NativeQueue(epoch, memory_bytes_max)
        try:
            await disk.run_beside(lambda: queue.keep_cold_in(folder, disk, disk_bytes_max))
            numbers = {number: number for number in known}  # the very ones that their registrations have
            rings = {
                index: queue.recover_channel(numbers[channel.channel], known[channel.channel])
                for index, channel in mine.items()
            }
            for index, ring in rings.items():
                ring.remember(mine[index].frozen, mine[index].gaps)
            restored = await reader.load(queue.pool, reader.bind(rings))
            lost = tuple(one for one in reader.lost() if one.index in rings)
            silent_channels = reader.silent_channels()
            journal = NativeJournal(
                folder, _options(report, durability, epoch, new_journal_id, max(0, now_unix_ms())), disk
            )
            queue.adopt(
                journal,
                disk=disk,
                losses=[one.loss for one in lost],
                damaged_groups=report.damaged_groups,
                answers=answers.oldest_first(),
                received_unix_ms=restored.newest_unix_ms,
                now_unix_ms=now_unix_ms,
            )
        except BaseException:
            queue.close()
            raise
    finally:
        reader.close()
    return queue, RecoveryReport(
        journal=report,
        records=restored.records,
        lost=lost,
        silent_channels=silent_channels,
        unknown_channels=len(found) - len(mine),
        missing_channels=len(known) - len(mine),
    )


def _options(
    report: JournalReport,
    durability: Durability,
    epoch: int,
    new_journal_id: Callable[[], int],
    now_unix_ms: int,
) -> JournalOptions:
    first_segment = report.newest_segment + 1
    return JournalOptions(
        journal_id=report.journal_id or new_journal_id() | 1,
        oldest_segment=report.oldest_segment if 0 < report.oldest_segment < first_segment else first_segment,
        first_segment=first_segment,
        first_group=report.last_group + 1,
        epoch=epoch,
        created_unix_ms=now_unix_ms,
        is_synced=durability is Durability.DISK,
    )
