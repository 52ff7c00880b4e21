"""What the rows of WebSockets say of themselves, and the conversation of an application's."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from dispatcher.errors import BadRequest, CloseCode, DispatcherError, TooManyRequests, UpgradeRequired
from dispatcher.http.operation import Answer, Conversation, Header, Operation, Parameter, SocketMessage
from dispatcher.model import Role
from dispatcher.wire.message_shapes import MESSAGE_EXAMPLE, REGISTRATION_EXAMPLE, NotificationMessage
from dispatcher.wire.ws_extensions import DeflateTerms

_PARAMETERS = (
    Parameter(
        name="Upgrade",
        place="header",
        model=str,
        meaning="`websocket`.",
        example="websocket",
        is_required=True,
    ),
    Parameter(
        name="Connection",
        place="header",
        model=str,
        meaning="`Upgrade`.",
        example="Upgrade",
        is_required=True,
    ),
    Parameter(
        name="Sec-WebSocket-Version",
        place="header",
        model=Literal["13"],
        meaning="The protocol's version.",
        example="13",
        is_required=True,
    ),
    Parameter(
        name="Sec-WebSocket-Key",
        place="header",
        model=Annotated[str, Meta(pattern="^[A-Za-z0-9+/]{21}[AQgw]==$")],
        meaning="16 random bytes in base64.",
        example="Z3JlZW5ob3VzZS03LWtleQ==",
        is_required=True,
    ),
    Parameter(
        name="Sec-WebSocket-Protocol",
        place="header",
        model=str,
        meaning="`wss`, and `pelion_<key>` from clients that cannot set `Authorization`.",
        example="wss",
    ),
)
_ACCEPT = Header("Sec-WebSocket-Accept", str, "Proves it.", "pUT60XG5EmqGrt7Zo2TJ8nWq0Is=")
_EXTENSIONS = Parameter(
    name="Sec-WebSocket-Extensions",
    place="header",
    model=str,
    meaning="`permessage-deflate` (RFC 7692), by whose terms messages may then be compressed.",
    example="permessage-deflate; client_max_window_bits",
)
_EXTENSIONS_ANSWER = Header(
    "Sec-WebSocket-Extensions", str, "When it was offered in a way that can be met.", DeflateTerms().answer()
)
_PingPayload = Annotated[str, Meta(description="The four bytes of a counter.")]


def handshake(
    summary: str,
    role: Role,
    conversation: Conversation,
    *refusals: DispatcherError,
    is_compressible: bool = False,
) -> Operation:
    """The row of a WebSocket's path."""
    return Operation(
        summary=f"{summary}: see /asyncapi.json",
        roles=(role,),
        parameters=(*_PARAMETERS, _EXTENSIONS) if is_compressible else _PARAMETERS,
        answers=(
            Answer(
                101,
                "the socket is open",
                headers=(_ACCEPT, _EXTENSIONS_ANSWER) if is_compressible else (_ACCEPT,),
            ),
        ),
        refusals=(
            BadRequest("the Sec-WebSocket-Key header is missing"),
            UpgradeRequired("this path speaks WebSocket only"),
            *refusals,
        ),
        conversation=conversation,
    )


def pings(when: str) -> tuple[SocketMessage, ...]:
    """Our pings and their pongs."""
    return (
        SocketMessage(
            name="ping",
            is_ours=True,
            summary=f"A ping: {when}",
            model=_PingPayload,
            examples=("a counter",),
            opcode=9,
        ),
        SocketMessage(
            name="pong",
            is_ours=False,
            summary="The pong to a ping, with the same bytes; WebSocket libraries send it by themselves",
            model=_PingPayload,
            examples=("a counter",),
            opcode=10,
        ),
    )


CONNECT = handshake(
    "Open an application's socket",
    Role.APPLICATION,
    Conversation(
        name="notifications",
        summary="Events down; the pong to the ping behind them confirms them",
        messages=(
            SocketMessage(
                name="notification",
                is_ours=True,
                summary="Events, in order",
                model=NotificationMessage,
                examples=(MESSAGE_EXAMPLE, REGISTRATION_EXAMPLE),
            ),
            *pings("behind each message or group of messages, and when the socket is idle"),
        ),
        closes=(
            (CloseCode.NORMAL, "the channel was deleted"),
            (
                CloseCode.GOING_AWAY,
                "a newer socket took over, no pong came, or it was unused for long",
            ),
            (CloseCode.PROTOCOL_ERROR, "what came is not WebSocket"),
            (CloseCode.INVALID_DATA, "text that is not UTF-8, or compressed data that is not DEFLATE"),
            (CloseCode.POLICY, "the key was revoked"),
            (CloseCode.TOO_BIG, "a message came that is larger than clients have any need of"),
            (CloseCode.INTERNAL, "no WebSocket channel is registered, or the dispatcher failed"),
            (CloseCode.RESTART, "the dispatcher is restarting"),
            (CloseCode.TRY_AGAIN_LATER, "the account has too many sockets and polls open"),
        ),
    ),
    TooManyRequests("account 'acme' has 100 sockets and polls open; close some first", retry_after_s=10),
    is_compressible=True,
)
