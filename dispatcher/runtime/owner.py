"""The nursery that owns a dispatcher's tasks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio


@asynccontextmanager
async def open_owner() -> AsyncIterator[trio.Nursery]:
    """A nursery that raises what ended it as itself, where only one thing did.

    An embedder's ``except QueueFull`` around ``open_dispatcher`` must not have to know
    that there are tasks inside.  Several failures at once stay a group.
    """
    try:
        async with trio.open_nursery() as nursery:
            yield nursery
    except BaseExceptionGroup as group:
        alone: BaseException = group
        while isinstance(alone, BaseExceptionGroup) and len(alone.exceptions) == 1:
            alone = alone.exceptions[0]
        raise alone from alone.__cause__
