"""Two ends of a real connection within this process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio


@asynccontextmanager
async def open_pair() -> AsyncIterator[tuple[trio.SocketStream, trio.SocketStream]]:
    """Both streams, for five seconds at most."""
    ours, theirs = trio.socket.socketpair()
    async with trio.SocketStream(ours) as one, trio.SocketStream(theirs) as other:
        with trio.fail_after(5):
            yield one, other
