"""Pongs read off the wire without a parser, where nothing else has come.

What a receiver sends is one pong after the other: frames of ten bytes that say one number.
A full parser takes longer for each than sending its message took.  So bytes that are
whole pongs of this form and nothing else, at a place where a frame begins, are read here; all
others go to the parser, which then misses only pongs, and pongs change nothing in it.
"""

from __future__ import annotations

from dispatcher.wire.ws_frames import PING_PAYLOAD_BYTES

_HEADER_BYTES = 6  # two, and the mask
_PONG_BYTES = _HEADER_BYTES + PING_PAYLOAD_BYTES
_START = bytes((0x8A, 0x80 | PING_PAYLOAD_BYTES))  # FIN and pong, masked and so long
_LENGTH_BYTES = {126: 2, 127: 8}
_MASK_BYTES = 4


def lone_pongs(data: bytes) -> list[bytes] | None:
    """The payloads when these bytes are nothing but our pings' pongs; None when not."""
    if len(data) % _PONG_BYTES:
        return None
    payloads = []
    for start in range(0, len(data), _PONG_BYTES):
        if not data.startswith(_START, start):
            return None
        mask = int.from_bytes(data[start + 2 : start + _HEADER_BYTES], "big")
        masked = int.from_bytes(data[start + _HEADER_BYTES : start + _PONG_BYTES], "big")
        payloads.append((mask ^ masked).to_bytes(PING_PAYLOAD_BYTES, "big"))
    return payloads


class FrameWalk:
    """Goes along with a client's frames to know where each ends; what is in them it does not look at."""

    __slots__ = ("_header", "_left")

    def __init__(self) -> None:
        self._header = b""
        self._left = 0  # bytes of the payload begun

    def step(self, data: bytes) -> bool:
        """Pass over these bytes; whether the next one begins a frame."""
        at = 0
        while at < len(data):
            if self._left:
                step = min(self._left, len(data) - at)
                self._left -= step
            else:
                step = min(_header_bytes(self._header) - len(self._header), len(data) - at)
                self._header += data[at : at + step]
                if len(self._header) == _header_bytes(self._header):
                    self._left = _payload_bytes(self._header)
                    self._header = b""
            at += step
        return not self._header and not self._left


def _header_bytes(header: bytes) -> int:
    """How long a header is that begins so; 2 while that cannot be told."""
    if len(header) < 2:
        return 2
    mask_bytes = _MASK_BYTES if header[1] & 0x80 else 0
    return 2 + _LENGTH_BYTES.get(header[1] & 0x7F, 0) + mask_bytes


def _payload_bytes(header: bytes) -> int:
    short = header[1] & 0x7F
    length_bytes = _LENGTH_BYTES.get(short, 0)
    return int.from_bytes(header[2 : 2 + length_bytes], "big") if length_bytes else short
