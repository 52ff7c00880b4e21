"""A publisher that comes again when the queue tells it to."""

from __future__ import annotations

from collections.abc import Sequence

import trio

from dispatcher.errors import JournalBehind
from dispatcher.queue.interface import Appended, ChannelQueue, Records, Route, Ticket


async def append_patiently(
    queue: ChannelQueue, records: Records, routes: Sequence[Route], unix_ms: int
) -> tuple[Appended, Ticket]:
    """Append once the disk has caught up; how often that is tried depends on the disk.

    The caller's time limit bounds it.
    """
    while True:
        try:
            return queue.append(records, routes, unix_ms)
        except JournalBehind:
            await trio.sleep(0.001)
