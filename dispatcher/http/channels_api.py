"""``/v2/notification/...``: registering, reading and deleting an application's channel."""

from __future__ import annotations

import trio

from dispatcher import limits
from dispatcher.core.access import answer_subprotocol
from dispatcher.errors import NotFound, UnsupportedMediaType
from dispatcher.http.caller import ApiRoute, Caller, api_route, application_of, authenticate, key_of
from dispatcher.http.message import JSON, Request, Response, Upgrade, no_content
from dispatcher.model import ChannelType, Role
from dispatcher.runtime.active_channel import ActiveChannel
from dispatcher.runtime.hub import Hub
from dispatcher.wire import notification_api, ws_handshake


class ChannelsApi:
    """The channel paths of the notification API."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._parts = hub.parts

    def routes(self) -> list[ApiRoute]:
        """This API's rows of the route table."""
        callback, websocket = "/v2/notification/callback", "/v2/notification/websocket"
        return [
            api_route("PUT", callback, Role.APPLICATION, self.put_callback),
            api_route("GET", callback, Role.APPLICATION, self.get_callback),
            api_route("DELETE", callback, Role.APPLICATION, self.delete_callback),
            api_route("PUT", websocket, Role.APPLICATION, self.put_websocket),
            api_route("GET", websocket, Role.APPLICATION, self.get_websocket),
            api_route("DELETE", websocket, Role.APPLICATION, self.delete_websocket),
            api_route("GET", "/v2/notification/websocket-connect", None, self.connect),
            api_route("GET", "/v2/notification/channel", Role.APPLICATION, self.get_channel),
        ]

    async def put_callback(self, request: Request, caller: Caller) -> Response:
        """Verify and store a callback: 204."""
        require_json(request)
        webhook = notification_api.parse_webhook(await request.body(limits.API_BODY_BYTES_MAX))
        await self._hub.register_callback(
            application_of(caller), webhook.url, webhook.headers, webhook.serialization
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
        found = authenticate(self._parts, request, Role.APPLICATION, handshake.subprotocols)
        headers = [("Sec-WebSocket-Accept", handshake.accept)]
        answer = answer_subprotocol(handshake.subprotocols)
        if answer is not None:
            headers.append(("Sec-WebSocket-Protocol", answer))

        async def run(stream: trio.abc.Stream, leftover: bytes) -> None:
            await self._parts.sockets.serve(key_of(found), application_of(found), stream, leftover)

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
