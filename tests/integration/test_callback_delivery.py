"""The callback sink against a scripted receiver on real sockets."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
import trio
import trustme
from support.receiver import (
    CLOSE,
    RESET,
    SILENCE,
    Receiver,
    Then,
    When,
    answer,
    open_receiver,
    raw,
)
from support.watched_batches import WatchedBatch, large_batch, small_batch

from dispatcher import limits
from dispatcher.core.addresses import AddressPolicy
from dispatcher.core.callback_rules import parse_callback
from dispatcher.deliver.callback import CallbackSends, CallbackSink
from dispatcher.deliver.callback_tls import client_context
from dispatcher.deliver.dialer import Dialer
from dispatcher.deliver.sink import DeliveryFailed, FailureClass, SinkClosed
from dispatcher.deliver.verification import VerificationFailed, verify_callback
from dispatcher.errors import PositionLost
from dispatcher.model import Position

LOCAL = AddressPolicy(allow_private=True)


def make_dialer(tls: ssl.SSLContext | None = None) -> Dialer:
    return Dialer(LOCAL, tls or client_context())


class Sending:
    """A sink with what it confirmed."""

    def __init__(
        self,
        url: str,
        *,
        headers: dict[str, str] | None = None,
        timeout_s: float = 5.0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.confirmed: list[Position] = []
        self.sends = CallbackSends()
        self.sink = CallbackSink(
            parse_callback(url, headers or {}),
            dialer=make_dialer(tls),
            timeout_s=timeout_s,
            confirmed=self.confirmed.append,
            sends=self.sends,
            now_unix_s=lambda: 1_700_000_000.0,
        )

    async def fails(self, batch: WatchedBatch) -> DeliveryFailed:
        with pytest.raises(DeliveryFailed) as caught:
            await self.sink.send(batch)
        return caught.value


@asynccontextmanager
async def sending_to(receiver: Receiver, **options: object) -> AsyncIterator[Sending]:
    sending = Sending(receiver.url, **options)  # type: ignore[arg-type]
    try:
        yield sending
    finally:
        await sending.sink.aclose()


async def test_a_batch_is_one_put_with_its_exact_bytes_and_is_confirmed_by_its_last_position() -> None:
    batch = large_batch(1_500_000, last=77)
    async with open_receiver() as receiver, sending_to(receiver) as sending:
        await sending.sink.send(batch)
    (request,) = receiver.requests
    assert request.line == b"PUT / HTTP/1.1"
    assert request.body == batch.bodies()[0]
    assert sending.confirmed == [Position(1, 77)]


async def test_a_large_batch_is_never_in_memory_as_a_whole() -> None:
    batch = large_batch(3_000_000)
    async with open_receiver() as receiver, sending_to(receiver) as sending:
        await sending.sink.send(batch)
    assert batch.buffer_bytes_max == limits.SEND_PIECE_BYTES


async def test_a_record_larger_than_a_piece_goes_alone_and_its_buffer_is_not_kept() -> None:
    batch = WatchedBatch([b"a" * 10, b"b" * (limits.SEND_PIECE_BYTES + 5), b"c" * 10])
    async with open_receiver() as receiver, sending_to(receiver) as sending:
        await sending.sink.send(batch)
        with sending.sends.buffers.borrow() as buffer:
            assert len(buffer) == limits.SEND_PIECE_BYTES
    assert receiver.requests[0].body == batch.bodies()[0]


async def test_the_head_has_our_defaults_and_the_callers_headers_as_they_were_given() -> None:
    headers = {"X-Tag": "a  b", "authorization": "Bearer t"}
    async with open_receiver() as receiver, sending_to(receiver, headers=headers) as sending:
        await sending.sink.send(small_batch())
    (request,) = receiver.requests
    assert request.values("Host") == [f"127.0.0.1:{receiver.port}".encode()]
    assert request.values("Content-Type") == [b"application/json"]
    assert re.fullmatch(rb"dispatcher(/[0-9.]+)?", request.values("User-Agent")[0])
    assert request.values("Content-Length") == [str(len(request.body)).encode()]
    assert b"\r\nX-Tag: a  b\r\n" in request.head
    assert b"\r\nauthorization: Bearer t\r\n" in request.head


async def test_the_callers_content_type_and_user_agent_take_the_place_of_ours() -> None:
    headers = {"content-type": "text/x", "USER-AGENT": "mine"}
    async with open_receiver() as receiver, sending_to(receiver, headers=headers) as sending:
        await sending.sink.send(small_batch())
    (request,) = receiver.requests
    assert request.values("Content-Type") == [b"text/x"]
    assert request.values("User-Agent") == [b"mine"]


async def test_path_and_query_go_into_the_request_line_untouched() -> None:
    async with open_receiver() as receiver:
        sending = Sending(f"{receiver.url}a%20b/c?x=1&y={{z}}")
        await sending.sink.send(small_batch())
        await sending.sink.aclose()
    assert receiver.requests[0].line == b"PUT /a%20b/c?x=1&y={z} HTTP/1.1"


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
async def test_any_2xx_acknowledges(status: int) -> None:
    async with open_receiver(answer(status)) as receiver, sending_to(receiver) as sending:
        await sending.sink.send(small_batch())
    assert len(sending.confirmed) == 1


@pytest.mark.parametrize("status", [300, 304, 400, 404, 410, 429, 500, 503, 599])
async def test_any_other_status_is_a_failure_and_confirms_nothing(status: int) -> None:
    async with open_receiver(answer(status)) as receiver, sending_to(receiver) as sending:
        failure = await sending.fails(small_batch())
    assert (failure.failure, failure.status) == (FailureClass.STATUS, status)
    assert sending.confirmed == []


async def test_batches_of_one_channel_share_a_connection() -> None:
    async with open_receiver() as receiver, sending_to(receiver) as sending:
        for seq in (1, 2, 3):
            await sending.sink.send(large_batch(600_000, last=seq))
    assert receiver.connections == 1
    assert [position.seq for position in sending.confirmed] == [1, 2, 3]


async def test_a_failed_batch_goes_again_with_the_same_bytes_on_the_same_connection() -> None:
    async with open_receiver(answer(500, b"sorry")) as receiver, sending_to(receiver) as sending:
        batch = large_batch(600_000)
        await sending.fails(batch)
        await sending.sink.send(batch)
    first, second = receiver.requests
    assert (first.head, first.body) == (second.head, second.body)
    assert receiver.connections == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_failures_and_never_followed(status: int) -> None:
    async with open_receiver() as elsewhere:
        reply = answer(status, headers=(("Location", elsewhere.url),))
        async with open_receiver(reply) as receiver, sending_to(receiver) as sending:
            failure = await sending.fails(small_batch())
        assert failure.status == status
        assert elsewhere.connections == 0


@pytest.mark.parametrize("then", [Then.CLOSE, Then.RESET, Then.HANG])
async def test_an_early_413_is_seen_although_the_body_is_not_read(then: Then) -> None:
    early = answer(413, when=When.AFTER_HEAD, then=then)
    batch = large_batch(64_000_000)  # far more than sockets buffer
    async with open_receiver(early) as receiver, sending_to(receiver) as sending:
        with trio.fail_after(3):
            failure = await sending.fails(batch)
        assert failure.is_too_large
        assert batch.bytes_read < batch.bytes_count
        await sending.sink.send(small_batch())
    assert receiver.connections == 2  # a half-written request is never followed by another


async def test_an_early_200_confirms_only_when_the_whole_request_was_taken() -> None:
    early = answer(200, when=When.AFTER_HEAD, then=Then.CLOSE)
    async with open_receiver(early) as receiver, sending_to(receiver) as sending:
        failure = await sending.fails(large_batch(64_000_000))
    assert failure.failure is FailureClass.CONNECTION
    assert sending.confirmed == []


async def test_a_receiver_that_echoes_while_it_reads_is_confirmed() -> None:
    batch = large_batch(8_000_000)  # more than sockets buffer: it stops reading when we do

    async def echo(stream: trio.SocketStream) -> None:
        await stream.send_all(b"HTTP/1.1 200 OK\r\n\r\n")
        with suppress(trio.BrokenResourceError):
            while data := await stream.receive_some(65_536):
                await stream.send_all(data)

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, echo, listeners)
        sending = Sending(f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}/")
        await sending.sink.send(batch)
        assert len(sending.confirmed) == 1
        nursery.cancel_scope.cancel()


async def test_retry_after_is_reported_in_seconds() -> None:
    replies = (
        answer(503, headers=(("Retry-After", "17"),)),
        answer(
            429,
            headers=(
                ("Date", "Tue, 14 Nov 2023 22:13:20 GMT"),
                ("Retry-After", "Tue, 14 Nov 2023 22:13:50 GMT"),
            ),
        ),
        answer(503, headers=(("Retry-After", "Tue, 14 Nov 2023 22:14:20 GMT"),)),  # to 1_700_000_000
        answer(503),
    )
    async with open_receiver(*replies) as receiver, sending_to(receiver) as sending:
        found = [(await sending.fails(small_batch())).retry_after_s for _ in replies]
    assert found == [17.0, 30.0, 60.0, None]


async def test_informational_answers_are_skipped() -> None:
    reply = raw(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\n\r\n" + answer(200).raw, then=Then.KEEP)
    async with open_receiver(reply) as receiver, sending_to(receiver) as sending:
        await sending.sink.send(small_batch())
        await sending.sink.send(small_batch())
    assert receiver.connections == 1


async def test_informational_answers_without_end_are_a_failure() -> None:
    reply = raw(b"HTTP/1.1 102 Processing\r\n\r\n" * 1000, then=Then.HANG)
    async with open_receiver(reply) as receiver, sending_to(receiver) as sending:
        with trio.fail_after(3):
            failure = await sending.fails(small_batch())
    assert failure.failure is FailureClass.CONNECTION


@pytest.mark.parametrize(
    "reply",
    [
        raw(b"HTTP/1.0 200 OK\r\n\r\nfine"),
        raw(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}"),
        answer(200, headers=(("Connection", "close"),), then=Then.CLOSE),
        answer(200, headers=(("Connection", "close"),), then=Then.HANG),
        raw(b"HTTP/1.1 200 OK\r\n\r\nuntil the end"),
    ],
    ids=["1.0", "1.0 with length", "close", "close but stays", "until the end"],
)
async def test_a_receiver_that_ends_its_connections_gets_a_new_one_each_time(reply: object) -> None:
    async with open_receiver(reply) as receiver, sending_to(receiver) as sending:  # type: ignore[arg-type]
        await sending.sink.send(small_batch(1))
        await sending.sink.send(small_batch(2))
    assert receiver.connections == 2
    assert len(receiver.requests) == 2
    assert len(sending.confirmed) == 2


async def test_a_chunked_answer_is_read_to_its_end_and_the_connection_kept() -> None:
    chunked = raw(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n5\r\nhello\r\n0\r\nT: x\r\n\r\n",
        then=Then.KEEP,
    )
    async with open_receiver(chunked, chunked) as receiver, sending_to(receiver) as sending:
        await sending.sink.send(small_batch(1))
        await sending.sink.send(small_batch(2))
    assert receiver.connections == 1


async def test_an_answer_over_its_bound_counts_but_costs_the_connection() -> None:
    long = answer(200, b"x" * (limits.CALLBACK_RESPONSE_BYTES_MAX + 100_000))
    just = answer(200, b"x" * limits.CALLBACK_RESPONSE_BYTES_MAX)
    async with open_receiver(long, just) as receiver, sending_to(receiver) as sending:
        for seq in (1, 2, 3):
            await sending.sink.send(small_batch(seq))
    assert len(sending.confirmed) == 3
    assert [request.connection for request in receiver.requests] == [0, 1, 1]


async def test_words_after_the_answer_cost_the_connection_and_are_not_taken_for_the_next_one() -> None:
    smuggled = raw(answer(500).raw + answer(200).raw, then=Then.KEEP)
    async with open_receiver(smuggled, answer(503)) as receiver, sending_to(receiver) as sending:
        assert (await sending.fails(small_batch())).status == 500
        assert (await sending.fails(small_batch())).status == 503
    assert receiver.connections == 2


async def test_a_reset_in_the_middle_of_the_head_is_a_failure_and_not_tried_again_at_once() -> None:
    cut = raw(b"HTTP/1.1 200 OK\r\nContent-Le", then=Then.RESET)
    async with open_receiver(answer(200), cut) as receiver, sending_to(receiver) as sending:
        await sending.sink.send(small_batch(1))
        failure = await sending.fails(small_batch(2))
    assert receiver.connections == 1
    assert failure.failure is FailureClass.CONNECTION
    assert [position.seq for position in sending.confirmed] == [1]


async def test_a_reset_after_a_2xx_status_costs_only_the_connection() -> None:
    cut = raw(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", then=Then.RESET)
    async with open_receiver(cut) as receiver, sending_to(receiver) as sending:
        await sending.sink.send(small_batch(1))
        await sending.sink.send(small_batch(2))
    assert receiver.connections == 2
    assert len(sending.confirmed) == 2


async def test_what_is_not_http_is_a_failure() -> None:
    async with open_receiver(raw(b"220 mail ready\r\n")) as receiver, sending_to(receiver) as sending:
        failure = await sending.fails(small_batch())
    assert failure.failure is FailureClass.CONNECTION
    assert "mail" not in str(failure)


@pytest.mark.parametrize("ending", [RESET, CLOSE], ids=["reset", "close"])
async def test_a_kept_connection_that_dies_unanswered_is_tried_once_more_at_once(ending: object) -> None:
    script = (answer(200), ending)
    async with open_receiver(*script) as receiver, sending_to(receiver) as sending:  # type: ignore[arg-type]
        await sending.sink.send(small_batch(1))
        second = large_batch(600_000, last=2)
        await sending.sink.send(second)
    assert [request.connection for request in receiver.requests] == [0, 0, 1]
    assert receiver.requests[2].body == second.bodies()[0]
    assert len(sending.confirmed) == 2


async def test_a_new_connection_that_dies_is_not_tried_again() -> None:
    async with open_receiver(answer(200), CLOSE, CLOSE) as receiver, sending_to(receiver) as sending:
        await sending.sink.send(small_batch(1))
        failure = await sending.fails(small_batch(2))
    assert failure.failure is FailureClass.CONNECTION
    assert len(receiver.requests) == 3


async def test_a_kept_connection_closed_by_the_receiver_is_noticed_before_sending() -> None:
    late = raw(answer(200).raw, then=Then.CLOSE)
    async with open_receiver(late) as receiver, sending_to(receiver) as sending:
        await sending.sink.send(small_batch(1))
        await trio.sleep(0.05)  # for the receiver's FIN
        batch = small_batch(2)
        await sending.sink.send(batch)
        assert batch.rewinds == 1  # the one at the beginning: nothing was sent twice
    assert receiver.connections == 2


async def test_a_408_that_was_sent_to_an_idle_connection_is_not_the_next_batchs_answer() -> None:
    async def serve(stream: trio.SocketStream) -> None:
        connections.append(stream)
        await stream.receive_some(65_536)
        await stream.send_all(answer(200).raw)
        await trio.sleep(0.02)
        await stream.send_all(answer(408).raw)
        await stream.aclose()

    connections: list[trio.SocketStream] = []
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, serve, listeners)
        sending = Sending(f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}/")
        await sending.sink.send(small_batch(1))
        await trio.sleep(0.06)
        await sending.sink.send(small_batch(2))
        await sending.sink.aclose()
        nursery.cancel_scope.cancel()
    assert len(connections) == 2
    assert len(sending.confirmed) == 2


async def test_one_message_per_kind_is_one_put_each_and_confirmed_with_the_last() -> None:
    batch = WatchedBatch([b"first"], [b"se", b"cond"], [b"third"], last=9)
    async with open_receiver() as receiver, sending_to(receiver) as sending:
        await sending.sink.send(batch)
    assert [request.body for request in receiver.requests] == [b"first", b"second", b"third"]
    assert sending.confirmed == [Position(1, 9)]


async def test_a_failed_message_of_several_fails_the_batch_and_it_starts_over() -> None:
    batch = WatchedBatch([b"first"], [b"second"])
    async with open_receiver(answer(200), answer(500)) as receiver, sending_to(receiver) as sending:
        await sending.fails(batch)
        assert sending.confirmed == []
        await sending.sink.send(batch)
    assert [request.body for request in receiver.requests] == [b"first", b"second", b"first", b"second"]


async def test_a_connection_that_dies_between_messages_repeats_only_the_message() -> None:
    batch = WatchedBatch([b"first"], [b"sec", b"ond"], [b"third"])
    async with open_receiver(answer(200), answer(200), RESET) as receiver, sending_to(receiver) as sending:
        await sending.sink.send(batch)
    assert [request.body for request in receiver.requests] == [b"first", b"second", b"third", b"third"]


async def test_records_that_go_away_while_sending_end_the_connection_and_fly_to_the_caller() -> None:
    records = [b"x" * 1000 for _ in range(2000)]
    gone = WatchedBatch(records, gone=PositionLost("expired"), gone_after_reads=3)
    async with open_receiver() as receiver, sending_to(receiver) as sending:
        with pytest.raises(PositionLost):
            await sending.sink.send(gone)
        await sending.sink.send(small_batch())
        assert len(sending.confirmed) == 1
    assert receiver.connections == 2
    assert len(receiver.requests[0].body) < gone.bytes_count


async def test_a_silent_receiver_is_a_timeout() -> None:
    async with open_receiver(SILENCE) as receiver, sending_to(receiver, timeout_s=0.2) as sending:
        failure = await sending.fails(small_batch())
        assert failure.failure is FailureClass.TIMEOUT
        await sending.sink.send(small_batch())
    assert receiver.connections == 2


async def test_nobody_listening_is_refused() -> None:
    async with open_receiver() as receiver:
        url = receiver.url
    failure = await Sending(url).fails(small_batch())
    assert failure.failure is FailureClass.REFUSED


async def test_a_name_that_does_not_exist_is_dns() -> None:
    failure = await Sending("http://no-such-name.invalid/").fails(small_batch())
    assert failure.failure is FailureClass.DNS


async def test_a_cancelled_send_drops_the_connection_and_the_sink_works_on() -> None:
    async with open_receiver(answer(200), SILENCE) as receiver, sending_to(receiver) as sending:
        await sending.sink.send(small_batch(1))
        with trio.move_on_after(0.05):
            await sending.sink.send(small_batch(2))
        assert sending.sink.statistics().unconfirmed_events == 0
        await sending.sink.send(small_batch(3))
    assert [position.seq for position in sending.confirmed] == [1, 3]
    assert receiver.requests[-1].connection == 1


async def test_statistics_show_the_batch_in_flight() -> None:
    batch = small_batch()
    async with (
        open_receiver(SILENCE) as receiver,
        sending_to(receiver) as sending,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(sending.sink.send, batch)
        await receiver.wait_requests(1)
        found = sending.sink.statistics()
        nursery.cancel_scope.cancel()
    assert (found.unconfirmed_events, found.unconfirmed_bytes) == (1, batch.bytes_count)


async def test_closing_ends_a_send_under_way_with_sink_closed() -> None:
    async with open_receiver(SILENCE) as receiver:
        sending = Sending(receiver.url)
        async with trio.open_nursery() as nursery:

            async def close() -> None:
                await receiver.wait_requests(1)
                await sending.sink.aclose()

            nursery.start_soon(close)
            with pytest.raises(SinkClosed):
                await sending.sink.send(small_batch())
        with pytest.raises(SinkClosed):
            await sending.sink.send(small_batch())
        assert len(receiver.requests) == 1


async def test_an_idle_connection_is_closed_on_demand_and_the_sink_stays_open() -> None:
    async with open_receiver() as receiver, sending_to(receiver) as sending:
        assert sending.sink.idle_since_s is None
        await sending.sink.send(small_batch())
        await sending.sink.close_idle(idle_s=30.0)
        assert sending.sink.idle_since_s is not None
        await sending.sink.close_idle()
        assert sending.sink.idle_since_s is None
        await sending.sink.send(small_batch())
    assert receiver.connections == 2


# TLS


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def server_context(authority: trustme.CA, *names: str, asks_for: trustme.CA | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(*names).configure_cert(context)
    if asks_for is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        asks_for.configure_trust(context)
    return context


@asynccontextmanager
async def trusting(
    authority: trustme.CA, identity: trustme.LeafCert | None = None
) -> AsyncIterator[ssl.SSLContext]:
    with authority.cert_pem.tempfile() as ca:
        if identity is None:
            yield client_context(ca=ca)
        else:
            with identity.private_key_and_cert_chain_pem.tempfile() as both:
                yield client_context(ca=ca, certificate=both, key=both)


async def test_https_delivers_large_batches_and_keeps_the_connection(authority: trustme.CA) -> None:
    batch = large_batch(1_500_000)
    async with (
        trusting(authority) as tls,
        open_receiver(tls=server_context(authority, "127.0.0.1")) as receiver,
        sending_to(receiver, tls=tls) as sending,
    ):
        await sending.sink.send(batch)
        await sending.sink.send(small_batch())
    assert receiver.requests[0].body == batch.bodies()[0]
    assert receiver.connections == 1


async def test_https_sees_an_early_413(authority: trustme.CA) -> None:
    early = answer(413, when=When.AFTER_HEAD, then=Then.HANG)
    async with (
        trusting(authority) as tls,
        open_receiver(early, tls=server_context(authority, "127.0.0.1")) as receiver,
        sending_to(receiver, tls=tls) as sending,
    ):
        assert (await sending.fails(large_batch(64_000_000))).is_too_large


async def test_the_name_is_what_the_certificate_is_checked_against(authority: trustme.CA) -> None:
    async with (
        trusting(authority) as tls,
        open_receiver(tls=server_context(authority, "localhost")) as receiver,
    ):
        right = Sending(f"https://localhost:{receiver.port}/", tls=tls)
        await right.sink.send(small_batch())
        await right.sink.aclose()
        failure = await Sending(receiver.url, tls=tls).fails(small_batch())
    assert failure.failure is FailureClass.TLS
    assert len(receiver.requests) == 1


async def test_an_untrusted_root_is_tls_and_nothing_is_sent(authority: trustme.CA) -> None:
    async with open_receiver(tls=server_context(authority, "127.0.0.1")) as receiver:
        failure = await Sending(receiver.url).fails(small_batch())
        assert receiver.requests == []
    assert failure.failure is FailureClass.TLS


async def test_a_receiver_that_speaks_plain_http_behind_https_is_tls() -> None:
    async def serve(stream: trio.SocketStream) -> None:
        await stream.receive_some(65_536)
        await stream.send_all(answer(400).raw)

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, serve, listeners)
        port = listeners[0].socket.getsockname()[1]
        failure = await Sending(f"https://127.0.0.1:{port}/").fails(small_batch())
        nursery.cancel_scope.cancel()
    assert failure.failure is FailureClass.TLS


async def test_our_client_certificate_is_shown_to_a_receiver_that_demands_it(authority: trustme.CA) -> None:
    ours = trustme.CA()
    demanding = server_context(authority, "127.0.0.1", asks_for=ours)
    async with (
        trusting(authority, ours.issue_cert(common_name="notifications")) as tls,
        open_receiver(tls=demanding) as receiver,
        sending_to(receiver, tls=tls) as sending,
    ):
        await sending.sink.send(small_batch())
        assert len(sending.confirmed) == 1


async def test_without_the_client_certificate_that_is_demanded_it_is_tls(authority: trustme.CA) -> None:
    demanding = server_context(authority, "127.0.0.1", asks_for=trustme.CA())
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(5)

    def refuse_one() -> None:
        # The standard library's own server side: Trio's does not send the alert.
        with listener, listener.accept()[0] as accepted, pytest.raises(ssl.SSLError):
            demanding.wrap_socket(accepted, server_side=True)

    async with trusting(authority) as tls, trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, refuse_one)
        url = f"https://127.0.0.1:{listener.getsockname()[1]}/"
        failure = await Sending(url, tls=tls).fails(small_batch())
    assert failure.failure is FailureClass.TLS


# Verification


async def test_verification_puts_an_empty_object_with_the_callers_headers() -> None:
    async with open_receiver(answer(204)) as receiver:
        await verify_callback(parse_callback(receiver.url, {"X-Key": "v"}), make_dialer())
    (request,) = receiver.requests
    assert (request.line, request.body) == (b"PUT / HTTP/1.1", b"{}")
    assert request.values("X-Key") == [b"v"]


@pytest.mark.parametrize("status", [200, 204])
async def test_verification_takes_200_and_204(status: int) -> None:
    async with open_receiver(answer(status)) as receiver:
        await verify_callback(parse_callback(receiver.url, {}), make_dialer())


@pytest.mark.parametrize("status", [201, 202, 301, 404, 503])
async def test_verification_refuses_every_other_status_without_the_targets_words(status: int) -> None:
    reply = answer(status, b"internal secret", headers=(("Location", "http://inside/"),))
    async with open_receiver(reply) as receiver:
        with pytest.raises(VerificationFailed) as caught:
            await verify_callback(parse_callback(receiver.url, {}), make_dialer())
    assert str(caught.value) == f"status {status}"


async def test_verification_names_the_class_of_a_failure() -> None:
    async with open_receiver(SILENCE, raw(b"secret words\r\n\r\n")) as receiver:
        target = parse_callback(receiver.url, {})
        with pytest.raises(VerificationFailed, match=r"^timeout$"):
            await verify_callback(target, make_dialer(), timeout_s=0.2)
        with pytest.raises(VerificationFailed, match=r"^connection$"):
            await verify_callback(target, make_dialer())
    with pytest.raises(VerificationFailed, match=r"^refused$"):
        await verify_callback(target, make_dialer())
    with pytest.raises(VerificationFailed, match=r"^dns$"):
        await verify_callback(parse_callback("http://no-such-name.invalid/", {}), make_dialer())
    with pytest.raises(VerificationFailed, match=r"^address not allowed$"):
        await verify_callback(target, Dialer(AddressPolicy(), client_context()))
