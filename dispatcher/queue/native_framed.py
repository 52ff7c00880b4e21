"""Message bytes of cold records, written by the worker threads that read them.

    slice -- is it cold? --> fetch: begin | read, plan and write on a worker thread | end --> hold
    read  -- is it cold? --> fetch: begin | read and write on a worker thread       | end

What was written stands beside the batch until it is sent.  For all batches of a queue together there
is a bound, over which the oldest is given up: its batch goes on from the ring, where the records may
be cold again.  So a thousand receivers that do not read keep no more than that.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from dispatcher import limits
from dispatcher.queue._core import ffi, lib
from dispatcher.queue.native_residency import Reach, Residency
from dispatcher.queue.native_ring import ChannelRing, check_status


class Framed:
    """A part of a batch (``nd_framed.h``)."""

    __slots__ = ("__weakref__", "raw")

    def __init__(self, raw: Any) -> None:
        self.raw: Any = ffi.gc(raw, lib.nd_framed_close)  # NULL when it was given up

    def give_up(self) -> None:
        """Give the memory back."""
        self.raw = ffi.NULL


class Shelf:
    """Holds what was written, as long as somebody is going to read it, up to ``bytes_max``."""

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.bytes_held = 0
        self._bytes: dict[weakref.ref[Framed], int] = {}  # the oldest first

    def __repr__(self) -> str:
        return f"<Shelf {self.bytes_held} of {self.bytes_max} bytes>"

    def keep(self, framed: Framed) -> None:
        """Make room for it among the others."""
        count: int = lib.nd_framed_bytes(framed.raw)
        self._bytes[weakref.ref(framed, self._forget)] = count
        self.bytes_held += count
        while self.bytes_held > self.bytes_max:  # the last turn leaves nothing
            oldest = next(iter(self._bytes))
            given_up = oldest()
            self._forget(oldest)
            if given_up is not None:
                given_up.give_up()

    def _forget(self, framed: weakref.ref[Framed]) -> None:
        self.bytes_held -= self._bytes.pop(framed, 0)


class ColdReader:
    """Brings cold records of one queue back as message bytes."""

    def __init__(self, residency: Residency) -> None:
        self.residency = residency
        self._each_bytes_max = min(limits.FRAMED_BYTES_MAX // 2, 2 * residency.slice_bytes_max)
        self._shelf = Shelf(2 * self._each_bytes_max)

    @property
    def bytes_max(self) -> int:
        """The most memory that may be taken by what was written and is not sent."""
        return self._shelf.bytes_max

    @property
    def bytes_held(self) -> int:
        """How much it takes now."""
        return self._shelf.bytes_held

    async def slice(self, channel: ChannelRing, wanted: Any, raw: Any, reach: Reach) -> Framed | None:
        """Bring records back, and plan ``wanted``, an ``nd_slice *``, into ``raw``, for ``nd_frame_hold``.

        None: ``raw`` says nothing, since nothing was cold, or not from the beginning, or some went from
        among it, or there is no memory.  Raises as ``Residency.fetch`` does.
        """

        def write(fetch: Any, out: Any) -> None:
            lib.nd_fetch_slice(fetch, wanted, self._each_bytes_max, raw, out)

        _, framed = await self._fetch(channel, reach, write)
        return framed

    async def go_on(self, channel: ChannelRing, raw: Any) -> Framed | None:
        """Write what follows in a batch, about ``limits.FETCH_AHEAD_BYTES`` of it; it is in memory then.

        None as above.  Raises ``MemoryFull`` when there is not so much memory; else as ``Residency.fetch``.
        """
        copy = ffi.new("nd_batch *", raw[0])  # the other may be rewound meanwhile
        reach = Reach(first_seq=copy.next_seq, last_seq=copy.last_seq, bytes_max=limits.FETCH_AHEAD_BYTES)
        bytes_max = min(self._each_bytes_max, 2 * limits.FETCH_AHEAD_BYTES)

        def write(fetch: Any, out: Any) -> None:
            lib.nd_fetch_read_on(fetch, copy, bytes_max, out)

        is_there, framed = await self._fetch(channel, reach, write)
        if not is_there:
            check_status(lib.ND_COLD, channel.number)
        return framed

    async def _fetch(
        self, channel: ChannelRing, reach: Reach, write: Callable[[Any, Any], None]
    ) -> tuple[bool, Framed | None]:
        out = ffi.new("nd_framed **")
        try:
            is_there = await self.residency.fetch(channel, reach, lambda fetch: write(fetch, out))
        finally:
            framed = Framed(out[0]) if out[0] else None
        if framed is not None:
            self._shelf.keep(framed)
        return is_there, framed
