"""``/admin/v1/channels``: what an operator sees of channels, and does to them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Literal

import msgspec
import trio

from dispatcher import limits
from dispatcher.core.batching import WHOLE
from dispatcher.core.paging import Place, page
from dispatcher.errors import BadRequest, Conflict, NotFound
from dispatcher.http.admin_parameters import (
    ACCOUNT,
    CHANNEL,
    LIMITS_EXAMPLE,
    NO_CHANNEL,
    PAGING,
    PAYLOADS,
    PREFIX,
    RECORDS_LIMIT,
    WRONG_PARAMETER,
    channel_of,
    flag,
    number,
    one_of,
    page_size,
    place_after,
    tell,
)
from dispatcher.http.caller import ApiRoute, Caller, api_route
from dispatcher.http.message import Request, Response, json_response, no_content
from dispatcher.http.operation import Answer, Operation, Parameter, done, json_content
from dispatcher.model import ChannelStatus, ChannelType, Role, SliceLimits
from dispatcher.runtime.active_channel import ActiveChannel
from dispatcher.runtime.hub import Hub
from dispatcher.wire.admin_api import (
    ChannelDetail,
    ChannelPage,
    Deliveries,
    Peek,
    peeked_record,
)


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which channels a list is to show."""

    account_id: int | None
    type: str | None
    status: str | None
    search: str


class AdminChannelsApi:
    """The channels of all accounts."""

    def __init__(self, hub: Hub) -> None:
        self._parts = hub.parts

    def routes(self) -> list[ApiRoute]:
        """This API's rows of the route table."""
        every, one = f"{PREFIX}/channels", f"{PREFIX}/channels/{{channel}}"
        return [
            api_route("GET", every, Role.ADMIN, self.list_channels, _LIST),
            api_route("GET", one, Role.ADMIN, self.show_channel, _SHOW),
            api_route("DELETE", one, Role.ADMIN, self.delete_channel, _DELETE),
            api_route("GET", f"{one}/deliveries", Role.ADMIN, self.list_deliveries, _DELIVERIES),
            api_route("GET", f"{one}/peek", Role.ADMIN, self.peek, _PEEK),
            api_route("POST", f"{one}/pause", Role.ADMIN, self.pause, _PAUSE),
            api_route("POST", f"{one}/resume", Role.ADMIN, self.resume, _RESUME),
            api_route("POST", f"{one}/retry", Role.ADMIN, self.retry, _RETRY),
        ]

    async def list_channels(self, request: Request, caller: Caller) -> Response:
        """One page of the channels, in the order asked for."""
        query = request.query_params()
        after, count_max = place_after(query), page_size(query)
        rank = self._rank(query)
        placed = await self._placed(self._wanted(query), rank)
        found, next_ = page(placed, after, count_max)
        views = self._parts.views
        rows = [views.row(channel) for channel in found if not channel.is_gone]
        return json_response(ChannelPage(channels=rows, next=next_))

    async def show_channel(self, request: Request, caller: Caller) -> Response:
        """All that is known of a channel."""
        return json_response(self._parts.views.detail(channel_of(self._parts.directory, request)))

    async def delete_channel(self, request: Request, caller: Caller) -> Response:
        """Delete a channel with its queue, as its application could."""
        channel = channel_of(self._parts.directory, request)
        await self._parts.registrations.remove(channel, "deleted by the operator")
        tell(caller, "delete", channel=channel.row.id)
        return no_content()

    async def list_deliveries(self, request: Request, caller: Caller) -> Response:
        """The last attempts."""
        return json_response(
            Deliveries(deliveries=self._parts.views.deliveries(channel_of(self._parts.directory, request)))
        )

    async def peek(self, request: Request, caller: Caller) -> Response:
        """The oldest records; their payloads only for who asks for them, and that is logged."""
        query = request.query_params()
        count_max = number(query, "limit", limits.PEEK_RECORDS, limits.PEEK_RECORDS_MAX)
        with_payload = flag(query, "payloads")
        channel = channel_of(self._parts.directory, request)
        bounds = SliceLimits(events_max=count_max, bytes_max=limits.PEEK_BYTES_MAX)
        peeked = await self._parts.queue.peek(channel.row.id, bounds, WHOLE)
        if with_payload:
            tell(caller, "peek with payloads", channel=channel.row.id)
        records = [
            peeked_record(
                epoch=one.position.epoch,
                seq=one.position.seq,
                kind=one.kind,
                is_in_flight=one.is_in_flight,
                message=one.message,
                with_payload=with_payload,
            )
            for one in peeked
        ]
        return json_response(Peek(records=records))

    async def pause(self, request: Request, caller: Caller) -> Response:
        """Send nothing more until it is resumed."""
        return await self._act(request, caller, "pause", self._parts.registrations.pause)

    async def resume(self, request: Request, caller: Caller) -> Response:
        """Send again."""
        return await self._act(request, caller, "resume", self._parts.registrations.resume)

    async def retry(self, request: Request, caller: Caller) -> Response:
        """Let the failed batch of a callback go again now."""
        channel = channel_of(self._parts.directory, request)
        if channel.row.type is not ChannelType.CALLBACK:
            raise BadRequest(_NO_RETRIES)
        if channel.row.is_paused:
            raise Conflict(_IS_PAUSED)
        channel.end_pause()
        tell(caller, "retry", channel=channel.row.id)
        return no_content()

    async def _act(
        self,
        request: Request,
        caller: Caller,
        action: str,
        work: Callable[[ActiveChannel], Awaitable[None]],
    ) -> Response:
        channel = channel_of(self._parts.directory, request)
        await work(channel)
        tell(caller, action, channel=channel.row.id)
        return no_content()

    def _wanted(self, query: Mapping[str, str]) -> Wanted:
        account_id = None
        if "account" in query:
            names = {account.name: account.id for account in self._parts.directory.accounts.values()}
            account_id = names.get(query["account"], 0)  # none has 0: an unknown account has no channels
        return Wanted(
            account_id=account_id,
            type=one_of(query, "type", [type_.value for type_ in ChannelType]),
            status=one_of(query, "status", [status.value for status in ChannelStatus]),
            search=query.get("search", "")[: 2 * limits.SEARCH_CHARS_MAX].lower(),
        )

    def _rank(self, query: Mapping[str, str]) -> Callable[[ActiveChannel], int]:
        stats = self._parts.views.stats
        ranks: dict[str, Callable[[ActiveChannel], int]] = {
            "id": lambda channel: channel.row.id,
            "depth": lambda channel: -stats(channel).records,
            "age": lambda channel: stats(channel).oldest_unix_ms or _LATEST_UNIX_MS,
        }
        return ranks[one_of(query, "order", list(ranks)) or "id"]

    async def _placed(
        self, wanted: Wanted, rank: Callable[[ActiveChannel], int]
    ) -> list[tuple[Place, ActiveChannel]]:
        """The channels that a list shows, each with its place; others get their turns meanwhile."""
        placed: list[tuple[Place, ActiveChannel]] = []
        for count, channel in enumerate(self._parts.directory.channels(), 1):
            if not channel.is_gone and self._is_wanted(channel, wanted):
                placed.append(((rank(channel), channel.row.id), channel))
            if count % limits.FLEET_CHANNELS_PER_STEP == 0:
                await trio.lowlevel.checkpoint()
        return placed

    def _is_wanted(self, channel: ActiveChannel, wanted: Wanted) -> bool:
        row = channel.row
        if wanted.account_id is not None and row.account_id != wanted.account_id:
            return False
        if wanted.type is not None and row.type != wanted.type:
            return False
        if wanted.status is not None and channel.status != wanted.status:
            return False
        if not wanted.search:
            return True
        directory = self._parts.directory
        account, application = directory.accounts[row.account_id], directory.applications[row.application_id]
        return wanted.search in f"{account.name}/{application.name}".lower() or wanted.search == str(row.id)


_LATEST_UNIX_MS = 2**53
_NO_RETRIES = "only a callback has retries; a channel of another type waits for its client"
_IS_PAUSED = "the channel is paused; resume it, and it sends at once"


# --- what the documents say of the rows ---------------------------------------------------

_FILTERS = (
    ACCOUNT,
    Parameter(
        name="type", place="query", model=ChannelType, meaning="Of this type alone.", example="CALLBACK"
    ),
    Parameter(
        name="status", place="query", model=ChannelStatus, meaning="Of this status alone.", example="failing"
    ),
    Parameter(
        name="search",
        place="query",
        model=str,
        meaning="What stands somewhere in `account/application`, in any case; or a channel's id.",
        example="green",
    ),
    Parameter(
        name="order",
        place="query",
        model=Literal["id", "depth", "age"],
        meaning="By id (when left out), or the fullest first, or the one whose oldest record waits longest.",
        example="age",
    ),
)
_ROW_EXAMPLE = {
    "id": 17,
    "account": "acme",
    "application": "greenhouse",
    "type": "CALLBACK",
    "status": "failing",
    "records": 1200,
    "record_bytes": 163200,
    "queue_bytes": 50000000,
    "oldest_age_s": 61.5,
    "confirmed": 90210,
    "lost": 0,
    "failures": 3,
    "next_attempt_in_s": 2.5,
}
_DETAIL_EXAMPLE = _ROW_EXAMPLE | {
    "target": "https://app.example.com",
    "header_names": ["X-Greenhouse"],
    "serialization": None,
    "limits": LIMITS_EXAMPLE,
    "queue": {"last_seq": 91410, "settled_seq": 90210, "gaps": 0},
    "sending": {
        "is_bound": True,
        "unconfirmed_events": 0,
        "unconfirmed_bytes": 0,
        "frozen_events": 1200,
        "batch_events_max": 10000,
        "batch_bytes_max": 8388608,
    },
    "parked": {"events": 0, "message_bytes": 0},
    "failing_for_s": 60.9,
    "last_failure": {"at_unix_ms": 1767225600123, "reason": "status 503"},
    "removal": {"reason": "delivery failed all the time", "in_s": 86339.1, "timeout_s": 86400},
}
_DELIVERIES_EXAMPLE = {
    "deliveries": [
        {
            "ended_unix_ms": 1767225600123,
            "seconds": 0.031,
            "events": 1200,
            "bytes": 151000,
            "outcome": "failed",
            "error": "status",
            "status": 503,
        }
    ]
}
_PEEK_EXAMPLE = {
    "records": [
        {
            "epoch": 1,
            "seq": 90211,
            "kind": "notifications",
            "received_unix_ms": 1767225600123,
            "is_in_flight": True,
            "event": {"ep": "dev-1", "path": "/3303/0/5700", "ct": "", "max-age": 0},
            "payload_bytes": 4,
        }
    ]
}


def _on_channel(summary: str, *answers: Answer, parameters: tuple[Parameter, ...] = ()) -> Operation:
    return Operation(
        summary=summary,
        parameters=(CHANNEL, *parameters),
        answers=answers,
        refusals=(NotFound(NO_CHANNEL),),
    )


_LIST = Operation(
    summary="The channels of all accounts, page by page",
    parameters=(*_FILTERS, *PAGING),
    answers=(
        Answer(200, "a page", json_content(ChannelPage, {"channels": [_ROW_EXAMPLE], "next": "17.17"})),
    ),
    refusals=(WRONG_PARAMETER,),
)
_SHOW = _on_channel(
    "A channel: limits, queue, what is on its way, failures, and when it will be removed",
    Answer(200, "the channel", json_content(ChannelDetail, _DETAIL_EXAMPLE)),
)
_DELETE = _on_channel(
    "Delete a channel with its queue, as its application could", done("channel and queue are gone")
)
_DELIVERIES = _on_channel(
    f"The last {limits.ATTEMPTS_PER_CHANNEL_MAX} attempts at delivering, since the start of the daemon",
    Answer(200, "the attempts, the newest first", json_content(Deliveries, _DELIVERIES_EXAMPLE)),
)
_PEEK = _on_channel(
    "The oldest records of a channel's queue, which stay there",
    Answer(
        200,
        "the records that are durable, the oldest first, gaps left out",
        json_content(Peek, _PEEK_EXAMPLE),
    ),
    parameters=(RECORDS_LIMIT, PAYLOADS),
)
_PAUSE = _on_channel(
    "Send nothing more, over restarts too; events are stored, and what is on its way is finished",
    done("the channel is paused"),
)
_RESUME = _on_channel(
    "Send again, at once; failures from before the pause are forgotten", done("the channel is not paused")
)
_RETRY = Operation(
    summary="Let the failed batch of a callback go again now; nothing when none waits",
    parameters=(CHANNEL,),
    answers=(done("an attempt is on its way, if there was something to try again"),),
    refusals=(NotFound(NO_CHANNEL), BadRequest(_NO_RETRIES), Conflict(_IS_PAUSED)),
)
