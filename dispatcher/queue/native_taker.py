"""From a text to rings and journal in one call of the core (``interface.Taker``).

What ``native_scan``, ``native_routes`` and ``native`` do one after the other, and nothing
that they would not do: the core calls the same functions, and stops where Python would
have to say something.
"""

from __future__ import annotations

from typing import Any

from dispatcher import limits
from dispatcher.core.route_table import Way
from dispatcher.queue._core import ffi, lib
from dispatcher.queue.interface import Stored
from dispatcher.queue.native import NativeQueue
from dispatcher.queue.native_log import ANSWER_BYTES
from dispatcher.queue.native_ring import made
from dispatcher.queue.native_routes import NativeAudiences, raw_table
from dispatcher.queue.native_scan import NativeScanner, NativeStaging, bytes_of
from dispatcher.wire.staging import Staged, Text


class NativeTaker:
    """Takes texts into a ``NativeQueue``; used by the thread of the queue, until that is closed."""

    def __init__(self, queue: NativeQueue, scanner: NativeScanner) -> None:
        """Raises ``MemoryFull``."""
        self._queue = queue
        self._scanner = scanner
        opened = made("nd_take *", lib.nd_take_open, lib.nd_io_posix(), queue.rings.table, queue.pool)
        self._raw = ffi.gc(opened, lib.nd_take_close)
        self._staging: NativeStaging | None = None
        self._to = ffi.new("nd_addressees *")
        self._taken = ffi.new("nd_taken *")
        self._published = ffi.addressof(self._taken, "published")

    def __repr__(self) -> str:
        return f"<NativeTaker of {self._queue!r}>"

    def to_channel(
        self, channel: int, text: Text, *, is_lines: bool, received_unix_ms: int, has_answer: bool
    ) -> Stored | Staged | None:
        """See the interface."""
        to = self._to
        to.audiences, to.channel = ffi.NULL, channel
        return self._take(text, is_lines, received_unix_ms, has_answer)

    def to_subscribers(
        self, way: Way, text: Text, *, is_lines: bool, received_unix_ms: int, has_answer: bool
    ) -> Stored | Staged | None:
        """See the interface.  The tables are those of a ``NativeFinder``."""
        audiences = way.audiences
        assert isinstance(audiences, NativeAudiences)
        to = self._to
        to.audiences = audiences.raw
        to.manual, to.chosen = raw_table(way.manual), raw_table(way.chosen)
        to.chosen_from = way.chosen_from
        return self._take(text, is_lines, received_unix_ms, has_answer)

    def staged(self) -> Staged:
        """See the interface."""
        staging, self._staging = self._staging, None  # its memory may be looked at from now on
        assert staging is not None, "something was just stored"
        return staging.hand_over()

    def _take(
        self, text: Text, is_lines: bool, received_unix_ms: int, has_answer: bool
    ) -> Stored | Staged | None:
        queue, log = self._queue, self._queue.log
        if log is not None and not log.is_taking():
            return None
        staging = self._staging
        if staging is None or staging.look.memory_bytes > limits.INGEST_STAGING_IDLE_BYTES_MAX:
            staging = self._staging = self._scanner.staging()
        status = lib.nd_take_text(
            self._raw,
            staging.raw,
            ffi.NULL if log is None else log.journal,
            self._to,
            bytes_of(text),
            len(text),
            is_lines,
            limits.EVENTS_PER_REQUEST_MAX,
            queue.appender.received(received_unix_ms),
            queue.epoch,
            ANSWER_BYTES if has_answer else 0,
            self._taken,
        )
        if status != lib.ND_OK:
            return None if status == lib.ND_ODD else self.staged()
        return self._stored(self._taken, staging.look)

    def _stored(self, taken: Any, staged: Any) -> Stored:
        count = taken.numbers_count
        channels = ffi.unpack(taken.numbers, count) if count else []
        appended, ticket = self._queue.appender.appended(self._published, channels)
        return Stored(
            appended,
            ticket,
            channels,
            staged.records_count,
            taken.unrouted,
            staged.block_bytes,
            staged.lasting_count > 0,
        )
