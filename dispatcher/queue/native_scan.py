"""The native scan of what gateways post (``wire.staging.Staging``).

Memory of a staging outlives it: block and metas that were handed over are views of it,
and only when the last of them is gone does it serve the next request.  So nobody has to
say when a request is done, and any number of them may be read at once.
"""

from __future__ import annotations

from array import array
from typing import Any

from dispatcher import limits
from dispatcher.errors import MemoryFull
from dispatcher.queue._core import ffi, lib
from dispatcher.wire.canonical import Record
from dispatcher.wire.staging import Staged, Taken, Text

_RULES = ffi.new(
    "nd_scan_rules *",
    {
        "integer_max": limits.JSON_INTEGER_MAX,
        "ep_chars_max": limits.EP_CHARS_MAX,
        "path_chars_max": limits.PATH_CHARS_MAX,
        "ct_chars_max": limits.CT_CHARS_MAX,
        "payload_bytes_max": limits.PAYLOAD_BYTES_MAX,
        "depth_max": limits.JSON_DEPTH_MAX,
        "containers_max": limits.JSON_CONTAINERS_MAX,
        "record_bytes_max": limits.RECORD_BYTES_MAX,
    },
)


class NativeScanner:
    """Makes stagings, and keeps the memory of a few that are done.

    Any thread may ask for one, and end one.
    """

    def __init__(self) -> None:
        self._idle: list[Any] = []
        self._idle_max = limits.INGEST_STAGINGS_IDLE_MAX

    def __repr__(self) -> str:
        return f"<NativeScanner {len(self._idle)} stagings idle>"

    def staging(self) -> NativeStaging:
        """An empty staging.  Raises ``MemoryFull``."""
        try:
            staging = self._idle.pop()
        except IndexError:
            staging = _open()
        return NativeStaging(ffi.gc(staging, self._take_back))

    def close(self) -> None:
        """Give back the memory that is kept; what is still looked at follows when that ends."""
        self._idle_max = 0
        while self._idle:
            lib.nd_staging_close(self._idle.pop())

    def _take_back(self, staging: Any) -> None:
        """Nobody looks at it any more."""
        memory_bytes = lib.nd_staging_look(staging).memory_bytes
        if len(self._idle) < self._idle_max and memory_bytes <= limits.INGEST_STAGING_IDLE_BYTES_MAX:
            lib.nd_staging_clear(staging)
            self._idle.append(staging)
        else:
            lib.nd_staging_close(staging)


class NativeStaging:
    """Records of one request in native memory; messages that it vouches for cost no Python object."""

    def __init__(self, staging: Any) -> None:
        self.raw = staging
        self.look = lib.nd_staging_look(staging)

    @property
    def records(self) -> int:
        """How many there are."""
        count: int = self.look.records_count
        return count

    def take_message(self, text: Text, records_max: int, *, may_be_named: bool) -> Taken:
        """Take a text that is one message, or nothing of it.  Raises ``MemoryFull``."""
        status = lib.nd_scan_message(self.raw, bytes_of(text), len(text), records_max, may_be_named)
        return self._taken(status, text)

    def take_lines(self, text: Text, start: int, end: int, records_max: int, lines_max: int) -> Taken:
        """Take messages in lines, up to the first odd one.  Raises ``MemoryFull``."""
        status = lib.nd_scan_lines(self.raw, bytes_of(text), start, end, records_max, lines_max)
        return self._taken(status, text)

    def add(self, record: Record, *, is_lasting: bool) -> None:
        """Add a record that was made elsewhere.  Raises ``MemoryFull``."""
        body = record.body
        status = lib.nd_staging_add(self.raw, body, len(body), record.meta, is_lasting)
        if status == lib.ND_ERR_FULL:
            raise _memory_full()
        assert status == lib.ND_OK, "a record's meta has its length"

    def hand_over(self) -> Staged:
        """What came together: a little is copied, more stands in views of the staging's memory."""
        staged = self.look
        if staged.block_bytes <= limits.INGEST_COPY_BYTES_MAX:
            return Staged(
                ffi.buffer(staged.block, staged.block_bytes)[:],
                _numbers("Q", staged.meta, staged.records_count),
                _numbers("I", staged.lasting, staged.lasting_count),
            )
        return Staged(
            self._view(staged.block, staged.block_bytes),
            self._view(staged.meta, staged.records_count * 8).cast("Q"),
            self._view(staged.lasting, staged.lasting_count * 4).cast("I"),
        )

    def _view(self, memory: Any, bytes_count: int) -> memoryview:
        if not bytes_count:
            return memoryview(b"")
        staging = self.raw
        held = ffi.gc(memory, lambda _: staging)  # to hold the staging is all that it is for
        return memoryview(ffi.buffer(held, bytes_count))

    def _taken(self, status: int, text: Text) -> Taken:
        if status == lib.ND_ERR_FULL:
            raise _memory_full()
        staged = self.look
        name = bytes(text[staged.name_at : staged.name_at + staged.name_bytes]) if staged.name_bytes else None
        return Taken(staged.next, staged.lines_count, staged.messages_count, name)


def _numbers(typecode: str, memory: Any, count: int) -> array[int]:
    """A copy of what the core has put down."""
    numbers = array(typecode)
    if count:
        numbers.frombytes(ffi.buffer(memory, count * numbers.itemsize))
    return numbers


def bytes_of(text: Text) -> Any:
    """What a call of the core takes, without a copy."""
    return text if isinstance(text, bytes) else ffi.from_buffer("uint8_t[]", text)


def _open() -> Any:
    out = ffi.new("nd_staging **")
    status = lib.nd_staging_open(lib.nd_io_posix(), _RULES, out)
    if status == lib.ND_ERR_ARGUMENT:
        raise ValueError("nd_staging: the limits of an event are too large for a record")
    if status != lib.ND_OK:
        raise _memory_full()
    return out[0]


def _memory_full() -> MemoryFull:
    return MemoryFull("the machine has no memory left to read this request; try again later")
