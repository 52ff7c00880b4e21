"""Compresses what goes to the WebSockets whose clients offered permessage-deflate.

Nearly every client library offers it unasked, and compressing costs as much again as
all the rest of an event's way.  So there is a rate, for all sockets together, up to which
messages are compressed (``server.websocket_deflate_bytes_per_s``): what goes beyond it
is sent as it is, which the agreement leaves to us for each message.  Nothing waits.

A compressor belongs to one message and is gone with its end.  Short messages are
compressed at once, longer ones in a thread.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from functools import partial
from typing import Literal

import trio

from dispatcher import limits
from dispatcher.core.token_bucket import Buckets, allowance

_LEVEL = 1  # level 6 takes more than twice the time for a tenth less
_TAIL_BYTES = 4  # 00 00 ff ff, which every flush ends in and no message has (RFC 7692, section 7.2.1)
_TOKEN_BYTES = limits.KIB
_EVERYBODY = 0


Count = Callable[[Literal["in", "out", "over_rate"], int], None]
"""Told the bytes of messages that are compressed, what came of them, and what went as it is for the rate."""


class Deflater:
    """One of it serves the whole process."""

    def __init__(self, bytes_per_s: int, count: Count) -> None:
        """``bytes_per_s`` of messages, as they are before, in the long run; at least 1."""
        self._count = count
        tokens_per_s = bytes_per_s / _TOKEN_BYTES
        burst = max(1, round(tokens_per_s * limits.WEBSOCKET_DEFLATE_BURST_S))
        self._allowance = allowance(tokens_per_s, burst)
        self._buckets = Buckets()
        self._threads = trio.CapacityLimiter(limits.WEBSOCKET_DEFLATE_THREADS_MAX)

    def begin(self, message_bytes: int, window_bits: int) -> MessageDeflater | None:
        """A compressor for a message of this length; None when it is to go as it is.

        May take more than the rate has left, so that long messages come to their turn too.
        """
        if message_bytes < limits.WEBSOCKET_DEFLATE_BYTES_MIN:
            return None
        assert self._allowance is not None
        now_ns = int(trio.current_time() * 1e9)
        if self._buckets.wait_ns(_EVERYBODY, self._allowance, now_ns):
            self._count("over_rate", message_bytes)
            return None
        self._count("in", message_bytes)
        self._buckets.take(_EVERYBODY, self._allowance, -(-message_bytes // _TOKEN_BYTES), now_ns)
        is_short = message_bytes <= limits.WEBSOCKET_DEFLATE_LOOP_BYTES_MAX
        return MessageDeflater(window_bits, None if is_short else self._threads, self._count)


class MessageDeflater:
    """The compressor of one message; made by ``Deflater.begin``."""

    def __init__(self, window_bits: int, threads: trio.CapacityLimiter | None, count: Count) -> None:
        """``threads`` None: at once, beside no other work."""
        self._count = count
        self._compressor = zlib.compressobj(_LEVEL, zlib.DEFLATED, -window_bits)
        self._threads = threads

    async def compress(self, part: memoryview, *, is_last: bool) -> bytes:
        """The next bytes of the compressed message, which may be none before the last.

        Cancellation waits for the step, which takes a millisecond: ``part`` is read in it.
        """
        step = partial(self._step, part, is_last)
        is_short = self._threads is None
        data = step() if is_short else await trio.to_thread.run_sync(step, limiter=self._threads)
        self._count("out", len(data))
        return data

    def _step(self, part: memoryview, is_last: bool) -> bytes:
        data = self._compressor.compress(part)
        return data + self._compressor.flush(zlib.Z_SYNC_FLUSH)[:-_TAIL_BYTES] if is_last else data
