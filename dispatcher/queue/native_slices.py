"""Slices of a native ring, with the gaps in front of them.

What is planned is handed out: its records are in flight, and its gaps told.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dispatcher.core.gap_list import GapList, mark_of
from dispatcher.model import Form, Gap, Position, SliceLimits
from dispatcher.queue._core import ffi, lib
from dispatcher.queue.interface import FrozenBatch
from dispatcher.queue.native_batch import NativeBatch, check_status, gaps_head
from dispatcher.queue.native_form import batch_form_flags
from dispatcher.queue.native_ring import ChannelRing, made

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
        self._framer = made("nd_framer *", lib.nd_framer_open, pool)

    def close(self) -> None:
        """Give its memory back, before the pool is closed."""
        lib.nd_framer_close(self._framer)
        self._framer = ffi.NULL

    def slice(
        self, channel: ChannelRing, after_seq: int, after: Position | None, limits: SliceLimits, form: Form
    ) -> NativeBatch | None:
        """The records behind a position, which is this seq here; see ``ChannelQueue.slice``."""
        raw = ffi.new("nd_batch *")
        while True:  # each turn takes a damaged record out, or is the last
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

    def rebuild(self, channel: ChannelRing, wanted: FrozenBatch) -> NativeBatch | None:
        """The same batch again; see ``ChannelQueue.rebuild``.  ``events`` 0: do not count them."""
        first, last = wanted.first, wanted.last
        if first.epoch != last.epoch:
            return None
        raw = ffi.new("nd_batch *")
        told = channel.gaps if channel.gaps and wanted.form.include_gaps else GapList()
        if last.is_behind_gap:
            return self._gaps_alone(channel, raw, told.told_alone(last.seq))
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
        batch = NativeBatch(channel, raw, self._isolate, gaps_head(gaps))
        if channel.gaps is not None:
            channel.gaps.told(gaps, mark_of(batch.last.seq, batch.last))
            if gaps:
                self._changed(channel)
        return batch
