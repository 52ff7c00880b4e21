"""``/v2/notification/...``: registering, reading and deleting an application's channel."""

from __future__ import annotations

import trio

from dispatcher import limits
from dispatcher.core.access import answer_subprotocol
from dispatcher.deliver.websocket_connection import WebSocketConnection
from dispatcher.errors import (
    BadRequest,
    CloseCode,
    FieldError,
    NotFound,
    TooManyRequests,
    UnsupportedMediaType,
    ValidationError,
)
from dispatcher.http.caller import ApiRoute, Caller, account_of, admit, api_route, application_of, key_of
from dispatcher.http.message import JSON, Request, Response, Upgrade, no_content
from dispatcher.http.operation import Answer, Delivery, Operation, done, json_content
from dispatcher.http.socket_operation import CONNECT
from dispatcher.model import ChannelType, Role
from dispatcher.runtime.active_channel import ActiveChannel
from dispatcher.runtime.hub import Hub
from dispatcher.wire import notification_api, ws_handshake
from dispatcher.wire.message_shapes import MESSAGE_EXAMPLE, NotificationMessage
from dispatcher.wire.notification_api import (
    DeliveryMechanismAnswer,
    RegistrationBody,
    WebhookAnswer,
    WebhookBody,
    WebsocketChannelAnswer,
)


class ChannelsApi:
    """The channel paths of the notification API."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._parts = hub.parts

    def routes(self) -> list[ApiRoute]:
        """This API's rows of the route table."""
        callback, websocket = "/v2/notification/callback", "/v2/notification/websocket"
        return [
            api_route("PUT", callback, Role.APPLICATION, self.put_callback, _PUT_CALLBACK),
            api_route("GET", callback, Role.APPLICATION, self.get_callback, _GET_CALLBACK),
            api_route("DELETE", callback, Role.APPLICATION, self.delete_callback, _DELETE_CALLBACK),
            api_route("PUT", websocket, Role.APPLICATION, self.put_websocket, _PUT_WEBSOCKET),
            api_route("GET", websocket, Role.APPLICATION, self.get_websocket, _GET_WEBSOCKET),
            api_route("DELETE", websocket, Role.APPLICATION, self.delete_websocket, _DELETE_WEBSOCKET),
            api_route("GET", "/v2/notification/websocket-connect", None, self.connect, CONNECT),
            api_route("GET", "/v2/notification/channel", Role.APPLICATION, self.get_channel, _GET_CHANNEL),
        ]

    async def put_callback(self, request: Request, caller: Caller) -> Response:
        """Verify and store a callback: 204."""
        require_json(request)
        webhook = notification_api.parse_webhook(await request.body(limits.API_BODY_BYTES_MAX))
        await self._hub.register_callback(
            application_of(caller),
            webhook.url,
            webhook.headers,
            webhook.serialization,
            signing_secret=webhook.signing_secret,
            is_gzipped=webhook.is_gzipped,
        )
        return no_content()

    async def get_callback(self, request: Request, caller: Caller) -> Response:
        """The registered callback, its URL exactly as it was given."""
        row = self._channel(caller, ChannelType.CALLBACK).row
        return Response(200, notification_api.render_webhook(row), JSON)

    async def delete_callback(self, request: Request, caller: Caller) -> Response:
        """Delete channel and queue: 204, or 404."""
        await self._parts.registrations.delete(application_of(caller), ChannelType.CALLBACK)
        return no_content()

    async def put_websocket(self, request: Request, caller: Caller) -> Response:
        """Register (201) or update (200) a WebSocket channel; an empty body is a plain one."""
        body = await request.body(limits.API_BODY_BYTES_MAX)
        if body.strip():
            require_json(request)
        serialization = notification_api.parse_registration(body)
        channel, is_new = await self._parts.registrations.register(
            application_of(caller), ChannelType.WEB_SOCKET, serialization=serialization
        )
        return Response(201 if is_new else 200, self._render_websocket(channel), JSON)

    async def get_websocket(self, request: Request, caller: Caller) -> Response:
        """The channel's status and queue size, as they are."""
        return Response(200, self._render_websocket(self._channel(caller, ChannelType.WEB_SOCKET)), JSON)

    async def delete_websocket(self, request: Request, caller: Caller) -> Response:
        """Delete channel and queue; an open socket closes with 1000."""
        await self._parts.registrations.delete(application_of(caller), ChannelType.WEB_SOCKET)
        return no_content()

    async def get_channel(self, request: Request, caller: Caller) -> Response:
        """Which type of channel there is."""
        channel = self._parts.directory.channel_of(application_of(caller).id)
        if channel is None:
            raise NotFound("This application has no notification channel")
        return Response(200, notification_api.render_delivery_mechanism(channel.row.type), JSON)

    async def connect(self, request: Request, caller: Caller) -> Upgrade:
        """The WebSocket itself; without a channel it opens and closes with 1011."""
        handshake = ws_handshake.check_upgrade(request.headers)
        found = admit(self._parts, request, Role.APPLICATION, handshake.subprotocols)
        self._parts.budgets.check_receivers(account_of(found))
        headers = [("Sec-WebSocket-Accept", handshake.accept)]
        answer = answer_subprotocol(handshake.subprotocols)
        if answer is not None:
            headers.append(("Sec-WebSocket-Protocol", answer))
        deflate = self._parts.sockets.agree_on_deflate(request.headers.get("sec-websocket-extensions"))
        if deflate is not None:
            headers.append(("Sec-WebSocket-Extensions", deflate.answer()))

        async def run(stream: trio.abc.Stream, leftover: bytes) -> None:
            try:
                with self._parts.budgets.receiving(account_of(found)):
                    await self._parts.sockets.serve(
                        key_of(found), application_of(found), stream, leftover, deflate
                    )
            except TooManyRequests:  # others were faster since the handshake
                await WebSocketConnection.refuse(
                    stream, leftover, CloseCode.TRY_AGAIN_LATER, "too many sockets and polls are open"
                )

        return Upgrade(run, tuple(headers))

    def _channel(self, caller: Caller, type_: ChannelType) -> ActiveChannel:
        return self._parts.registrations.channel(application_of(caller), type_)

    def _render_websocket(self, channel: ActiveChannel) -> bytes:
        return notification_api.render_websocket_channel(
            channel.row,
            is_connected=channel.sink is not None,
            queue_size=self._parts.queue.stats(channel.row.id).records,
        )


def require_json(request: Request) -> None:
    """Refuse a body of another media type than JSON: 415.  A missing type is taken for JSON."""
    given = request.headers.get("content-type")
    media_type = (given or JSON).split(";", 1)[0].strip().lower()
    if media_type != JSON:
        raise UnsupportedMediaType(f"send the body as Content-Type: {JSON}")


# --- what the documents say of the rows ---------------------------------------------------

SERIALIZATION_EXAMPLE = {
    "type": "v2",
    "max_chunk_size": 1000,
    "cfg": {
        "deregistrations_as_object": False,
        "include_uid": True,
        "include_timestamp": True,
        "include_original_ep": False,
    },
}
_WEBHOOK = {
    "url": "https://app.example.com/events",
    "headers": {"X-Greenhouse": "7"},
    "serialization": SERIALIZATION_EXAMPLE,
    "content_encoding": "gzip",
}
_SIGNED_WEBHOOK = {
    **_WEBHOOK,
    "signing": {"secret": "whsec_SGVyZSBzdGFuZCByYW5kb20gYnl0ZXMsIDI0IG9yIG1vcmU="},
}
_SHOWN_WEBHOOK = {**_WEBHOOK, "signing": {"older_secret_until": 1767312000000}}
_WEBSOCKET = json_content(
    WebsocketChannelAnswer,
    {"status": "connected", "queue_size": 12, "serialization": SERIALIZATION_EXAMPLE},
)
OTHER_CHANNEL = BadRequest("Another notification channel exists: WEB_SOCKET; delete it first")
_URL_REFUSED = "the callback could not be verified: connection refused"

_PUT_CALLBACK = Operation(
    summary="Register a callback, or put another in its place; the URL is called with `{}` first",
    request=(json_content(WebhookBody, _SIGNED_WEBHOOK),),
    answers=(done("the callback is verified and stored"),),
    refusals=(
        OTHER_CHANNEL,
        ValidationError(f"url: {_URL_REFUSED}", fields=(FieldError(name="url", message=_URL_REFUSED),)),
        TooManyRequests("too many callbacks were to be verified within a minute", retry_after_s=30),
    ),
    delivery=Delivery(
        name="delivery",
        method="PUT",
        url="{$request.body#/url}",
        summary=(
            "Events in order, with the headers that were registered; `{}` to verify the callback. When "
            "asked for, signed by Standard Webhooks (`webhook-id`, `webhook-timestamp`, "
            "`webhook-signature`), and compressed"
        ),
        request=json_content(NotificationMessage, MESSAGE_EXAMPLE),
        answers=(
            ("2XX", "the events are confirmed; to verify the callback, 200 or 204 is needed"),
            ("413", "smaller batches come"),
            ("429", "the same events come again, after `Retry-After` if that is not too long"),
            ("default", "the same events come again, byte for byte; redirects are not followed"),
        ),
    ),
)
_NO_CALLBACK = NotFound("This application has no CALLBACK channel")
_GET_CALLBACK = Operation(
    summary="The registered callback",
    answers=(
        Answer(200, "the callback, its URL as it was given", json_content(WebhookAnswer, _SHOWN_WEBHOOK)),
    ),
    refusals=(_NO_CALLBACK,),
)
_DELETE_CALLBACK = Operation(
    summary="Delete the callback and what is queued for it",
    answers=(done("callback and queue are gone"),),
    refusals=(_NO_CALLBACK,),
)
_PUT_WEBSOCKET = Operation(
    summary="Register a WebSocket channel, or change how its messages are written",
    request=(json_content(RegistrationBody, {"serialization": SERIALIZATION_EXAMPLE}),),
    is_request_optional=True,
    answers=(
        Answer(201, "the channel is new", _WEBSOCKET),
        Answer(200, "the channel existed; its next batch is written as asked", _WEBSOCKET),
    ),
    refusals=(OTHER_CHANNEL,),
)
_NO_WEBSOCKET = NotFound("This application has no WEB_SOCKET channel")
_GET_WEBSOCKET = Operation(
    summary="The WebSocket channel's status, and how many events it holds",
    answers=(Answer(200, "the channel", _WEBSOCKET),),
    refusals=(_NO_WEBSOCKET,),
)
_DELETE_WEBSOCKET = Operation(
    summary="Delete the WebSocket channel and its queue; an open socket closes with 1000",
    answers=(done("channel and queue are gone"),),
    refusals=(_NO_WEBSOCKET,),
)
_GET_CHANNEL = Operation(
    summary="Which type of channel the application has",
    answers=(
        Answer(200, "the type", json_content(DeliveryMechanismAnswer, {"delivery_mechanism": "WEB_SOCKET"})),
    ),
    refusals=(NotFound("This application has no notification channel"),),
)
