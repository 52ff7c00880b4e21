"""One message as a request's body: plain, signed, compressed, or both.

A body's length and its signature stand in the head, before it.  So a message that is
signed or compressed is read once beforehand, and again while it is sent: the queue
keeps it, and no copy of it is made.  Of what is compressed up to
``limits.CALLBACK_GZIP_KEPT_BYTES_MAX`` are kept; more is compressed a second time, which
costs the time of one and keeps memory as it is for plain ones.  The same input in the same
pieces gives the same bytes.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from functools import partial
from typing import Protocol

import msgspec
import trio

from dispatcher import limits
from dispatcher.core.signing import secrets_at
from dispatcher.model import Signing
from dispatcher.wire.webhook_signature import HEADER_NAMES, Signature

_GZIP = 16 + zlib.MAX_WBITS  # zlib's way to ask for gzip's header; the time in it is 0
_LEVEL = 1  # a quarter of the size; level 6 takes twice the time for a tenth less


class Source(Protocol):
    """A message, read piece by piece, as often as it is needed; see ``OutgoingBatch.read_into``."""

    @property
    def bytes_count(self) -> int: ...

    async def read_into(self, buffer: bytearray, offset: int) -> int: ...
    def pour(
        self, socket: int, buffer: bytearray, filled: int, unread: int, tail: bytes
    ) -> tuple[int, int, int, int]: ...
    async def rewind(self) -> None: ...


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """What an application wants around its messages."""

    signing: Signing | None = None
    is_gzipped: bool = False

    @property
    def header_names(self) -> tuple[str, ...]:
        """The headers that it sets, in lower case."""
        return (*(HEADER_NAMES if self.signing else ()), *(("content-encoding",) if self.is_gzipped else ()))


_UNSIGNED = (Envelope(), Envelope(is_gzipped=True))


def envelope_of(signing: Signing | None, *, is_gzipped: bool) -> Envelope:
    """The envelope of a registration; the ones without a secret are shared."""
    return _UNSIGNED[is_gzipped] if signing is None else Envelope(signing=signing, is_gzipped=is_gzipped)


class RequestBody:
    """A message as it is; also what the others are made of."""

    def __init__(self, source: Source, headers: tuple[tuple[str, str], ...] = ()) -> None:
        self.bytes_count = self.unread = source.bytes_count  # exactly so many are read
        self.headers = headers  # that stand in the head because of it
        self._source = source

    async def read_into(self, buffer: bytearray, offset: int) -> int:
        """Write the next bytes at ``offset``; return how many, 0 at the end.  Raises what the source does."""
        count = await self._source.read_into(buffer, offset)
        self.unread -= count
        return count

    def pour(self, socket: int, buffer: bytearray, filled: int, tail: bytes) -> tuple[int, int, int]:
        """Send what was read, and what follows; see ``direct_io.Source``."""
        sent, begin, end, self.unread = self._source.pour(socket, buffer, filled, self.unread, tail)
        return sent, begin, end

    async def rewind(self) -> None:
        """Start over."""
        await self._source.rewind()
        self.unread = self.bytes_count


class Wrapper:
    """Puts messages into envelopes.  One of it serves the whole process."""

    def __init__(self) -> None:
        self._threads = trio.CapacityLimiter(limits.CALLBACK_GZIP_THREADS_MAX)

    async def wrap(
        self, source: Source, envelope: Envelope, id: Callable[[], str], unix_ms: int
    ) -> RequestBody:
        """The body of one attempt; ``id`` and ``unix_ms`` are what its signature says, if it has one.

        A plain message is not read.  Raises what the source does.
        """
        signature = None
        if envelope.signing is not None:
            signature = Signature(secrets_at(envelope.signing, unix_ms), id(), unix_ms // 1000)
        if envelope.is_gzipped:
            body = _GzipBody(source, self._threads)
            await body.measure(signature)
            return body
        if signature is None:
            return RequestBody(source)
        return RequestBody(source, await _sign(source, signature))


async def _sign(source: Source, signature: Signature) -> tuple[tuple[str, str], ...]:
    """Read a message for its signature, in steps that others may come between."""
    buffer = bytearray(limits.CALLBACK_WRAP_PIECE_BYTES)
    left_bytes = source.bytes_count
    while left_bytes > 0:
        count = await source.read_into(buffer, 0)
        if count == 0:
            break
        left_bytes -= count
        with memoryview(buffer) as whole, whole[:count] as piece:
            signature.update(piece)
        await trio.lowlevel.checkpoint()
    await source.rewind()
    return signature.headers()


class _GzipBody(RequestBody):
    """A message compressed, in a thread unless it is small."""

    def __init__(self, source: Source, threads: trio.CapacityLimiter) -> None:
        super().__init__(source, (("Content-Encoding", "gzip"),))
        self._message_bytes = source.bytes_count
        self._threads = threads
        self._kept: bytes | None = None  # the whole, if it is short
        self._ready = b""  # compressed, and not read
        self._start()

    async def measure(self, signature: Signature | None) -> None:
        """Compress once, for the length and the signature; then start over.

        What is kept is not read again: the source stays at the message's end.
        """
        kept: list[bytes] = []
        self.bytes_count = 0
        while not self._is_done:
            data = await self._compress_next(signature)
            self.bytes_count += len(data)
            if self.bytes_count > limits.CALLBACK_GZIP_KEPT_BYTES_MAX:
                kept.clear()
            else:
                kept.append(data)
        if self.bytes_count <= limits.CALLBACK_GZIP_KEPT_BYTES_MAX:
            self._kept = b"".join(kept)
            del self._buffer, self._deflate
        if signature is not None:
            self.headers += signature.headers()
        await self.rewind()

    async def read_into(self, buffer: bytearray, offset: int) -> int:
        while not self._ready and not self._is_done:
            self._ready = await self._compress_next(None)
        piece = self._ready[: len(buffer) - offset]
        self._ready = self._ready[len(piece) :]
        buffer[offset : offset + len(piece)] = piece
        self.unread -= len(piece)
        return len(piece)

    def pour(self, socket: int, buffer: bytearray, filled: int, tail: bytes) -> tuple[int, int, int]:
        """Nothing: what is unread has yet to be compressed."""
        return 0, 0, filled

    async def rewind(self) -> None:
        if self._kept is None:
            await super().rewind()
        self.unread = self.bytes_count
        self._start()

    def _start(self) -> None:
        self._is_done = self._kept is not None
        self._ready = self._kept or b""
        self._left_bytes = self._message_bytes
        if not self._is_done:  # a new buffer: a large record makes one grow, and then the pieces are others
            self._buffer = bytearray(limits.CALLBACK_WRAP_PIECE_BYTES)
            self._deflate = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)

    async def _compress_next(self, signature: Signature | None) -> bytes:
        count = 0
        if self._left_bytes > 0:
            count = await self._source.read_into(self._buffer, 0)
        if count == 0:
            self._is_done = True
            return await self._run(self._deflate.flush)
        self._left_bytes -= count
        with memoryview(self._buffer) as whole, whole[:count] as piece:
            if signature is not None:
                signature.update(piece)
            return await self._run(partial(self._deflate.compress, piece))

    async def _run(self, step: Callable[[], bytes]) -> bytes:
        """Cancellation waits for the step, which takes milliseconds."""
        if self._message_bytes <= limits.CALLBACK_GZIP_LOOP_BYTES_MAX:
            return step()
        return await trio.to_thread.run_sync(step, limiter=self._threads)
