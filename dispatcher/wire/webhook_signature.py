"""Standard Webhooks: how a delivery says who sent it, and that it is whole.

    webhook-id         the same for the same message, however often it is sent
    webhook-timestamp  of this attempt, in Unix seconds
    webhook-signature  v1,BASE64 for each secret: HMAC-SHA256 of "ID.TIMESTAMP.BODY"

The body is the JSON, before any Content-Encoding.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import struct
from collections.abc import Sequence

from dispatcher import limits
from dispatcher.model import Position

HEADER_NAMES = ("webhook-id", "webhook-timestamp", "webhook-signature")
SECRET_PREFIX = "whsec_"
ID_BYTES = 16

_PLACE = struct.Struct("<QQQ?QQ?IQ")


def parse_secret(text: str) -> bytes:
    """The bytes of ``whsec_BASE64``.  Raises ``ValueError``, whose message repeats nothing of it."""
    low, high = limits.SIGNING_SECRET_BYTES_MIN, limits.SIGNING_SECRET_BYTES_MAX
    encoded = text.removeprefix(SECRET_PREFIX)
    try:
        secret = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        secret = b""
    if encoded == text or not low <= len(secret) <= high:
        raise ValueError(f"must be {SECRET_PREFIX} and the base64 of {low} to {high} bytes")
    return secret


def message_id(incarnation: int, first: Position, last: Position, index: int, bytes_count: int) -> str:
    """The id of one message of a channel's batch: the same over retries and restarts.

    ``index`` is its place in the batch, ``bytes_count`` its length.  With the length, the
    same events written in another way, or with others beside them, are another message.
    """
    place = _PLACE.pack(
        *(incarnation, first.epoch, first.seq, first.is_behind_gap),
        *(last.epoch, last.seq, last.is_behind_gap, index, bytes_count),
    )
    return id_of(hashlib.sha256(place).digest()[:ID_BYTES])


def id_of(number: bytes) -> str:
    """An id made of ``ID_BYTES`` bytes that no other message has."""
    return f"msg_{number.hex()}"


class Signature:
    """The signature of one message, while its body is read."""

    def __init__(self, secrets: Sequence[bytes], id: str, unix_s: int) -> None:
        self._id = id
        self._unix_s = unix_s
        self._sums = [hmac.new(secret, f"{id}.{unix_s}.".encode(), "sha256") for secret in secrets]

    def __repr__(self) -> str:
        return f"<Signature of {self._id}>"

    def update(self, piece: memoryview | bytes) -> None:
        """The next bytes of the body."""
        for found in self._sums:
            found.update(piece)

    def headers(self) -> tuple[tuple[str, str], ...]:
        """What goes into the head, once the whole body was read."""
        signed = " ".join(f"v1,{base64.b64encode(found.digest()).decode()}" for found in self._sums)
        return tuple(zip(HEADER_NAMES, (self._id, str(self._unix_s), signed), strict=True))
