"""Posts one event at a time, each at its moment, whatever became of those before: an open loop.

What is late counts from the moment at which it should have been sent, so that a
server which stalls does not slow its own questioner down.  The clock is watched,
not slept on: a timer's milliseconds would be measured instead.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import trio

from .arrivals import Arrivals
from .fleet import BodyForm, Fleet
from .generator import EVENTS_PATH, Check, all_queued
from .http_client import HttpClient, connect, request

_LEAD_S = 0.01  # from the connections' opening to the first event


class Moments:
    """When each event of a round is due, on ``time.perf_counter``."""

    def __init__(self, events: int, rate_per_s: float) -> None:
        self._events = events
        self._interval_s = 1 / rate_per_s
        self.due_s: list[float] = []

    async def pass_by(self) -> AsyncIterator[int]:
        """Each event's number, at its moment."""
        start_s = time.perf_counter() + _LEAD_S
        self.due_s = [start_s + number * self._interval_s for number in range(self._events)]
        for number, due_s in enumerate(self.due_s):
            while time.perf_counter() < due_s:
                await trio.lowlevel.checkpoint()
            yield number


class PacedGenerator:
    """A gateway that posts each event by itself, on one connection per lane in turn."""

    def __init__(
        self,
        fleet: Fleet,
        key: str,
        rate_per_s: float,
        *,
        path: str = EVENTS_PATH,
        check: Check = all_queued,
    ) -> None:
        """Makes every request now."""
        self.moments = Moments(fleet.events, rate_per_s)
        self._check = check
        media_type = BodyForm.JSON.media_type
        self._lanes = [
            [
                request("POST", path, key, body.content, media_type)
                for body in fleet.bodies(lane, BodyForm.JSON, 1)
            ]
            for lane in range(fleet.lanes)
        ]

    async def run(self, port: int, arrivals: Arrivals) -> None:
        """Post everything once; return when the last is answered."""
        async with AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(connect(port)) for _ in self._lanes]
            async with trio.open_nursery() as nursery:
                for client, requests in zip(clients, self._lanes, strict=True):
                    nursery.start_soon(self._hear, client, len(requests))
                await self._post(clients)

    async def _post(self, clients: list[HttpClient]) -> None:
        lanes = len(clients)
        async for number in self.moments.pass_by():
            # So few bytes always fit into the socket's buffer: this does not wait for the server.
            await clients[number % lanes].stream.send_all(self._lanes[number % lanes][number // lanes])

    async def _hear(self, client: HttpClient, answers: int) -> None:
        for _ in range(answers):
            self._check(await client.receive(), 1)
