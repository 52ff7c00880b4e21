"""The queue over the native core: rings of records in one pool of memory.

The ``native*`` modules are the only ones that import the extension.  Headers in ``native/include`` say what
each call owns and costs; none of those used here blocks, so all are called on the
Trio thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import trio

from dispatcher import limits
from dispatcher.core.gap_list import GapList, mark_of
from dispatcher.core.idempotency import IdempotencyTable, KeptAnswer, KeyScope
from dispatcher.core.memory_pressure import Holding, plan_relief, relief_bytes
from dispatcher.core.routes import Routes
from dispatcher.errors import ChannelGone, MemoryFull, StorageUnreadable, Unavailable
from dispatcher.model import Position
from dispatcher.queue._core import ffi, lib
from dispatcher.queue.disk import Disk
from dispatcher.queue.interface import (
    Appended,
    ChannelStats,
    Form,
    FrozenBatch,
    Keep,
    Loss,
    Peeked,
    QueueOptions,
    QueueTotals,
    Records,
    Route,
    SliceLimits,
    Ticket,
)
from dispatcher.queue.ledger import Ledger
from dispatcher.queue.losses import corruption_of, gap_of, joined, loss_of, rejection_of
from dispatcher.queue.native_batch import NativeBatch
from dispatcher.queue.native_journal import NativeJournal
from dispatcher.queue.native_log import QueueLog
from dispatcher.queue.native_residency import Reach, Residency
from dispatcher.queue.native_ring import ChannelRing, made, open_ring
from dispatcher.queue.native_slices import Slicer
from dispatcher.queue.segment_books import Contents

_HEADER_BYTES = 32  # FORMAT.md, the record
_EVERYTHING = 2**64 - 1  # as a seq to go up to


class DurableInMemory:
    """The ticket of a queue that keeps records in memory alone: all is done when append returns."""

    is_durable = True

    async def durable(self) -> None:
        """Return after one checkpoint."""
        await trio.lowlevel.checkpoint()


_TICKET = DurableInMemory()


class NativeQueue:
    """All channels' queues (``interface.ChannelQueue``): in memory, and with a ``log`` on disk too.

    Takes at most ``memory_bytes_max`` for records, rounded up to the pool's slabs of
    2 MiB; beside that, about 400 bytes for each channel and 100 for each chunk of records, and for
    channels that keep the latest 16 to 32 for each record and 16 to 96 for each resource.  With
    a ``residency`` what does not fit is moved to the disk.
    """

    def __init__(self, epoch: int, memory_bytes_max: int) -> None:
        self.epoch = epoch
        self.answers = IdempotencyTable()
        self.log: QueueLog | None = None
        self.residency: Residency | None = None
        self._channels: dict[int, ChannelRing] = {}
        self._ledger = Ledger()
        self._recovered: set[int] = set()  # channels that wait for open_channel
        self._received_unix_ms = 0
        self._unreported: list[Loss] = []  # see take_losses
        self._on_lost: Callable[[Loss], None] = self._tell_later
        self._removed = ffi.new("nd_removed *")
        self._ring_stats = ffi.new("nd_ring_stats_t *")
        self._published = ffi.new("nd_published *")  # what the append just done did
        self._pool = made("nd_pool *", lib.nd_pool_open, lib.nd_io_posix(), memory_bytes_max)
        try:
            self._rings = ffi.gc(
                made("nd_channels *", lib.nd_channels_open, lib.nd_io_posix()), lib.nd_channels_close
            )
            self._slicer = Slicer(self._pool, epoch, isolate=self._isolate, changed=self._changed)
        except MemoryFull:
            lib.nd_pool_close(self._pool)
            raise

    def __repr__(self) -> str:
        if self._pool is None:
            return "<NativeQueue closed>"
        totals = self.totals()
        return (
            f"<NativeQueue epoch {self.epoch}: {totals.records} records in {len(self._channels)} channels, "
            f"{totals.memory_bytes} of {totals.memory_bytes_max} bytes, {totals.scratch_bytes} on disk>"
        )

    # --- channels ---------------------------------------------------------------------

    def check_accepting(self) -> None:
        """Raise while the journal cannot take anything."""
        self._check_open()
        if self.log is not None:
            self.log.check_accepting()
        if self.residency is not None:
            self.residency.check_accepting()

    def open_channel(self, channel: int, options: QueueOptions) -> None:
        """Begin a channel; ``ValueError`` when it is open."""
        self._check_open()
        if channel in self._recovered:
            self._recovered.remove(channel)
            return
        if channel in self._channels:
            raise ValueError(f"channel {channel} is open")
        opened = self._open_ring(channel, self.epoch, options)
        if self.log is not None:
            lib.nd_ring_show(opened.ring, 0)
            self.log.changed(opened)

    def keep_gaps(self, channel: int, is_wanted: bool) -> None:
        """Keep gaps from now on, or forget them."""
        found = self._channel(channel)
        if is_wanted != (found.gaps is not None):
            found.gaps = GapList() if is_wanted else None
            self._changed(found)

    def delete_channel(self, channel: int) -> int:
        """Forget a channel and give its memory back."""
        found = self._channel(channel)
        stats = self._stats(found)
        records: int = stats.records
        self._ledger.deleted(records, stats.bytes)
        lib.nd_channels_remove(self._rings, channel)
        lib.nd_ring_close(found.ring)
        found.ring = None
        del self._channels[channel]
        if self.log is not None:
            self.log.deleted(found)
        self._note_memory()
        return records

    @property
    def pool(self) -> Any:
        """The memory that rings of this queue are opened on."""
        return self._pool

    @property
    def rings(self) -> Any:
        """The core's table of rings by the numbers of their channels."""
        return self._rings

    def keep_cold_in(self, folder: Path, disk: Disk, disk_bytes_max: int) -> None:
        """Let what does not fit into memory move to a scratch file in a folder.  *Blocks.*

        Before any ring is opened.  ``residency.run`` must then be started by whoever owns the queue.
        """
        self.residency = Residency(self._pool, folder, disk, disk_bytes_max, self._take_fetched)
        self._slicer.residency = self.residency

    def recover_channel(self, channel: int, options: QueueOptions) -> ChannelRing:
        """A channel of an earlier run, which waits for its ``open_channel``; its ring is yet to be filled."""
        recovered = self._open_ring(channel, 0, options)
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
        earlier = Contents(
            {number: self._stats(channel).last_seq for number, channel in self._channels.items()}
        )
        for scope, kept in answers:
            self.answers.restore(scope, kept)
            earlier.answered_unix_ms[scope.account_id] = kept.answered_unix_ms
        self.log = QueueLog(
            journal,
            self._rings,
            self._channels,
            self.answers,
            self.epoch,
            disk,
            lambda: (self._ledger.records, self._ledger.record_bytes),
            self._fetch_for_journal,
            now_unix_ms,
            earlier,
        )
        for channel in self._channels.values():
            lib.nd_ring_begin_epoch(channel.ring, self.epoch)
            stats = self._stats(channel)
            self._ledger.recovered(stats.records, stats.bytes)
            lib.nd_ring_show(channel.ring, stats.last_seq)
            self.log.changed(channel)
            self._hold_frozen(channel)
        for loss in losses:
            channel = self._channels[loss.channel]
            self._ledger.recovered(loss.count, loss.record_bytes)
            self._lost(loss, channel)
            if loss.count == loss.last_seq - loss.first_seq + 1:  # else the oldest went, as the state says
                self.log.lost(channel, loss.first_seq, loss.last_seq)
        self.log.damaged_groups = damaged_groups
        self._received_unix_ms = received_unix_ms

    def _hold_frozen(self, channel: ChannelRing) -> None:
        """What has to go again as it was is in flight from the start, if all of it is there."""
        frozen = channel.frozen
        if frozen is not None and not self._slicer.hold_again(channel, frozen):
            channel.frozen = None

    # --- in ---------------------------------------------------------------------------

    def append(
        self, records: Records, routes: Sequence[Route], received_unix_ms: int, keep: Keep | None = None
    ) -> tuple[Appended, Ticket]:
        """Store one request's records in all its channels; see the interface."""
        self.received(received_unix_ms)
        borrowed: list[Any] = []  # views of the caller's arrays, given back before we return
        try:
            arguments = self._arguments(records, Routes.of(routes, len(records.meta)), borrowed)
            while (status := self._publish(arguments, len(routes), keep)) == lib.ND_ERR_FULL:
                self._relieve(records, routes)
        finally:
            for view in borrowed:
                ffi.release(view)
        if status == lib.ND_EMPTY:
            self._channel(self._published.unknown)
        if status != lib.ND_OK:
            raise ValueError("records and routes do not agree with each other")
        appended, ticket = self.appended(self._published, Routes.of(routes, len(records.meta)).channels)
        return appended, ticket if keep is None else self._keep(keep, appended)

    def received(self, unix_ms: int) -> int:
        """When a request counts as received: these times never fall."""
        self._check_open()
        if unix_ms > self._received_unix_ms:
            self._received_unix_ms = unix_ms
        return self._received_unix_ms

    def _arguments(self, records: Records, routes: Routes, borrowed: list[Any]) -> tuple[Any, ...]:
        """Of ``nd_publish``, from ``numbers`` to ``received_unix_ms``."""
        block = records.block
        return (
            _view("uint64_t[]", routes.channels, borrowed),
            len(routes.channels),
            ffi.NULL if routes.ends is None else _view("uint32_t[]", routes.ends, borrowed),
            _view("uint32_t[]", routes.indices, borrowed) if routes.indices else ffi.NULL,
            block if isinstance(block, bytes) else _view("uint8_t[]", block, borrowed),
            len(block),
            _view("uint64_t[]", records.meta, borrowed),
            len(records.meta),
            self._received_unix_ms,
        )

    def _publish(self, arguments: tuple[Any, ...], routes_count: int, keep: Keep | None) -> int:
        if self.log is not None:
            return self.log.publish(self._pool, arguments, self._published, has_answer=keep is not None)
        status: int = lib.nd_publish(
            self._rings, self._pool, ffi.NULL, *arguments, self.epoch, 0, self._published
        )
        return status

    def appended(self, done: Any, channels: Sequence[int]) -> tuple[Appended, Ticket]:
        """Take into the books what the core has just published to these channels."""
        self._note_memory()
        return self._take_results(done, channels), self._ticket(done)

    def _ticket(self, done: Any) -> Ticket:
        if self.log is None or not done.stored_count:
            return _TICKET
        stored = ffi.unpack(done.stored, done.stored_count)
        last_seqs = ffi.unpack(done.last_seqs, done.stored_count)
        return self.log.appended(dict(zip(stored, last_seqs, strict=True)))

    def _keep(self, keep: Keep, appended: Appended) -> Ticket:
        """Keep the answer to the append just done; the ticket for both."""
        kept = self.answers.finish(keep.scope, keep.answer(appended), self._received_unix_ms)
        return _TICKET if self.log is None else self.log.answered(keep.scope, kept)

    def _take_results(self, done: Any, channels: Sequence[int]) -> Appended:
        """Cost: constant, but for routes that lost something."""
        total = done.sum
        queued: int = total.queued_count
        self._ledger.queued(queued, total.queued_bytes)
        if not total.odd_routes and not self._unreported:
            return Appended(queued)
        losses, rejected = self.take_losses(), 0
        for at, number in enumerate(channels if total.odd_routes else ()):
            entry, channel = done.routes[at], self._channels[number]
            if entry.superseded.count:
                losses.append(self._lost(loss_of(number, "superseded", entry.superseded), channel))
            if entry.dropped.count:
                losses.append(self._lost(loss_of(number, "overflow", entry.dropped), channel))
            if entry.dropped.count or entry.superseded.count:
                self._changed(channel)
            if entry.rejected_count:
                rejected += entry.rejected_count
                losses.append(rejection_of(number, entry, self._received_unix_ms))
                self._keep_gap(losses[-1], channel)
        self._ledger.rejected(rejected)
        return Appended(queued, rejected, tuple(losses))

    def take_losses(self) -> list[Loss]:
        """Losses that nobody was told of yet."""
        losses, self._unreported = self._unreported, []
        return losses

    def report_to(self, on_lost: Callable[[Loss], None]) -> None:
        """Tell at once of losses that reading finds out: damage, and cold records that were too old."""
        self._on_lost = on_lost

    def has_room(self, channel: int, records: Records) -> bool:
        """Whether an append of all these would refuse none."""
        ring = self._channel(channel).ring
        with ffi.from_buffer("uint64_t[]", records.meta) as meta:
            return bool(lib.nd_ring_has_room(ring, meta, len(records.meta)))

    def _relieve(self, records: Records, routes: Sequence[Route]) -> None:
        """Find memory: move what is cold to the disk, or drop the oldest of whoever holds the most.

        Raises ``MemoryFull`` when that cannot help, and what ``Residency.relieve`` raises.
        """
        if self.residency is not None:
            self.residency.relieve(self._wanted_bytes(records, routes))
            return
        holdings = list(self._holdings())
        held_bytes = sum(holding.record_bytes - holding.droppable_bytes for holding in holdings)
        if held_bytes + self._wanted_bytes(records, routes) > self.totals().memory_bytes_max:
            raise _memory_full(records, routes)
        freed = False
        for drop in plan_relief(holdings, relief_bytes(len(holdings))):
            channel = self._channels[drop.channel]
            if lib.nd_ring_drop(channel.ring, drop.record_bytes, self._removed) == lib.ND_OK:
                loss = loss_of(drop.channel, "memory", self._removed)
                self._unreported.append(self._lost(loss, channel))
                self._log_loss(channel, self._removed)
                freed = True
        if not freed:
            raise _memory_full(records, routes)

    def _wanted_bytes(self, records: Records, routes: Sequence[Route]) -> int:
        """About what a request needs; routes with indices count for their share of it."""
        stored_bytes = len(records.block) + _HEADER_BYTES * len(records.meta)
        wanted = 0
        for route in routes:
            share = 1.0 if route.indices is None else len(route.indices) / max(1, len(records.meta))
            wanted += min(int(stored_bytes * share), self._channels[route.channel].queue_bytes)
        return wanted

    def _holdings(self) -> Iterator[Holding]:
        for number, channel in self._channels.items():
            stats = self._stats(channel)
            yield Holding(number, channel.owner, stats.bytes, stats.bytes - stats.held_bytes)

    # --- out --------------------------------------------------------------------------

    def may_have_more(self, channel: int, after: Position) -> bool:
        """False when nothing is behind a position, shown or not, and no gap is kept."""
        found = self._channel(channel)
        return bool(found.gaps) or found.next_seq(self._seq(found, after)) != 0

    async def slice(
        self, channel: int, after: Position | None, limits: SliceLimits, form: Form
    ) -> NativeBatch | None:
        """Plan a batch of the records after a position.  No checkpoint while nothing is cold."""
        found = self._channel(channel)
        return await self._slicer.slice(found, self._seq(found, after), after, limits, form)

    async def peek(self, channel: int, limits: SliceLimits, form: Form) -> list[Peeked]:
        """Look at the oldest records.  No checkpoint but for cold ones."""
        return await self._slicer.peek(self._channel(channel), limits, form)

    async def rebuild(
        self, channel: int, first: Position, last: Position, form: Form, events: int | None = None
    ) -> NativeBatch | None:
        """Plan the same batch again.  No checkpoint while nothing is cold."""
        wanted = FrozenBatch(first=first, last=last, events=events or 0, form=form)
        return await self._slicer.rebuild(self._channel(channel), wanted)

    def freeze(self, channel: int, batch: FrozenBatch | None) -> None:
        """Remember which batch has to go again as it was."""
        found = self._channel(channel)
        if found.frozen != batch:
            found.frozen = batch
            self._changed(found)

    def frozen(self, channel: int) -> FrozenBatch | None:
        """The batch that has to go again as it was."""
        return self._channel(channel).frozen

    def settle(self, channel: int, upto: Position) -> int:
        """Acknowledge every record up to a position."""
        found = self._channel(channel)
        seq = self._seq(found, upto)
        removed = self._removed
        if found.gaps and found.gaps.settle(mark_of(seq, upto)):
            self._changed(found)
        status = lib.nd_ring_settle(found.ring, seq, removed)
        if status == lib.ND_EMPTY:
            return 0
        self._changed(found)
        self._note_memory()
        unreachable = 0
        if status == lib.ND_ERR_CORRUPT:  # where seqs have holes, no more than that can be said
            unreachable = min(removed.count - 1, removed.last_seq - seq)
        count: int = removed.count - unreachable
        self._ledger.acked(count, removed.bytes)
        if unreachable:
            self._on_lost(self._lost(corruption_of(channel, unreachable, 0, seq + 1), found))
        return count

    def park(self, channel: int, position: Position) -> Loss | None:
        """Take the oldest record out."""
        found = self._channel(channel)
        seq = self._seq(found, position)
        if lib.nd_ring_next_seq(found.ring, 1) != seq:
            return None
        self.release(channel)
        if lib.nd_ring_expire(found.ring, _EVERYTHING, seq, self._removed) != lib.ND_OK:
            return None
        self._changed(found)
        self._note_memory()
        return self._lost(loss_of(channel, "parked", self._removed), found)

    def release(self, channel: int, after: Position | None = None) -> None:
        """Records after this position are no longer in flight."""
        found = self._channel(channel)
        seq = self._seq(found, after)
        lib.nd_ring_release(found.ring, seq)
        if found.gaps is not None:
            found.gaps.release(mark_of(seq, after))

    def expire(self, channel: int, received_before_unix_ms: int) -> Loss | None:
        """Remove every record received before a moment."""
        found = self._channel(channel)
        before_unix_ms = max(0, received_before_unix_ms)
        # A gap never reaches from what is in flight, and may be confirmed, to what is not.
        bounds = (_EVERYTHING,) if found.gaps is None else (found.gaps.in_flight_seq, _EVERYTHING)
        losses = [
            self._lost(loss_of(channel, "expired", self._removed), found)
            for upto_seq in bounds
            if lib.nd_ring_expire(found.ring, before_unix_ms, upto_seq, self._removed) != lib.ND_EMPTY
        ]
        if not losses:
            return None
        self._changed(found)
        self._note_memory()
        return joined(losses)

    # --- figures ----------------------------------------------------------------------

    def stats(self, channel: int) -> ChannelStats:
        """One channel's figures."""
        found = self._channel(channel)
        stats = self._stats(found)
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
        self._check_open()
        pool = ffi.new("nd_pool_stats_t *")
        lib.nd_pool_stats(self._pool, pool)
        return self._ledger.totals(
            pool.bytes_touched,
            pool.bytes_max,
            scratch_bytes=0 if self.residency is None else self.residency.disk_bytes,
            journal_bytes=0 if self.log is None else self.log.disk_bytes,
        )

    def close(self) -> None:
        """Give all memory back.  Tasks that move anything have ended."""
        if self._pool is None:
            return
        for channel in self._channels.values():
            lib.nd_ring_close(channel.ring)
            channel.ring = None
        self._channels.clear()
        if self.log is not None:
            self.log.close()
        self._slicer.close()
        if self.residency is not None:
            self.residency.close()
        lib.nd_pool_close(self._pool)
        self._pool = None

    # --- inside -----------------------------------------------------------------------

    def _open_ring(self, number: int, epoch: int, options: QueueOptions) -> ChannelRing:
        opened = open_ring(self._pool, number, epoch, options)
        if lib.nd_channels_put(self._rings, number, opened.ring) != lib.ND_OK:
            lib.nd_ring_close(opened.ring)
            raise MemoryFull("the machine has no memory left for the queue; lower storage.memory_bytes")
        self._channels[number] = opened
        return opened

    def _check_open(self) -> None:
        if self._pool is None:
            raise Unavailable("the queue is closed")

    def _channel(self, number: int) -> ChannelRing:
        try:
            return self._channels[number]
        except KeyError:
            self._check_open()
            raise ChannelGone(f"channel {number} does not exist") from None

    def _stats(self, channel: ChannelRing) -> Any:
        """A ring's figures; overwritten by the next call."""
        lib.nd_ring_stats(channel.ring, self._ring_stats)
        return self._ring_stats

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
            self._log_loss(channel, removed)
            loss = corruption_of(channel.number, removed.count, removed.bytes, removed.first_seq)
            self._on_lost(self._lost(loss, channel))

    def _note_memory(self) -> None:
        if self.residency is not None:
            self.residency.note()

    def _take_fetched(self, channel: ChannelRing, gone_bytes: int, expire_unix_ms: int) -> None:
        """Do what could not be done while records were cold."""
        self._ledger.shrunk(gone_bytes)
        loss = self.expire(channel.number, expire_unix_ms) if expire_unix_ms else None
        if loss is not None:
            self._on_lost(loss)

    async def _fetch_for_journal(self, channel: ChannelRing, first_seq: int) -> bool:
        """Bring a record that cleaning needs into memory; False: not now.

        It waits for memory a moment only: what would give some back may wait for the journal.
        """
        assert self.residency is not None, "nothing is cold without it"
        with trio.move_on_after(limits.JOURNAL_RETRY_S), suppress(ChannelGone, StorageUnreadable):
            return await self.residency.fetch(channel, Reach(first_seq=first_seq, records_max=1))
        return channel.ring is None

    def _tell_later(self, loss: Loss) -> None:
        self._unreported.append(loss)

    def _log_loss(self, channel: ChannelRing, removed: Any) -> None:
        if self.log is not None:
            self.log.lost(channel, removed.first_seq, removed.last_seq)

    def _lost(self, loss: Loss, channel: ChannelRing) -> Loss:
        """Take it into the books, and keep it for the receiver."""
        self._ledger.lost(loss)
        self._keep_gap(loss, channel)
        return loss

    def _keep_gap(self, loss: Loss, channel: ChannelRing) -> None:
        if channel.gaps is not None:
            channel.gaps.add(gap_of(loss, self._stats(channel).last_seq))
            self._changed(channel)

    def _changed(self, channel: ChannelRing) -> None:
        """How a channel stands is not what the journal says."""
        if self.log is not None:
            self.log.changed(channel)


def _memory_full(records: Records, routes: Sequence[Route]) -> MemoryFull:
    return MemoryFull(
        f"no memory for {len(records.meta)} records in {len(routes)} channels, even if all that is not being "
        "delivered were dropped; try again later, send less at once, or raise storage.memory_bytes"
    )


def _view(array_type: str, buffer: Any, borrowed: list[Any]) -> Any:
    """A buffer as the core sees it; the caller gives it back."""
    view = ffi.from_buffer(array_type, buffer)
    borrowed.append(view)
    return view
