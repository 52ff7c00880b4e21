"""Times appends to full queues that keep the latest values.

    python -m support.keep_latest_probe [FOLDER]

Prints one JSON object for each shape: see ``Measured``.  With a folder the queues lie on the disk, there.
"""

from __future__ import annotations

import json
import sys
import time
from array import array
from collections.abc import Iterator
from pathlib import Path

import msgspec
from support.cold_queues import cool
from support.stored_records import Item, records_of

from dispatcher.model import Kind, Overflow
from dispatcher.queue.disk import Disk
from dispatcher.queue.interface import Appended, QueueOptions, Records, Route
from dispatcher.queue.native import NativeQueue

QUEUE_BYTES = 50_000_000
MEMORY_BYTES = 2 << 30
FILL_EVENTS = 1_000
APPENDS = 400


class Shape(msgspec.Struct, frozen=True):
    """Which queues, of what, and what then comes."""

    name: str
    queues: int
    resources: int  # that report in turn
    events: int  # of a request
    padding: int = 60
    every: int = 1  # when full, every so many-th resource reports again


SHAPES = (
    Shape("1 queue, one resource", 1, 1, 1),
    Shape("1 queue, all distinct", 1, 1 << 30, 1),
    Shape("1 queue, 10,000 resources", 1, 10_000, 1),
    Shape("1 queue, 10,000 resources, 100 at once", 1, 10_000, 100),
    Shape("1 queue, each resource twice", 1, 120_000, 100),
    Shape("1 queue, few of many again", 1, 200_000, 100, every=1_999),
    Shape("1 queue of small records", 1, 10_000, 100, padding=0),
    Shape("8 queues, one resource", 8, 1, 1),
    Shape("8 queues, all distinct", 8, 1 << 30, 1),
    Shape("8 queues, 10,000 resources", 8, 10_000, 1),
    Shape("8 queues, few of many again, 100 at once", 8, 200_000, 100, every=1_999),
    Shape("8 queues, 1,000 at once", 8, 10_000, 1_000),
    Shape("8 queues, few of many again, 1,000 at once", 8, 200_000, 1_000, every=1_999),
)


class Measured(msgspec.Struct):
    """What the probe saw: the Trio thread's own time for an append to full queues."""

    name: str
    cold_bytes: int = 0
    superseded: int = 0
    dropped: int = 0
    memory_bytes: int = 0
    fill_us_per_record: float = 0.0
    mean_ms: float = 0.0
    longest_ms: float = 0.0
    second_ms: float = 0.0


def requests(shape: Shape, events: int, first: int, every: int) -> Iterator[Records]:
    """Requests of so many events, for ever."""
    at = first
    while True:
        numbers = [(at + turn) * every % shape.resources for turn in range(events)]
        at += events
        yield records_of(Item(Kind.NOTIFICATION, "device", number, shape.padding) for number in numbers)


def timed(queue: NativeQueue, records: Records, routes: list[Route]) -> tuple[Appended, float]:
    """Append, and the seconds of it."""
    began_s = time.thread_time()
    appended, _ = queue.append(records, routes, 1)
    return appended, time.thread_time() - began_s


def measure(shape: Shape, folder: Path | None) -> Measured:
    """Fill the queues, then append."""
    measured = Measured(shape.name)
    queue = NativeQueue(1, MEMORY_BYTES)
    if folder is not None:
        queue.keep_cold_in(folder, Disk(), 0)
    routes = [Route(number) for number in range(shape.queues)]
    for route in routes:
        options = QueueOptions(
            incarnation=route.channel + 1, owner=1, queue_bytes=QUEUE_BYTES, overflow=Overflow.KEEP_LATEST
        )
        queue.open_channel(route.channel, options)
    filled = total_s = 0.0
    for records in requests(shape, FILL_EVENTS, 0, 1):
        coming = len(records.block) + 40 * FILL_EVENTS
        if queue.stats(0).record_bytes + coming > QUEUE_BYTES:
            break
        _, took_s = timed(queue, records, routes)
        total_s += took_s
        filled += FILL_EVENTS * shape.queues
        if folder is not None and filled % (50 * FILL_EVENTS) == 0:
            cool(queue)
    measured.fill_us_per_record = round(total_s / filled * 1e6, 3)
    if folder is not None:
        cool(queue)
        measured.cold_bytes = queue.totals().scratch_bytes
    took = array("d")
    coming_requests = requests(shape, shape.events, queue.stats(0).last_seq, shape.every)
    while len(took) < APPENDS:
        appended, took_s = timed(queue, next(coming_requests), routes)
        if appended.losses or took:
            took.append(took_s * 1e3)
        for loss in appended.losses:
            if loss.reason == "superseded":
                measured.superseded += loss.count
            else:
                measured.dropped += loss.count
    measured.memory_bytes = queue.totals().memory_bytes
    measured.mean_ms = round(sum(took) / len(took), 4)
    measured.second_ms, measured.longest_ms = (round(ms, 3) for ms in sorted(took)[-2:])
    queue.close()
    return measured


if __name__ == "__main__":
    for each in SHAPES:
        result = measure(each, Path(sys.argv[1]) if len(sys.argv) > 1 else None)
        print(json.dumps(msgspec.to_builtins(result)), flush=True)
