"""What the daemon itself says of its records, read from ``/metrics``.  Pure."""

from __future__ import annotations

import msgspec

_PREFIX = "dispatcher_"


class Books(msgspec.Struct, frozen=True, kw_only=True):
    """The records of all channels since the daemon started."""

    queued: int
    acked: int
    lost: int  # dropped, expired, or gone with their channel
    in_queue: int

    @property
    def is_balanced(self) -> bool:
        """Whether every record that was stored is accounted for (INV-8)."""
        return self.queued == self.acked + self.lost + self.in_queue


def read_books(metrics: str) -> Books:
    """The books in a Prometheus text."""
    values: dict[str, int] = {}
    for line in metrics.splitlines():
        if line.startswith(_PREFIX):
            name, _, value = line.removeprefix(_PREFIX).rpartition(" ")
            name = name.partition("{")[0]
            values[name] = values.get(name, 0) + int(float(value))
    lost = ("records_dropped_total", "records_expired_total", "records_deleted_total")
    return Books(
        queued=values.get("records_queued_total", 0),
        acked=values.get("records_acked_total", 0),
        lost=sum(values.get(name, 0) for name in lost),
        in_queue=values.get("queue_records", 0),
    )
