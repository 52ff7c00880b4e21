"""The memory behind the queues' pool: made ready ahead, kept while it is used, given back.

    append -- takes the last free slab --> run: begin, a worker thread takes a large page, end
    settle -- slabs come free, and stay --> run: gives back those that nobody wanted for a while

What a first touch costs is thereby paid beside the Trio thread, and once for a queue that grows
and shrinks within seconds (decision 0038).
"""

from __future__ import annotations

from typing import Any, NoReturn

import trio

from dispatcher import limits
from dispatcher.queue._core import lib


class Backing:
    """Of one pool.  Without ``run``, its one task, memory comes at a first touch and goes at once."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        self._wakeup = trio.Event()
        self._thread = trio.CapacityLimiter(1)

    def note(self) -> None:
        """Chunks were taken."""
        if lib.nd_pool_wants_slab(self._pool):
            self._wakeup.set()

    async def run(self) -> NoReturn:
        """Keep the pool's memory as it is needed, until cancelled.

        Cancellation: a slab that is being made ready is waited for, milliseconds.
        """
        lib.nd_pool_keep(self._pool)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._prepare)
            while True:
                await trio.sleep(limits.QUEUE_MEMORY_IDLE_S)
                while lib.nd_pool_give_back(self._pool, limits.QUEUE_MEMORY_STEP_SLABS):  # fewer each turn
                    await trio.lowlevel.checkpoint()

    async def _prepare(self) -> NoReturn:
        while True:
            await self._wakeup.wait()
            self._wakeup = trio.Event()
            while lib.nd_pool_prepare_begin(self._pool) == lib.ND_OK:  # until enough lies ready
                try:
                    await trio.to_thread.run_sync(
                        lambda: lib.nd_pool_prepare(self._pool), limiter=self._thread
                    )
                finally:
                    lib.nd_pool_prepare_end(self._pool)
