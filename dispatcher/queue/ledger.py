"""The books of a queue: every record that came is accounted for (INV-8)."""

from __future__ import annotations

from dispatcher.queue.interface import Loss, QueueTotals


class Ledger:
    """What became of all records since the queue was opened.  Every entry balances at once."""

    def __init__(self) -> None:
        self._queued = 0
        self._recovered = 0
        self._acked = 0
        self._expired = 0
        self._deleted = 0
        self._rejected = 0
        self._superseded = 0
        self._parked = 0
        self._dropped: dict[str, int] = {}
        self._records = 0
        self._record_bytes = 0

    def queued(self, records: int, record_bytes: int) -> None:
        """Records were given seqs."""
        self._queued += records
        self._records += records
        self._record_bytes += record_bytes

    def recovered(self, records: int, record_bytes: int) -> None:
        """Records were found again at start."""
        self._recovered += records
        self._records += records
        self._record_bytes += record_bytes

    def rejected(self, records: int) -> None:
        """Records were refused; they never came in."""
        self._rejected += records

    def acked(self, records: int, record_bytes: int) -> None:
        """Records were settled."""
        self._acked += records
        self._leave(records, record_bytes)

    def deleted(self, records: int, record_bytes: int) -> None:
        """Records went with their channel."""
        self._deleted += records
        self._leave(records, record_bytes)

    def lost(self, loss: Loss) -> None:
        """Records expired, were superseded, parked, or dropped."""
        if loss.reason == "expired":
            self._expired += loss.count
            self._leave(loss.count, loss.record_bytes)
        elif loss.reason == "superseded":
            self._superseded += loss.count
            self._leave(loss.count, loss.record_bytes)
        elif loss.reason == "parked":
            self._parked += loss.count
            self._leave(loss.count, loss.record_bytes)
        else:
            self.dropped(loss.reason, loss.count, loss.record_bytes)

    def dropped(self, reason: str, records: int, record_bytes: int) -> None:
        """Records were dropped."""
        if records:
            self._dropped[reason] = self._dropped.get(reason, 0) + records
            self._leave(records, record_bytes)

    def shrunk(self, record_bytes: int) -> None:
        """Bytes of records that were accounted for before their bytes could be counted."""
        self._leave(0, record_bytes)

    @property
    def records(self) -> int:
        """All records that are here now."""
        return self._records

    @property
    def record_bytes(self) -> int:
        """Stored bytes of all records that are here now."""
        return self._record_bytes

    def totals(
        self, memory_bytes: int, memory_bytes_max: int, *, scratch_bytes: int = 0, journal_bytes: int = 0
    ) -> QueueTotals:
        """The books, at this moment."""
        return QueueTotals(
            queued=self._queued,
            recovered=self._recovered,
            acked=self._acked,
            expired=self._expired,
            dropped=dict(self._dropped),
            superseded=self._superseded,
            parked=self._parked,
            rejected=self._rejected,
            deleted=self._deleted,
            records=self._records,
            record_bytes=self._record_bytes,
            memory_bytes=memory_bytes,
            memory_bytes_max=memory_bytes_max,
            scratch_bytes=scratch_bytes,
            journal_bytes=journal_bytes,
        )

    def _leave(self, records: int, record_bytes: int) -> None:
        self._records -= records
        self._record_bytes -= record_bytes
