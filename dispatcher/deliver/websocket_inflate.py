"""What clients send compressed, unpacked up to a bound (RFC 7692, section 7.2.2).

wsproto has permessage-deflate too, and unpacks whatever a frame holds: 4 KiB of it can
be 4 MiB, and a message of such frames anything.  This extension unpacks a message up to
its bound and not a byte further; the first byte over it ends the connection with 1009.
An inflater is there while a compressed message is coming in, and takes 40 KiB.
"""

from __future__ import annotations

import zlib

from wsproto.extensions import Extension
from wsproto.frame_protocol import CloseReason, FrameDecoder, FrameProtocol, Opcode, ParseFailed, RsvBits

from dispatcher.wire.ws_extensions import NAME, WINDOW_BITS_MAX

NOT_DEFLATE = "not DEFLATE data"  # the text of a 1007 that is ours; the others are about UTF-8

_TAIL = b"\x00\x00\xff\xff"  # what senders take from the end of each message
_ALLOWED = RsvBits(True, False, False)


class BoundedInflate(Extension):
    """wsproto's receiving side of permessage-deflate without context takeover.

    Messages that are not compressed pass as they are, without a bound.
    """

    __slots__ = ("_inflate", "_is_control", "_left_bytes", "_message_bytes_max")
    name = NAME

    def __init__(self, message_bytes_max: int) -> None:
        self._message_bytes_max = message_bytes_max
        self._left_bytes = 0  # that the message may still have
        self._inflate: zlib._Decompress | None = None  # of the message that is coming in, if it is compressed
        self._is_control = False  # a frame between those of the message

    def enabled(self) -> bool:
        """The handshake is over: it was agreed on."""
        return True

    def offer(self) -> bool:
        """Servers do not offer."""
        return False

    def frame_inbound_header(
        self, proto: FrameDecoder | FrameProtocol, opcode: Opcode, rsv: RsvBits, payload_length: int
    ) -> RsvBits:
        """Called once or twice for a frame, the second time when its header came in two parts."""
        self._is_control = opcode.iscontrol()
        if opcode in (Opcode.TEXT, Opcode.BINARY):
            self._inflate = zlib.decompressobj(-WINDOW_BITS_MAX) if rsv.rsv1 else None
            self._left_bytes = self._message_bytes_max
        elif rsv.rsv1:
            raise ParseFailed("RSV1 on a frame that begins no message")
        return _ALLOWED

    def frame_inbound_payload_data(self, proto: FrameDecoder | FrameProtocol, data: bytes) -> bytes:
        """Unpack a part of a frame."""
        if self._inflate is None or self._is_control:
            return data
        return self._unpack(self._inflate, data)

    def frame_inbound_complete(self, proto: FrameDecoder | FrameProtocol, fin: bool) -> bytes | None:
        """Unpack what the end of a message brings out."""
        if self._inflate is None or self._is_control or not fin:
            return None
        rest = self._unpack(self._inflate, _TAIL)
        self._inflate = None
        return rest

    def _unpack(self, inflate: zlib._Decompress, data: bytes) -> bytes:
        if inflate.eof:  # a final block came; behind it is padding (section 7.2.3.4)
            return b""
        try:
            unpacked = inflate.decompress(data, self._left_bytes + 1)
        except zlib.error:
            raise ParseFailed(NOT_DEFLATE, CloseReason.INVALID_FRAME_PAYLOAD_DATA) from None
        if len(unpacked) > self._left_bytes:
            raise ParseFailed(f"message over {self._message_bytes_max} bytes", CloseReason.MESSAGE_TOO_BIG)
        self._left_bytes -= len(unpacked)
        return unpacked
