"""Slices of a native ring, with the gaps in front of them.

What is planned is handed out: its records are in flight, and its gaps told.  What is cold
is brought back first, and planned before anybody else has a turn.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dispatcher.core.gap_list import GapList, Telling, mark_of
from dispatcher.model import Form, Gap, Position, SliceLimits
from dispatcher.queue._core import ffi, lib
from dispatcher.queue.interface import FrozenBatch, Peeked
from dispatcher.queue.native_batch import NativeBatch, gaps_head
from dispatcher.queue.native_form import batch_form_flags
from dispatcher.queue.native_framed import ColdReader, Framed
from dispatcher.queue.native_residency import Reach
from dispatcher.queue.native_ring import ChannelRing, check_status, made
from dispatcher.queue.whole_messages import read_messages

_EVERYTHING = 2**64 - 1


class Slicer:
    """Plans the batches of one queue; one serves all its channels."""

    def __init__(
        self,
        pool: Any,
        epoch: int,
        *,
        isolate: Callable[[ChannelRing, int], None],
        changed: Callable[[ChannelRing], None],
    ) -> None:
        """``isolate`` takes a damaged record out; ``changed`` hears of a channel whose gaps were told.

        Raises ``MemoryFull``.
        """
        self._epoch = epoch
        self._isolate = isolate
        self._changed = changed
        self.cold: ColdReader | None = None  # None: nothing is ever cold
        self._wanted = ffi.new("nd_slice *")
        self._framer = made("nd_framer *", lib.nd_framer_open, pool)

    def close(self) -> None:
        """Give its memory back, before the pool is closed."""
        lib.nd_framer_close(self._framer)
        self._framer = ffi.NULL

    async def slice(
        self, channel: ChannelRing, after_seq: int, after: Position | None, limits: SliceLimits, form: Form
    ) -> NativeBatch | None:
        """The records behind a position, which is this seq here; see ``ChannelQueue.slice``.

        Cold records are brought back a part at a time, and ends are where memory ends or begins, so
        that a batch of them may be smaller.
        """
        raw = ffi.new("nd_batch *")
        while True:  # each turn takes a damaged record out, or is the last
            framed = None
            if self.cold is not None and lib.nd_ring_has_cold(channel.ring, ffi.NULL):
                framed = await self._slice_cold(channel, after_seq, after, limits, form, raw)
            telling = channel.telling(after_seq, after, form)
            self._want(self._wanted, after_seq, telling, limits, form)
            if framed is not None and not lib.nd_frame_hold(channel.ring, self._wanted, raw):
                framed = None
            status = lib.ND_OK
            if framed is None:
                status = lib.nd_frame_plan(self._framer, channel.ring, self._wanted, raw)
            if status != lib.ND_ERR_CORRUPT:
                break
            self._isolate(channel, raw.next_seq)
        if status != lib.ND_EMPTY:
            check_status(status, channel.number)
            return self._handed_out(channel, raw, telling.gaps, framed)
        if channel.next_seq(after_seq):
            return None  # it is not durable yet, and what is in front of it goes with it
        return self._gaps_alone(channel, raw, telling.gaps)

    async def _slice_cold(
        self,
        channel: ChannelRing,
        after_seq: int,
        after: Position | None,
        limits: SliceLimits,
        form: Form,
        raw: Any,
    ) -> Framed | None:
        """Bring the records of a slice back; see ``ColdReader.slice``."""
        assert self.cold is not None
        wanted = ffi.new("nd_slice *")
        telling = channel.telling(after_seq, after, form)
        self._want(wanted, after_seq, telling, limits, form)
        share = min(limits.bytes_max, self.cold.residency.slice_bytes_max)
        bounds = {"bytes_max": share, "records_max": limits.events_max}
        reach = Reach(first_seq=after_seq + 1, is_for_slice=True, **bounds)
        framed = await self.cold.slice(channel, wanted, raw, reach)
        is_the_same = channel.telling(after_seq, after, form) == telling
        return framed if is_the_same else None

    def _want(self, raw: Any, after_seq: int, telling: Telling, limits: SliceLimits, form: Form) -> None:
        """Fill in an ``nd_slice *``."""
        head_bytes = len(gaps_head(telling.gaps))
        raw.after_seq = after_seq
        raw.upto_seq = _EVERYTHING if telling.upto_seq is None else telling.upto_seq
        raw.events_max = limits.events_max
        raw.bytes_max = max(1, limits.bytes_max - head_bytes)
        raw.form = batch_form_flags(form, head_bytes > 0)

    async def peek(self, channel: ChannelRing, limits: SliceLimits, form: Form) -> list[Peeked]:
        """The oldest records, none of them more in flight than before; see ``ChannelQueue.peek``.

        Ends before a record that no memory can be had for.
        """
        stats, raw = ffi.new("nd_ring_stats_t *"), ffi.new("nd_batch *")
        flags = batch_form_flags(form, has_gaps=False)
        found: list[Peeked] = []
        after_seq = bytes_count = 0
        while len(found) < limits.events_max and bytes_count < limits.bytes_max:
            reach = Reach(first_seq=after_seq + 1, records_max=1)
            if self.cold is not None and not await self.cold.residency.fetch(channel, reach):
                break
            lib.nd_ring_stats(channel.ring, stats)
            wanted = ffi.new("nd_slice *", (after_seq, _EVERYTHING, 1, limits.bytes_max, flags))
            status = lib.nd_frame_plan(self._framer, channel.ring, wanted, raw)
            if status == lib.ND_EMPTY:
                break
            lib.nd_ring_release(channel.ring, stats.in_flight_seq)
            if status == lib.ND_ERR_CORRUPT:
                self._isolate(channel, raw.next_seq)
                continue
            check_status(status, channel.number)
            batch = NativeBatch(channel, raw, self._isolate, self.cold, gaps_head(()))
            after_seq = batch.last.seq
            found.append(
                Peeked(
                    position=batch.first,
                    kind=batch.messages[0].kinds[0],
                    message=(await read_messages(batch))[0],
                    is_in_flight=after_seq <= stats.in_flight_seq,
                )
            )
            bytes_count += batch.bytes_count
        return found

    def hold_again(self, channel: ChannelRing, wanted: FrozenBatch) -> bool:
        """What an earlier run was sending is in flight again, before anybody reads it; False: it is gone."""
        first, last = wanted.first, wanted.last
        if first.epoch != last.epoch:
            return False
        told = _told(channel, wanted)
        if last.is_behind_gap:
            gaps = told.told_alone(last.seq)
            is_there = bool(gaps)
        else:
            gaps = told.told_in_front_of(first.seq)
            seqs = (first.seq, last.seq, wanted.events)
            is_there = lib.nd_ring_hold_again(channel.ring, first.epoch, *seqs) == lib.ND_OK
        if is_there:
            self._tell(channel, gaps, last)
        return is_there

    async def rebuild(self, channel: ChannelRing, wanted: FrozenBatch) -> NativeBatch | None:
        """The same batch again; see ``ChannelQueue.rebuild``.  ``events`` 0: do not count them.

        None as well for a cold one that is larger than the memory for it.
        """
        first, last = wanted.first, wanted.last
        if first.epoch != last.epoch:
            return None
        raw = ffi.new("nd_batch *")
        if last.is_behind_gap:
            return self._gaps_alone(channel, raw, _told(channel, wanted).told_alone(last.seq))
        framed = None
        if self.cold is not None and lib.nd_ring_has_cold(channel.ring, ffi.NULL):
            framed = await self._rebuild_cold(channel, wanted, raw)
        told = _told(channel, wanted)
        gaps = told.told_in_front_of(first.seq)
        status = lib.ND_OK
        if framed is None:
            flags = batch_form_flags(wanted.form, bool(gaps))
            status = lib.nd_frame_plan_exact(channel.ring, first.seq, last.seq, wanted.events, flags, raw)
        if status == lib.ND_ERR_CORRUPT:
            self._isolate(channel, raw.next_seq)
            return None
        if status in (lib.ND_ERR_TRIMMED, lib.ND_COLD):
            return None
        check_status(status, channel.number)
        return self._handed_out(channel, raw, gaps, framed) if raw.epoch == first.epoch else None

    async def _rebuild_cold(self, channel: ChannelRing, wanted: FrozenBatch, raw: Any) -> Framed | None:
        """Bring its records back; None: it is not planned in ``raw``, and held."""
        assert self.cold is not None
        first_seq, last_seq = wanted.first.seq, wanted.last.seq
        gaps = _told(channel, wanted).told_in_front_of(first_seq)
        flags = batch_form_flags(wanted.form, bool(gaps))
        same = ffi.new("nd_slice *", (first_seq - 1, last_seq, _EVERYTHING, _EVERYTHING, flags))
        reach = Reach(first_seq=first_seq, last_seq=last_seq, is_for_slice=True)
        framed = await self.cold.slice(channel, same, raw, reach)
        is_the_same = (
            framed is not None
            and (raw.first_seq, raw.last_seq) == (first_seq, last_seq)
            and raw.events == (wanted.events or raw.events)
            and _told(channel, wanted).told_in_front_of(first_seq) == gaps
            and lib.nd_frame_hold(channel.ring, same, raw)
        )
        if is_the_same:
            return framed
        await self.cold.residency.fetch(channel, Reach(first_seq=first_seq, last_seq=last_seq))
        return None

    def _gaps_alone(self, channel: ChannelRing, raw: Any, gaps: tuple[Gap, ...]) -> NativeBatch | None:
        """A batch without records."""
        if not gaps:
            return None
        raw.epoch = self._epoch
        raw.first_seq = raw.last_seq = max(gap.end_seq for gap in gaps)
        return self._handed_out(channel, raw, gaps)

    def _handed_out(
        self, channel: ChannelRing, raw: Any, gaps: tuple[Gap, ...], framed: Framed | None = None
    ) -> NativeBatch:
        batch = NativeBatch(channel, raw, self._isolate, self.cold, gaps_head(gaps), framed)
        self._tell(channel, gaps, batch.last)
        return batch

    def _tell(self, channel: ChannelRing, gaps: tuple[Gap, ...], last: Position) -> None:
        """Gaps are told in front of the end of a batch."""
        if channel.gaps is not None:
            channel.gaps.told(gaps, mark_of(last.seq, last))
            if gaps:
                self._changed(channel)


def _told(channel: ChannelRing, wanted: FrozenBatch) -> GapList:
    return channel.gaps if channel.gaps and wanted.form.include_gaps else GapList()
