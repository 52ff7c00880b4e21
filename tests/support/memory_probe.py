"""Fills a queue beyond its memory in a process of its own, watches what it takes, and delivers everything.

    python -m support.memory_probe FOLDER CHANNELS EVENTS

Prints one JSON object: see ``Measured``.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import msgspec
import trio
from support.loop_steps import LoopSteps
from support.patient_append import append_patiently
from support.stored_records import body_of, notifications, records_of

from dispatcher.model import Form, Overflow, SliceLimits
from dispatcher.queue.disk import Disk
from dispatcher.queue.interface import QueueOptions, Records, Route
from dispatcher.queue.native import NativeQueue

MEMORY_BYTES = 64 << 20
EVENTS_PER_REQUEST = 10
ROUTES_PER_REQUEST = 1_000  # 10 MB of records at once
PADDING = 900


class Measured(msgspec.Struct):
    """What the probe saw.  Resident memory is counted from when all channels were open and empty."""

    resident_bytes_max: int
    record_bytes: int
    scratch_bytes: int
    wrong_channels: int  # whose events were not all there, in order, byte for byte
    longest_step_cpu_s: float  # of any task, in the Trio thread's own time: what others had to wait for it


def resident_bytes() -> int:
    """RssAnon, RssFile and RssShmem of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Rss"))


async def measure(folder: Path, channels: int, events: int) -> Measured:
    """Run the probe."""
    queue = NativeQueue(1, MEMORY_BYTES)
    queue.keep_cold_in(folder, Disk(), 0)
    assert queue.residency is not None
    for number in range(1, channels + 1):
        queue.open_channel(
            number,
            QueueOptions(incarnation=number, owner=1, queue_bytes=50_000_000, overflow=Overflow.DROP_OLDEST),
        )
    at_once = min(events, EVENTS_PER_REQUEST)
    requests = [
        records_of(notifications(at_once, padding=PADDING, first=first))
        for first in range(0, events, at_once)
    ]
    everyone = [Route(number) for number in range(1, channels + 1)]
    measured = Measured(0, 0, 0, 0, 0.0)
    await trio.lowlevel.checkpoint()
    steps = LoopSteps()
    trio.lowlevel.add_instrument(steps)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(queue.residency.run)
        nursery.start_soon(watch, measured, resident_bytes())
        for records in requests:
            for first in range(0, channels, ROUTES_PER_REQUEST):
                await put(queue, records, everyone[first : first + ROUTES_PER_REQUEST])
        totals = queue.totals()
        measured.record_bytes, measured.scratch_bytes = totals.record_bytes, totals.scratch_bytes
        await trio.lowlevel.checkpoint()
        bodies = b",".join(body_of(item) for item in notifications(events, padding=PADDING))
        expected = hashlib.sha256(bodies).digest()
        for number in range(1, channels + 1):
            measured.wrong_channels += (await delivered(queue, number)) != expected
        nursery.cancel_scope.cancel()
    trio.lowlevel.remove_instrument(steps)
    measured.longest_step_cpu_s = steps.longest_cpu_s
    await trio.lowlevel.checkpoint()
    queue.close()
    return measured


async def watch(measured: Measured, resident_at_first: int) -> None:
    """Note the most memory."""
    while True:
        await trio.sleep(0.005)
        measured.resident_bytes_max = max(measured.resident_bytes_max, resident_bytes() - resident_at_first)


async def put(queue: NativeQueue, records: Records, routes: list[Route]) -> None:
    """Append, and let others have their turn."""
    await append_patiently(queue, records, routes, 1_767_225_600_000)
    await trio.lowlevel.checkpoint()


async def delivered(queue: NativeQueue, channel: int) -> bytes:
    """The digest of a channel's events, end to end, as they come out."""
    digest = hashlib.sha256()
    bounds = SliceLimits(events_max=10_000, bytes_max=1_000_000)
    buffer = bytearray(256 << 10)
    is_first = True
    while (batch := await queue.slice(channel, None, bounds, Form(mixed_kinds=True))) is not None:
        text = bytearray()
        while len(text) < batch.bytes_count:
            text += buffer[: await batch.read_into(buffer, 0)]
        digest.update(b"" if is_first else b",")
        digest.update(text[len(b'{"notifications":[') : -len(b"]}")])
        queue.settle(channel, batch.last)
        is_first = False
    await trio.lowlevel.checkpoint()
    return digest.digest()


if __name__ == "__main__":
    result = trio.run(measure, Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
    print(json.dumps(msgspec.to_builtins(result)))
