"""Bodies in their envelopes: read back by zlib and the published package of Standard Webhooks."""

from __future__ import annotations

import base64
import random
import time
import zlib

import pytest
import trio
import trio.lowlevel
from standardwebhooks import Webhook
from support.watched_batches import WatchedBatch

from dispatcher import limits
from dispatcher.deliver.callback import _Message
from dispatcher.deliver.callback_body import Envelope, RequestBody, Wrapper
from dispatcher.deliver.callback_connection import PieceBuffers
from dispatcher.errors import PositionLost
from dispatcher.model import Signing

SECRET, OLDER = bytes(range(32)), b"o" * 24
SIGNED = Envelope(signing=Signing(secret=SECRET))
GZIPPED = Envelope(is_gzipped=True)
BOTH = Envelope(signing=Signing(secret=SECRET), is_gzipped=True)


def json_like(bytes_min: int) -> WatchedBatch:
    return WatchedBatch([b'{"ep":"device-%06d","path":"/1"}' % n for n in range(bytes_min // 32 + 1)])


def noise(bytes_min: int, record_bytes: int = 1000) -> WatchedBatch:
    source = random.Random(1)
    return WatchedBatch([source.randbytes(record_bytes) for _ in range(bytes_min // record_bytes + 1)])


def with_a_giant(bytes_min: int) -> WatchedBatch:
    """Noise with a record in its midst that no buffer holds, so that buffers grow."""
    records = list(noise(bytes_min).messages[0].records)
    records.insert(len(records) // 2, random.Random(2).randbytes(3 * limits.CALLBACK_WRAP_PIECE_BYTES))
    return WatchedBatch(records)


async def wrapped(batch: WatchedBatch, envelope: Envelope, index: int = 0) -> RequestBody:
    source = _Message(batch, index, PieceBuffers())
    await source.rewind()
    return await Wrapper().wrap(source, envelope, lambda: "msg_1", int(time.time() * 1000))


async def content(body: RequestBody, *, head_bytes: int = 300) -> bytes:
    """As the connection reads it."""
    buffer = bytearray(limits.SEND_PIECE_BYTES)
    read, offset = b"", head_bytes
    while len(read) < body.bytes_count:
        count = await body.read_into(buffer, offset)
        assert count > 0
        read += buffer[offset : offset + count]
        offset = 0
    return read


def unpacked(data: bytes) -> bytes:
    inflate = zlib.decompressobj(31)
    found = inflate.decompress(data)
    assert inflate.eof
    assert inflate.unused_data == b""
    return found


def verify(body: RequestBody, message: bytes, secret: bytes = SECRET) -> None:
    webhook = Webhook(f"whsec_{base64.b64encode(secret).decode()}")
    webhook.verify(message, dict(body.headers), json_parse=False)


async def test_a_plain_message_is_not_read_and_has_no_headers() -> None:
    batch = json_like(5000)
    body = await wrapped(batch, Envelope())
    assert (batch.reads, body.headers) == (0, ())
    assert await content(body) == batch.bodies()[0]


@pytest.mark.parametrize("bytes_min", [1, 5_000, 3_000_000])
async def test_a_signed_message_has_its_own_bytes_and_verifies(bytes_min: int) -> None:
    batch = json_like(bytes_min)
    body = await wrapped(batch, SIGNED)
    assert body.bytes_count == batch.bytes_count
    assert await content(body) == batch.bodies()[0]
    verify(body, batch.bodies()[0])


async def test_both_secrets_sign_while_the_older_one_has_time() -> None:
    now_ms = int(time.time() * 1000)
    for until_ms, count in ((now_ms + 60_000, 2), (now_ms - 1, 1)):
        signing = Signing(secret=SECRET, older_secret=OLDER, older_until_unix_ms=until_ms)
        body = await wrapped(json_like(100), Envelope(signing=signing))
        assert dict(body.headers)["webhook-signature"].count("v1,") == count
        verify(body, json_like(100).bodies()[0])
        if count == 2:
            verify(body, json_like(100).bodies()[0], OLDER)


@pytest.mark.parametrize("make", [json_like, noise, with_a_giant])
@pytest.mark.parametrize("bytes_min", [1, 16_000, 70_000, 1_500_000])
async def test_a_compressed_message_is_as_long_as_was_said_and_gives_the_message(
    make: object, bytes_min: int
) -> None:
    batch = make(bytes_min)  # type: ignore[operator]
    body = await wrapped(batch, GZIPPED)
    assert body.headers == (("Content-Encoding", "gzip"),)
    first = await content(body)
    assert len(first) == body.bytes_count
    assert unpacked(first) == batch.bodies()[0]
    await body.rewind()
    assert await content(body, head_bytes=1000) == first
    assert await content(await wrapped(make(bytes_min), GZIPPED)) == first  # type: ignore[operator]


async def test_the_signature_of_a_compressed_message_is_that_of_the_message() -> None:
    for batch in (json_like(500), json_like(9_000_000)):
        body = await wrapped(batch, BOTH)
        verify(body, unpacked(await content(body)))


async def test_each_message_of_a_batch_is_wrapped_by_itself() -> None:
    batch = WatchedBatch([b"one" * 100], [b"two" * 200, b"2"], [b"three"])
    for index in (1, 0, 2):
        body = await wrapped(batch, GZIPPED, index)
        assert unpacked(await content(body)) == batch.bodies()[index]


async def test_what_is_long_when_compressed_is_never_in_memory_as_a_whole() -> None:
    batch = noise(3_000_000)
    body = await wrapped(batch, GZIPPED)
    assert body.bytes_count > limits.CALLBACK_GZIP_KEPT_BYTES_MAX
    assert batch.buffer_bytes_max <= limits.CALLBACK_WRAP_PIECE_BYTES
    held = [value for value in vars(body).values() if isinstance(value, bytes | bytearray)]
    assert sum(map(len, held)) <= limits.CALLBACK_WRAP_PIECE_BYTES
    assert len(await content(body)) == body.bytes_count


async def test_what_is_short_when_compressed_is_compressed_once() -> None:
    batch = json_like(500_000)
    body = await wrapped(batch, GZIPPED)
    reads = batch.reads
    await content(body)
    assert batch.reads == reads


async def test_a_large_message_lets_others_run_while_it_is_wrapped() -> None:
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    for envelope in (SIGNED, GZIPPED):
        turns = 0
        async with trio.open_nursery() as nursery:
            nursery.start_soon(count_turns)
            await wrapped(json_like(2_000_000), envelope)
            nursery.cancel_scope.cancel()
        assert turns > 20


async def test_only_so_many_threads_compress_at_once() -> None:
    wrapper, most = Wrapper(), 0
    limiter = wrapper._threads

    async def wrap() -> None:
        source = _Message(noise(300_000), 0, PieceBuffers())
        await wrapper.wrap(source, GZIPPED, lambda: "", 0)

    async with trio.open_nursery() as nursery:
        for _ in range(3 * limits.CALLBACK_GZIP_THREADS_MAX):
            nursery.start_soon(wrap)
        await trio.lowlevel.checkpoint()
        while len(nursery.child_tasks) > 0:
            most = max(most, int(limiter.borrowed_tokens))
            await trio.lowlevel.checkpoint()
    assert 1 <= most <= limits.CALLBACK_GZIP_THREADS_MAX


@pytest.mark.parametrize("envelope", [SIGNED, GZIPPED, BOTH])
async def test_records_that_go_away_meanwhile_are_told(envelope: Envelope) -> None:
    batch = WatchedBatch([bytes(1000)] * 300, gone=PositionLost("gone"), gone_after_reads=2)
    with pytest.raises(PositionLost):
        await wrapped(batch, envelope)


async def test_a_cancelled_wrapping_leaves_the_message_readable() -> None:
    batch = noise(600_000)
    for envelope in (SIGNED, GZIPPED):
        with trio.CancelScope() as scope:
            scope.cancel()
            await wrapped(batch, envelope)
        assert scope.cancelled_caught
        batch.rewind()
        assert unpacked(await content(await wrapped(batch, GZIPPED))) == batch.bodies()[0]
