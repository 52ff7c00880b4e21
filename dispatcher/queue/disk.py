"""The disk as the queue sees it: its system calls, and where those that block run.

A seam of its own, so that a test can lose, tear and refuse what a real disk may, and
decide when each call returns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import msgspec
import trio

from dispatcher import limits

T = TypeVar("T")


class SealedGroup(Protocol):
    """The group that a journal has to write, in one of two ways."""

    def write_sync(self) -> None:
        """Write it, and wait until it is on the disk.  *Blocks.*"""
        ...

    def begin_by_thread(self) -> None:
        """Begin the same on a thread that needs no interpreter; ``end_by_thread`` must follow."""
        ...

    async def wait_for_thread(self) -> None:
        """Wait for the end of what was begun, or is begun meanwhile; ``end_by_thread`` must follow."""
        ...

    async def end_by_thread(self) -> None:
        """Wait for it, cancelled or not."""
        ...


class JournalSizes(msgspec.Struct, frozen=True, kw_only=True):
    """How a journal takes its place on a disk, and in which portions it is written, in bytes."""

    segment_bytes: int = limits.JOURNAL_SEGMENT_BYTES
    group_bytes_max: int = limits.JOURNAL_GROUP_BYTES_MAX
    allowance_bytes: int = limits.JOURNAL_ALLOWANCE_BYTES
    begun_at_once_bytes: int = limits.JOURNAL_BEGUN_AT_ONCE_BYTES  # a group that its first publisher begins


_SIZES = JournalSizes()


class Disk:
    """Files, reached from a few worker threads.

    ``files`` is an ``nd_files *`` (``native/include/nd_files.h``) that outlives every
    journal opened with it; None: this system's.
    """

    files: Any = None
    has_writer_thread = False  # of the core's own, for the journal's groups

    def __init__(self, sizes: JournalSizes = _SIZES) -> None:
        self.sizes = sizes
        self._thread = trio.CapacityLimiter(1)  # what the journal does to its files, it does in turn
        self._beside = trio.CapacityLimiter(limits.SCRATCH_THREADS)

    async def run(self, work: Callable[[], T]) -> T:
        """Carry out work that blocks, away from the Trio thread.

        Cancellation: work that has begun is waited for.
        """
        return await trio.to_thread.run_sync(work, limiter=self._thread)

    async def write(self, group: SealedGroup) -> None:
        """Write a sealed group, in turn with ``run``, which is the caller's to see to.

        Cancellation: a write that has begun is waited for.
        """
        await self.run(group.write_sync)

    def begin(self, group: SealedGroup) -> bool:
        """Begin to write a sealed group in this step, ``end`` must follow; False: only ``write`` can."""
        return False

    async def wait_end(self, group: SealedGroup) -> None:
        """Wait until what was begun, or is begun meanwhile, has ended; ``end`` must follow.

        Cancellation: only the wait ends.
        """
        raise NotImplementedError("nothing can be begun on this disk")

    async def end(self, group: SealedGroup) -> None:
        """Wait until what was begun is written, cancelled or not."""
        raise NotImplementedError("nothing can be begun on this disk")

    async def run_beside(self, work: Callable[[], T]) -> T:
        """The same for work on the scratch file, which no publisher's sync waits for."""
        return await trio.to_thread.run_sync(work, limiter=self._beside)


class SystemDisk(Disk):
    """This machine's.  Groups are written by a thread of the core's own (decision 0023)."""

    has_writer_thread = True

    def begin(self, group: SealedGroup) -> bool:
        """Begin; no sync waits for the interpreter's lock to be heard of."""
        group.begin_by_thread()
        return True

    async def wait_end(self, group: SealedGroup) -> None:
        """Wait until the thread has written something."""
        await group.wait_for_thread()

    async def end(self, group: SealedGroup) -> None:
        """Wait for what was begun."""
        await group.end_by_thread()

    async def write(self, group: SealedGroup) -> None:
        """Begin, and wait."""
        await trio.lowlevel.checkpoint_if_cancelled()
        self.begin(group)
        await self.end(group)
