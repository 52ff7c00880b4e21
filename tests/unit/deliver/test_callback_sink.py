"""The callback sink over memory streams and a mock clock: time limits, idle times, places."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest
import trio
import trio.testing
from support.watched_batches import WatchedBatch, large_batch, small_batch

from dispatcher import limits
from dispatcher.core.addresses import AddressPolicy
from dispatcher.core.callback_rules import parse_callback
from dispatcher.deliver.callback import CallbackSends, CallbackSink, StoredTarget
from dispatcher.deliver.callback_connection import PieceBuffers
from dispatcher.deliver.callback_tls import client_context
from dispatcher.deliver.dialer import Dialer
from dispatcher.deliver.sink import DeliveryFailed, FailureClass
from dispatcher.deliver.verification import VerificationFailed, verify_callback
from dispatcher.model import Position

Serve = Callable[[trio.abc.Stream], Awaitable[None]]

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
TIMEOUT_S = 20.0
TLS = client_context()


class ConnectionEnded(Exception):
    """There is no next request."""


class Peer:
    """Receivers in memory: each connection is served by ``serve`` in the test's nursery."""

    def __init__(self, nursery: trio.Nursery, serve: Serve) -> None:
        self._nursery = nursery
        self._serve = serve
        self.connections = 0
        self.confirmed: list[Position] = []

    async def connect(self, address: str, port: int) -> trio.abc.Stream:
        ours, theirs = trio.testing.memory_stream_pair()
        self.connections += 1
        self._nursery.start_soon(self._run, theirs)
        return ours

    async def _run(self, stream: trio.abc.Stream) -> None:
        with suppress(ConnectionEnded):
            await self._serve(stream)

    def dialer(self) -> Dialer:
        return Dialer(AddressPolicy(), TLS, connect=self.connect)

    def sink(self, sends: CallbackSends | None = None) -> CallbackSink:
        return CallbackSink(
            StoredTarget("http://8.8.8.8/", {}),
            dialer=self.dialer(),
            timeout_s=TIMEOUT_S,
            confirmed=self.confirmed.append,
            sends=sends or CallbackSends(),
            now_unix_s=lambda: 0.0,
        )


async def read_request(stream: trio.abc.Stream) -> bytes:
    """One small request."""
    received = b""
    while b"\r\n\r\n" not in received:
        data = await stream.receive_some(65_536)
        if not data:
            raise ConnectionEnded
        received += data
    head, _, body = received.partition(b"\r\n\r\n")
    wanted = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    while len(body) < wanted:
        body += await stream.receive_some(65_536)
    return head


async def answering(stream: trio.abc.Stream) -> None:
    while True:
        await read_request(stream)
        await stream.send_all(OK)


async def failure_of(serve: Serve, batch: WatchedBatch | None = None) -> tuple[DeliveryFailed, float, Peer]:
    """Send one batch to such a receiver: the failure, and how long it took."""
    async with trio.open_nursery() as nursery:
        peer = Peer(nursery, serve)
        started_s = trio.current_time()
        with pytest.raises(DeliveryFailed) as caught:
            await peer.sink().send(batch or small_batch())
        nursery.cancel_scope.cancel()
    return caught.value, trio.current_time() - started_s, peer


async def success_of(serve: Serve) -> float:
    """Send two batches to such a receiver; how long the first one took."""
    async with trio.open_nursery() as nursery:
        peer = Peer(nursery, serve)
        sink = peer.sink()
        started_s = trio.current_time()
        await sink.send(small_batch())
        took_s = trio.current_time() - started_s
        assert len(peer.confirmed) == 1
        nursery.cancel_scope.cancel()
    return took_s


async def test_a_receiver_that_never_answers_costs_the_time_limit(autojump_clock: trio.abc.Clock) -> None:
    async def serve(stream: trio.abc.Stream) -> None:
        await read_request(stream)
        await trio.sleep_forever()

    failure, took_s, peer = await failure_of(serve)
    assert (failure.failure, took_s) == (FailureClass.TIMEOUT, TIMEOUT_S)
    assert peer.confirmed == []


async def test_a_connection_that_does_not_come_up_costs_the_time_limit(
    autojump_clock: trio.abc.Clock,
) -> None:
    async def connect(address: str, port: int) -> trio.abc.Stream:
        await trio.sleep_forever()
        raise AssertionError

    dialer = Dialer(AddressPolicy(), TLS, connect=connect)
    sink = CallbackSink(
        parse_callback("http://8.8.8.8/", {}),
        dialer=dialer,
        timeout_s=TIMEOUT_S,
        confirmed=lambda position: None,
        sends=CallbackSends(),
        now_unix_s=lambda: 0.0,
    )
    started_s = trio.current_time()
    with pytest.raises(DeliveryFailed) as caught:
        await sink.send(small_batch())
    assert caught.value.failure is FailureClass.TIMEOUT
    assert trio.current_time() - started_s == TIMEOUT_S


async def test_a_status_that_drips_does_not_stretch_the_time_limit(autojump_clock: trio.abc.Clock) -> None:
    async def serve(stream: trio.abc.Stream) -> None:
        await read_request(stream)
        for byte in b"HTTP/1.1 200 OK\r\n" + b"X-Slow: " + b"a" * 1000:
            await stream.send_all(bytes([byte]))
            await trio.sleep(1.0)

    failure, took_s, _ = await failure_of(serve)
    assert (failure.failure, took_s) == (FailureClass.TIMEOUT, TIMEOUT_S)


async def test_headers_without_end_are_cut_at_their_bound(autojump_clock: trio.abc.Clock) -> None:
    sent_bytes = 0

    async def serve(stream: trio.abc.Stream) -> None:
        nonlocal sent_bytes
        await read_request(stream)
        await stream.send_all(b"HTTP/1.1 200 OK\r\n")
        while True:
            await stream.send_all(b"X-More: " + b"a" * 990 + b"\r\n")
            sent_bytes += 1000
            await trio.sleep(0.01)

    failure, took_s, _ = await failure_of(serve)
    assert failure.failure is FailureClass.CONNECTION
    assert sent_bytes < 2 * limits.CALLBACK_RESPONSE_HEAD_BYTES_MAX
    assert took_s < 1.0


async def test_a_body_without_end_counts_by_its_status_and_is_cut_soon(
    autojump_clock: trio.abc.Clock,
) -> None:
    async def serve(stream: trio.abc.Stream) -> None:
        await read_request(stream)
        await stream.send_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            await stream.send_all(b"1\r\nx\r\n")
            await trio.sleep(0.1)

    assert await success_of(serve) == limits.CALLBACK_RESPONSE_DRAIN_S


async def test_a_body_that_is_promised_and_does_not_come_counts_by_its_status(
    autojump_clock: trio.abc.Clock,
) -> None:
    async def serve(stream: trio.abc.Stream) -> None:
        await read_request(stream)
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
        await trio.sleep_forever()

    assert await success_of(serve) == limits.CALLBACK_RESPONSE_DRAIN_S


async def test_a_receiver_that_stops_reading_costs_the_time_limit(autojump_clock: trio.abc.Clock) -> None:
    async def connect(address: str, port: int) -> trio.abc.Stream:
        ours, theirs = trio.testing.lockstep_stream_pair()
        nursery.start_soon(serve, theirs)
        return ours

    async def serve(stream: trio.abc.Stream) -> None:
        await stream.receive_some(700_000)
        await stream.receive_some(1)
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        peer = Peer(nursery, serve)
        peer.connect = connect  # type: ignore[method-assign]
        batch = large_batch(2_000_000)
        sends = CallbackSends()
        started_s = trio.current_time()
        with pytest.raises(DeliveryFailed) as caught:
            await peer.sink(sends).send(batch)
        assert trio.current_time() - started_s == TIMEOUT_S
        nursery.cancel_scope.cancel()
    assert caught.value.failure is FailureClass.TIMEOUT
    assert batch.bytes_read < batch.bytes_count
    assert sends.in_flight == 0
    with sends.buffers.borrow() as buffer:
        buffer += b"x"  # no view of it was left behind


async def test_a_slow_reader_that_answers_in_time_is_confirmed(autojump_clock: trio.abc.Clock) -> None:
    async def serve(stream: trio.abc.Stream) -> None:
        await trio.sleep(12.0)
        await read_request(stream)
        await trio.sleep(7.0)
        await stream.send_all(OK)

    assert await success_of(serve) == 19.0


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 500 No\r\nConnection: close\r\n\r\n",
        b"HTTP/1.1 500 No\r\nContent-Length: 99\r\n\r\n",
        b"not HTTP\r\n\r\n",
        b"",
    ],
)
async def test_a_connection_that_cannot_be_used_again_is_closed_at_once(
    reply: bytes, autojump_clock: trio.abc.Clock
) -> None:
    closed = trio.Event()

    async def serve(stream: trio.abc.Stream) -> None:
        await read_request(stream)
        await stream.send_all(reply)
        assert await stream.receive_some(1) == b""
        closed.set()

    async with trio.open_nursery() as nursery:
        sink = Peer(nursery, serve).sink()
        with pytest.raises(DeliveryFailed):
            await sink.send(small_batch())
        with trio.fail_after(0.1):
            await closed.wait()


async def test_a_switch_of_protocols_that_nobody_asked_for_is_a_failure() -> None:
    async def serve(stream: trio.abc.Stream) -> None:
        await read_request(stream)
        await stream.send_all(b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n")

    failure, _, _ = await failure_of(serve)
    assert failure.failure is FailureClass.CONNECTION


async def test_a_kept_connection_is_not_used_after_its_idle_time(autojump_clock: trio.abc.Clock) -> None:
    async with trio.open_nursery() as nursery:
        peer = Peer(nursery, answering)
        sink = peer.sink()
        await sink.send(small_batch(1))
        await trio.sleep(limits.CALLBACK_IDLE_S - 0.5)
        await sink.send(small_batch(2))
        assert peer.connections == 1
        await trio.sleep(limits.CALLBACK_IDLE_S)
        await sink.send(small_batch(3))
        assert peer.connections == 2
        nursery.cancel_scope.cancel()


async def test_close_idle_closes_only_what_was_idle_for_so_long(autojump_clock: trio.abc.Clock) -> None:
    async with trio.open_nursery() as nursery:
        peer = Peer(nursery, answering)
        sink = peer.sink()
        await sink.send(small_batch())
        await trio.sleep(10.0)
        await sink.close_idle(idle_s=10.5)
        assert sink.idle_since_s == trio.current_time() - 10.0
        await sink.close_idle(idle_s=10.0)
        assert sink.idle_since_s is None
        nursery.cancel_scope.cancel()


async def test_close_idle_leaves_a_send_under_way_alone(autojump_clock: trio.abc.Clock) -> None:
    async def serve(stream: trio.abc.Stream) -> None:
        await read_request(stream)
        await trio.sleep(5.0)
        await stream.send_all(OK)

    async with trio.open_nursery() as nursery:
        peer = Peer(nursery, serve)
        sink = peer.sink()
        nursery.start_soon(sink.send, small_batch())
        await trio.sleep(1.0)
        await sink.close_idle()
        await trio.sleep(5.0)
        assert len(peer.confirmed) == 1
        nursery.cancel_scope.cancel()


async def test_places_bound_the_requests_in_flight_and_waiting_is_not_a_timeout(
    autojump_clock: trio.abc.Clock,
) -> None:
    in_flight = in_flight_max = 0

    async def serve(stream: trio.abc.Stream) -> None:
        nonlocal in_flight, in_flight_max
        await read_request(stream)
        in_flight += 1
        in_flight_max = max(in_flight_max, in_flight)
        await trio.sleep(15.0)
        in_flight -= 1
        await stream.send_all(OK)

    sends = CallbackSends(places=2, retry_places=1)
    async with trio.open_nursery() as receivers:
        peer = Peer(receivers, serve)
        async with trio.open_nursery() as nursery:
            for _ in range(6):
                nursery.start_soon(peer.sink(sends).send, small_batch())
        receivers.cancel_scope.cancel()
    assert in_flight_max == 2
    assert len(peer.confirmed) == 6


async def test_failing_channels_leave_places_to_those_that_work(autojump_clock: trio.abc.Clock) -> None:
    async def silent(stream: trio.abc.Stream) -> None:
        await trio.sleep_forever()

    async def keep_failing(sink: CallbackSink) -> None:
        while True:
            with pytest.raises(DeliveryFailed):
                await sink.send(small_batch())
            await trio.sleep(1.0)

    sends = CallbackSends(places=4, retry_places=2)
    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(keep_failing, Peer(nursery, silent).sink(sends))
        await trio.sleep(50 / 2 * TIMEOUT_S + 1)  # by then each has failed once
        peer = Peer(nursery, answering)
        sink = peer.sink(sends)
        for seq in range(100):
            started_s = trio.current_time()
            await sink.send(small_batch(seq))
            assert trio.current_time() == started_s
            await trio.sleep(1.7)
        nursery.cancel_scope.cancel()


async def test_success_gives_a_channel_its_full_share_again(autojump_clock: trio.abc.Clock) -> None:
    answers = [b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n", OK, OK]

    async def serve(stream: trio.abc.Stream) -> None:
        while True:
            await read_request(stream)
            await stream.send_all(answers.pop(0))

    async def hold_the_place_for_retries() -> None:
        async with sends.place(is_retry=True):
            await trio.sleep(100)

    sends = CallbackSends(places=2, retry_places=1)
    async with trio.open_nursery() as nursery:
        sink = Peer(nursery, serve).sink(sends)
        with pytest.raises(DeliveryFailed):
            await sink.send(small_batch())
        nursery.start_soon(hold_the_place_for_retries)
        await trio.sleep(1)
        with trio.move_on_after(60) as waiting:
            await sink.send(small_batch())
        assert waiting.cancelled_caught
        await trio.sleep(60)
        await sink.send(small_batch())
        nursery.start_soon(hold_the_place_for_retries)
        await trio.sleep(1)
        with trio.fail_after(1):
            await sink.send(small_batch())
        nursery.cancel_scope.cancel()


async def test_drained_returns_at_once() -> None:
    async with trio.open_nursery() as nursery:
        with trio.testing.assert_checkpoints():
            await Peer(nursery, answering).sink().drained()


async def test_verification_has_one_time_limit_for_everything(autojump_clock: trio.abc.Clock) -> None:
    async def serve(stream: trio.abc.Stream) -> None:
        await read_request(stream)
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        peer = Peer(nursery, serve)
        started_s = trio.current_time()
        with pytest.raises(VerificationFailed, match=r"^timeout$"):
            await verify_callback(parse_callback("http://8.8.8.8/", {}), peer.dialer())
        assert trio.current_time() - started_s == limits.VERIFICATION_TIMEOUT_S
        nursery.cancel_scope.cancel()


def test_free_buffers_are_kept_up_to_their_bound() -> None:
    buffers = PieceBuffers()
    with buffers.borrow() as first:
        pass
    with buffers.borrow() as again:
        assert again is first
        with buffers.borrow() as other:
            assert other is not first
    borrowed = [buffers.borrow() for _ in range(limits.CALLBACK_PIECES_KEPT_MAX + 5)]
    for one in borrowed:
        one.__enter__()
    for one in borrowed:
        one.__exit__(None, None, None)
    assert buffers.free_count == limits.CALLBACK_PIECES_KEPT_MAX


async def test_a_sinks_repr_says_where_it_sends_and_nothing_secret() -> None:
    sink = CallbackSink(
        parse_callback("https://example.com/token", {"Authorization": "Bearer secret"}),
        dialer=Dialer(AddressPolicy(), TLS),
        timeout_s=TIMEOUT_S,
        confirmed=lambda position: None,
        sends=CallbackSends(),
        now_unix_s=lambda: 0.0,
    )
    assert "https://example.com" in repr(sink)
    assert "secret" not in repr(sink)
    assert "token" not in repr(sink)


def test_a_stored_target_shows_no_secret() -> None:
    stored = StoredTarget("https://receiver.test/secret-path", {"Authorization": "Bearer secret"})
    assert "secret" not in repr(stored)
