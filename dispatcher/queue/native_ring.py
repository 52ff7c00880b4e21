"""One channel's ring, as the queue over the native core holds it."""

from __future__ import annotations

from typing import Any

from dispatcher.errors import MemoryFull
from dispatcher.model import Overflow
from dispatcher.queue._core import ffi, lib
from dispatcher.queue.interface import FrozenBatch, QueueOptions

_OVERFLOW = {
    Overflow.DROP_OLDEST: lib.ND_OVERFLOW_DROP_OLDEST,
    Overflow.REJECT: lib.ND_OVERFLOW_REJECT,
    Overflow.KEEP_LATEST: lib.ND_OVERFLOW_KEEP_LATEST,
}


class ChannelRing:
    """A ring and what the queue must know of it; the ring is None once the channel is deleted."""

    __slots__ = ("frozen", "incarnation", "logged_frozen", "number", "owner", "queue_bytes", "ring")

    def __init__(self, number: int, ring: Any, options: QueueOptions) -> None:
        self.number = number
        self.ring = ring
        self.incarnation = options.incarnation
        self.owner = options.owner
        self.queue_bytes = options.queue_bytes
        self.frozen: FrozenBatch | None = None
        self.logged_frozen: FrozenBatch | None = None  # as far as the journal knows


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
    return ChannelRing(number, ring, options)


def made(pointer_type: str, make: Any, *arguments: Any) -> Any:
    """What a function of the core makes into its last argument."""
    out = ffi.new(f"{pointer_type}*")
    status = make(*arguments, out)
    if status == lib.ND_ERR_ARGUMENT:
        raise ValueError(f"{pointer_type.split()[0]}: an argument is out of its range")
    if status != lib.ND_OK:
        raise MemoryFull("the machine has no memory left for the queue; lower storage.memory_bytes")
    return out[0]
