"""P7: what slicing and framing 10,000 events costs when 10,000, 100,000 and 1,000,000 lie in the queue.

One native queue for each depth, in this process; nothing is settled, so that every
round takes the same slice.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from statistics import median

from dispatcher.model import Overflow
from dispatcher.queue.interface import Form, QueueOptions, Records, Route, SliceLimits
from dispatcher.queue.native import NativeQueue
from dispatcher.wire.ingest import BodyForm as WireForm
from dispatcher.wire.ingest import parse

from ..goals import Figures, Goal
from ..load.fleet import BodyForm, Fleet, Proof
from ..row import OpenSide, Row, Scale, Side

_BATCH = 10_000
_DEPTHS = (10_000, 100_000, 1_000_000)
_LIMITS = SliceLimits(events_max=_BATCH, bytes_max=8 << 20)
_FORM = Form(mixed_kinds=True)
_QUEUE_BYTES = 1 << 30
_PIECE_BYTES = 256 << 10
_SLICES = 40  # of a round at full scale; its figure is their median
_CHANNEL = 1
_NOW_MS = 1_767_225_600_123
_FLEET = Fleet(events=_BATCH, lanes=1)


def records() -> Records:
    """A batch of the fleet's events."""
    (body,) = _FLEET.bodies(0, BodyForm.JSON, _BATCH)
    parsed = parse(body.content, WireForm.JSON)
    return Records(parsed.block, parsed.meta)


def filled(batch: Records, depth: int) -> NativeQueue:
    """A queue in which the batch lies over and over."""
    queue = NativeQueue(1, _QUEUE_BYTES)
    options = QueueOptions(incarnation=1, owner=1, queue_bytes=_QUEUE_BYTES, overflow=Overflow.DROP_OLDEST)
    queue.open_channel(_CHANNEL, options)
    for _ in range(depth // _BATCH):
        queue.append(batch, [Route(_CHANNEL)], _NOW_MS)
    return queue


def at_depth(depth: int) -> OpenSide:
    """Slices of a queue so deep."""

    @asynccontextmanager
    async def open_side(scale: Scale) -> AsyncIterator[Side]:
        queue = filled(records(), depth)
        buffer = bytearray(_PIECE_BYTES)

        async def slice_and_frame(pieces: list[bytes] | None = None) -> int:
            """How many ns it took; ``pieces`` is given what was framed."""
            began_ns = time.perf_counter_ns()
            batch = await queue.slice(_CHANNEL, None, _LIMITS, _FORM)
            assert batch is not None
            while length := await batch.read_into(buffer, 0):
                if pieces is not None:
                    pieces.append(bytes(buffer[:length]))
            return time.perf_counter_ns() - began_ns

        async def take_turn() -> Figures:
            took_ns = [await slice_and_frame() for _ in range(scale.of(_SLICES, least=5))]
            pieces: list[bytes] = []
            await slice_and_frame(pieces)
            proof = Proof(_FLEET)
            proof.take(b"".join(pieces))
            proof.finish()
            return {"us_per_batch": median(took_ns) / 1e3}

        try:
            yield take_turn
        finally:
            queue.close()

    return open_side


def _name(depth: int) -> str:
    return f"depth {depth:,}"


P7 = Row(
    name="P7",
    title="slice and frame of 10,000 against the depth of the queue",
    goals=tuple(
        Goal(side=_name(depth), figure="us_per_batch", at_most=1.1, beside=_name(_DEPTHS[0]))
        for depth in _DEPTHS[1:]
    ),
    sides={_name(depth): at_depth(depth) for depth in _DEPTHS},
)
