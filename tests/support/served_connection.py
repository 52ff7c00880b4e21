"""One HTTP connection without the server around it."""

from __future__ import annotations

import trio

from dispatcher.http.connection import serve_connection
from dispatcher.http.service import Service


async def serve_alone(stream: trio.abc.Stream, service: Service) -> None:
    """``serve_connection``, and somebody who keeps its time meanwhile."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(service.timekeeper.run)
        await serve_connection(stream, service)
        nursery.cancel_scope.cancel()
