"""Posts a fleet's events over keep-alive connections, paced by what has arrived.

A closed loop: a connection posts its next body when the last was answered, and when
no more than ``ahead_events_max`` events are posted and have not arrived, so that the
daemon's queue never has a reason to drop.
"""

from __future__ import annotations

import msgspec
import trio

from bench.load.arrivals import Arrivals
from bench.load.fleet import BodyForm, Fleet
from bench.load.http_client import HttpClient, connect, request

EVENTS_PATH = "/gateway/v1/events"


class Post(msgspec.Struct, frozen=True):
    """A request made beforehand."""

    content: bytes
    events: int


class Refused(Exception):
    """The daemon did not take a body, or did not queue all its events."""


class _Accepted(msgspec.Struct):
    accepted: int
    queued: int
    rejected: int


_decode = msgspec.json.Decoder(_Accepted).decode


class Generator:
    """A gateway with one connection per lane of the fleet."""

    def __init__(
        self, fleet: Fleet, form: BodyForm, key: str, *, body_events: int, ahead_events_max: int
    ) -> None:
        """Makes every request now, so that nothing but sending is left to do."""
        self._ahead_events_max = ahead_events_max
        self._posted = 0
        self._lanes = [
            [
                Post(request("POST", EVENTS_PATH, key, body.content, form.media_type), body.events)
                for body in fleet.bodies(lane, form, body_events)
            ]
            for lane in range(fleet.lanes)
        ]

    async def run(self, port: int, arrivals: Arrivals) -> None:
        """Post everything once."""
        self._posted = 0
        async with trio.open_nursery() as nursery:
            for posts in self._lanes:
                nursery.start_soon(self._run_lane, port, posts, arrivals)

    async def _run_lane(self, port: int, posts: list[Post], arrivals: Arrivals) -> None:
        async with connect(port) as client:
            for post in posts:
                self._posted += post.events
                await arrivals.wait_until(self._posted - self._ahead_events_max)
                await _post(client, post)


async def _post(client: HttpClient, post: Post) -> None:
    reply = await client.send(post.content)
    if reply.status != 202:
        raise Refused(f"a body of {post.events} events was answered {reply.status}: {reply.body!r}")
    accepted = _decode(reply.body)
    if accepted.accepted != post.events or accepted.queued != post.events or accepted.rejected:
        raise Refused(f"of {post.events} events not all were queued: {reply.body!r}")
