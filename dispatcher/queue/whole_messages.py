"""A batch's messages in one piece each, for who cannot take them piece by piece."""

from __future__ import annotations

from dispatcher.queue.interface import Batch


async def read_messages(batch: Batch) -> list[bytes]:
    """All messages of a batch; reading it starts over before and after.

    Raises as ``Batch.read_into`` does.  Memory: the batch, and its longest message once more.
    """
    batch.rewind()
    messages = [await _read_message(batch, message.bytes_count) for message in batch.messages]
    batch.rewind()
    return messages


async def _read_message(batch: Batch, bytes_count: int) -> bytes:
    buffer = bytearray(bytes_count)
    at = 0
    while at < bytes_count:  # each turn reads something or raises
        at += await batch.read_into(buffer, at)
    return bytes(buffer)
