"""From a text to rings and journal in one call of the core (``interface.Taker``).

What ``native_scan``, ``native_routes`` and ``native`` do one after the other, and nothing
that they would not do: the core calls the same functions, and stops where Python would
have to say something.

An event published alone costs little more than its call.  So the core keeps what is the same
for all of them, and what became of one is read as a row of numbers; only where these say
that there is more to tell is that looked at (``native_append``).
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import Any

import msgspec

from dispatcher import limits
from dispatcher.core.route_table import Way
from dispatcher.queue._core import ffi, lib
from dispatcher.queue.interface import Records, Stored, Ticket
from dispatcher.queue.native import NativeQueue
from dispatcher.queue.native_append import DURABLE_IN_MEMORY
from dispatcher.queue.native_log import ANSWER_BYTES
from dispatcher.queue.native_ring import made
from dispatcher.queue.native_routes import NativeAudiences, raw_table
from dispatcher.queue.native_scan import NativeScanner, NativeStaging, bytes_of
from dispatcher.wire.staging import Staged, Text

_NUMBERS = (
    "events",
    "block_bytes",
    "lasting_count",
    "unrouted",
    "queued_count",
    "is_odd",
    "numbers_count",
    "number",
    "last_seq",
)
_read_numbers = Struct(f"={len(_NUMBERS)}Q").unpack_from
assert tuple(name for name, _ in ffi.typeof("nd_taken").fields)[: len(_NUMBERS)] == _NUMBERS
assert ffi.offsetof("nd_taken", "numbers") == 8 * len(_NUMBERS)

# Functions of the core that are called for each event; to look one up costs half as much as to call it.
_take_text = lib.nd_take_text
_take_records = lib.nd_take_records
_TO_CHANNEL = ffi.cast("nd_addressees *", 0)


class _Held(msgspec.Struct, frozen=True):
    """Records as the core sees them, with what keeps their memory."""

    raw: Any
    memory: tuple[Any, ...]


class NativeTaker:
    """Takes texts into a ``NativeQueue``; used by the thread of the queue, until that is closed."""

    def __init__(self, queue: NativeQueue, scanner: NativeScanner) -> None:
        """The queue has its journal by now, if it gets one.  Raises ``MemoryFull``."""
        self._queue = queue
        self._rings = queue.rings
        self._log = queue.log
        self._scanner = scanner
        opened = made(
            "nd_take *",
            lib.nd_take_open,
            lib.nd_io_posix(),
            queue.rings.table,
            queue.pool,
            ffi.NULL if self._log is None else self._log.journal,
            queue.epoch,
            limits.EVENTS_PER_REQUEST_MAX,
        )
        self._raw = ffi.gc(opened, lib.nd_take_close)
        self._taken = lib.nd_take_look(opened)
        self._numbers = ffi.buffer(self._taken)
        self._staging: NativeStaging | None = None
        self._to = ffi.new("nd_addressees *")

    def __repr__(self) -> str:
        return f"<NativeTaker of {self._queue!r}>"

    def to_channel(
        self, channel: int, text: Text, is_lines: bool, received_unix_ms: int, has_answer: bool
    ) -> Stored | Staged | None:
        """See the interface."""
        return self._take(_TO_CHANNEL, channel, text, is_lines, received_unix_ms, has_answer)

    def to_subscribers(
        self, way: Way, text: Text, is_lines: bool, received_unix_ms: int, has_answer: bool
    ) -> Stored | Staged | None:
        """See the interface.  The tables are those of a ``NativeFinder``."""
        audiences = way.audiences
        assert isinstance(audiences, NativeAudiences)
        to = self._to
        to.audiences = audiences.raw
        to.manual, to.chosen = raw_table(way.manual), raw_table(way.chosen)
        to.chosen_from = way.chosen_from
        return self._take(to, 0, text, is_lines, received_unix_ms, has_answer)

    def staged(self) -> Staged:
        """See the interface."""
        staging, self._staging = self._staging, None  # its memory may be looked at from now on
        assert staging is not None, "something was just stored"
        return staging.hand_over()

    def hold(self, records: Records) -> object:
        """See the interface."""
        block, meta = ffi.from_buffer("uint8_t[]", records.block), ffi.from_buffer("uint64_t[]", records.meta)
        raw = ffi.new("nd_records *", (block, len(records.block), meta, len(records.meta)))
        return _Held(raw, (block, meta))

    def records_to_channel(self, channel: int, held: object, received_unix_ms: int) -> Stored | None:
        """See the interface."""
        assert type(held) is _Held
        if self._log is not None and not self._log.is_taking():
            return None
        received_unix_ms = self._queue.appender.received(received_unix_ms)
        if _take_records(self._raw, channel, held.raw, received_unix_ms, 0):
            return None
        return self._stored()

    def _take(
        self, to: Any, channel: int, text: Text, is_lines: bool, received_unix_ms: int, has_answer: bool
    ) -> Stored | Staged | None:
        if self._log is not None and not self._log.is_taking():
            return None
        received_unix_ms = self._queue.appender.received(received_unix_ms)
        if self._staging is None:
            self._begin_staging()
        status = _take_text(
            self._raw,
            to,
            channel,
            text if type(text) is bytes else bytes_of(text),
            len(text),
            is_lines,
            received_unix_ms,
            ANSWER_BYTES if has_answer else 0,
        )
        if status:
            return None if status == lib.ND_ODD else self.staged()
        return self._stored()

    def _begin_staging(self) -> None:
        """Texts are scanned into an empty staging from now on."""
        self._staging = staging = self._scanner.staging()
        lib.nd_take_scan_into(self._raw, staging.raw, limits.INGEST_STAGING_IDLE_BYTES_MAX)

    def _stored(self) -> Stored:
        """What has just been stored."""
        (
            events,
            block_bytes,
            lasting_count,
            unrouted,
            queued,
            is_odd,
            count,
            number,
            last_seq,
        ) = _read_numbers(self._numbers)
        has_lasting = lasting_count > 0
        if count > 1 or is_odd or self._rings.untold:
            return self._stored_oddly(events, block_bytes, unrouted, count, has_lasting)
        channels: Sequence[int] = (number,) if count else ()
        ticket: Ticket = DURABLE_IN_MEMORY
        if self._log is not None and queued:
            ticket = self._log.appended_to(number, last_seq)
        return Stored(events, block_bytes, queued, unrouted, channels, ticket, has_lasting)

    def _stored_oddly(
        self, events: int, block_bytes: int, unrouted: int, count: int, has_lasting: bool
    ) -> Stored:
        """The same where something was lost, where memory is short, or in several channels."""
        channels: Sequence[int] = ffi.unpack(self._taken.numbers, count) if count else ()
        done, ticket = self._queue.appender.appended(self._taken.published, channels)
        return Stored(
            events,
            block_bytes,
            done.queued,
            unrouted,
            channels,
            ticket,
            has_lasting,
            done.rejected,
            done.losses,
        )
