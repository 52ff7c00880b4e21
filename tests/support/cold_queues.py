"""Queues over the native core with a scratch file, and disks that refuse or watch."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import trio
from dispatcher.queue._core import ffi, lib

from dispatcher.queue.disk import Disk, JournalSizes
from dispatcher.queue.interface import Appended, Records, Route, Ticket
from dispatcher.queue.native import NativeQueue

T = TypeVar("T")


class ColdQueue(NativeQueue):
    """Moves every record out of memory as soon as it was stored."""

    def __init__(self, epoch: int, memory_bytes_max: int) -> None:
        super().__init__(epoch, memory_bytes_max)
        self.folder = Path(tempfile.mkdtemp())
        self.keep_cold_in(self.folder, Disk(), 0)

    def append(
        self, records: Records, routes: Sequence[Route], received_unix_ms: int, *, has_answer: bool = False
    ) -> tuple[Appended, Ticket]:
        answer = super().append(records, routes, received_unix_ms, has_answer=has_answer)
        self.cool()
        return answer

    def cool(self) -> None:
        """Move everything out."""
        cool(self)

    def close(self) -> None:
        super().close()
        shutil.rmtree(self.folder, ignore_errors=True)


def cool(queue: NativeQueue) -> None:
    """Move everything out of a queue's memory."""
    assert queue.residency is not None
    assert lib.nd_residency_make_room(queue.residency._raw, queue.totals().memory_bytes_max) == lib.ND_OK


class WatchedDisk(Disk):
    """This machine's disk; full when told so, slow when told so, and it knows which threads waited for it."""

    def __init__(self, sizes: JournalSizes | None = None) -> None:
        super().__init__(sizes or JournalSizes())
        self.is_full = False
        self.is_broken = False
        self.threads: set[int] = set()
        self.gate: trio.Event | None = None  # work beside the journal's begins when it is set
        self.waiting = 0
        self.exit: trio.Event | None = None  # what was done there is heard of when it is set
        self._real = lib.nd_files_posix()
        self.files = ffi.new("nd_files *", self._real[0])
        self._callbacks = [
            self._watch("preallocate", lambda: lib.ND_ERR_NOSPACE if self.is_full else lib.ND_OK),
            self._watch("read", lambda: lib.ND_ERR_IO if self.is_broken else lib.ND_OK),
            self._watch("write", lambda: lib.ND_OK),
        ]

    def _watch(self, name: str, judge: Callable[[], int]) -> Any:
        real = getattr(self._real, name)

        def call(*arguments: Any) -> int:
            self.threads.add(threading.get_ident())
            status = judge()
            return status if status != lib.ND_OK else real(*arguments)

        callback = ffi.callback(ffi.typeof(real), call)
        setattr(self.files, name, callback)
        return callback

    async def run_beside(self, work: Callable[[], T]) -> T:
        if self.gate is not None:
            self.waiting += 1
            await self.gate.wait()
        done = await super().run_beside(work)
        if self.exit is not None:
            await self.exit.wait()
        return done


@asynccontextmanager
async def small_queue(
    folder: Path, *, memory_bytes: int = 8 << 20, disk_bytes: int = 0, disk: Disk | None = None
) -> AsyncIterator[NativeQueue]:
    """A queue without a journal, whose task moves chunks."""
    queue = NativeQueue(1, memory_bytes)
    queue.keep_cold_in(folder, disk or Disk(), disk_bytes)
    assert queue.residency is not None
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(queue.residency.run)
            with trio.fail_after(30):
                yield queue
            nursery.cancel_scope.cancel()
    finally:
        queue.close()
