"""Where the records of one request come together, and who reads plain messages on the way.

A staging takes of a text what it vouches for, and stops before a message that it does
not: that one is odd, and ``wire.ingest`` judges it.  So there is one judge, and one
wording of each error, however a staging reads (decision 0018).

``StrictStaging`` vouches for nothing.  It is the model of every other: with it each
message is judged, and the records, or the error, must be the same.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from dispatcher.model import RecordBlock, RecordMetas
from dispatcher.wire.canonical import Record

Text = bytes | memoryview
"""What a gateway posted; its memory is somebody else's once it is parsed."""


class Taken(msgspec.Struct, frozen=True):
    """What a staging took of a text."""

    next_byte: int  # where it stopped: where it was told to, or before an odd message
    lines: int = 0  # blank ones too
    messages: int = 0
    name: bytes | None = None  # the ``message-id``, as the JSON has it


class Staged(msgspec.Struct, frozen=True):
    """The records of a request; ``queue.interface.Records`` is made of ``block`` and ``meta``."""

    block: RecordBlock
    meta: RecordMetas
    lasting: Sequence[int]  # indices of the notifications whose max-age is not 0, or was not given


class Staging(Protocol):
    """The records of one request, in order.  Belongs to one thread at a time."""

    @property
    def records(self) -> int:
        """How many there are."""
        ...

    def take_message(self, text: Text, records_max: int, *, may_be_named: bool) -> Taken:
        """Take a text that is one message, or nothing of it.

        ``records_max`` is how many records there may be in all.  With ``may_be_named`` the
        message may have a ``message-id``.
        """
        ...

    def take_lines(self, text: Text, start: int, end: int, records_max: int, lines_max: int) -> Taken:
        """Take messages in lines, up to the first odd one.  ``start`` and ``end`` are ends of lines."""
        ...

    def add(self, record: Record, *, is_lasting: bool) -> None:
        """Add a record that was made elsewhere."""
        ...

    def hand_over(self) -> Staged:
        """What came together.  The last call; what it returns holds its own memory."""
        ...


NewStaging = Callable[[], Staging]


class StrictStaging:
    """Records that were judged one by one."""

    def __init__(self) -> None:
        self._bodies: list[bytes] = []
        self._meta = array("Q")
        self._lasting = array("I")

    @property
    def records(self) -> int:
        """How many there are."""
        return len(self._meta)

    def take_message(self, text: Text, records_max: int, *, may_be_named: bool) -> Taken:
        """Take nothing."""
        return Taken(0)

    def take_lines(self, text: Text, start: int, end: int, records_max: int, lines_max: int) -> Taken:
        """Take nothing."""
        return Taken(start)

    def add(self, record: Record, *, is_lasting: bool) -> None:
        """Add a record."""
        if is_lasting:
            self._lasting.append(len(self._meta))
        self._bodies.append(record.body)
        self._meta.append(record.meta)

    def hand_over(self) -> Staged:
        """What came together."""
        return Staged(b"".join(self._bodies), self._meta, self._lasting)
