"""A thread of the core's own that writes a journal's groups (``native/include/nd_writer.h``)."""

from __future__ import annotations

from typing import Any

import trio

from dispatcher.errors import MemoryFull
from dispatcher.queue._core import lib
from dispatcher.queue.native_ring import made


class WriterThread:
    """Started by being made; ``close`` ends it."""

    def __init__(self, journal: Any) -> None:
        """``journal`` is an ``nd_journal *``.  Raises ``MemoryFull`` when the machine has no thread left."""
        try:
            self._raw = made("nd_writer *", lib.nd_writer_open, lib.nd_io_posix(), journal)
        except MemoryFull:
            raise MemoryFull("the machine has no thread, descriptor or memory left to write with") from None
        self._descriptor: int = lib.nd_writer_descriptor(self._raw)

    def begin(self) -> None:
        """Begin to write the sealed group; ``end`` must follow, else ``close`` waits."""
        if lib.nd_writer_begin(self._raw) != lib.ND_OK:
            raise RuntimeError("two groups were to be written at once")

    async def wait(self) -> None:
        """Wait until something that was begun, before or meanwhile, is written; ``end`` must follow."""
        await trio.lowlevel.wait_readable(self._descriptor)

    async def end(self) -> None:
        """Wait until the group that was begun is on the disk, cancelled or not."""
        with trio.CancelScope(shield=True):
            while lib.nd_writer_ended(self._raw) != lib.ND_OK:
                await trio.lowlevel.wait_readable(self._descriptor)

    def close(self) -> None:
        """End the thread.  *Blocks* while something is being written."""
        lib.nd_writer_close(self._raw)
