"""What clients send compressed: unpacked, up to a bound, or refused with the right code."""

from __future__ import annotations

import itertools
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.websocket_pairs import BINARY, CLOSE, PING, PONG, TEXT, client_frame, connected_pair
from trio.testing import wait_all_tasks_blocked
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage

from dispatcher.deliver.websocket_inflate import BoundedInflate
from dispatcher.limits import MIB, WEBSOCKET_CLIENT_MESSAGE_BYTES_MAX
from dispatcher.wire.ws_extensions import DeflateTerms

BOUND = 1_000
RSV1 = 4
CONTINUATION = 0x0
HELLO = bytes.fromhex("f248cdc9c90700")  # RFC 7692, section 7.2.3.1
TERMS = DeflateTerms()


def deflated(message: bytes, flush: int = zlib.Z_SYNC_FLUSH) -> bytes:
    """As senders do it (RFC 7692, section 7.2.1)."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    data = compressor.compress(message) + compressor.flush(flush)
    return data.removesuffix(b"\0\0\xff\xff") if flush == zlib.Z_SYNC_FLUSH else data + b"\0"


class Reader:
    """Our receiving side alone, fed in pieces."""

    def __init__(self) -> None:
        self._protocol = Connection(ConnectionType.SERVER, [BoundedInflate(BOUND)])
        self._parts: list[bytes] = []
        self.messages: list[bytes] = []
        self.pings: list[bytes] = []
        self.fault: tuple[int, str] | None = None

    def feed(self, data: bytes) -> Reader:
        self._protocol.receive_data(data)
        for event in self._protocol.events():
            match event:
                case TextMessage() | BytesMessage():
                    part = event.data
                    self._parts.append(part.encode() if isinstance(part, str) else bytes(part))
                    if event.message_finished:
                        self.messages.append(b"".join(self._parts))
                        self._parts.clear()
                case Ping():
                    self.pings.append(bytes(event.payload))
                case CloseConnection():
                    self.fault = (int(event.code), event.reason or "")
        return self

    @property
    def held_bytes(self) -> int:
        return sum(map(len, self._parts))


# --- what must be read ------------------------------------------------------------------


@pytest.mark.parametrize(
    "frames",
    [
        client_frame(TEXT, HELLO, rsv=RSV1),
        client_frame(TEXT, b"Hello"),
        client_frame(TEXT, HELLO[:3], rsv=RSV1, fin=False) + client_frame(CONTINUATION, HELLO[3:]),
        client_frame(TEXT, HELLO[:3], rsv=RSV1, fin=False)
        + client_frame(PING, b"\xff\xff")
        + client_frame(CONTINUATION, HELLO[3:]),
        client_frame(TEXT, b"", rsv=RSV1, fin=False) + client_frame(CONTINUATION, HELLO),
        client_frame(TEXT, HELLO, rsv=RSV1, fin=False) + client_frame(CONTINUATION, b""),
        client_frame(TEXT, bytes.fromhex("000500faff48656c6c6f00"), rsv=RSV1),  # 7.2.3.3: stored
        client_frame(TEXT, bytes.fromhex("f348cdc9c9070000"), rsv=RSV1),  # 7.2.3.4: a final block
        client_frame(TEXT, bytes.fromhex("f248050000 00ffffcac9c90700"), rsv=RSV1),  # 7.2.3.5: two blocks
    ],
)
def test_the_examples_of_the_rfc_are_read_however_they_are_framed(frames):
    reader = Reader().feed(frames)
    assert (reader.messages, reader.fault) == ([b"Hello"], None)


def test_no_message_knows_of_the_one_before():
    reader = Reader().feed(client_frame(TEXT, HELLO, rsv=RSV1))
    taken_over = bytes.fromhex("f200110000")  # 7.2.3.2: "Hello" by a reference to the message before
    assert reader.feed(client_frame(TEXT, taken_over, rsv=RSV1)).fault == (1007, "not DEFLATE data")


def test_compressed_and_plain_messages_take_turns():
    reader = Reader()
    for _ in range(3):
        reader.feed(client_frame(TEXT, HELLO, rsv=RSV1) + client_frame(BINARY, b"\xff" * 2 * BOUND))
    assert reader.messages == [b"Hello", b"\xff" * 2 * BOUND] * 3, "plain ones are bounded by their reader"
    assert reader.fault is None


@given(
    messages=st.lists(st.tuples(st.binary(max_size=BOUND), st.booleans(), st.booleans()), max_size=4),
    cuts=st.lists(st.integers(0, 3_000), max_size=8),
    frame_bytes=st.integers(1, 600),
)
def test_any_messages_are_read_wherever_frames_and_reads_are_cut(messages, cuts, frame_bytes):
    wire = b""
    for message, is_deflated, is_final_block in messages:
        flush = zlib.Z_FINISH if is_final_block else zlib.Z_SYNC_FLUSH
        data = deflated(message, flush) if is_deflated else message
        parts = [data[at : at + frame_bytes] for at in range(0, len(data), frame_bytes)] or [b""]
        for number, part in enumerate(parts):
            is_last = number == len(parts) - 1
            rsv = RSV1 if is_deflated and number == 0 else 0
            wire += client_frame(CONTINUATION if number else BINARY, part, fin=is_last, rsv=rsv)
            wire += client_frame(PING, b"between")
    reader = Reader()
    edges = [0, *sorted(min(cut, len(wire)) for cut in cuts), len(wire)]
    for start, end in itertools.pairwise(edges):
        reader.feed(wire[start:end])
    assert reader.messages == [message for message, _, _ in messages]
    assert set(reader.pings) <= {b"between"}
    assert reader.fault is None


# --- what must not ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        (client_frame(TEXT, b"\x07garbage", rsv=RSV1), 1007),
        (client_frame(TEXT, deflated(b"\xff\xfe"), rsv=RSV1), 1007),
        (client_frame(PING, b"", rsv=RSV1), 1002),
        (client_frame(PONG, b"1234", rsv=RSV1), 1002),
        (client_frame(CLOSE, b"", rsv=RSV1), 1002),
        (client_frame(TEXT, b"a", fin=False) + client_frame(CONTINUATION, HELLO, rsv=RSV1), 1002),
        (client_frame(CONTINUATION, HELLO, rsv=RSV1), 1002),
        (client_frame(TEXT, b"a", fin=False) + client_frame(TEXT, HELLO, rsv=RSV1), 1002),
        (client_frame(TEXT, HELLO, rsv=RSV1 | 2), 1002),
        (client_frame(TEXT, HELLO, rsv=1), 1002),
    ],
)
@pytest.mark.parametrize("step", [1, 10_000])
def test_what_breaks_the_rules_ends_with_their_code(frames, code, step):
    reader = Reader()
    for at in range(0, len(frames), step):
        reader.feed(frames[at : at + step])
    assert reader.fault is not None
    assert reader.fault[0] == code


@pytest.mark.parametrize("message", [b"", b"x" * BOUND, b"x" * (BOUND + 1)])
def test_the_bound_is_exact(message):
    reader = Reader().feed(client_frame(TEXT, deflated(message), rsv=RSV1))
    if len(message) <= BOUND:
        assert (reader.messages, reader.fault) == ([message], None)
    else:
        assert (reader.messages, reader.fault) == ([], (1009, f"message over {BOUND} bytes"))


def test_the_bound_is_the_messages_and_not_a_frames():
    part = zlib.compressobj(9, zlib.DEFLATED, -15)
    reader = Reader()
    for number in range(4):
        data = part.compress(bytes(300)) + part.flush(zlib.Z_SYNC_FLUSH)
        reader.feed(
            client_frame(CONTINUATION if number else BINARY, data, rsv=0 if number else RSV1, fin=False)
        )
        assert reader.held_bytes <= BOUND
    assert reader.fault == (1009, f"message over {BOUND} bytes")


def test_between_messages_nothing_of_an_inflater_is_kept():
    readers = [Reader() for _ in range(20)]
    frame = client_frame(BINARY, deflated(bytes(range(250))), rsv=RSV1)
    readers[0].feed(frame)
    tracemalloc.start()
    for reader in readers:
        reader.feed(frame)
    kept_bytes, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept_bytes / len(readers) < 3_000
    assert peak_bytes > 7_000, "zlib's memory is seen at all"


def test_a_bomb_is_not_unpacked():
    bomb = client_frame(BINARY, deflated(bytes(64 * MIB)), rsv=RSV1)
    assert len(bomb) < 70_000
    reader = Reader()
    tracemalloc.start()
    for at in range(0, len(bomb), 4096):
        reader.feed(bomb[at : at + 4096])
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert reader.fault == (1009, f"message over {BOUND} bytes")
    assert peak_bytes < 1 * MIB


@pytest.mark.parametrize(
    ("start", "filler"),
    [(b"", b"\0\0\0\xff\xff" * 800), (b"\x03\0", deflated(b"x", zlib.Z_FINISH) * 800)],
    ids=["empty blocks", "behind a final block"],
)
def test_a_message_that_never_ends_and_holds_nothing_is_not_kept(start, filler):
    reader = Reader().feed(client_frame(BINARY, start, rsv=RSV1, fin=False))
    tracemalloc.start()
    for _ in range(200):
        reader.feed(client_frame(CONTINUATION, filler, fin=False))
    kept_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (reader.fault, reader.held_bytes) == (None, 0)
    assert kept_bytes < 200_000, "of 800 KB that came"


@given(
    data=st.binary(max_size=3_000),
    prefix=st.sampled_from([b"", deflated(b"abc" * 300), deflated(bytes(5_000))[:20]]),
    flips=st.lists(st.tuples(st.integers(0, 2_999), st.integers(0, 7)), max_size=4),
)
def test_whatever_comes_no_more_than_the_bound_comes_out(data, prefix, flips):
    damaged = bytearray(prefix + data)
    for at, bit in flips:
        if at < len(damaged):
            damaged[at] ^= 1 << bit
    reader = Reader().feed(client_frame(BINARY, bytes(damaged), rsv=RSV1))
    assert reader.held_bytes + sum(map(len, reader.messages)) <= BOUND
    assert reader.fault is None or reader.fault[0] in (1007, 1009)


# --- the same on a connection -----------------------------------------------------------


async def test_a_bomb_closes_the_connection_with_1009(autojump_clock):
    async with connected_pair(deflate=TERMS) as pair:
        await pair.client.send(client_frame(TEXT, deflated(b"x" * 10 * MIB), rsv=RSV1))
        code, text = await pair.client.until_close()
        assert (code, text) == (1009, f"message over {WEBSOCKET_CLIENT_MESSAGE_BYTES_MAX} bytes")


async def test_data_that_is_not_deflate_closes_with_1007_and_says_so(autojump_clock):
    async with connected_pair(deflate=TERMS) as pair:
        await pair.client.send(client_frame(TEXT, b"\x07garbage", rsv=RSV1))
        assert await pair.client.until_close() == (1007, "not DEFLATE data")


async def test_text_that_is_not_utf_8_when_unpacked_closes_with_1007(autojump_clock):
    async with connected_pair(deflate=TERMS) as pair:
        await pair.client.send(client_frame(TEXT, deflated(b"\xff\xfe"), rsv=RSV1))
        assert await pair.client.until_close() == (1007, "not UTF-8")


async def test_a_compressed_message_without_an_agreement_closes_with_1002(autojump_clock):
    async with connected_pair() as pair:
        await pair.client.send(client_frame(TEXT, HELLO, rsv=RSV1))
        assert (await pair.client.until_close())[0] == 1002


async def test_a_compressed_message_is_forgotten_like_any_other(autojump_clock):
    async with connected_pair(deflate=TERMS) as pair:
        await pair.client.send(client_frame(TEXT, deflated(b"hello " * 1_000), rsv=RSV1))
        await wait_all_tasks_blocked()
        assert pair.connection.is_open
