"""From a text to rings and journal in one call of the core (``interface.Taker``).

What ``native_scan``, ``native_routes`` and ``native`` do one after the other, and nothing
that they would not do: the core calls the same functions, and stops where Python would
have to say something.

An event published alone is to cost little more than its call.  So the core keeps what is the same
for all of them, and says whether what became of one is what became of the last one; if not, that
is read as a row of numbers, and only where these say that there is more to tell is that looked at
(``native_append``).
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import Any

import msgspec

from dispatcher import limits
from dispatcher.core.route_table import Way
from dispatcher.queue._core import ffi, lib
from dispatcher.queue.interface import Records, Stored
from dispatcher.queue.native import NativeQueue
from dispatcher.queue.native_append import DURABLE_IN_MEMORY
from dispatcher.queue.native_log import ANSWER_BYTES
from dispatcher.queue.native_ring import made
from dispatcher.queue.native_routes import NativeAudiences, raw_table
from dispatcher.queue.native_scan import NativeScanner, NativeStaging, bytes_of
from dispatcher.wire.staging import Staged, Text

_OUTCOME = ffi.typeof("nd_outcome")
_read_outcome = Struct(f"={ffi.sizeof(_OUTCOME) // 8}Q").unpack_from

# Functions of the core that are called for each event; to look one up costs half as much as to call it.
_take_text = lib.nd_take_text
_take_records = lib.nd_take_records
_OK: int = lib.ND_OK
_SAME: int = lib.ND_SAME
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
        self._appender = queue.appender
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
        self._outcome = ffi.buffer(ffi.addressof(self._taken, "outcome"))
        self._last: Stored | None = None  # what was stored last, if the next may be the same
        self._staging: NativeStaging | None = None
        self._to = ffi.new("nd_addressees *")
        self._way: Way | None = None  # that these are of

    def __repr__(self) -> str:
        return f"<NativeTaker of {self._queue!r}>"

    def take(
        self,
        way: Way | None,
        channel: int,
        text: Text,
        is_lines: bool,
        received_unix_ms: int,
        has_answer: bool,
    ) -> Stored | Staged | None:
        """See the interface.  The tables of a way are those of a ``NativeFinder``."""
        if self._log is not None and not self._log.is_taking():
            return None
        appender = self._appender
        if self._rings.pool is None or received_unix_ms < appender.received_unix_ms:
            received_unix_ms = appender.received(received_unix_ms)
        appender.received_unix_ms = received_unix_ms
        if self._staging is None:
            self._begin_staging()
        status = _take_text(
            self._raw,
            _TO_CHANNEL if way is None else self._addressees(way),
            channel,
            text if type(text) is bytes else bytes_of(text),
            len(text),
            is_lines,
            received_unix_ms,
            ANSWER_BYTES if has_answer else 0,
        )
        if status == _SAME and self._log is None and self._last is not None and not self._rings.untold:
            return self._last
        if status in (_OK, _SAME):
            return self._stored(status)
        return None if status == lib.ND_ODD else self.staged()

    def _addressees(self, way: Way) -> Any:
        if way is self._way:
            return self._to
        self._way = way
        to, audiences = self._to, way.audiences
        assert isinstance(audiences, NativeAudiences)
        to.audiences = audiences.raw
        to.manual, to.chosen = raw_table(way.manual), raw_table(way.chosen)
        to.chosen_from = way.chosen_from
        return to

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

    def take_held(self, channel: int, held: object, received_unix_ms: int) -> Stored | None:
        """See the interface."""
        assert isinstance(held, _Held)
        if self._log is not None and not self._log.is_taking():
            return None
        appender = self._appender
        if self._rings.pool is None or received_unix_ms < appender.received_unix_ms:
            received_unix_ms = appender.received(received_unix_ms)
        appender.received_unix_ms = received_unix_ms
        status = _take_records(self._raw, channel, held.raw, received_unix_ms, 0)
        if status == _SAME and self._log is None and self._last is not None and not self._rings.untold:
            return self._last
        return self._stored(status) if status in (_OK, _SAME) else None

    def _begin_staging(self) -> None:
        """Texts are scanned into an empty staging from now on."""
        self._staging = staging = self._scanner.staging()
        lib.nd_take_scan_into(self._raw, staging.raw, limits.INGEST_STAGING_IDLE_BYTES_MAX)

    def _stored(self, status: int) -> Stored:
        """What has just been stored."""
        last = self._last
        if last is None or status != _SAME or self._rings.untold:
            self._last = None
            return self._read_stored()
        if self._log is None or not last.queued:
            return last
        ticket = self._log.appended_to(last.channels[0], self._taken.last_seq)
        if ticket is not last.ticket:
            self._last = last = msgspec.structs.replace(last, ticket=ticket)
        return last

    def _read_stored(self) -> Stored:
        events, came_bytes, queued, unrouted, has_lasting, is_odd, count, number = _read_outcome(
            self._outcome
        )
        if count > 1 or is_odd or self._rings.untold:
            channels: Sequence[int] = ffi.unpack(self._taken.numbers, count) if count else ()
            appended, ticket = self._appender.appended(self._taken.published, channels)
            return Stored(
                events,
                came_bytes,
                queued,
                unrouted,
                channels,
                ticket,
                bool(has_lasting),
                appended.rejected,
                appended.losses,
            )
        ticket = DURABLE_IN_MEMORY
        if self._log is not None and queued:
            ticket = self._log.appended_to(number, self._taken.last_seq)
        channels = (number,) if count else ()
        self._last = Stored(events, came_bytes, queued, unrouted, channels, ticket, bool(has_lasting))
        return self._last
