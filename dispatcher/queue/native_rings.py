"""The rings of all channels, their memory, and the books of what is in them.

What the two halves of a queue have in common: the one that appends (``native_append``), and
the one that reads and settles (``native``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dispatcher.errors import ChannelGone, MemoryFull, Unavailable
from dispatcher.queue._core import ffi, lib
from dispatcher.queue.interface import Loss, QueueOptions, QueueTotals
from dispatcher.queue.ledger import Ledger
from dispatcher.queue.losses import gap_of
from dispatcher.queue.native_backing import Backing
from dispatcher.queue.native_log import QueueLog
from dispatcher.queue.native_residency import Residency
from dispatcher.queue.native_ring import ChannelRing, made, open_ring


class Rings:
    """Rings in one pool of memory.

    ``log`` and ``residency`` are there when the queue is kept on disk, and when what does not fit
    into memory is moved to it.  A loss is told at once to whoever listens, or with the next append.
    """

    def __init__(self, epoch: int, memory_bytes_max: int) -> None:
        """Raises ``MemoryFull``."""
        self.epoch = epoch
        self.channels: dict[int, ChannelRing] = {}
        self.ledger = Ledger()
        self.log: QueueLog | None = None
        self.residency: Residency | None = None
        self.untold: list[Loss] = []  # see take_losses
        self.on_lost: Callable[[Loss], None] = self.tell_later
        self._ring_stats = ffi.new("nd_ring_stats_t *")
        self.pool: Any = made("nd_pool *", lib.nd_pool_open, lib.nd_io_posix(), memory_bytes_max)
        self.backing = Backing(self.pool)
        try:  # the same by their channels' numbers, for the core
            table = made("nd_channels *", lib.nd_channels_open, lib.nd_io_posix())
        except MemoryFull:
            lib.nd_pool_close(self.pool)
            raise
        self.table: Any = ffi.gc(table, lib.nd_channels_close)
        self._came = lib.nd_channels_came(table)
        self._booked_records = self._booked_bytes = 0  # of what came

    def __repr__(self) -> str:
        return "<Rings closed>" if self.pool is None else f"<Rings of {len(self.channels)} channels>"

    def close(self) -> None:
        """Close every ring; the pool follows with ``close_pool``."""
        for channel in self.channels.values():
            lib.nd_ring_close(channel.ring)
            channel.ring = None
        self.channels.clear()

    def close_pool(self) -> None:
        """Give all memory back.  Nothing uses the pool any more."""
        lib.nd_pool_close(self.pool)
        self.pool = None

    def check_open(self) -> None:
        """Raise ``Unavailable`` once it is closed."""
        if self.pool is None:
            raise Unavailable("the queue is closed")

    def open(self, number: int, epoch: int, options: QueueOptions) -> ChannelRing:
        """A new, empty ring for a channel.  Raises ``MemoryFull``."""
        opened = open_ring(self.pool, number, epoch, options)
        if lib.nd_channels_put(self.table, number, opened.ring) != lib.ND_OK:
            lib.nd_ring_close(opened.ring)
            raise MemoryFull("the machine has no memory left for the queue; lower storage.memory_bytes")
        self.channels[number] = opened
        return opened

    def channel(self, number: int) -> ChannelRing:
        """A channel's ring.  Raises ``ChannelGone``."""
        try:
            return self.channels[number]
        except KeyError:
            self.check_open()
            raise ChannelGone(f"channel {number} does not exist") from None

    def stats(self, channel: ChannelRing) -> Any:
        """A ring's figures; overwritten by the next call."""
        lib.nd_ring_stats(channel.ring, self._ring_stats)
        return self._ring_stats

    def note_memory(self) -> None:
        """Chunks of the pool were taken or given back."""
        self.backing.note()
        if self.residency is not None:
            self.residency.note()

    def totals(self) -> QueueTotals:
        """The sums over all channels, those that were deleted too."""
        self.check_open()
        pool = ffi.new("nd_pool_stats_t *")
        lib.nd_pool_stats(self.pool, pool)
        return self.books().totals(
            pool.bytes_touched,
            pool.bytes_max,
            scratch_bytes=0 if self.residency is None else self.residency.disk_bytes,
            journal_bytes=0 if self.log is None else self.log.disk_bytes,
        )

    def books(self) -> Ledger:
        """The ledger, to be read: all that came is in it.  The core counts that, publishers do not."""
        records, record_bytes = self._came.records, self._came.bytes
        self.ledger.queued(records - self._booked_records, record_bytes - self._booked_bytes)
        self._booked_records, self._booked_bytes = records, record_bytes
        return self.ledger

    def take_losses(self) -> list[Loss]:
        """Losses that nobody was told of yet."""
        losses, self.untold = self.untold, []
        return losses

    def tell_later(self, loss: Loss) -> None:
        """Keep a loss for ``take_losses``."""
        self.untold.append(loss)

    def lost(self, loss: Loss, channel: ChannelRing) -> Loss:
        """Take it into the books, and keep it for the receiver."""
        self.ledger.lost(loss)
        self.keep_gap(loss, channel)
        return loss

    def keep_gap(self, loss: Loss, channel: ChannelRing) -> None:
        """Keep a loss for a receiver that wants to know of it."""
        if channel.gaps is not None:
            channel.gaps.add(gap_of(loss, self.stats(channel).last_seq))
            self.changed(channel)

    def log_removed(self, channel: ChannelRing, removed: Any) -> None:
        """Tell the journal of records that left a channel."""
        if self.log is not None:
            self.log.lost(channel, removed.first_seq, removed.last_seq)

    def changed(self, channel: ChannelRing) -> None:
        """How a channel stands is not what the journal says."""
        if self.log is not None:
            self.log.changed(channel)
