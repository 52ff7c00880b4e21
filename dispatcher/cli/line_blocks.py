"""Cuts NDJSON into blocks of whole lines, each small enough for one request.  Pure."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from dispatcher import limits
from dispatcher.errors import BodyTooLarge


class Block(msgspec.Struct, frozen=True):
    """Whole lines; ``first_line`` is the number of the first, from 1 over the whole input."""

    body: bytes
    first_line: int


class LineBlocks:
    """Takes input as it comes and gives blocks of what is complete.

    A block has at most ``bytes_max`` and ``lines_max``; a longer single line goes alone.
    Memory: the input not yet given, at most one chunk and one incomplete line, which is
    refused over ``limits.REQUEST_BODY_BYTES_MAX``.
    """

    def __init__(
        self,
        bytes_max: int = limits.PUBLISH_REQUEST_BYTES,
        lines_max: int = limits.PUBLISH_REQUEST_LINES,
    ) -> None:
        self._bytes_max = bytes_max
        self._lines_max = lines_max
        self._partial = b""
        self._next_line = 1

    def feed(self, chunk: bytes) -> Iterator[Block]:
        """The blocks that this chunk completes; one of blank lines alone is counted and left out.

        Raises ``BodyTooLarge`` for a line that no request can carry.
        """
        data = self._partial + chunk
        start = 0
        while (end := self._end_of_block(data, start)) > start:
            block = self._block(data[start:end])
            start = end
            if block.body.strip():
                yield block
        self._partial = data[start:]
        if len(self._partial) > limits.REQUEST_BODY_BYTES_MAX:
            raise BodyTooLarge(
                f"line {self._next_line} is over {limits.REQUEST_BODY_BYTES_MAX} bytes, "
                "which is more than one request may have; cut the message in two"
            )

    def end(self) -> Iterator[Block]:
        """What is left when the input has ended without a newline."""
        partial, self._partial = self._partial, b""
        if partial.strip():
            yield self._block(partial)

    def _end_of_block(self, data: bytes, start: int) -> int:
        """Where the block from ``start`` ends; ``start`` when no line is complete."""
        end = data.rfind(b"\n", start, start + self._bytes_max) + 1
        if end <= start:
            end = data.find(b"\n", start) + 1
        if data.count(b"\n", start, end) <= self._lines_max:
            return max(start, end)
        end = start
        for _ in range(self._lines_max):
            end = data.index(b"\n", end) + 1
        return end

    def _block(self, body: bytes) -> Block:
        block = Block(body, self._next_line)
        self._next_line += body.count(b"\n")
        return block
