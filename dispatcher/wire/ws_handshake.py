"""The server's half of a WebSocket opening handshake (RFC 6455, section 4.2), as values.

Who may connect, and which subprotocol is answered, is decided elsewhere; ``Origin``
is not looked at, because most clients that are not browsers send none.  Extensions
are ``ws_extensions``'.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Protocol

import msgspec

from dispatcher.errors import BadRequest, UpgradeRequired

_ACCEPT_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3
_KEY_BYTES = 16
_VERSION = "13"


class HeaderLookup(Protocol):
    """A request's headers.  Names are given in lower case."""

    def get(self, name: str, /) -> str | None:
        """The value, several lines of one name joined by commas, or None."""
        ...


class UpgradeRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request that may be answered with 101."""

    accept: str  # for Sec-WebSocket-Accept
    subprotocols: tuple[str, ...]  # as offered, in order; one of them may hold a key

    def __repr__(self) -> str:
        return f"<UpgradeRequest subprotocols={len(self.subprotocols)}>"


def check_upgrade(headers: HeaderLookup) -> UpgradeRequest:
    """Check the headers of a GET that asks for a WebSocket.

    Raises ``UpgradeRequired`` when the request asks for none, or for another version;
    ``BadRequest`` when a header is missing or malformed.
    """
    if not (_has_token(headers, "connection", "upgrade") and _has_token(headers, "upgrade", "websocket")):
        raise UpgradeRequired(
            "this path speaks WebSocket only: send Connection: Upgrade and Upgrade: websocket"
        )
    version = headers.get("sec-websocket-version")
    if version is None:
        raise BadRequest("the Sec-WebSocket-Version header is missing; it must be 13")
    if version.strip() != _VERSION:
        raise UpgradeRequired("only version 13 of the WebSocket protocol is spoken here")
    return UpgradeRequest(
        accept=_accept_for(headers.get("sec-websocket-key")),
        subprotocols=parse_subprotocols(headers.get("sec-websocket-protocol") or ""),
    )


def parse_subprotocols(value: str) -> tuple[str, ...]:
    """The items of a ``Sec-WebSocket-Protocol`` list.

    Not checked to be tokens: keys ride in here, and base64 is not made of token
    characters alone.
    """
    return tuple(item for item in map(str.strip, value.split(",")) if item)


def _has_token(headers: HeaderLookup, name: str, token: str) -> bool:
    value = headers.get(name) or ""
    return token in (item.strip().lower() for item in value.split(","))


def _accept_for(key: str | None) -> str:
    if key is None:
        raise BadRequest("the Sec-WebSocket-Key header is missing")
    key_ascii = key.strip().encode("ascii", "replace")
    try:
        decoded = binascii.a2b_base64(key_ascii, strict_mode=True)
    except binascii.Error:
        decoded = b""
    if len(decoded) != _KEY_BYTES:
        raise BadRequest("the Sec-WebSocket-Key header is not 16 bytes in base64")
    digest = hashlib.sha1(key_ascii + _ACCEPT_GUID, usedforsecurity=False).digest()
    return base64.b64encode(digest).decode("ascii")
