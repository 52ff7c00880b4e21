"""The head that a connection brought last: mostly the next is the same, but for a value or two.

To parse a head costs as much as all else of a small request.  What h11 said of one holds for
every other with the same bytes.  It also holds for one in which the values of some fields differ,
if each of these fields is there once, on one line, means nothing to the parser but its value,
and has a value of plain characters.  A head of which it cannot be said so simply is parsed.  Pure.
"""

from __future__ import annotations

import re

from dispatcher.http.request_head import Head, with_value
from dispatcher.limits import IDEMPOTENCY_KEY_BYTES_MAX, REQUEST_HEAD_REMEMBERED_BYTES_MAX

_WORD = re.compile(rb" ?([!-~]{1,%d})" % IDEMPOTENCY_KEY_BYTES_MAX)
_VALUES = {  # what may differ from request to request of the same client
    b"content-length:": re.compile(rb" ?([0-9]{1,9})"),  # more is no body that is taken
    b"idempotency-key:": _WORD,
    b"traceparent:": _WORD,
}


class HeadMemory:
    """Of one connection; holds one head, and none before ``keep``."""

    __slots__ = ("_data", "_head", "_names")

    def __init__(self) -> None:
        self._data = b""
        self._head: Head | None = None
        self._names: dict[int, bytes] = {}  # by its line, of each field that may differ; with the colon

    def __repr__(self) -> str:
        return f"<HeadMemory of {len(self._data)} bytes>"  # never the bytes: a key is among them

    def find(self, data: bytes) -> Head | None:
        """What ``parse_head`` would say of these bytes, if that is known; then they are remembered."""
        head = self._head
        if head is None or data == self._data:
            return head
        lines, known = data.split(b"\r\n"), self._data.split(b"\r\n")
        if len(lines) != len(known) or len(data) > REQUEST_HEAD_REMEMBERED_BYTES_MAX:
            return None
        for at, line in enumerate(lines):
            if line != known[at]:
                name = self._names.get(at)
                if name is None or not line.startswith(name):
                    return None
                value = _VALUES[name.lower()].fullmatch(line, len(name))
                if value is None:
                    return None
                head = with_value(head, name[:-1].lower().decode("ascii"), value[1].decode("ascii"))
        self._data, self._head = data, head
        return head

    def keep(self, data: bytes, head: Head) -> None:
        """Remember a head instead of the one before, if it is short and its body is not chunked."""
        is_kept = head.parser is None and len(data) <= REQUEST_HEAD_REMEMBERED_BYTES_MAX
        self._data, self._head = (data, head) if is_kept else (b"", None)
        self._names = _names(self._data.split(b"\r\n"))


def _names(lines: list[bytes]) -> dict[int, bytes]:
    """The fields that may differ: each is there once, and nothing in the head is folded."""
    found: dict[bytes, list[int]] = {}
    for at, line in enumerate(lines):
        if line.startswith((b" ", b"\t")):
            return {}
        found.setdefault(line[: line.find(b":") + 1].lower(), []).append(at)
    return {
        places[0]: lines[places[0]][: len(name)]
        for name, places in found.items()
        if name in _VALUES and len(places) == 1
    }
