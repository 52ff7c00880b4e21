"""Every kind of queue, made and closed in one way."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import trio
from support.cold_queues import ColdQueue

from dispatcher.model import Durability
from dispatcher.queue.disk import Disk, JournalSizes
from dispatcher.queue.interface import ChannelQueue
from dispatcher.queue.memory import MemoryQueue
from dispatcher.queue.native import NativeQueue
from dispatcher.queue.native_recovery import open_durable_queue

SIZES = JournalSizes(segment_bytes=8 << 20, group_bytes_max=4 << 20, allowance_bytes=16 << 20)
IN_MEMORY: dict[str, Callable[[int, int], ChannelQueue]] = {"native": NativeQueue, "model": MemoryQueue}
COLD: dict[str, Callable[[int, int], ChannelQueue]] = {"cold": ColdQueue}
JOURNALED = {"disk": Durability.DISK, "process": Durability.PROCESS}
KINDS = (*IN_MEMORY, *COLD, *JOURNALED)
KINDS_EXACT = (*IN_MEMORY, *JOURNALED)  # a cold queue gives chunks up as a whole
KINDS_BOUND_BY_MEMORY = tuple(IN_MEMORY)  # the others have a disk for what memory cannot hold


class Maker:
    """Makes queues of one kind; those with a journal in folders of their own, their loop running."""

    def __init__(self, kind: str, folder: Path, nursery: trio.Nursery) -> None:
        self._kind = kind
        self._folder = folder
        self._nursery = nursery
        self._loops: list[tuple[ChannelQueue, trio.CancelScope, trio.Event]] = []

    async def make(self, epoch: int, memory_bytes_max: int) -> ChannelQueue:
        """A new queue without channels, in this epoch."""
        loop = (trio.CancelScope(), trio.Event())
        makes = {**IN_MEMORY, **COLD}
        if self._kind in makes:
            queue = makes[self._kind](epoch, memory_bytes_max)
            loop[1].set()
        else:
            queue = await self._open(epoch, memory_bytes_max)
            self._nursery.start_soon(_run, queue, *loop)
        self._loops.append((queue, *loop))
        return queue

    async def close(self, queue: ChannelQueue) -> None:
        """End its loop, if it has one, and close it."""
        for one, scope, ended in self._loops:
            if one is queue:
                scope.cancel()
                await ended.wait()
        queue.close()

    async def close_all(self) -> None:
        """The end of the test."""
        for queue, _, _ in self._loops:
            await self.close(queue)

    async def _open(self, epoch: int, memory_bytes_max: int) -> NativeQueue:
        async def next_epoch() -> int:
            return epoch

        folder = self._folder / str(len(self._loops))
        folder.mkdir()
        queue, _ = await open_durable_queue(
            folder,
            JOURNALED[self._kind],
            memory_bytes_max,
            {},
            disk=Disk(SIZES),
            next_epoch=next_epoch,
            new_journal_id=lambda: 7,
            now_unix_ms=lambda: 0,
        )
        return queue


async def _run(queue: NativeQueue, scope: trio.CancelScope, ended: trio.Event) -> None:
    assert queue.log is not None
    assert queue.residency is not None
    with scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(queue.log.commit.run)
            nursery.start_soon(queue.residency.run)
    ended.set()


@asynccontextmanager
async def open_maker(kind: str, folder: Path) -> AsyncIterator[Maker]:
    """Makes queues of a kind (one of ``KINDS``) until the block ends."""
    async with trio.open_nursery() as nursery:
        maker = Maker(kind, folder, nursery)
        try:
            yield maker
        finally:
            with trio.CancelScope(shield=True):
                await maker.close_all()
            nursery.cancel_scope.cancel()
