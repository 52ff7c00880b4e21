"""``/v2/notification/pull``: receiving by long poll."""

from __future__ import annotations

from dispatcher import limits
from dispatcher.errors import BodyTooLarge, Conflict, MethodNotAllowed
from dispatcher.http.caller import ApiRoute, Caller, account_of, api_route, application_of, key_of
from dispatcher.http.channels_api import OTHER_CHANNEL, SERIALIZATION_EXAMPLE, require_json
from dispatcher.http.message import JSON, Request, Response, no_content, text_response
from dispatcher.http.operation import Answer, Operation, done, json_content, text_content
from dispatcher.model import Role
from dispatcher.runtime.hub import Hub
from dispatcher.runtime.longpolls import PollEnd
from dispatcher.wire import notification_api
from dispatcher.wire.message_shapes import MESSAGE_EXAMPLE, NotificationMessage
from dispatcher.wire.notification_api import RegistrationBody

_PATH = "/v2/notification/pull"


class PullApi:
    """The long-poll path of the notification API."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._polls = hub.parts.long_polls

    def routes(self) -> list[ApiRoute]:
        """This API's rows of the route table."""
        return [
            api_route("GET", _PATH, Role.APPLICATION, self.get_pull, _GET_PULL),
            api_route("PUT", _PATH, Role.APPLICATION, self.put_pull, _PUT_PULL),
            api_route("DELETE", _PATH, Role.APPLICATION, self.delete_pull, _DELETE_PULL),
        ]

    async def get_pull(self, request: Request, caller: Caller) -> Response:
        """The next message: 200, or 204 when none came, or 410 when the channel was deleted meanwhile."""
        if request.method == "HEAD":  # it would take a message and leave it out
            raise MethodNotAllowed("a poll is a GET", allow=("GET", "PUT", "DELETE"))
        await request.body(limits.API_BODY_BYTES_MAX)
        with self._hub.parts.budgets.receiving(account_of(caller)):
            polled = await self._polls.poll(key_of(caller), application_of(caller), request.wait_disconnected)
        if polled is PollEnd.DELETED:
            return text_response("CHANNEL_DELETED", 410)
        if polled is PollEnd.EMPTY:
            return no_content()
        return Response(200, polled.body, JSON, receipt=polled.receipt)

    async def put_pull(self, request: Request, caller: Caller) -> Response:
        """Choose how messages are written, as for a WebSocket; makes the channel when there is none: 204."""
        body = await request.body(limits.API_BODY_BYTES_MAX)
        if body.strip():
            require_json(request)
        serialization = notification_api.parse_registration(body)
        await self._hub.register_long_poll(application_of(caller), serialization)
        return no_content()

    async def delete_pull(self, request: Request, caller: Caller) -> Response:
        """Delete channel and queue, and end an open poll with 410: always 200."""
        was_there = await self._polls.delete(application_of(caller))
        return text_response("REMOVED" if was_there else "ALREADY_DELETED")


# --- what the documents say of the rows ---------------------------------------------------

_GET_PULL = Operation(
    summary="The next events; waits for some, and confirms those of the poll before",
    answers=(
        Answer(200, "events", json_content(NotificationMessage, MESSAGE_EXAMPLE)),
        done("no events came within the hold time"),
        Answer(410, "the channel was deleted meanwhile", text_content("CHANNEL_DELETED")),
    ),
    refusals=(
        OTHER_CHANNEL,
        Conflict("a long poll of this application is in progress; its answer comes there"),
        MethodNotAllowed("a poll is a GET", allow=("GET", "PUT", "DELETE")),
        BodyTooLarge(f"the body is larger than {limits.API_BODY_BYTES_MAX} bytes"),
    ),
)
_PUT_PULL = Operation(
    summary="Choose how polled messages are written; makes the channel when there is none",
    request=(json_content(RegistrationBody, {"serialization": SERIALIZATION_EXAMPLE}),),
    is_request_optional=True,
    answers=(done("the next message is written as asked"),),
    refusals=(OTHER_CHANNEL,),
)
_DELETE_PULL = Operation(
    summary="Delete the channel and its queue, and end an open poll with 410",
    answers=(Answer(200, "`REMOVED`, or `ALREADY_DELETED` when there was none", text_content("REMOVED")),),
)
