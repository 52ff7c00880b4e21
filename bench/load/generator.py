"""Posts a fleet's events over keep-alive connections, paced by what has arrived.

A closed loop: a connection posts its next body when the last was answered, and when
no more than ``ahead_events_max`` events are posted and have not arrived, so that the
daemon's queue never has a reason to drop.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import trio

from .arrivals import Arrivals
from .fleet import BodyForm, Fleet
from .http_client import HttpClient, Reply, connect, request

EVENTS_PATH = "/gateway/v1/events"
NO_LIMIT = 1 << 60  # for ``ahead_events_max``: what is posted in a round fits the queue


class Post(msgspec.Struct, frozen=True):
    """A request made beforehand."""

    content: bytes
    events: int


class Refused(Exception):
    """The server did not take a body, or did not queue all its events."""


class _Accepted(msgspec.Struct):
    accepted: int
    queued: int
    rejected: int


_decode = msgspec.json.Decoder(_Accepted).decode

Check = Callable[[Reply, int], None]
"""Looks at the answer to a body of so many events; raises ``Refused``."""


def all_queued(reply: Reply, events: int) -> None:
    """Every event was accepted, and stored in one channel."""
    if _accepted(reply, events).queued != events:
        raise Refused(f"of {events} events not all were queued: {reply.body!r}")


def all_accepted(reply: Reply, events: int) -> None:
    """Every event was accepted; some may belong to no channel."""
    _accepted(reply, events)


def _accepted(reply: Reply, events: int) -> _Accepted:
    if reply.status != 202:
        raise Refused(f"a body of {events} events was answered {reply.status}: {reply.body!r}")
    accepted = _decode(reply.body)
    if accepted.accepted != events or accepted.rejected:
        raise Refused(f"of {events} events not all were accepted: {reply.body!r}")
    return accepted


class Generator:
    """A gateway with one connection per lane of the fleet."""

    def __init__(
        self,
        fleet: Fleet,
        form: BodyForm,
        key: str,
        *,
        body_events: int,
        ahead_events_max: int = NO_LIMIT,
        path: str = EVENTS_PATH,
        check: Check = all_queued,
    ) -> None:
        """Makes every request now, so that nothing but sending is left to do."""
        self._ahead_events_max = ahead_events_max
        self._check = check
        self._posted = 0
        self._lanes = [
            [
                Post(request("POST", path, key, body.content, form.media_type), body.events)
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
                await self._post(client, post)

    async def _post(self, client: HttpClient, post: Post) -> None:
        self._check(await client.send(post.content), post.events)
