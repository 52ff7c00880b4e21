"""Slices of a native ring, with the gaps in front of them.

What is planned is handed out: its records are in flight, and its gaps told.  What is cold
is brought back first, and planned before anybody else has a turn.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dispatcher.core.gap_list import GapList, mark_of
from dispatcher.model import Form, Gap, Position, SliceLimits
from dispatcher.queue._core import ffi, lib
from dispatcher.queue.interface import FrozenBatch, Peeked
from dispatcher.queue.native_batch import NativeBatch, check_status, gaps_head
from dispatcher.queue.native_form import batch_form_flags
from dispatcher.queue.native_residency import Reach, Residency
from dispatcher.queue.native_ring import ChannelRing, made
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
        self.residency: Residency | None = None  # None: nothing is ever cold
        self._framer = made("nd_framer *", lib.nd_framer_open, pool)

    def close(self) -> None:
        """Give its memory back, before the pool is closed."""
        lib.nd_framer_close(self._framer)
        self._framer = ffi.NULL

    async def slice(
        self, channel: ChannelRing, after_seq: int, after: Position | None, limits: SliceLimits, form: Form
    ) -> NativeBatch | None:
        """The records behind a position, which is this seq here; see ``ChannelQueue.slice``.

        Cold records are brought back a part at a time, so that a batch of them may be smaller.
        """
        raw = ffi.new("nd_batch *")
        while True:  # each turn takes a damaged record out, or is the last
            if self.residency is not None and lib.nd_ring_has_cold(channel.ring, ffi.NULL):
                share = min(limits.bytes_max, self.residency.slice_bytes_max)
                reach = Reach(first_seq=after_seq + 1, bytes_max=share, records_max=limits.events_max)
                await self.residency.fetch(channel, reach)
            telling = channel.telling(after_seq, after, form)
            upto_seq = _EVERYTHING if telling.upto_seq is None else telling.upto_seq
            head_bytes = len(gaps_head(telling.gaps))
            bytes_max = max(1, limits.bytes_max - head_bytes)
            flags = batch_form_flags(form, head_bytes > 0)
            arguments = (after_seq, upto_seq, limits.events_max, bytes_max, flags, raw)
            status = lib.nd_frame_plan(self._framer, channel.ring, *arguments)
            if status != lib.ND_ERR_CORRUPT:
                break
            self._isolate(channel, raw.next_seq)
        if status != lib.ND_EMPTY:
            check_status(status, channel.number)
            return self._handed_out(channel, raw, telling.gaps)
        if channel.next_seq(after_seq):
            return None  # it is not durable yet, and what is in front of it goes with it
        return self._gaps_alone(channel, raw, telling.gaps)

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
            if self.residency is not None and not await self.residency.fetch(channel, reach):
                break
            lib.nd_ring_stats(channel.ring, stats)
            arguments = (after_seq, _EVERYTHING, 1, limits.bytes_max, flags, raw)
            status = lib.nd_frame_plan(self._framer, channel.ring, *arguments)
            if status == lib.ND_EMPTY:
                break
            lib.nd_ring_release(channel.ring, stats.in_flight_seq)
            if status == lib.ND_ERR_CORRUPT:
                self._isolate(channel, raw.next_seq)
                continue
            check_status(status, channel.number)
            batch = NativeBatch(channel, raw, self._isolate, self.residency, gaps_head(()))
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
        reach = Reach(first_seq=first.seq, last_seq=last.seq)
        if self.residency is not None and not await self.residency.fetch(channel, reach):
            return None
        told = _told(channel, wanted)
        gaps = told.told_in_front_of(first.seq)
        flags = batch_form_flags(wanted.form, bool(gaps))
        status = lib.nd_frame_plan_exact(channel.ring, first.seq, last.seq, wanted.events, flags, raw)
        if status == lib.ND_ERR_CORRUPT:
            self._isolate(channel, raw.next_seq)
            return None
        if status == lib.ND_ERR_TRIMMED:
            return None
        check_status(status, channel.number)
        return self._handed_out(channel, raw, gaps) if raw.epoch == first.epoch else None

    def _gaps_alone(self, channel: ChannelRing, raw: Any, gaps: tuple[Gap, ...]) -> NativeBatch | None:
        """A batch without records."""
        if not gaps:
            return None
        raw.epoch = self._epoch
        raw.first_seq = raw.last_seq = max(gap.end_seq for gap in gaps)
        return self._handed_out(channel, raw, gaps)

    def _handed_out(self, channel: ChannelRing, raw: Any, gaps: tuple[Gap, ...]) -> NativeBatch:
        batch = NativeBatch(channel, raw, self._isolate, self.residency, gaps_head(gaps))
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
