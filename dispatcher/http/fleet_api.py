"""``/admin/v1/stats`` and ``/admin/v1/events``: all channels together, once or as they change."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated

import msgspec
import trio
from msgspec import Meta

from dispatcher import limits
from dispatcher.errors import TooManyRequests
from dispatcher.http.admin_parameters import PREFIX
from dispatcher.http.caller import ApiRoute, Caller, api_route, key_of
from dispatcher.http.message import EVENTS, EventStream, Request, Response, json_response
from dispatcher.http.operation import Answer, Content, Operation, Parameter, json_content
from dispatcher.model import AccessKey, Role
from dispatcher.runtime.hub import Hub
from dispatcher.wire.admin_api import Totals
from dispatcher.wire.json_body import invalid_field

_json = msgspec.json.Encoder()


class FleetApi:
    """What is seen of all channels."""

    def __init__(self, hub: Hub) -> None:
        self._fleet = hub.parts.fleet

    def routes(self) -> list[ApiRoute]:
        """This API's rows of the route table."""
        return [
            api_route("GET", f"{PREFIX}/stats", Role.ADMIN, self.get_stats, _STATS),
            api_route("GET", f"{PREFIX}/events", Role.ADMIN, self.stream_events, _EVENTS),
        ]

    async def get_stats(self, request: Request, caller: Caller) -> Response:
        """The totals."""
        return json_response(await self._fleet.totals())

    async def stream_events(self, request: Request, caller: Caller) -> EventStream:
        """The totals each second, and what changed."""
        followed = _channels(request.query_params().get("channels", ""))
        self._fleet.check_room()
        key = key_of(caller)

        async def run(send: Callable[[bytes], Awaitable[None]]) -> None:
            await self._stream(key, followed, send)

        return EventStream(run)

    async def _stream(
        self, key: AccessKey, followed: list[int], send: Callable[[bytes], Awaitable[None]]
    ) -> None:
        with self._fleet.viewer(key, followed) as viewer:
            while True:
                update = None
                with trio.move_on_after(limits.STREAM_KEEP_ALIVE_S):
                    update = await self._fleet.next_update(viewer)
                if update is None:  # a look takes long when there are very many channels
                    await send(b":\n\n")
                else:
                    await send(b"event: fleet\ndata: " + _json.encode(update) + b"\n\n")


def _channels(text: str) -> list[int]:
    numbers = [piece for piece in text.split(",") if piece]
    if len(numbers) > limits.VIEWED_CHANNELS_MAX:
        raise invalid_field("channels", f"must be {limits.VIEWED_CHANNELS_MAX} ids at most")
    if not all(piece.isascii() and piece.isdecimal() and len(piece) <= 18 for piece in numbers):
        raise invalid_field("channels", "must be ids of channels, joined by commas")
    return [int(piece) for piece in numbers]


# --- what the documents say of the rows ---------------------------------------------------

_TOTALS_EXAMPLE = {
    "at_unix_ms": 1767225600123,
    "version": "0.1.0",
    "durability": "disk",
    "up_s": 3600.5,
    "channels": 2,
    "by_status": {"ok": 1, "failing": 1},
    "records": 1200,
    "record_bytes": 163200,
    "memory_bytes": 1048576,
    "memory_bytes_max": 4294967296,
    "oldest_age_s": 61.5,
    "queued": 91410,
    "recovered": 0,
    "acked": 90210,
    "expired": 0,
    "dropped": {},
    "superseded": 0,
    "parked": 0,
    "rejected": 0,
    "deleted": 0,
}
_STREAM_EXAMPLE = 'event: fleet\ndata: {"totals":{"channels":2},"channels":[],"gone":[],"untold":0}\n\n'

_STATS = Operation(
    summary="All channels together, now",
    answers=(Answer(200, "the totals", json_content(Totals, _TOTALS_EXAMPLE)),),
)
_EVENTS = Operation(
    summary="All channels as they change: a message a second, until the key is revoked",
    parameters=(
        Parameter(
            name="channels",
            place="query",
            model=Annotated[str, Meta(pattern="^[0-9]{0,18}(,[0-9]{1,18})*$")],
            meaning=f"Ids of channels to follow, joined by commas: {limits.VIEWED_CHANNELS_MAX} at most.",
            example="17,18",
        ),
    ),
    answers=(
        Answer(
            200,
            "events named `fleet`: the totals, rows of the channels that are followed and have changed, "
            "and of others whose status has; the data is JSON",
            Content(EVENTS, str, _STREAM_EXAMPLE),
        ),
    ),
    refusals=(
        invalid_field("channels", "must be ids of channels, joined by commas"),
        TooManyRequests(f"{limits.VIEWERS_MAX} event streams are open; close one", retry_after_s=10),
    ),
)
