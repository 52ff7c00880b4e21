"""Our frames, read back by wsproto as a client reads them."""

from __future__ import annotations

import pytest
from wsproto.connection import Connection, ConnectionType
from wsproto.events import Ping, TextMessage

from dispatcher.limits import WEBSOCKET_HEADER_BYTES_MAX
from dispatcher.wire.ws_frames import PING_FRAME_BYTES, ping_frame, put_text_header, text_header_bytes


def read_as_client(data):
    client = Connection(ConnectionType.CLIENT)
    client.receive_data(bytes(data))
    return list(client.events())


@pytest.mark.parametrize(
    ("payload_bytes", "header_bytes"),
    [(0, 2), (125, 2), (126, 4), (0xFFFF, 4), (0x10000, 10), (1_000_000, 10)],
)
def test_a_client_reads_a_text_frame_of_any_length(payload_bytes, header_bytes):
    assert text_header_bytes(payload_bytes) == header_bytes <= WEBSOCKET_HEADER_BYTES_MAX
    buffer = bytearray(3 + header_bytes + payload_bytes)
    end = put_text_header(buffer, 3, payload_bytes)
    assert end == 3 + header_bytes
    assert buffer[:3] == b"\0\0\0"
    buffer[end:] = b"x" * payload_bytes
    events = read_as_client(buffer[3:])
    assert all(isinstance(event, TextMessage) for event in events)
    assert "".join(event.data for event in events) == "x" * payload_bytes
    assert events[-1].message_finished


def test_a_header_takes_exactly_the_room_it_says():
    for payload_bytes in (0, 126, 0x10000):
        buffer = bytearray(text_header_bytes(payload_bytes))
        assert put_text_header(buffer, 0, payload_bytes) == len(buffer)


def test_a_ping_is_six_bytes_on_the_wire():
    frame = ping_frame(b"\x01\x02\x03\x04")
    assert frame == b"\x89\x04\x01\x02\x03\x04"
    assert len(frame) == PING_FRAME_BYTES
    assert read_as_client(frame) == [Ping(payload=b"\x01\x02\x03\x04")]


@pytest.mark.parametrize("payload", [b"", b"123", b"12345"])
def test_a_ping_of_another_length_is_a_mistake(payload):
    with pytest.raises(AssertionError):
        ping_frame(payload)
