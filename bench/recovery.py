"""How fast a journal comes back: a folder with so many megabytes queued, opened again and again.

Once the journal is in the page cache, so that the program is measured and not the disk, and
once none of it is, as after a reboot, or of large groups that were synced.  Beside each stands
a plain read of the same bytes with their checksum: nothing that reads a journal can be
faster.  Every event is proven once: all are there, in order, byte for byte.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from array import array
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median

import click
import msgspec
import trio
from dispatcher.queue._core import ffi, lib

from dispatcher.errors import JournalBehind
from dispatcher.model import Durability, Form, Overflow, SliceLimits
from dispatcher.queue.disk import Disk
from dispatcher.queue.interface import QueueOptions, Records, Route
from dispatcher.queue.native import NativeQueue
from dispatcher.queue.native_recovery import RecoveryReport, open_durable_queue
from dispatcher.queue.whole_messages import read_messages

EVENTS_PER_REQUEST = 1_000
READ_BYTES = 1 << 20
MEGABYTE = 1_000_000


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is queued."""

    channels: int
    requests: int
    memory_bytes: int

    def options(self) -> dict[int, QueueOptions]:
        """All channels."""
        return {
            number: QueueOptions(
                incarnation=number, owner=1, queue_bytes=1 << 40, overflow=Overflow.DROP_OLDEST
            )
            for number in range(1, self.channels + 1)
        }

    def channel_of(self, request: int) -> int:
        """Requests go to the channels in turn."""
        return request % self.channels + 1


class Took(msgspec.Struct, frozen=True):
    """Time by the clock, and of this process on its cores."""

    wall_s: float
    cpu_s: float


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """One opening."""

    bytes_count: int
    records: int
    recovery: Took
    plain: Took
    recovery_from_disk: Took
    plain_from_disk: Took


def request_of(number: int) -> Records:
    """Events of 150 bytes; the first number in each says which request it is of, the second which event."""
    block = bytearray()
    meta = array("Q")
    for place in range(EVENTS_PER_REQUEST):
        ep = b"device-%06d" % (place % 1000)
        head = b'{"ep":"%s","path":"/3303/%d/%d","ct":"text/plain","payload":"' % (ep, number, place)
        body = head + b"A" * (150 - len(head) - 14) + b'","max-age":0}'
        block += body
        meta.append(len(body) | len(ep) << 40)
    return Records(bytes(block), meta)


@asynccontextmanager
async def opened(folder: Path, plan: Plan) -> AsyncIterator[tuple[NativeQueue, RecoveryReport, Took]]:
    """The queue, and how long it took to open."""

    async def next_epoch() -> int:
        return 1

    since = now()
    queue, report = await open_durable_queue(
        folder,
        Durability.PROCESS,
        plan.memory_bytes,
        plan.options(),
        disk=Disk(),
        next_epoch=next_epoch,
        new_journal_id=lambda: 1,
        now_unix_ms=lambda: 1,
    )
    took = elapsed(since)
    try:
        for number, options in plan.options().items():
            queue.open_channel(number, options)
        yield queue, report, took
    finally:
        queue.close()


def now() -> Took:
    """This moment, by both clocks."""
    return Took(time.perf_counter(), time.process_time())


def elapsed(since: Took) -> Took:
    """What went by."""
    moment = now()
    return Took(moment.wall_s - since.wall_s, moment.cpu_s - since.cpu_s)


async def fill(folder: Path, plan: Plan) -> None:
    """Queue everything."""
    async with opened(folder, plan) as (queue, _, _), trio.open_nursery() as nursery:
        assert queue.log is not None
        assert queue.residency is not None
        nursery.start_soon(queue.log.commit.run)
        nursery.start_soon(queue.residency.run)
        for number in range(plan.requests):
            records = request_of(number)
            while True:
                try:
                    _, ticket = queue.append(records, [Route(plan.channel_of(number))], 1)
                except JournalBehind:
                    await trio.sleep(0.001)
                else:
                    break
            if number % 8 == 0:
                await ticket.durable()
        await queue.log.commit.drain()
        nursery.cancel_scope.cancel()


async def prove(queue: NativeQueue, plan: Plan) -> None:
    """Every event is there, in order, byte for byte."""
    bounds = SliceLimits(events_max=10_000, bytes_max=8_000_000)
    found = {number: hashlib.sha256() for number in range(1, plan.channels + 1)}
    wanted = {number: hashlib.sha256() for number in range(1, plan.channels + 1)}
    for number in range(plan.requests):
        records = request_of(number)
        at = 0
        for meta in records.meta:
            size = meta & 0xFFFFFF
            wanted[plan.channel_of(number)].update(records.block[at : at + size] + b",")
            at += size
    assert queue.residency is not None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(queue.residency.run)
        for number, digest in found.items():
            while (batch := await queue.slice(number, None, bounds, Form(mixed_kinds=True))) is not None:
                (text,) = await read_messages(batch)
                digest.update(text[len(b'{"notifications":[') : -len(b"]}")] + b",")
                queue.settle(number, batch.last)
        nursery.cancel_scope.cancel()
    for number in found:
        if found[number].digest() != wanted[number].digest():
            raise click.ClickException(f"channel {number} did not come back as it was")


def read_plainly(folder: Path) -> Took:
    """Read the segments, and sum what was read."""
    buffer = bytearray(READ_BYTES)
    lane = ffi.new("nd_crc_lane *")
    sums = ffi.new("uint32_t[1]")
    crc = lib.nd_crc32c_records_best()
    since = now()
    with ffi.from_buffer("uint8_t[]", buffer) as view:
        lane.bytes = view
        for path in sorted(folder.glob("*.seg")):
            with path.open("rb", buffering=0) as file:
                while count := file.readinto(buffer):
                    lane.count = count
                    crc(lane, 1, sums)
    return elapsed(since)


def drop_cached(folder: Path) -> None:
    """Have the system forget the segments, so that the next read comes from the disk."""
    for path in folder.glob("*.seg"):
        with path.open("rb") as file:
            os.fsync(file.fileno())  # what is not written yet is kept
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


async def measure(plan: Plan, rounds: int) -> list[Round]:
    """Fill a folder, and open it again and again."""
    measured = []
    with tempfile.TemporaryDirectory(prefix="dispatcher-bench-") as name:
        folder = Path(name)
        await fill(folder, plan)
        for number in range(rounds):
            drop_cached(folder)
            plain_from_disk = read_plainly(folder)
            drop_cached(folder)
            async with opened(folder, plan) as (_, _, took_from_disk):
                pass
            plain = read_plainly(folder)
            async with opened(folder, plan) as (queue, report, took):
                if number == rounds - 1:
                    await prove(queue, plan)
            measured.append(
                Round(
                    bytes_count=report.journal.group_bytes,
                    records=report.records,
                    recovery=took,
                    plain=plain,
                    recovery_from_disk=took_from_disk,
                    plain_from_disk=plain_from_disk,
                )
            )
            if report.records != plan.requests * EVENTS_PER_REQUEST:
                raise click.ClickException(f"{report.records} events came back")
    return measured


@click.command("recovery")
@click.option("--megabytes", default=1_000, show_default=True, help="Queued, as events of 150 bytes.")
@click.option("--channels", default=100, show_default=True, help="That they are queued for, in turn.")
@click.option("--memory-megabytes", default=4_000, show_default=True, help="storage.memory_bytes.")
@click.option("--rounds", default=5, show_default=True)
def recovery(megabytes: int, channels: int, memory_megabytes: int, rounds: int) -> None:
    """A journal opened again, from the page cache and from the disk, beside plain reads: MB a second."""
    plan = Plan(
        channels=channels,
        requests=megabytes * MEGABYTE // (150 * EVENTS_PER_REQUEST),
        memory_bytes=memory_megabytes * MEGABYTE,
    )
    measured = trio.run(measure, plan, rounds)
    first = measured[0]
    click.echo(
        f"{first.records:,} events, {first.bytes_count / MEGABYTE:,.0f} MB of journal, {channels} channels"
    )
    tell("recovery", first.bytes_count, [one.recovery for one in measured])
    tell("plain read", first.bytes_count, [one.plain for one in measured])
    tell("from the disk", first.bytes_count, [one.recovery_from_disk for one in measured])
    tell("  plain read", first.bytes_count, [one.plain_from_disk for one in measured])
    ratio = median(one.plain.cpu_s / one.recovery.cpu_s for one in measured)
    click.echo(f"{'of plain':13} {ratio:.0%}")


def tell(name: str, bytes_count: int, took: Sequence[Took]) -> None:
    """One line: by the clock, and by the processor's time, which other programs change least."""
    wall = [bytes_count / one.wall_s / MEGABYTE for one in took]
    cpu = [bytes_count / one.cpu_s / MEGABYTE for one in took]
    click.echo(
        f"{name:13} {median(wall):6,.0f} MB/s [{min(wall):,.0f} .. {max(wall):,.0f}]   "
        f"{median(cpu):6,.0f} MB per CPU second [{min(cpu):,.0f} .. {max(cpu):,.0f}]"
    )


if __name__ == "__main__":
    recovery()
