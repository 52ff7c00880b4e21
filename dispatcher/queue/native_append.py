"""The way into the rings: one request's records to all its channels at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import trio

from dispatcher.core.idempotency import IdempotencyTable, KeyScope
from dispatcher.core.memory_pressure import Holding, plan_relief, relief_bytes
from dispatcher.core.routes import Routes
from dispatcher.errors import MemoryFull
from dispatcher.queue._core import ffi, lib
from dispatcher.queue.interface import Appended, Records, Route, Ticket
from dispatcher.queue.losses import loss_of, rejection_of
from dispatcher.queue.native_rings import Rings

_HEADER_BYTES = 32  # FORMAT.md, the record


class DurableInMemory:
    """The ticket of a queue that keeps records in memory alone: all is done when append returns."""

    is_durable = True

    async def durable(self) -> None:
        """Return after one checkpoint."""
        await trio.lowlevel.checkpoint()


DURABLE_IN_MEMORY = DurableInMemory()


class Appender:
    """Appends to rings, and finds memory for that."""

    def __init__(self, rings: Rings, answers: IdempotencyTable) -> None:
        self._rings = rings
        self._answers = answers
        self.received_unix_ms = 0  # of the last request
        self._removed = ffi.new("nd_removed *")
        self._published = ffi.new("nd_published *")  # what the append just done did

    def __repr__(self) -> str:
        return f"<Appender to {self._rings!r}>"

    def append(
        self, records: Records, routes: Sequence[Route], received_unix_ms: int, *, has_answer: bool
    ) -> tuple[Appended, Ticket]:
        """Store one request's records in all its channels; see the interface."""
        self.received(received_unix_ms)
        borrowed: list[Any] = []  # views of the caller's arrays, given back before we return
        try:
            arguments = self._arguments(records, Routes.of(routes, len(records.meta)), borrowed)
            while (status := self._publish(arguments, has_answer=has_answer)) == lib.ND_ERR_FULL:
                self._relieve(records, routes)
        finally:
            for view in borrowed:
                ffi.release(view)
        if status == lib.ND_EMPTY:
            self._rings.channel(self._published.unknown)
        if status != lib.ND_OK:
            raise ValueError("records and routes do not agree with each other")
        return self.appended(self._published, Routes.of(routes, len(records.meta)).channels)

    def received(self, unix_ms: int) -> int:
        """When a request counts as received: these times never fall."""
        self._rings.check_open()
        if unix_ms > self.received_unix_ms:
            self.received_unix_ms = unix_ms
        return self.received_unix_ms

    def has_room(self, channel: int, records: Records) -> bool:
        """Whether an append of all these would refuse none."""
        ring = self._rings.channel(channel).ring
        with ffi.from_buffer("uint64_t[]", records.meta) as meta:
            return bool(lib.nd_ring_has_room(ring, meta, len(records.meta)))

    def _arguments(self, records: Records, routes: Routes, borrowed: list[Any]) -> tuple[Any, ...]:
        """Of ``nd_publish``, from ``numbers`` to ``received_unix_ms``."""
        block = records.block
        return (
            _view("uint64_t[]", routes.channels, borrowed),
            len(routes.channels),
            ffi.NULL if routes.ends is None else _view("uint32_t[]", routes.ends, borrowed),
            _view("uint32_t[]", routes.indices, borrowed) if routes.indices else ffi.NULL,
            block if isinstance(block, bytes) else _view("uint8_t[]", block, borrowed),
            len(block),
            _view("uint64_t[]", records.meta, borrowed),
            len(records.meta),
            self.received_unix_ms,
        )

    def _publish(self, arguments: tuple[Any, ...], *, has_answer: bool) -> int:
        if self._rings.log is not None:
            return self._rings.log.publish(
                self._rings.pool, arguments, self._published, has_answer=has_answer
            )
        status: int = lib.nd_publish(
            self._rings.table, self._rings.pool, ffi.NULL, *arguments, self._rings.epoch, 0, self._published
        )
        return status

    def appended(self, done: Any, channels: Sequence[int]) -> tuple[Appended, Ticket]:
        """Take in what the core has just published to these channels, and counted."""
        if done.is_memory_short or done.sum.odd_routes:
            self._rings.note_memory()
        return self._take_results(done, channels), self._ticket(done)

    def _ticket(self, done: Any) -> Ticket:
        if self._rings.log is None or not done.stored_count:
            return DURABLE_IN_MEMORY
        stored = ffi.unpack(done.stored, done.stored_count)
        last_seqs = ffi.unpack(done.last_seqs, done.stored_count)
        return self._rings.log.appended(dict(zip(stored, last_seqs, strict=True)))

    def keep(self, scope: KeyScope, answer: bytes) -> Ticket:
        """Keep the answer to what was just stored; see the interface."""
        kept = self._answers.finish(scope, answer, self.received_unix_ms)
        return DURABLE_IN_MEMORY if self._rings.log is None else self._rings.log.answered(scope, kept)

    def _take_results(self, done: Any, channels: Sequence[int]) -> Appended:
        """Cost: constant, but for routes that lost something."""
        total = done.sum
        queued: int = total.queued_count
        if not total.odd_routes and not self._rings.untold:
            return Appended(queued)
        losses, rejected = self._rings.take_losses(), 0
        for at, number in enumerate(channels if total.odd_routes else ()):
            entry, channel = done.routes[at], self._rings.channels[number]
            if entry.superseded.count:
                losses.append(self._rings.lost(loss_of(number, "superseded", entry.superseded), channel))
            if entry.dropped.count:
                losses.append(self._rings.lost(loss_of(number, "overflow", entry.dropped), channel))
            if entry.dropped.count or entry.superseded.count:
                self._rings.changed(channel)
            if entry.rejected_count:
                rejected += entry.rejected_count
                losses.append(rejection_of(number, entry, self.received_unix_ms))
                self._rings.keep_gap(losses[-1], channel)
        self._rings.ledger.rejected(rejected)
        return Appended(queued, rejected, tuple(losses))

    def _relieve(self, records: Records, routes: Sequence[Route]) -> None:
        """Find memory: move what is cold to the disk, or drop the oldest of whoever holds the most.

        Raises ``MemoryFull`` when that cannot help, and what ``Residency.relieve`` raises.
        """
        if self._rings.residency is not None:
            self._rings.residency.relieve(self._wanted_bytes(records, routes))
            return
        holdings = list(self._holdings())
        held_bytes = sum(holding.record_bytes - holding.droppable_bytes for holding in holdings)
        if held_bytes + self._wanted_bytes(records, routes) > self._rings.totals().memory_bytes_max:
            raise _memory_full(records, routes)
        freed = False
        for drop in plan_relief(holdings, relief_bytes(len(holdings))):
            channel = self._rings.channels[drop.channel]
            if lib.nd_ring_drop(channel.ring, drop.record_bytes, self._removed) == lib.ND_OK:
                loss = loss_of(drop.channel, "memory", self._removed)
                self._rings.tell_later(self._rings.lost(loss, channel))
                self._rings.log_removed(channel, self._removed)
                freed = True
        if not freed:
            raise _memory_full(records, routes)

    def _wanted_bytes(self, records: Records, routes: Sequence[Route]) -> int:
        """About what a request needs; routes with indices count for their share of it."""
        stored_bytes = len(records.block) + _HEADER_BYTES * len(records.meta)
        wanted = 0
        for route in routes:
            share = 1.0 if route.indices is None else len(route.indices) / max(1, len(records.meta))
            wanted += min(int(stored_bytes * share), self._rings.channels[route.channel].queue_bytes)
        return wanted

    def _holdings(self) -> Iterator[Holding]:
        for number, channel in self._rings.channels.items():
            stats = self._rings.stats(channel)
            yield Holding(number, channel.owner, stats.bytes, stats.bytes - stats.held_bytes)


def _memory_full(records: Records, routes: Sequence[Route]) -> MemoryFull:
    return MemoryFull(
        f"no memory for {len(records.meta)} records in {len(routes)} channels, even if all that is not being "
        "delivered were dropped; try again later, send less at once, or raise storage.memory_bytes"
    )


def _view(array_type: str, buffer: Any, borrowed: list[Any]) -> Any:
    """A buffer as the core sees it; the caller gives it back."""
    view = ffi.from_buffer(array_type, buffer)
    borrowed.append(view)
    return view
