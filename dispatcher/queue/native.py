"""The queue over the native core: rings of records in one pool of memory.

The ``native*`` modules are the only ones that import the extension.  Headers in ``native/include`` say what
each call owns and costs; none of those used here blocks, so all are called on the
Trio thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import trio

from dispatcher import limits
from dispatcher.core.gap_list import GapList, mark_of
from dispatcher.core.idempotency import IdempotencyTable, KeptAnswer, KeyScope
from dispatcher.errors import ChannelGone, MemoryFull, StorageUnreadable
from dispatcher.model import Position
from dispatcher.queue._core import ffi, lib
from dispatcher.queue.disk import Disk
from dispatcher.queue.interface import (
    Appended,
    ChannelStats,
    Form,
    FrozenBatch,
    Loss,
    Peeked,
    QueueOptions,
    QueueTotals,
    Records,
    Route,
    SliceLimits,
    Ticket,
)
from dispatcher.queue.losses import corruption_of, joined, loss_of
from dispatcher.queue.native_append import Appender
from dispatcher.queue.native_batch import NativeBatch
from dispatcher.queue.native_framed import ColdReader
from dispatcher.queue.native_journal import NativeJournal
from dispatcher.queue.native_log import QueueLog
from dispatcher.queue.native_residency import Reach, Residency
from dispatcher.queue.native_ring import ChannelRing
from dispatcher.queue.native_rings import Rings
from dispatcher.queue.native_slices import Slicer
from dispatcher.queue.segment_books import Contents

_EVERYTHING = 2**64 - 1  # as a seq to go up to


class NativeQueue:
    """All channels' queues (``interface.ChannelQueue``): in memory, and with a ``log`` on disk too.

    Takes at most ``memory_bytes_max`` for records, rounded up to the pool's slabs of
    2 MiB; beside that, about 500 bytes for each channel and 100 for each chunk of records, and for
    channels that keep the latest 16 to 32 for each record and 16 to 96 for each resource.  With
    a ``residency`` what does not fit is moved to the disk.
    """

    def __init__(self, epoch: int, memory_bytes_max: int) -> None:
        self.epoch = epoch
        self.answers = IdempotencyTable()
        self.rings = Rings(epoch, memory_bytes_max)
        self.appender = Appender(self.rings, self.answers)
        self._recovered: set[int] = set()  # channels that wait for open_channel
        self._removed = ffi.new("nd_removed *")
        try:
            self._slicer = Slicer(self.rings.pool, epoch, isolate=self._isolate, changed=self.rings.changed)
        except MemoryFull:
            self.rings.close_pool()
            raise

    def __repr__(self) -> str:
        if self.rings.pool is None:
            return "<NativeQueue closed>"
        totals = self.totals()
        return (
            f"<NativeQueue epoch {self.epoch}: "
            f"{totals.records} records in {len(self.rings.channels)} channels, "
            f"{totals.memory_bytes} of {totals.memory_bytes_max} bytes, {totals.scratch_bytes} on disk>"
        )

    # --- channels ---------------------------------------------------------------------

    def check_accepting(self) -> None:
        """Raise while the journal cannot take anything."""
        self.rings.check_open()
        if self.log is not None:
            self.log.check_accepting()
        if self.residency is not None:
            self.residency.check_accepting()

    def open_channel(self, channel: int, options: QueueOptions) -> None:
        """Begin a channel; ``ValueError`` when it is open."""
        self.rings.check_open()
        if channel in self._recovered:
            self._recovered.remove(channel)
            if not self._recovered:
                self._recovered = set()  # an emptied one stays as large as it was
            return
        if channel in self.rings.channels:
            raise ValueError(f"channel {channel} is open")
        opened = self.rings.open(channel, self.epoch, options)
        if self.log is not None:
            lib.nd_ring_show(opened.ring, 0)
            self.log.changed(opened)

    def keep_gaps(self, channel: int, is_wanted: bool) -> None:
        """Keep gaps from now on, or forget them."""
        found = self.rings.channel(channel)
        if is_wanted != (found.gaps is not None):
            found.gaps = GapList() if is_wanted else None
            self.rings.changed(found)

    def delete_channel(self, channel: int) -> int:
        """Forget a channel and give its memory back."""
        found = self.rings.channel(channel)
        stats = self.rings.stats(found)
        records: int = stats.records
        self.rings.ledger.deleted(records, stats.bytes)
        lib.nd_channels_remove(self.rings.table, channel)
        lib.nd_ring_close(found.ring)
        found.ring = None
        del self.rings.channels[channel]
        if self.log is not None:
            self.log.deleted(found)
        self.rings.note_memory()
        return records

    @property
    def pool(self) -> Any:
        """The memory that rings of this queue are opened on."""
        return self.rings.pool

    @property
    def log(self) -> QueueLog | None:
        """Its journal; None: it is kept in memory alone."""
        return self.rings.log

    @property
    def residency(self) -> Residency | None:
        """What moves cold records out of memory; None: nothing does."""
        return self.rings.residency

    def keep_cold_in(self, folder: Path, disk: Disk, disk_bytes_max: int) -> None:
        """Let what does not fit into memory move to a scratch file in a folder.  *Blocks.*

        Before any ring is opened.  ``residency.run`` must then be started by whoever owns the queue.
        """
        self.rings.residency = Residency(self.rings.pool, folder, disk, disk_bytes_max, self._take_fetched)
        self._slicer.cold = ColdReader(self.rings.residency)

    def recover_channel(self, channel: int, options: QueueOptions) -> ChannelRing:
        """A channel of an earlier run, which waits for its ``open_channel``; its ring is yet to be filled."""
        recovered = self.rings.open(channel, 0, options)
        self._recovered.add(channel)
        return recovered

    def adopt(
        self,
        journal: NativeJournal,
        *,
        disk: Disk,
        losses: Sequence[Loss],
        damaged_groups: int,
        answers: Iterable[tuple[KeyScope, KeptAnswer]],
        received_unix_ms: int,
        now_unix_ms: Callable[[], int],
    ) -> None:
        """Keep a journal, and go on with the channels that were recovered from it (``native_recovery``).

        ``losses`` are records of theirs that are gone; ``answers`` come oldest first.  Nothing
        was received after ``received_unix_ms``.
        """
        earlier = Contents()
        for number, channel in self.rings.channels.items():
            stats = self.rings.stats(channel)
            if stats.settled_seq < stats.last_seq:
                earlier.last_seqs[number] = stats.last_seq
        for scope, kept in answers:
            self.answers.restore(scope, kept)
            earlier.answered_unix_ms[scope.account_id] = kept.answered_unix_ms
        self.rings.log = log = QueueLog(
            journal,
            self.rings.table,
            self.rings.channels,
            self.answers,
            self.epoch,
            disk,
            self._held,
            self._fetch_for_journal,
            now_unix_ms,
            earlier,
        )
        for channel in self.rings.channels.values():
            lib.nd_ring_begin_epoch(channel.ring, self.epoch)
            stats = self.rings.stats(channel)
            self.rings.ledger.recovered(stats.records, stats.bytes)
            lib.nd_ring_show(channel.ring, stats.last_seq)
            log.changed(channel)
            self._hold_frozen(channel)
        for loss in losses:
            channel = self.rings.channels[loss.channel]
            self.rings.ledger.recovered(loss.count, loss.record_bytes)
            self.rings.lost(loss, channel)
            if loss.count == loss.last_seq - loss.first_seq + 1:  # else the oldest went, as the state says
                log.lost(channel, loss.first_seq, loss.last_seq)
        log.damaged_groups = damaged_groups
        self.appender.received(received_unix_ms)

    def _hold_frozen(self, channel: ChannelRing) -> None:
        """What has to go again as it was is in flight from the start, if all of it is there."""
        frozen = channel.frozen
        if frozen is not None and not self._slicer.hold_again(channel, frozen):
            channel.frozen = None

    # --- in ---------------------------------------------------------------------------

    def append(
        self, records: Records, routes: Sequence[Route], received_unix_ms: int, *, has_answer: bool = False
    ) -> tuple[Appended, Ticket]:
        """Store one request's records in all its channels; see the interface."""
        return self.appender.append(records, routes, received_unix_ms, has_answer=has_answer)

    def keep(self, scope: KeyScope, answer: bytes) -> Ticket:
        """Keep the answer to what was just stored; see the interface."""
        return self.appender.keep(scope, answer)

    def has_room(self, channel: int, records: Records) -> bool:
        """Whether an append of all these would refuse none."""
        return self.appender.has_room(channel, records)

    def take_losses(self) -> list[Loss]:
        """Losses that nobody was told of yet."""
        return self.rings.take_losses()

    def report_to(self, on_lost: Callable[[Loss], None]) -> None:
        """Tell at once of losses that reading finds out: damage, and cold records that were too old."""
        self.rings.on_lost = on_lost

    # --- out --------------------------------------------------------------------------

    def may_have_more(self, channel: int, after: Position) -> bool:
        """False when nothing is behind a position, shown or not, and no gap is kept."""
        found = self.rings.channel(channel)
        return bool(found.gaps) or found.next_seq(self._seq(found, after)) != 0

    async def slice(
        self, channel: int, after: Position | None, limits: SliceLimits, form: Form
    ) -> NativeBatch | None:
        """Plan a batch of the records after a position.  No checkpoint while nothing is cold."""
        found = self.rings.channel(channel)
        return await self._slicer.slice(found, self._seq(found, after), after, limits, form)

    async def peek(self, channel: int, limits: SliceLimits, form: Form) -> list[Peeked]:
        """Look at the oldest records.  No checkpoint but for cold ones."""
        return await self._slicer.peek(self.rings.channel(channel), limits, form)

    async def rebuild(
        self, channel: int, first: Position, last: Position, form: Form, events: int | None = None
    ) -> NativeBatch | None:
        """Plan the same batch again.  No checkpoint while nothing is cold."""
        wanted = FrozenBatch(first=first, last=last, events=events or 0, form=form)
        return await self._slicer.rebuild(self.rings.channel(channel), wanted)

    def freeze(self, channel: int, batch: FrozenBatch | None) -> None:
        """Remember which batch has to go again as it was."""
        found = self.rings.channel(channel)
        if found.frozen != batch:
            found.frozen = batch
            self.rings.changed(found)

    def frozen(self, channel: int) -> FrozenBatch | None:
        """The batch that has to go again as it was."""
        return self.rings.channel(channel).frozen

    def settle(self, channel: int, upto: Position) -> int:
        """Acknowledge every record up to a position."""
        found = self.rings.channel(channel)
        seq = self._seq(found, upto)
        removed = self._removed
        if found.gaps and found.gaps.settle(mark_of(seq, upto)):
            self.rings.changed(found)
        status = lib.nd_ring_settle(found.ring, seq, removed)
        if status == lib.ND_EMPTY:
            return 0
        self.rings.changed(found)
        self.rings.note_memory()
        unreachable = 0
        if status == lib.ND_ERR_CORRUPT:  # where seqs have holes, no more than that can be said
            unreachable = min(removed.count - 1, removed.last_seq - seq)
        count: int = removed.count - unreachable
        self.rings.ledger.acked(count, removed.bytes)
        if unreachable:
            self.rings.on_lost(self.rings.lost(corruption_of(channel, unreachable, 0, seq + 1), found))
        return count

    def park(self, channel: int, position: Position) -> Loss | None:
        """Take the oldest record out."""
        found = self.rings.channel(channel)
        seq = self._seq(found, position)
        if lib.nd_ring_next_seq(found.ring, 1) != seq:
            return None
        self.release(channel)
        if lib.nd_ring_expire(found.ring, _EVERYTHING, seq, self._removed) != lib.ND_OK:
            return None
        self.rings.changed(found)
        self.rings.note_memory()
        return self.rings.lost(loss_of(channel, "parked", self._removed), found)

    def release(self, channel: int, after: Position | None = None) -> None:
        """Records after this position are no longer in flight."""
        found = self.rings.channel(channel)
        seq = self._seq(found, after)
        lib.nd_ring_release(found.ring, seq)
        if found.gaps is not None:
            found.gaps.release(mark_of(seq, after))

    def expire(self, channel: int, received_before_unix_ms: int) -> Loss | None:
        """Remove every record received before a moment."""
        found = self.rings.channel(channel)
        before_unix_ms = max(0, received_before_unix_ms)
        # A gap never reaches from what is in flight, and may be confirmed, to what is not.
        bounds = (_EVERYTHING,) if found.gaps is None else (found.gaps.in_flight_seq, _EVERYTHING)
        losses = [
            self.rings.lost(loss_of(channel, "expired", self._removed), found)
            for upto_seq in bounds
            if lib.nd_ring_expire(found.ring, before_unix_ms, upto_seq, self._removed) != lib.ND_EMPTY
        ]
        if not losses:
            return None
        self.rings.changed(found)
        self.rings.note_memory()
        return joined(losses)

    # --- figures ----------------------------------------------------------------------

    def stats(self, channel: int) -> ChannelStats:
        """One channel's figures."""
        found = self.rings.channel(channel)
        stats = self.rings.stats(found)
        return ChannelStats(
            records=stats.records,
            record_bytes=stats.bytes,
            last_seq=stats.last_seq,
            settled_seq=stats.settled_seq,
            oldest_unix_ms=stats.oldest_unix_ms if stats.records else None,
            gaps=len(found.gaps or ()),
        )

    def totals(self) -> QueueTotals:
        """The sums over all channels."""
        return self.rings.totals()

    def close(self) -> None:
        """Give all memory back.  Tasks that move anything have ended."""
        if self.rings.pool is None:
            return
        self.rings.close()
        if self.log is not None:
            self.log.close()
        self._slicer.close()
        if self.residency is not None:
            self.residency.close()
        self.rings.close_pool()

    # --- inside -----------------------------------------------------------------------

    def _held(self) -> tuple[int, int]:
        """All records that are here now, and their stored bytes."""
        books = self.rings.books()
        return books.records, books.record_bytes

    def _seq(self, channel: ChannelRing, position: Position | None) -> int:
        """A position as a seq of this channel; see ``nd_ring_seq_of``."""
        if position is None:
            return 0
        if position.epoch > self.epoch:
            raise ValueError(f"{position} is of an epoch that has not begun")
        seq: int = lib.nd_ring_seq_of(channel.ring, position.epoch, position.seq)
        return seq

    def _isolate(self, channel: ChannelRing, seq: int) -> None:
        """Take a damaged record out, so that it stops nobody."""
        removed = self._removed
        status = lib.nd_ring_isolate(channel.ring, seq, removed)
        if status == lib.ND_ERR_FULL:
            raise MemoryFull("the machine has no memory left for the queue's books")
        if status == lib.ND_OK:
            self.rings.log_removed(channel, removed)
            loss = corruption_of(channel.number, removed.count, removed.bytes, removed.first_seq)
            self.rings.on_lost(self.rings.lost(loss, channel))

    def _take_fetched(self, channel: ChannelRing, gone_bytes: int, expire_unix_ms: int) -> None:
        """Do what could not be done while records were cold."""
        self.rings.ledger.shrunk(gone_bytes)
        loss = self.expire(channel.number, expire_unix_ms) if expire_unix_ms else None
        if loss is not None:
            self.rings.on_lost(loss)

    async def _fetch_for_journal(self, channel: ChannelRing, first_seq: int) -> bool:
        """Bring a record that cleaning needs into memory; False: not now.

        It waits for memory a moment only: what would give some back may wait for the journal.
        """
        assert self.residency is not None, "nothing is cold without it"
        with trio.move_on_after(limits.JOURNAL_RETRY_S), suppress(ChannelGone, StorageUnreadable):
            return await self.residency.fetch(channel, Reach(first_seq=first_seq, records_max=1))
        return channel.ring is None
