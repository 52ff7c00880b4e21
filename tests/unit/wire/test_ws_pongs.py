"""Pongs are read without the parser exactly where the parser would have read the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import Pong

from dispatcher.wire.ws_pongs import FrameWalk, lone_pongs

MASKS = st.binary(min_size=4, max_size=4)
PAYLOADS = st.binary(min_size=4, max_size=4)


def frame(first: int, payload: bytes, mask: bytes = b"\x01\x02\x03\x04") -> bytes:
    size = len(payload)
    if size < 126:
        length = bytes((0x80 | size,))
    elif size < 1 << 16:
        length = bytes((0xFE,)) + size.to_bytes(2, "big")
    else:
        length = bytes((0xFF,)) + size.to_bytes(8, "big")
    masked = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
    return bytes((first,)) + length + mask + masked


@given(st.lists(st.tuples(PAYLOADS, MASKS), min_size=1, max_size=5))
def test_what_is_read_is_what_the_parser_reads(pongs: list[tuple[bytes, bytes]]) -> None:
    data = b"".join(frame(0x8A, payload, mask) for payload, mask in pongs)
    parser = Connection(ConnectionType.SERVER)
    parser.receive_data(data)
    assert lone_pongs(data) == [bytes(event.payload) for event in parser.events() if isinstance(event, Pong)]


@pytest.mark.parametrize(
    "data",
    [
        frame(0x8A, b"abcd")[:-1],
        frame(0x8A, b"abcd") + b"\x8a",
        frame(0x8A, b"abcde"),
        frame(0x8A, b""),
        frame(0x89, b"abcd"),  # a ping
        frame(0x0A, b"abcd"),  # a control frame in parts: the parser refuses it
        frame(0xCA, b"abcd"),  # a reserved bit
        frame(0x81, b"text"),
        frame(0x8A, b"abcd") + frame(0x81, b"text"),
        bytes((0x8A, 4)) + b"abcd" + b"more",  # not masked
    ],
)
def test_everything_else_is_for_the_parser(data: bytes) -> None:
    assert lone_pongs(data) is None


FRAMES = st.builds(
    frame, st.sampled_from((0x81, 0x01, 0x80, 0x8A, 0x89)), st.binary(max_size=300).map(lambda b: b * 300)
) | st.builds(frame, st.sampled_from((0x82, 0x8A)), st.binary(max_size=130))


@given(st.lists(FRAMES, max_size=4), st.lists(st.integers(1, 100), max_size=20))
def test_a_walk_knows_the_ends_of_frames_however_they_come(frames: list[bytes], cuts: list[int]) -> None:
    ends = {0}
    data = b""
    for one in frames:
        data += one
        ends.add(len(data))
    walk, at = FrameWalk(), 0
    for cut in [*cuts, len(data)]:
        piece = data[at : at + cut]
        at += len(piece)
        assert walk.step(piece) == (at in ends)


def test_a_frame_without_a_mask_is_walked_over_too() -> None:
    assert FrameWalk().step(b"\x81\x03abc")
    assert not FrameWalk().step(b"\x81\x03ab")
