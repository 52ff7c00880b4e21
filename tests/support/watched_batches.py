"""Batches that watch how a sink reads them."""

from __future__ import annotations

from collections.abc import Sequence

from support.outgoing_batches import ListedBatch

from dispatcher.errors import DispatcherError


class WatchedBatch(ListedBatch):
    """Each message is given as its records.  With ``gone`` its records go away after ``gone_after_reads``."""

    def __init__(
        self,
        *messages: Sequence[bytes],
        last: int = 1,
        gone: DispatcherError | None = None,
        gone_after_reads: int = 0,
    ) -> None:
        self.rewinds = -1  # the first one is the maker's
        self.bytes_read = 0
        self.buffer_bytes_max = 0  # the largest buffer it was read through
        self._gone = gone
        self._gone_after_reads = gone_after_reads
        super().__init__([list(records) for records in messages], last=last)

    def bodies(self) -> list[bytes]:
        """What a receiver must get."""
        return [b"".join(message.records) for message in self.messages]

    async def read_into(self, buffer: bytearray, offset: int) -> int:
        if self._gone is not None and self.reads == self._gone_after_reads:
            raise self._gone
        count = await super().read_into(buffer, offset)
        self.bytes_read += count
        self.buffer_bytes_max = max(self.buffer_bytes_max, len(buffer))
        return count

    def rewind(self) -> None:
        self.rewinds += 1
        super().rewind()


def small_batch(last: int = 1) -> WatchedBatch:
    """One message with one event."""
    return WatchedBatch([b'{"notifications":[{"ep":"device-1","path":"/3/0/1"}]}'], last=last)


def large_batch(bytes_min: int, last: int = 1) -> WatchedBatch:
    """One message of at least so many bytes, in records of 1,000, no two alike."""
    records = [b"%08d" % number * 125 for number in range(bytes_min // 1000 + 1)]
    return WatchedBatch(records, last=last)
