"""One channel's ring, as the queue over the native core holds it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from dispatcher.core.gap_list import GapList, KnownGap, Telling, mark_of
from dispatcher.errors import CorruptRecord, MemoryFull, PositionLost
from dispatcher.model import Overflow, Position
from dispatcher.queue._core import ffi, lib
from dispatcher.queue.interface import Form, FrozenBatch, QueueOptions

_OVERFLOW = {
    Overflow.DROP_OLDEST: lib.ND_OVERFLOW_DROP_OLDEST,
    Overflow.REJECT: lib.ND_OVERFLOW_REJECT,
    Overflow.KEEP_LATEST: lib.ND_OVERFLOW_KEEP_LATEST,
}


_NOTHING = Telling(())


class ChannelRing(msgspec.Struct, eq=False, gc=False):
    """A ring and what the queue must know of it; the ring is None once the channel is deleted.

    A hundred thousand of them hold nothing that leads back to them: they are not looked at for garbage.
    """

    number: int
    ring: Any
    incarnation: int
    owner: int
    queue_bytes: int
    gaps: GapList | None
    frozen: FrozenBatch | None = None
    logged_frozen: FrozenBatch | None = None  # as far as the journal knows
    has_logged_gaps: bool = False
    stated_in: int | None = None  # see segment_books

    def remember(self, frozen: FrozenBatch | None, gaps: Sequence[KnownGap]) -> None:
        """What the journal knows of the channel beside its records."""
        self.frozen = self.logged_frozen = frozen
        self.has_logged_gaps = len(gaps) > 0
        if self.gaps is not None:
            self.gaps = GapList(gaps)

    def telling(self, after_seq: int, after: Position | None, form: Form) -> Telling:
        """The gaps that begin a slice of the records behind a position, which is this seq here."""
        if not self.gaps or not form.include_gaps:
            return _NOTHING
        return self.gaps.telling(mark_of(after_seq, after), self.next_seq(after_seq))

    def next_seq(self, after_seq: int) -> int:
        """The seq of the record behind this one, shown or not; 0: there is none."""
        seq: int = lib.nd_ring_next_seq(self.ring, after_seq + 1)
        return seq


def open_ring(pool: Any, number: int, epoch: int, options: QueueOptions) -> ChannelRing:
    """A new, empty ring.  Raises ``MemoryFull``."""
    ring = made(
        "nd_ring *",
        lib.nd_ring_open,
        pool,
        options.incarnation,
        epoch,
        options.queue_bytes,
        _OVERFLOW[options.overflow],
    )
    return ChannelRing(
        number=number,
        ring=ring,
        incarnation=options.incarnation,
        owner=options.owner,
        queue_bytes=options.queue_bytes,
        gaps=GapList() if options.keeps_gaps else None,
    )


def made(pointer_type: str, make: Any, *arguments: Any) -> Any:
    """What a function of the core makes into its last argument."""
    out = ffi.new(f"{pointer_type}*")
    status = make(*arguments, out)
    if status == lib.ND_ERR_ARGUMENT:
        raise ValueError(f"{pointer_type.split()[0]}: an argument is out of its range")
    if status != lib.ND_OK:
        raise MemoryFull("the machine has no memory left for the queue; lower storage.memory_bytes")
    return out[0]


def check_status(status: int, channel: int) -> None:
    """Raise what a status of the core means to a reader of a channel."""
    if status == lib.ND_COLD:
        raise MemoryFull(f"there is not enough memory to read channel {channel}; raise storage.memory_bytes")
    if status == lib.ND_ERR_TRIMMED:
        raise PositionLost(f"records of channel {channel} went while they were being read")
    if status == lib.ND_ERR_CORRUPT:
        raise CorruptRecord(f"a stored record of channel {channel} does not match its checksum")
    if status != lib.ND_OK:
        raise ValueError("an argument is out of its range")
