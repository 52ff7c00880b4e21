"""The head that a connection brought last: mostly the next is the same, but for its length.

To parse a head is a third of a small request.  What h11 said of one holds for every other
with the same bytes, and for one whose bytes differ in the digits of its length alone it
holds but for that length.  A head of which it cannot be said so simply is parsed.  Pure.
"""

from __future__ import annotations

import re

from dispatcher.http.request_head import Head, with_length
from dispatcher.limits import REQUEST_HEAD_REMEMBERED_BYTES_MAX

_NAME = b"content-length"
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]+)\r\n", re.IGNORECASE)
_DIGITS_MAX = 9  # more than any body that is taken


class HeadMemory:
    """Of one connection; holds one head, and none before ``keep``."""

    __slots__ = ("_data", "_end", "_head", "_start")

    def __init__(self) -> None:
        self._data = b""
        self._head: Head | None = None
        self._start = self._end = 0  # of the length's digits; 0: there are none that may differ

    def __repr__(self) -> str:
        return f"<HeadMemory of {len(self._data)} bytes>"  # never the bytes: a key is among them

    def find(self, data: bytes) -> Head | None:
        """What ``parse_head`` would say of these bytes, if that is known; then they are remembered."""
        if self._head is None or data == self._data:
            return self._head
        end = self._end + len(data) - len(self._data)
        digits = data[self._start : end]
        if (
            not self._end
            or not 0 < end - self._start <= _DIGITS_MAX
            or not digits.isdigit()
            or data[: self._start] != self._data[: self._start]
            or data[end:] != self._data[self._end :]
        ):
            return None
        self._data, self._end = data, end
        self._head = with_length(self._head, digits)
        return self._head

    def keep(self, data: bytes, head: Head) -> None:
        """Remember a head instead of the one before, if it is short and its body is not chunked."""
        self.clear()
        if head.parser is not None or len(data) > REQUEST_HEAD_REMEMBERED_BYTES_MAX:
            return
        self._data, self._head = data, head
        # Where the name stands anywhere else, be it in a value, nothing may differ.
        if data.lower().count(_NAME) == 1 and (found := _LENGTH.search(data)):
            self._start, self._end = found.span(1)

    def clear(self) -> None:
        """Forget it."""
        self._data, self._head = b"", None
        self._start = self._end = 0
