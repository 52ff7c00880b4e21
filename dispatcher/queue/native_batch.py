"""A batch over the native core: numbers, and a way to write them out as messages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from dispatcher import limits
from dispatcher.errors import ChannelGone
from dispatcher.model import Gap, Kind, Position
from dispatcher.queue._core import ffi, lib
from dispatcher.queue.interface import Message
from dispatcher.queue.native_framed import ColdReader, Framed
from dispatcher.queue.native_ring import ChannelRing, check_status
from dispatcher.wire.gaps import gaps_array

_KINDS = tuple(Kind)
_SEND = lib.nd_send_posix()


class NativeBatch:
    """A planned batch (``interface.Batch``): numbers and its gaps only, until it is read."""

    __slots__ = (
        "_channel",
        "_cold",
        "_framed",
        "_head",
        "_is_head_written",
        "_isolate",
        "_raw",
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
        cold: ColdReader | None,
        head: bytes,
        framed: Framed | None = None,
    ) -> None:
        """``isolate`` takes a damaged record, by its seq, out of the channel; ``cold`` brings back
        what is cold, None: nothing ever is; ``framed`` is what was written of the batch already.

        ``head`` is what ``gaps_head`` makes; without records, ``raw`` says where it ends.
        """
        is_alone = raw.events == 0
        self._channel = channel
        self._raw = raw
        self._isolate = isolate
        self._cold = cold
        self._framed = framed
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
        while True:  # each turn comes to later records
            ring, framed = self._channel.ring, self._framed
            if framed is not None and not framed.raw:
                self._framed = framed = None
            is_in_memory = framed is not None or ring is None or self.events == 0
            if not is_in_memory and not lib.nd_ring_is_warm(ring, self._raw.next_seq):
                assert self._cold is not None, "only a residency makes records cold"
                self._framed = await self._cold.go_on(self._channel, self._raw)
            count = self._read(buffer, offset)
            if self._framed is not None:
                self._drop_framed(is_cold=count is None)
            if count is not None:
                return count

    def _drop_framed(self, *, is_cold: bool = False) -> None:
        """Give back what was written ahead when it is of no use, or what comes next is cold and not in it."""
        if is_cold or self._raw.kind_at == self._raw.kinds_count:
            self._framed = None

    def _read(self, buffer: bytearray, offset: int) -> int | None:
        """What ``read_into`` does with what is in memory; None: nothing, because what comes next is cold."""
        if self._channel.ring is None:
            raise ChannelGone(f"channel {self._channel.number} was deleted")
        if self._is_head_written:
            return self._read_records(buffer, offset)
        if self.events and self._framed is None:  # nothing is begun that cannot be finished
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
                status = lib.nd_batch_read(ring, self._written(), raw, view + offset, len(buffer) - offset)
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

    def _written(self) -> Any:
        """What was written ahead, as an ``nd_framed *``."""
        return ffi.NULL if self._framed is None else self._framed.raw

    def pour(
        self, socket: int, buffer: bytearray, filled: int, unread: int, tail: bytes
    ) -> tuple[int, int, int, int]:
        """Send what is read, and what follows, a buffer at a time; see the interface."""
        if self._channel.ring is None:
            raise ChannelGone(f"channel {self._channel.number} was deleted")
        at = ffi.new("nd_pouring *", {"filled": filled, "unread": unread})
        with ffi.from_buffer("uint8_t[]", buffer, require_writable=True) as view:
            kept = ffi.from_buffer("uint8_t[]", tail)
            memory = ffi.new("nd_pour_memory *", (view, len(buffer), kept, len(tail), self._written()))
            arguments = (_SEND, socket, memory, limits.SEND_PIECES_MAX, at)
            status = lib.nd_batch_pour(self._channel.ring, self._raw, *arguments)
        if status == lib.ND_ERR_CORRUPT:
            self._isolate(self._channel, self._raw.next_seq)
        check_status(status, self._channel.number)
        if self._framed is not None:
            self._drop_framed()
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
