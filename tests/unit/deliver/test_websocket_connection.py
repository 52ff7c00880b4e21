"""One server connection against clients that behave and clients that do not.

The client is raw bytes for what a library would not let us do, and trio-websocket,
an implementation that shares no sending code with ours, for the rest.  The clock is
a mock one: a day takes a second.
"""

from __future__ import annotations

import contextlib

import pytest
import trio
import trio_websocket
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.websocket_pairs import (
    BINARY,
    CLOSE,
    COUNTER,
    PING,
    PONG,
    TEXT,
    RawClient,
    client_frame,
    close_payload,
    connected_pair,
)
from support.ws_test_server import answer_upgrade, channel_limits
from trio.testing import lockstep_stream_pair, memory_stream_pair, wait_all_tasks_blocked
from wsproto.events import Ping, Pong, TextMessage

from dispatcher import limits
from dispatcher.deliver import tcp_progress
from dispatcher.deliver.sink import SinkClosed
from dispatcher.deliver.websocket_connection import ClosedBy, CloseReason, WebSocketConnection
from dispatcher.errors import CloseCode
from dispatcher.model import Position
from dispatcher.wire.ws_frames import put_text_header

MESSAGE = b'{"notifications":[]}'


def frame_of(payload: bytes) -> bytes:
    buffer = bytearray(10 + len(payload))
    start = put_text_header(buffer, 0, len(payload))
    return bytes(buffer[:start]) + payload


async def send_batch(connection, seq, payload=MESSAGE):
    """One batch of one event, through the same three calls that the sink makes."""
    ping = await connection.begin_batch(Position(1, seq), len(payload), 1)
    await connection.write(memoryview(frame_of(payload) + ping))
    connection.end_batch()


# --- idle sockets ---------------------------------------------------------------------


@pytest.mark.slow
async def test_an_idle_socket_is_pinged_every_30_s_and_closed_after_a_day(autojump_clock):
    server_stream, client_stream = memory_stream_pair()
    async with trio.open_nursery() as nursery:

        async def serve() -> CloseReason:
            leftover = await answer_upgrade(server_stream)
            connection = WebSocketConnection(
                server_stream, leftover, limits=channel_limits(), random_counter=COUNTER
            )
            reasons.append(await connection.run())

        reasons: list[CloseReason] = []
        nursery.start_soon(serve)
        client = await trio_websocket.wrap_client_stream(nursery, client_stream, "localhost", "/")
        with pytest.raises(trio_websocket.ConnectionClosed) as closed:
            await client.get_message()
    assert (closed.value.reason.code, closed.value.reason.reason) == (
        1001,
        "inactivity: no message for 86400 s",
    )
    assert reasons == [CloseReason(by=ClosedBy.SERVER, code=1001, text="inactivity: no message for 86400 s")]
    assert trio.current_time() == pytest.approx(86_400, abs=1)


async def test_idle_pings_carry_four_bytes_that_count_through_the_wrap(autojump_clock):
    async with connected_pair() as pair:
        started_s = trio.current_time()
        payloads = []
        for turn in range(1, 5):
            ping = await pair.client.next_event()
            assert isinstance(ping, Ping)
            assert trio.current_time() - started_s == pytest.approx(30 * turn)
            payloads.append(bytes(ping.payload))
            await pair.client.pong(ping)
    assert payloads == [b"\xff\xff\xff\xfe", b"\xff\xff\xff\xff", b"\0\0\0\0", b"\0\0\0\x01"]


async def test_an_idle_ping_without_pong_closes_with_1001_after_5_s(autojump_clock):
    async with connected_pair() as pair:
        started_s = trio.current_time()
        assert await pair.client.until_close() == (1001, "ping timeout: no pong within 5 s")
        assert trio.current_time() - started_s == pytest.approx(35)
        reason = await pair.end()
        assert pair.ended_s - started_s == pytest.approx(37)
    assert (reason.by, reason.code, reason.is_ack_timeout) == (ClosedBy.SERVER, 1001, False)
    assert pair.server_stream.is_closed


async def test_a_forged_pong_does_not_answer_an_idle_ping(autojump_clock):
    async with connected_pair() as pair:
        ping = await pair.client.next_event()
        forged = bytes(255 - byte for byte in ping.payload)
        await pair.client.send(
            client_frame(PONG, forged), client_frame(PONG), client_frame(PONG, bytes(ping.payload) + b"\0")
        )
        assert await pair.client.until_close() == (1001, "ping timeout: no pong within 5 s")


async def test_a_pong_before_any_ping_changes_nothing(autojump_clock):
    async with connected_pair() as pair:
        await pair.client.send(client_frame(PONG, COUNTER.to_bytes(4, "big")))
        ping = await pair.client.next_event()
        assert isinstance(ping, Ping)
        assert (await pair.client.until_close()) is not None


async def test_messages_of_the_client_hold_off_the_inactivity_limit(autojump_clock):
    async with connected_pair(
        limits=channel_limits(websocket_inactivity_s=100.0, ping_interval_s=1e6)
    ) as pair:
        started_s = trio.current_time()
        await trio.sleep(60)
        await pair.client.send(client_frame(TEXT, b"hello"), client_frame(BINARY, b"\xff"))
        await trio.sleep(60)
        await pair.client.send(client_frame(PING), client_frame(PONG))
        assert (await pair.client.until_close())[0] == 1001
        assert trio.current_time() - started_s == pytest.approx(160)


# --- unconfirmed batches --------------------------------------------------------------


async def test_an_unconfirmed_batch_without_progress_ends_the_socket_after_120_s(autojump_clock):
    async with connected_pair() as pair:
        await trio.sleep(10)
        started_s = trio.current_time()
        await send_batch(pair.connection, 1)
        assert await pair.client.until_close() == (1001, "ping timeout: no pong and no progress for 120 s")
        assert trio.current_time() - started_s == pytest.approx(120)
        reason = await pair.end()
    assert reason.is_ack_timeout
    assert not reason.is_too_big


async def test_the_limit_for_batches_does_not_wait_for_the_next_idle_ping(autojump_clock):
    async with connected_pair(limits=channel_limits(ping_interval_s=10_000.0)) as pair:
        await trio.sleep(1)
        started_s = trio.current_time()
        await send_batch(pair.connection, 1)
        assert (await pair.client.until_close())[0] == 1001
        assert trio.current_time() - started_s == pytest.approx(120)


@pytest.mark.parametrize("turn", range(10))  # Trio shuffles which of the two wakes first
async def test_a_batch_at_the_moment_of_an_idle_ping_goes_with_its_own_ping(autojump_clock, turn):
    async with connected_pair() as pair:
        await trio.sleep(30)
        await send_batch(pair.connection, 1)
        events = [await pair.client.next_event(), await pair.client.next_event()]
        assert [type(event) for event in events] in ([TextMessage, Ping], [Ping, TextMessage])
        await trio.sleep(1)
        assert pair.connection.is_open


async def test_a_client_that_answers_after_119_s_stays(autojump_clock):
    async with connected_pair() as pair:
        for seq in range(1, 6):
            await send_batch(pair.connection, seq)
        for _ in range(5):
            await trio.sleep(119)
            await pair.client.next_message()
        await wait_all_tasks_blocked()
        assert pair.connection.window.is_empty
        assert pair.connection.is_open


async def test_batches_sent_meanwhile_do_not_keep_a_dead_peer_alive(autojump_clock):
    async with connected_pair() as pair:
        started_s = trio.current_time()
        with contextlib.suppress(SinkClosed):
            for seq in range(1, 100):
                await send_batch(pair.connection, seq)
                await trio.sleep(7)
        await pair.end()
        assert trio.current_time() - started_s < 130


class ScriptedProgress:
    """Stands in for the kernel: bytes are acknowledged until a moment, and not after it."""

    def __init__(self, monkeypatch, until_s):
        self.until_s = until_s
        self.unacked = 0
        self.was_reset = False
        monkeypatch.setattr(tcp_progress, "transport_socket", lambda stream: self)
        monkeypatch.setattr(tcp_progress, "bytes_acked", self._bytes_acked)
        monkeypatch.setattr(tcp_progress, "bytes_unacked", lambda sock: self.unacked)
        monkeypatch.setattr(tcp_progress, "reset_on_close", self._reset)

    def _bytes_acked(self, sock, bytes_written):
        return int(1000 * min(trio.current_time(), self.until_s))

    def _reset(self, sock):
        self.was_reset = True


async def test_progress_of_the_transport_keeps_an_unconfirmed_socket(autojump_clock, monkeypatch):
    ScriptedProgress(monkeypatch, until_s=1000.0)
    async with connected_pair() as pair:
        await send_batch(pair.connection, 1)
        assert (await pair.client.until_close())[0] == 1001
        assert 1000 + 120 <= trio.current_time() <= 1000 + 120 + 15
        assert (await pair.end()).is_ack_timeout


async def test_no_progress_any_more_ends_it_within_an_eighth_of_the_limit(autojump_clock, monkeypatch):
    ScriptedProgress(monkeypatch, until_s=0.0)
    async with connected_pair() as pair:
        await send_batch(pair.connection, 1)
        assert (await pair.client.until_close())[0] == 1001
        assert trio.current_time() == pytest.approx(120)


async def test_a_message_that_stays_half_written_ends_in_a_reset(autojump_clock, monkeypatch):
    progress = ScriptedProgress(monkeypatch, until_s=0.0)
    async with connected_pair(streams=lockstep_stream_pair()) as pair:
        with pytest.raises(SinkClosed):
            await send_batch(pair.connection, 1)
        assert trio.current_time() == pytest.approx(120)
        reason = await pair.end()
    assert reason.is_ack_timeout
    assert progress.was_reset


async def test_a_silent_peer_whose_kernel_takes_nothing_is_reset(autojump_clock, monkeypatch):
    progress = ScriptedProgress(monkeypatch, until_s=0.0)
    progress.unacked = 1
    async with connected_pair() as pair:
        assert (await pair.client.until_close())[0] == 1001
        await pair.end()
    assert progress.was_reset


async def test_a_silent_peer_whose_kernel_has_everything_gets_an_orderly_end(autojump_clock, monkeypatch):
    progress = ScriptedProgress(monkeypatch, until_s=0.0)
    async with connected_pair() as pair:
        assert (await pair.client.until_close())[0] == 1001
        await pair.end()
    assert not progress.was_reset


async def test_an_idle_ping_is_not_sent_while_a_batch_is_unconfirmed(autojump_clock):
    async with connected_pair() as pair:
        await send_batch(pair.connection, 1)
        assert isinstance(await pair.client.next_event(), TextMessage)
        ping = await pair.client.next_event()
        assert isinstance(ping, Ping)
        with trio.move_on_after(100):
            assert await pair.client.next_event() is None, "nothing was expected"
        await pair.client.pong(ping)
        started_s = trio.current_time()
        assert isinstance(await pair.client.next_event(), Ping)
        assert trio.current_time() - started_s == pytest.approx(30)


# --- confirmations --------------------------------------------------------------------


async def test_one_pong_confirms_all_batches_up_to_it(autojump_clock):
    async with connected_pair() as pair:
        confirmed = []
        pair.connection.confirmed = confirmed.append
        pings = []
        for seq in range(1, 5):
            await send_batch(pair.connection, seq)
            assert isinstance(await pair.client.next_event(), TextMessage)
            pings.append(await pair.client.next_event())
        await pair.client.pong(pings[2])
        await wait_all_tasks_blocked()
        assert confirmed == [Position(1, 3)]
        await pair.client.pong(pings[0])
        await pair.client.pong(pings[3])
        await wait_all_tasks_blocked()
    assert confirmed == [Position(1, 3), Position(1, 4)]


@pytest.mark.parametrize("is_leftover", [False, True])
async def test_what_looks_like_a_pong_inside_a_message_confirms_nothing(autojump_clock, is_leftover):
    pong = client_frame(PONG, COUNTER.to_bytes(4, "big"))
    message = client_frame(BINARY, pong)
    head, body = message[: -len(pong)], message[-len(pong) :]
    async with connected_pair(leftover=head if is_leftover else b"") as pair:
        confirmed = []
        pair.connection.confirmed = confirmed.append
        await send_batch(pair.connection, 1)
        if not is_leftover:
            await pair.client.send(head)
            await wait_all_tasks_blocked()
        await pair.client.send(body)
        await wait_all_tasks_blocked()
        assert confirmed == []
        await pair.client.send(pong)  # a frame of its own
        await wait_all_tasks_blocked()
        assert confirmed == [Position(1, 1)]


async def test_pongs_still_count_after_our_close_frame(autojump_clock):
    async with connected_pair() as pair:
        confirmed = []
        pair.connection.confirmed = confirmed.append
        await send_batch(pair.connection, 1)
        pair.connection.close_soon(1012, "restarting")
        await pair.client.next_message()
        await wait_all_tasks_blocked()
        assert confirmed == [Position(1, 1)]


# --- pings of the client --------------------------------------------------------------


async def test_a_client_ping_is_answered_with_its_payload(autojump_clock):
    async with connected_pair() as pair:
        await pair.client.send(client_frame(PING, b"are you there"))
        assert await pair.client.next_event() == Pong(payload=b"are you there")


@pytest.mark.slow
async def test_a_flood_of_client_pings_leaves_one_pong_with_the_newest_payload(autojump_clock):
    server_end, client_end = lockstep_stream_pair()
    # The client's writes must not wait for its reads, so that it can flood us.
    free_server_end, free_client_end = memory_stream_pair()
    server = trio.StapledStream(server_end.send_stream, free_server_end.receive_stream)
    client = trio.StapledStream(free_client_end.send_stream, client_end.receive_stream)
    async with connected_pair(streams=(server, client)) as pair:
        for number in range(10_000):
            await pair.client.send(client_frame(PING, b"%d" % number))
        await wait_all_tasks_blocked()
        answers = [await pair.client.next_event(), await pair.client.next_event()]
        assert answers[-1] == Pong(payload=b"9999")
        with trio.move_on_after(1):
            pytest.fail(f"a third answer: {await pair.client.next_event()}")


async def test_a_pong_waits_for_the_end_of_our_message(autojump_clock):
    async with connected_pair() as pair:
        connection = pair.connection
        ping = await connection.begin_batch(Position(1, 1), len(MESSAGE), 1)
        frame = frame_of(MESSAGE)
        await connection.write(memoryview(frame[:5]))
        await pair.client.send(client_frame(PING, b"now?"))
        await wait_all_tasks_blocked()
        await connection.write(memoryview(frame[5:] + ping))
        connection.end_batch()
        assert await pair.client.next_event() == TextMessage(data=MESSAGE.decode())
        assert isinstance(await pair.client.next_event(), Ping)
        assert await pair.client.next_event() == Pong(payload=b"now?")


# --- closing --------------------------------------------------------------------------


@pytest.mark.parametrize("code", [1000, 1001, 1008, 1011, 1012])
async def test_our_close_reaches_the_client_with_code_and_text(autojump_clock, code):
    async with connected_pair() as pair:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pair.connection.close, code, "because")
            assert await pair.client.until_close() == (code, "because")
            await pair.client.answer_close(code)
        assert await pair.end() == CloseReason(by=ClosedBy.SERVER, code=code, text="because")
        assert pair.ended_s == trio.current_time() == 0


async def test_a_client_that_does_not_answer_our_close_is_left_after_2_s(autojump_clock):
    async with connected_pair() as pair:
        await pair.connection.close(1012, "restarting")
        assert trio.current_time() == pytest.approx(limits.WEBSOCKET_CLOSE_WAIT_S)
        assert pair.server_stream.is_closed
        assert await pair.client.until_close() == (1012, "restarting")


async def test_the_first_reason_to_close_stands(autojump_clock):
    async with connected_pair() as pair:
        pair.connection.close_soon(1001, "replaced by a newer socket")
        await pair.connection.close(1012, "restarting")
        assert (await pair.end()).code == 1001
        assert await pair.client.until_close() == (1001, "replaced by a newer socket")


async def test_close_after_the_end_returns_at_once(autojump_clock):
    async with connected_pair() as pair:
        await pair.client.stream.aclose()
        await pair.end()
        await pair.connection.close(1000, "deleted")


@pytest.mark.parametrize(
    ("payload", "code", "text"),
    [
        (close_payload(1000, "bye"), 1000, "bye"),
        (close_payload(1001), 1001, ""),
        (close_payload(4321), 4321, ""),
        (b"", 1005, ""),
    ],
)
async def test_a_clients_close_is_answered_and_told(autojump_clock, payload, code, text):
    async with connected_pair() as pair:
        await pair.client.send(client_frame(CLOSE, payload))
        assert (await pair.client.until_close())[0] == code
        assert await pair.client.next_event() is None
        assert await pair.end() == CloseReason(by=ClosedBy.CLIENT, code=code, text=text)
        assert pair.ended_s == 0
    assert pair.reason.is_client_close
    assert not pair.reason.is_too_big


async def test_a_client_that_refuses_a_message_for_its_size_is_told_apart(autojump_clock):
    async with connected_pair() as pair:
        await pair.client.send(client_frame(CLOSE, close_payload(1009, "too big")))
        assert (await pair.end()).is_too_big


async def test_our_own_1009_is_not_taken_for_the_clients(autojump_clock):
    assert not CloseReason(by=ClosedBy.SERVER, code=1009).is_too_big


async def test_a_client_that_vanishes_is_1006_from_nobody(autojump_clock):
    async with connected_pair() as pair:
        await pair.client.stream.aclose()
        assert await pair.end() == CloseReason(by=ClosedBy.NETWORK, code=1006)
    assert not pair.reason.is_client_close


async def test_a_clients_close_glued_to_its_end_is_still_told(autojump_clock):
    async with connected_pair() as pair:
        await pair.client.send(client_frame(CLOSE, close_payload(1009)))
        await pair.client.stream.aclose()
        assert (await pair.end()).is_too_big


async def test_a_client_that_sends_nothing_after_its_close_still_gets_the_answer(autojump_clock):
    async with connected_pair() as pair:
        await pair.client.send(client_frame(CLOSE, close_payload(1000)))
        await pair.client.stream.send_eof()
        assert (await pair.client.until_close())[0] == 1000
        assert (await pair.end()).by is ClosedBy.CLIENT


async def test_a_close_frame_behind_the_handshake_is_read(autojump_clock):
    async with connected_pair(leftover=client_frame(PING, b"first") + client_frame(CLOSE)) as pair:
        assert (await pair.end()).by is ClosedBy.CLIENT


async def test_a_refused_socket_gets_its_close_frame_and_ends(autojump_clock):
    server_stream, client_stream = memory_stream_pair()
    client = RawClient(client_stream)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(
            WebSocketConnection.refuse, server_stream, b"", CloseCode.INTERNAL, "no WebSocket channel"
        )
        assert await client.until_close() == (1011, "no WebSocket channel")
        await client.answer_close(1011)
        assert await client.next_event() is None
    assert trio.current_time() == 0


async def test_nothing_is_sent_after_the_close_began(autojump_clock):
    async with connected_pair() as pair:
        pair.connection.close_soon(1000, "deleted")
        with pytest.raises(SinkClosed):
            await send_batch(pair.connection, 1)
        assert await pair.client.until_close() == (1000, "deleted")


async def test_cancelling_run_closes_the_stream_without_a_close_frame(autojump_clock):
    async with connected_pair() as pair:
        await wait_all_tasks_blocked()
    assert pair.server_stream.is_closed
    assert await pair.client.until_close() is None
    with pytest.raises(SinkClosed):
        await send_batch(pair.connection, 1)
    await pair.connection.close(1000, "late")


# --- half-written messages ------------------------------------------------------------


async def test_a_cancelled_write_ends_the_socket_without_another_byte(autojump_clock):
    async with connected_pair() as pair:
        connection = pair.connection
        ping = await connection.begin_batch(Position(1, 1), len(MESSAGE), 1)
        frame = frame_of(MESSAGE)
        await connection.write(memoryview(frame[:5]))
        await pair.client.send(client_frame(PING, b"flush me"))
        connection.abandon_batch()
        connection.close_soon(1012, "restarting")
        reason = await pair.end()
        assert await pair.client.stream.receive_some() == frame[:5]
        assert await pair.client.stream.receive_some() == b""
    assert (reason.by, reason.code) == (ClosedBy.SERVER, 1006)
    assert ping not in frame


async def test_a_close_waits_for_a_message_that_finishes_in_time(autojump_clock):
    async with connected_pair() as pair:
        connection = pair.connection
        ping = await connection.begin_batch(Position(1, 1), len(MESSAGE), 1)
        frame = frame_of(MESSAGE)
        await connection.write(memoryview(frame[:5]))
        connection.close_soon(1012, "restarting")
        await trio.sleep(1)
        await connection.write(memoryview(frame[5:] + ping))
        connection.end_batch()
        assert await pair.client.next_event() == TextMessage(data=MESSAGE.decode())
        assert await pair.client.until_close() == (1012, "restarting")


async def test_a_close_behind_a_message_that_does_not_finish_is_a_reset(autojump_clock, monkeypatch):
    progress = ScriptedProgress(monkeypatch, until_s=0.0)
    async with connected_pair() as pair:
        connection = pair.connection
        await connection.begin_batch(Position(1, 1), len(MESSAGE), 1)
        await connection.write(memoryview(frame_of(MESSAGE)[:5]))
        await connection.close(1012, "restarting")
        assert trio.current_time() == pytest.approx(limits.WEBSOCKET_CLOSE_WAIT_S)
        assert await pair.client.stream.receive_some() == frame_of(MESSAGE)[:5]
        assert await pair.client.stream.receive_some() == b""
        with pytest.raises(SinkClosed):
            await connection.write(memoryview(b"more"))
    assert progress.was_reset


async def test_a_close_frame_that_came_before_the_write_failed_is_still_read(autojump_clock):
    async with connected_pair() as pair:
        await pair.client.send(client_frame(CLOSE, close_payload(1009, "too big")))
        await pair.client.stream.receive_stream.aclose()
        with pytest.raises(SinkClosed):
            await send_batch(pair.connection, 1)
        assert (await pair.end()).is_too_big
        assert pair.ended_s == 0


async def test_a_write_that_fails_after_the_clients_close_ends_it_at_once(autojump_clock):
    async with connected_pair() as pair:
        connection = pair.connection
        await connection.begin_batch(Position(1, 1), len(MESSAGE), 1)
        await pair.client.send(client_frame(CLOSE, close_payload(1009)))
        await wait_all_tasks_blocked()
        await pair.client.stream.receive_stream.aclose()
        with pytest.raises(SinkClosed):
            await connection.write(memoryview(frame_of(MESSAGE)))
        connection.abandon_batch()
        assert (await pair.end()).is_too_big
        assert pair.ended_s == 0


async def test_nothing_can_be_written_from_the_moment_of_an_abort(autojump_clock):
    async with connected_pair() as pair:
        connection = pair.connection
        await connection.begin_batch(Position(1, 1), len(MESSAGE), 1)
        await connection.write(memoryview(frame_of(MESSAGE)[:5]))
        connection.abort()
        with pytest.raises(SinkClosed):
            await connection.write(memoryview(frame_of(MESSAGE)[5:]))
        connection.abandon_batch()
        await pair.end()
        assert await pair.client.stream.receive_some() == frame_of(MESSAGE)[:5]
        assert await pair.client.stream.receive_some() == b""


@pytest.mark.parametrize("turn", range(10))  # Trio shuffles who learns of the end first
async def test_no_batch_follows_a_pong_that_was_cut_off(autojump_clock, turn):
    async with connected_pair(streams=lockstep_stream_pair()) as pair, trio.open_nursery() as nursery:

        async def send_late():
            with pytest.raises(SinkClosed):
                await send_batch(pair.connection, 1)

        await pair.client.send(client_frame(PING, b"never read"))
        await wait_all_tasks_blocked()
        nursery.start_soon(send_late)
        await wait_all_tasks_blocked()
        pair.scope.cancel()
        await wait_all_tasks_blocked()
        assert await pair.client.next_event() == Pong(payload=b"never read")
        assert await pair.client.next_event() is None


# --- clients that break the protocol --------------------------------------------------

OVERLONG = client_frame(BINARY, bytes(limits.WEBSOCKET_CLIENT_MESSAGE_BYTES_MAX + 1))


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (client_frame(TEXT, b"x", masked=False), 1002),
        (client_frame(TEXT, b"x", rsv=4), 1002),
        (client_frame(TEXT, b"x", rsv=1), 1002),
        (client_frame(0x3, b"x"), 1002),
        (client_frame(0xB), 1002),
        (client_frame(0x0, b"x"), 1002),
        (client_frame(TEXT, b"x", fin=False) + client_frame(TEXT, b"y"), 1002),
        (client_frame(PING, b"x", fin=False), 1002),
        (client_frame(PING, bytes(126)), 1002),
        (b"\x81\xfe\x00\x01\x00\x00\x00\x00x", 1002),  # a length longer than needed
        (b"\x82\xff" + b"\xff" * 8 + bytes(4), 1002),  # a length with its highest bit set
        (client_frame(CLOSE, b"\x03"), 1002),
        (client_frame(CLOSE, close_payload(999)), 1002),
        (client_frame(CLOSE, close_payload(1005)), 1002),
        (client_frame(CLOSE, close_payload(1006)), 1002),
        (client_frame(CLOSE, close_payload(2999)), 1002),
        (client_frame(CLOSE, close_payload(1000) + b"\xff"), 1007),
        (client_frame(TEXT, b"\xff\xfe"), 1007),
        (client_frame(TEXT, b"\xed\xa0\x80"), 1007),  # a lone surrogate
        (client_frame(TEXT, b"\xc3", fin=False) + client_frame(0x0, b""), 1007),  # cut in a character
        (OVERLONG, 1009),
        (b"\x82\xff" + (10**12).to_bytes(8, "big") + bytes(4) + bytes(70_000), 1009),  # a terabyte, begun
        (client_frame(TEXT, b"a" * 40_000, fin=False) + client_frame(0x0, b"a" * 40_000, fin=False), 1009),
    ],
)
async def test_a_broken_rule_has_its_close_code(autojump_clock, sent, code):
    async with connected_pair() as pair:
        await pair.client.send(sent)
        assert (await pair.client.until_close())[0] == code
        await pair.client.stream.aclose()
        reason = await pair.end()
    assert (reason.by, reason.code) == (ClosedBy.SERVER, code)


async def test_the_text_of_a_1007_repeats_nothing_of_the_payload(autojump_clock):
    async with connected_pair() as pair:
        await pair.client.send(client_frame(TEXT, b"secret\xff"))
        assert await pair.client.until_close() == (1007, "not UTF-8")


async def test_messages_of_the_allowed_size_are_thrown_away_without_end(autojump_clock):
    message = client_frame(TEXT, b"a" * limits.WEBSOCKET_CLIENT_MESSAGE_BYTES_MAX)
    async with connected_pair() as pair:
        for _ in range(20):
            await pair.client.send(message)
        await pair.client.send(client_frame(PING, b"still here"))
        assert await pair.client.next_event() == Pong(payload=b"still here")


async def test_what_follows_a_broken_rule_is_not_kept(autojump_clock):
    async with connected_pair() as pair:
        await pair.client.send(client_frame(TEXT, b"x", masked=False))
        assert (await pair.client.until_close())[0] == 1002
        for _ in range(50):
            await pair.client.send(client_frame(PING, b"x" * 100) * 100)
        await pair.end()
        decoder = pair.connection._protocol._proto._frame_decoder
        assert len(decoder.buffer) < 8192
        assert pair.ended_s == pytest.approx(limits.WEBSOCKET_CLOSE_WAIT_S)


async def test_a_client_that_sees_our_end_after_its_mistake_need_not_wait(autojump_clock):
    async with connected_pair() as pair:
        await pair.client.send(client_frame(0x3))
        assert (await pair.client.until_close())[0] == 1002
        assert await pair.client.next_event() is None
        assert trio.current_time() == 0
        await pair.client.stream.aclose()
        await pair.end()
        assert pair.ended_s == 0


WELL_FORMED = st.builds(
    client_frame,
    st.sampled_from([0x0, TEXT, BINARY, PING, PONG, CLOSE]),
    st.binary(max_size=140),
    fin=st.booleans(),
    rsv=st.sampled_from([0, 0, 0, 0, 1]),
    masked=st.sampled_from([True, True, True, True, False]),
)


@pytest.mark.slow
@settings(max_examples=300)
@given(pieces=st.lists(st.one_of(WELL_FORMED, st.binary(max_size=40)), max_size=12), cut=st.integers(1, 50))
@example(pieces=[client_frame(CLOSE), client_frame(CLOSE)], cut=50)
@example(pieces=[client_frame(CLOSE), b"\xff" * 20], cut=3)
async def test_whatever_a_client_sends_run_returns_a_reason(autojump_clock, pieces, cut):
    sent = b"".join(pieces)
    started_s = trio.current_time()
    async with connected_pair(leftover=sent[:7]) as pair:
        await send_batch(pair.connection, 1)
        with contextlib.suppress(trio.BrokenResourceError):
            for begin in range(7, len(sent), cut):
                await pair.client.send(sent[begin : begin + cut])
                await wait_all_tasks_blocked()
        close = await pair.client.until_close()
        reason = await pair.end()
    assert close is not None or reason.by is ClosedBy.NETWORK
    assert trio.current_time() - started_s < 200
    if close is not None:
        assert close[0] == reason.code
