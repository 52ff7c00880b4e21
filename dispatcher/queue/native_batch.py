"""A batch over the native core: numbers, and a way to write them out as messages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from dispatcher import limits
from dispatcher.errors import ChannelGone, CorruptRecord, MemoryFull, PositionLost
from dispatcher.model import Gap, Kind, Position
from dispatcher.queue._core import ffi, lib
from dispatcher.queue.interface import Message
from dispatcher.queue.native_residency import Reach, Residency
from dispatcher.queue.native_ring import ChannelRing
from dispatcher.wire.gaps import gaps_array

_KINDS = tuple(Kind)
_SEND = lib.nd_send_posix()


class NativeBatch:
    """A planned batch (``interface.Batch``): numbers and its gaps only, until it is read."""

    __slots__ = (
        "_channel",
        "_head",
        "_is_head_written",
        "_isolate",
        "_raw",
        "_residency",
        "bytes_count",
        "events",
        "first",
        "last",
        "messages",
    )

    def __init__(
        self,
        channel: ChannelRing,
        raw: Any,
        isolate: Callable[[ChannelRing, int], None],
        residency: Residency | None,
        head: bytes,
    ) -> None:
        """``isolate`` takes a damaged record, by its seq, out of the channel; ``residency`` brings
        back what is cold, None: nothing ever is.

        ``head`` is what ``gaps_head`` makes; without records, ``raw`` says where it ends.
        """
        is_alone = raw.events == 0
        self._channel = channel
        self._raw = raw
        self._isolate = isolate
        self._residency = residency
        self._head = head + b"}" if is_alone else head
        self._is_head_written = not head
        self.first = Position(raw.epoch, raw.first_seq, is_alone)
        self.last = Position(raw.epoch, raw.last_seq, is_alone)
        self.events: int = raw.events
        self.bytes_count: int = raw.bytes_count + len(self._head)
        self.messages = _messages(raw, len(self._head))

    def __repr__(self) -> str:
        return (
            f"<NativeBatch {self.first.epoch}/{self.first.seq}..{self.last.seq}: {self.events} events in "
            f"{len(self.messages)} messages, {self.bytes_count} bytes>"
        )

    async def read_into(self, buffer: bytearray, offset: int) -> int:
        """Write the next part of the current message; see the interface."""
        count = None
        while count is None:  # each turn comes to later records
            ring = self._channel.ring
            if ring is not None and self.events and not lib.nd_ring_is_warm(ring, self._raw.next_seq):
                count = await self._read_cold(buffer, offset)
            if count is None:
                count = self._read(buffer, offset)
        return count

    async def _read_cold(self, buffer: bytearray, offset: int) -> int | None:
        """The same for what is cold, on the thread that reads it; None: it is in memory, and yet to be read.

        That is so when its gaps have to go first, or when records went from among the others while
        they were cold, or go while they are read, or one does not fit into the buffer.
        """
        assert self._residency is not None, "only a residency makes records cold"
        copy = ffi.new("nd_batch *", self._raw[0])
        copy.bytes_written = 0
        reach = Reach(first_seq=copy.next_seq, last_seq=copy.last_seq, bytes_max=limits.FETCH_AHEAD_BYTES)
        room_bytes = len(buffer) - offset if self._is_head_written else 0
        with ffi.from_buffer("uint8_t[]", buffer, require_writable=True) as view:
            is_there = await self._residency.fetch(
                self._channel,
                reach,
                lambda fetch: lib.nd_fetch_read_into(fetch, copy, view + offset, room_bytes),
            )
        if not is_there:
            check_status(lib.ND_COLD, self._channel.number)
        ring = self._channel.ring
        if ring is None or not lib.nd_batch_take(ring, self._raw, copy):
            return None
        written: int = copy.bytes_written
        return written

    def _read(self, buffer: bytearray, offset: int) -> int | None:
        """What ``read_into`` does with what is in memory; None: nothing, because what comes next is cold."""
        if self._channel.ring is None:
            raise ChannelGone(f"channel {self._channel.number} was deleted")
        if self._is_head_written:
            return self._read_records(buffer, offset)
        if self.events:  # nothing is begun that cannot be finished
            status = lib.nd_batch_write(self._channel.ring, self._raw, ffi.NULL, 0)
            check_status(status if status != lib.ND_NO_ROOM else lib.ND_OK, self._channel.number)
        head_end = offset + len(self._head)
        if head_end > len(buffer):
            buffer.extend(bytes(head_end - len(buffer)))
        buffer[offset:head_end] = self._head
        self._is_head_written = True
        if self.events == 0 or head_end == len(buffer):
            return len(self._head)
        return len(self._head) + (self._read_records(buffer, head_end, may_grow=False) or 0)

    def _read_records(self, buffer: bytearray, offset: int, *, may_grow: bool = True) -> int | None:
        while True:
            ring, raw = self._channel.ring, self._raw
            with ffi.from_buffer("uint8_t[]", buffer, require_writable=True) as view:
                status = lib.nd_batch_write(ring, raw, view + offset, len(buffer) - offset)
            if status == lib.ND_OK:
                written: int = raw.bytes_written
                return written
            if status == lib.ND_COLD:
                return None
            if status == lib.ND_ERR_CORRUPT:
                self._isolate(self._channel, raw.next_seq)
            if status != lib.ND_NO_ROOM:
                check_status(status, self._channel.number)
            if not may_grow:
                return 0
            buffer.extend(bytes(offset + raw.bytes_written - len(buffer)))

    def pour(
        self, socket: int, buffer: bytearray, filled: int, unread: int, tail: bytes
    ) -> tuple[int, int, int, int]:
        """Send what is read, and what follows, a buffer at a time; see the interface."""
        if self._channel.ring is None:
            raise ChannelGone(f"channel {self._channel.number} was deleted")
        at = ffi.new("nd_pouring *", {"filled": filled, "unread": unread})
        with ffi.from_buffer("uint8_t[]", buffer, require_writable=True) as view:
            kept = ffi.from_buffer("uint8_t[]", tail)
            memory = ffi.new("nd_pour_memory *", (view, len(buffer), kept, len(tail)))
            arguments = (_SEND, socket, memory, limits.SEND_PIECES_MAX, at)
            status = lib.nd_batch_pour(self._channel.ring, self._raw, *arguments)
        if status == lib.ND_ERR_CORRUPT:
            self._isolate(self._channel, self._raw.next_seq)
        check_status(status, self._channel.number)
        return at.sent, at.begin, at.filled, at.unread

    def rewind(self) -> None:
        """Start over with the first message."""
        lib.nd_batch_rewind(self._raw)
        self._is_head_written = not self._head


def gaps_head(gaps: Sequence[Gap]) -> bytes:
    """What a first message begins with, up to the comma, or the brace, behind its gaps."""
    return b"{" + b"".join(gaps_array(gaps)) if gaps else b""


def _messages(raw: Any, head_bytes: int) -> tuple[Message, ...]:
    count = raw.kinds_count
    kinds = tuple([_KINDS[raw.kinds[at]] for at in range(count)])
    if count <= 1 or raw.form & lib.ND_FORM_MIXED_KINDS:
        return (Message(kinds=kinds, events=raw.events, bytes_count=head_bytes + raw.bytes_count),)
    braces = 2
    heads = [head_bytes] + [0] * (count - 1)
    return tuple(
        [
            Message(
                kinds=(kind,), events=raw.kind_events[at], bytes_count=heads[at] + raw.kind_bytes[at] + braces
            )
            for at, kind in enumerate(kinds)
        ]
    )


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
