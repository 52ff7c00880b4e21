"""What a scrape of ``/metrics`` says."""

from __future__ import annotations

import msgspec
from support.daemon import Daemon

from dispatcher.observe.metrics import RecordTotals

GONE = ("acked", "expired", "dropped", "superseded", "parked", "deleted")


def totals_of(each: int, **others: object) -> RecordTotals:
    """Books in which every number is the same."""
    numbers = {field.name: each for field in msgspec.structs.fields(RecordTotals) if field.type is int}
    return msgspec.convert(
        {**numbers, "dropped": {}, "channels": {}, "oldest_age_s": 0.0, **others}, RecordTotals
    )


async def scraped(daemon: Daemon) -> dict[str, float]:
    """Values by name, labels summed up."""
    found: dict[str, float] = {}
    for line in (await daemon.anyone.send("GET", "/metrics")).body.decode().splitlines():
        if line and not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            name = name.partition("{")[0]
            found[name] = found.get(name, 0.0) + float(value)
    return found


def assert_balanced(metrics: dict[str, float]) -> None:
    """INV-8, in one scrape."""
    came = metrics["dispatcher_records_queued_total"] + metrics["dispatcher_records_recovered_total"]
    gone = sum(metrics.get(f"dispatcher_records_{name}_total", 0) for name in GONE)
    assert came == gone + metrics["dispatcher_queue_records"]
