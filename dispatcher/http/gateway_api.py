"""``/gateway/v1/connect``: the socket of a gateway that also executes commands."""

from __future__ import annotations

import trio

from dispatcher.core.access import answer_subprotocol
from dispatcher.errors import CloseCode, TooManyRequests
from dispatcher.http.caller import ApiRoute, Caller, account_of, admit, api_route, key_of
from dispatcher.http.gateway_session import PATH, GatewaySession
from dispatcher.http.ingest_api import Intake
from dispatcher.http.message import Request, Upgrade
from dispatcher.http.operation import Conversation, SocketMessage
from dispatcher.http.socket_operation import handshake, pings
from dispatcher.model import Role
from dispatcher.runtime.hub import Hub
from dispatcher.wire import ws_handshake
from dispatcher.wire.gateway_messages import DeviceRequestsMessage, SocketAnswer
from dispatcher.wire.message_shapes import ASYNC_RESPONSE_EXAMPLE, MESSAGE_EXAMPLE, SocketUpMessage


class GatewayApi:
    """The gateway's socket."""

    def __init__(self, hub: Hub, intake: Intake) -> None:
        self._hub = hub
        self._intake = intake

    def routes(self) -> list[ApiRoute]:
        """This API's rows of the route table."""
        return [api_route("GET", PATH, None, self.connect, _CONNECT)]

    async def connect(self, request: Request, caller: Caller) -> Upgrade:
        """Events up, answers and device requests down."""
        handshake = ws_handshake.check_upgrade(request.headers)
        found = admit(self._hub.parts, request, Role.GATEWAY, handshake.subprotocols)
        key, account = key_of(found), account_of(found)
        self._hub.parts.gateways.check_room(account)
        headers = [("Sec-WebSocket-Accept", handshake.accept)]
        answer = answer_subprotocol(handshake.subprotocols)
        if answer is not None:
            headers.append(("Sec-WebSocket-Protocol", answer))
        session = GatewaySession(self._hub, self._intake, key, account, request.request_id)

        async def run(stream: trio.abc.Stream, leftover: bytes) -> None:
            await self._hub.parts.gateways.serve(key, account, stream, leftover, session.run)

        return Upgrade(run, tuple(headers))


# --- what the documents say of the rows ---------------------------------------------------

_REFUSED = {
    "accepted": 2,
    "error": {
        "object": "error",
        "code": 400,
        "type": "validation_error",
        "message": "notifications[0].path: must start with a slash",
        "request_id": "9c2e5a71d04b83f6",
        "fields": [{"name": "notifications[0].path", "message": "must start with a slash"}],
    },
}
_DEVICE_REQUEST = {
    "device-requests": [
        {"id": "job-42", "ep": "greenhouse-7", "method": "GET", "uri": "/3303/0/5700", "accept": "text/plain"}
    ]
}
_CONVERSATION = Conversation(
    name="gateway",
    summary="Events up, answers and device requests down",
    messages=(
        SocketMessage(
            name="events",
            is_ours=False,
            summary="Events, and answers of devices; each message is answered once, in order",
            model=SocketUpMessage,
            examples=({**MESSAGE_EXAMPLE, "message-id": "truck-7-000042"}, ASYNC_RESPONSE_EXAMPLE),
        ),
        SocketMessage(
            name="answer",
            is_ours=True,
            summary="How many events of this socket are durable, and what was wrong with the message",
            model=SocketAnswer,
            examples=({"accepted": 3}, _REFUSED),
        ),
        SocketMessage(
            name="device-requests",
            is_ours=True,
            summary="Requests for devices; one with an id is answered by an async response of this id",
            model=DeviceRequestsMessage,
            examples=(_DEVICE_REQUEST,),
        ),
        *pings("sent when nothing came for a while"),
    ),
    closes=(
        (CloseCode.GOING_AWAY, "no pong came in time, or nothing is read"),
        (CloseCode.PROTOCOL_ERROR, "what came is not WebSocket"),
        (CloseCode.INVALID_DATA, "a text message is not UTF-8"),
        (CloseCode.POLICY, "the key was revoked"),
        (CloseCode.TOO_BIG, "a message is larger than a request body may be"),
        (CloseCode.INTERNAL, "the dispatcher failed"),
        (CloseCode.RESTART, "the dispatcher is restarting"),
        (CloseCode.TRY_AGAIN_LATER, "too many large messages come at once"),
    ),
)
_CONNECT = handshake(
    "Open a gateway's socket",
    Role.GATEWAY,
    _CONVERSATION,
    TooManyRequests("this account's gateways have too many sockets open", retry_after_s=10),
)
