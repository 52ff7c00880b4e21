"""The frames that a server sends often, written straight into a send buffer.

Server frames are not masked, so that a text frame is a header of 2, 4 or 10 bytes in
front of bytes that lie ready (RFC 6455, section 5.2).  Pongs and Close frames are
rare and belong to the closing rules; wsproto writes those.
"""

from __future__ import annotations

import struct

PING_FRAME_BYTES = 6
PING_PAYLOAD_BYTES = 4  # the notification protocol's clients are promised exactly four

FIN = 0x80  # the last frame of a message
DEFLATED = 0x40  # RSV1, on the first frame of a compressed message (RFC 7692, section 6)
TEXT = 0x1
CONTINUATION = 0x0

_FIN_PING = 0x89
_LENGTH_16_BITS = 126
_LENGTH_64_BITS = 127
_HEADER_16 = struct.Struct("!BBH")
_HEADER_64 = struct.Struct("!BBQ")


def text_header_bytes(payload_bytes: int) -> int:
    """The length of the header in front of a payload: 2, 4 or 10."""
    if payload_bytes < _LENGTH_16_BITS:
        return 2
    return 4 if payload_bytes <= 0xFFFF else 10


def put_text_header(buffer: bytearray, offset: int, payload_bytes: int) -> int:
    """Write the header of an unfragmented text frame at ``offset``; return where its payload starts.

    The buffer must have room for ``text_header_bytes(payload_bytes)`` behind the offset.
    """
    return put_header(buffer, offset, FIN | TEXT, payload_bytes)


def put_header(buffer: bytearray, offset: int, first_byte: int, payload_bytes: int) -> int:
    """The same for any frame; ``first_byte`` is its opcode with ``FIN`` and ``DEFLATED`` as they apply."""
    if payload_bytes < _LENGTH_16_BITS:
        buffer[offset] = first_byte
        buffer[offset + 1] = payload_bytes
        return offset + 2
    if payload_bytes <= 0xFFFF:
        _HEADER_16.pack_into(buffer, offset, first_byte, _LENGTH_16_BITS, payload_bytes)
        return offset + 4
    _HEADER_64.pack_into(buffer, offset, first_byte, _LENGTH_64_BITS, payload_bytes)
    return offset + 10


def ping_frame(payload: bytes) -> bytes:
    """A ping of exactly ``PING_PAYLOAD_BYTES``."""
    assert len(payload) == PING_PAYLOAD_BYTES
    return bytes((_FIN_PING, PING_PAYLOAD_BYTES)) + payload
