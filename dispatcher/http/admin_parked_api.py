"""``/admin/v1/channels/ID/parked``: events that receivers refused, and what is to become of them."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from dispatcher import limits
from dispatcher.errors import DispatcherError, NotFound, QueueFull
from dispatcher.http.admin_parameters import (
    CHANNEL,
    NO_CHANNEL,
    PAYLOADS,
    PREFIX,
    RECORDS_LIMIT,
    channel_of,
    flag,
    number,
    row_id,
    tell,
)
from dispatcher.http.caller import ApiRoute, Caller, api_route
from dispatcher.http.message import Request, Response, json_response
from dispatcher.http.operation import Answer, Operation, Parameter, json_content
from dispatcher.model import ParkedEvent, Role
from dispatcher.runtime.hub import Hub
from dispatcher.runtime.publishing import Receipt
from dispatcher.wire.admin_api import ParkedDone, ParkedPage, ParkedRow, peeked_record
from dispatcher.wire.ingest import Parsed

_LATEST_ID = 10**18 - 1


class AdminParkedApi:
    """What is parked of one channel."""

    def __init__(self, hub: Hub) -> None:
        self._parts = hub.parts

    def routes(self) -> list[ApiRoute]:
        """This API's rows of the route table."""
        every = f"{PREFIX}/channels/{{channel}}/parked"
        one = f"{every}/{{event}}"
        return [
            api_route("GET", every, Role.ADMIN, self.list_events, _LIST),
            api_route("POST", f"{every}/give-back", Role.ADMIN, self.give_back, _GIVE_BACK_ALL),
            api_route("POST", f"{one}/give-back", Role.ADMIN, self.give_back, _GIVE_BACK),
            api_route("DELETE", every, Role.ADMIN, self.discard, _DISCARD_ALL),
            api_route("DELETE", one, Role.ADMIN, self.discard, _DISCARD),
        ]

    async def list_events(self, request: Request, caller: Caller) -> Response:
        """One page of the parked events; payloads only for who asks for them, and that is logged."""
        query = request.query_params()
        count_max = number(query, "limit", limits.PEEK_RECORDS, limits.PEEK_RECORDS_MAX)
        after_id = number(query, "after", 0, _LATEST_ID)
        with_payload = flag(query, "payloads")
        channel = channel_of(self._parts.directory, request)
        events = await self._parts.parking.events(channel, after_id, count_max)
        if with_payload:
            tell(caller, "parked with payloads", channel=channel.row.id)
        rows = [_row(event, with_payload) for event in events]
        is_all = len(events) < count_max
        return json_response(ParkedPage(events=rows, next=None if is_all else events[-1].id))

    async def give_back(self, request: Request, caller: Caller) -> Response:
        """Put one event, or all that are parked, at the end of the channel's queue."""
        channel, event_id = channel_of(self._parts.directory, request), _event_id(request)
        application = self._parts.directory.applications[channel.row.application_id]

        def append(parsed: Parsed) -> Receipt:
            return self._parts.publisher.to_application(application, parsed)

        given_back = await self._parts.parking.give_back(channel, event_id, append)
        tell(caller, "give back", channel=channel.row.id, events=given_back)
        return json_response(ParkedDone(events=given_back))

    async def discard(self, request: Request, caller: Caller) -> Response:
        """Forget one event, or all that are parked."""
        channel, event_id = channel_of(self._parts.directory, request), _event_id(request)
        discarded = await self._parts.parking.discard(channel, event_id)
        tell(caller, "discard", channel=channel.row.id, events=discarded)
        return json_response(ParkedDone(events=discarded))


def _event_id(request: Request) -> int | None:
    if "event" not in request.params:
        return None
    event_id = row_id(request.params["event"])
    if event_id is None:
        raise NotFound(_NO_EVENT)
    return event_id


def _row(event: ParkedEvent, with_payload: bool) -> ParkedRow:
    return ParkedRow(
        id=event.id,
        parked_unix_ms=event.parked_unix_ms,
        status=event.status,
        record=peeked_record(
            epoch=event.position.epoch,
            seq=event.position.seq,
            kind=event.kind,
            is_in_flight=False,
            message=event.message,
            with_payload=with_payload,
        ),
    )


# --- what the documents say of the rows ---------------------------------------------------

_NO_EVENT = "there is no such parked event; it was given back, or discarded"
_FULL = "the queue is full; try again when its receiver has caught up"
_EVENT = Parameter(
    name="event",
    place="path",
    model=Annotated[int, Meta(ge=1)],
    meaning="The parked event's id, as the list shows it.",
    example=3,
    is_required=True,
)
_PAGE_EXAMPLE = {
    "events": [
        {
            "id": 3,
            "parked_unix_ms": 1767225600999,
            "status": 422,
            "record": {
                "epoch": 1,
                "seq": 90211,
                "kind": "notifications",
                "received_unix_ms": 1767225600123,
                "is_in_flight": False,
                "event": {"ep": "dev-1", "path": "/3303/0/5700", "ct": "", "max-age": 0},
                "payload_bytes": 4,
            },
        }
    ],
    "next": None,
}

_LIST = Operation(
    summary="The events of a channel that were set aside because its callback refused each alone",
    parameters=(
        CHANNEL,
        RECORDS_LIMIT,
        Parameter(
            name="after",
            place="query",
            model=Annotated[int, Meta(ge=1, le=_LATEST_ID)],
            meaning="The `next` of the page before.",
            example=3,
        ),
        PAYLOADS,
    ),
    answers=(Answer(200, "the events, the first parked first", json_content(ParkedPage, _PAGE_EXAMPLE)),),
    refusals=(NotFound(NO_CHANNEL),),
)


def _acting(summary: str, meaning: str, *refusals: DispatcherError, on_one: bool) -> Operation:
    return Operation(
        summary=summary,
        parameters=(CHANNEL, _EVENT) if on_one else (CHANNEL,),
        answers=(Answer(200, meaning, json_content(ParkedDone, {"events": 1})),),
        refusals=(NotFound(_NO_EVENT if on_one else NO_CHANNEL), *refusals),
    )


_GIVE_BACK = _acting(
    "Put a parked event at the end of its channel's queue, as a new record",
    "it is queued, and not parked any more",
    QueueFull(_FULL),
    on_one=True,
)
_GIVE_BACK_ALL = _acting(
    "Put all parked events at the end of their channel's queue, as new records",
    "how many were; a refusal half way leaves the others parked",
    QueueFull(_FULL),
    on_one=False,
)
_DISCARD = _acting("Forget a parked event", "it is gone", on_one=True)
_DISCARD_ALL = _acting("Forget all that is parked of a channel now", "how many are gone", on_one=False)
