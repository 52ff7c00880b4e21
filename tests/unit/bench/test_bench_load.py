"""Loads beside the closed loop: events at their moments, crowds, sockets that wait, held callbacks."""

from __future__ import annotations

import math
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import trio
import trio.testing

from bench.load.arrivals import LONE_EVENT_BYTES, Arrivals
from bench.load.callback_sink import CallbackSink
from bench.load.crowd import open_crowd
from bench.load.fleet import BodyForm, Fleet, NotProven
from bench.load.generator import Refused, all_accepted, all_queued
from bench.load.http_client import Reply, parse_reply
from bench.load.idle_sockets import open_idle
from bench.load.paced import PacedGenerator
from bench.turns import longest_turn_ms

FLEET = Fleet(events=60, devices=6, lanes=2)
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"


def frame(first: int, payload: bytes) -> bytes:
    assert 126 <= len(payload) < 65536 or first != 0x81
    head = bytes((first, len(payload))) if len(payload) < 126 else b"\x81\x7e" + len(payload).to_bytes(2)
    return head + payload


def events_of(device: int) -> list[bytes]:
    """A device's events, one message each."""
    bodies = [body.content for body in FLEET.bodies(device % 2, BodyForm.JSON, 1)]
    return [text for text in bodies if f'"ep":"{device:032x}"'.encode() in text]


# --- answers ---------------------------------------------------------------------------------


def test_answers_that_come_together_are_told_apart() -> None:
    one = b"HTTP/1.1 202 Accepted\r\nContent-Length: 3\r\n\r\nabc"
    two = b"HTTP/1.1 400 Bad\r\ncontent-length: 0\r\n\r\n"
    assert parse_reply(one + two) == (Reply(202, b"abc"), two)
    assert parse_reply(two) == (Reply(400, b""), b"")
    for end in range(len(one)):
        assert parse_reply(one[:end]) is None


@pytest.mark.parametrize(
    "content", [b'{"accepted":2,"queued":1,"rejected":0}', b'{"accepted":1,"queued":1,"rejected":1}']
)
def test_an_event_that_was_not_queued_is_noticed(content: bytes) -> None:
    with pytest.raises(Refused):
        all_queued(Reply(202, content), 2)


def test_an_event_without_a_channel_is_accepted_where_that_is_meant() -> None:
    all_accepted(Reply(202, b'{"accepted":2,"queued":0,"rejected":0}'), 2)
    with pytest.raises(Refused):
        all_accepted(Reply(202, b'{"accepted":1,"queued":0,"rejected":0}'), 2)
    with pytest.raises(Refused):
        all_accepted(Reply(503, b"{}"), 2)


# --- events at their moments -------------------------------------------------------------------


async def test_an_answer_that_is_late_holds_no_event_back() -> None:
    came_s: list[float] = []
    all_came = trio.Event()

    async def serve(stream: trio.SocketStream) -> None:
        requests = b""
        while data := await stream.receive_some(100_000):
            requests += data
            while (end := requests.find(b"]}")) >= 0:
                came_s.append(time.perf_counter())
                requests = requests[end + 2 :]
            if len(came_s) == FLEET.events:
                all_came.set()

    generator = PacedGenerator(FLEET, "ak_x", rate_per_s=2_000)
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            (listener, *_) = await nursery.start(trio.serve_tcp, serve, 0)
            nursery.start_soon(generator.run, listener.socket.getsockname()[1], Arrivals(0))
            await all_came.wait()  # and none of them was answered
            nursery.cancel_scope.cancel()
    due_s = generator.moments.due_s
    assert len(due_s) == FLEET.events
    assert due_s[-1] - due_s[0] == pytest.approx((FLEET.events - 1) / 2_000)
    assert all(came >= due for came, due in zip(came_s, due_s, strict=True))


def test_lateness_counts_from_the_moment_an_event_was_due() -> None:
    arrivals = Arrivals(FLEET.events, LONE_EVENT_BYTES)
    arrivals.begin(FLEET.events)
    place = 0
    for number, text in [(8, events_of(2)[1]), (3, events_of(3)[0])]:
        arrivals.view[place : place + len(text)] = text
        arrivals.note(place, place + len(text), at_s=100.0 + number)
        place += len(text)
    due_s = [float(number) for number in range(FLEET.events)]
    assert arrivals.latencies_s(FLEET, due_s) == [100.0, 100.0]


# --- a crowd -----------------------------------------------------------------------------------


async def crowd_receives(messages: Callable[[int], list[bytes]]) -> None:
    """Serve each socket the messages of its number, in the order of connecting; prove the crowd."""
    devices = 6
    numbers = iter(range(devices))

    async def serve(stream: trio.SocketStream) -> None:
        number = next(numbers)
        await stream.receive_some(10_000)
        await stream.send_all(SWITCH + b"".join(frame(0x81, text) for text in messages(number)))
        await trio.sleep_forever()

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            (listener, *_) = await nursery.start(trio.serve_tcp, serve, 0)
            port = listener.socket.getsockname()[1]
            async with open_crowd(port, ["ak_x"] * devices, 2 * FLEET.events) as crowd:
                await trio.testing.wait_all_tasks_blocked(0.05)
                assert crowd.events == sum(len(messages(number)) for number in range(devices))
                crowd.prove(FLEET)
            nursery.cancel_scope.cancel()


async def test_a_crowd_that_gets_what_is_theirs_is_proven() -> None:
    await crowd_receives(events_of)


@pytest.mark.parametrize(
    "planted",
    [
        lambda number: events_of((number + 1) % 6),
        lambda number: events_of(number)[: 9 if number == 5 else 10],
        lambda number: events_of(number) + events_of(number)[-1:] * (number == 2),
        lambda number: events_of(number)[:: -1 if number == 4 else 1],
        lambda number: events_of(number) + events_of(0)[:1] * (number == 1),
    ],
    ids=["another's events", "a loss", "a duplicate", "disorder", "one of another's"],
)
async def test_what_a_crowd_must_not_receive_is_noticed(planted: Callable[[int], list[bytes]]) -> None:
    with pytest.raises(ExceptionGroup) as caught:
        await crowd_receives(planted)
    assert caught.group_contains(NotProven)


async def test_a_crowd_that_waits_in_vain_says_so() -> None:
    async def serve(stream: trio.SocketStream) -> None:
        await stream.receive_some(10_000)
        await stream.send_all(SWITCH)
        await trio.sleep_forever()

    async def wait() -> None:
        async with trio.open_nursery() as nursery:
            (listener, *_) = await nursery.start(trio.serve_tcp, serve, 0)
            async with open_crowd(listener.socket.getsockname()[1], ["ak_x"] * 2, 100) as crowd:
                crowd.begin(Fleet(events=10, devices=2, lanes=2))
                await crowd.wait_complete(patience_s=0.05)

    with trio.fail_after(10), pytest.raises(ExceptionGroup) as caught:
        await wait()
    assert caught.group_contains(NotProven, match="0 events arrived")


# --- sockets that wait -------------------------------------------------------------------------


@contextmanager
def served(content: bytes) -> Iterator[int]:
    """A server that answers one handshake and sends this behind it."""

    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(10_000)
            connection.sendall(SWITCH + content)
            stopped.wait(10)

    stopped = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            stopped.set()
            thread.join()


MESSAGE = b'{"registrations":[{"ep":"dev-1"}]}'.ljust(130)


def test_a_waiting_socket_takes_its_one_message_between_pings() -> None:
    content = frame(0x89, b"1234") + frame(0x81, MESSAGE) + frame(0x89, b"5678")
    with served(content) as port, open_idle(port, [("/", "ak_x")]) as (waiting,):
        waiting.expect(b"dev-1")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (frame(0x81, MESSAGE.replace(b"dev-1", b"dev-2")), "instead of"),
        (2 * frame(0x81, MESSAGE), "more than one message"),
    ],
)
def test_a_waiting_socket_notices_another_message_and_a_second_one(content: bytes, said: str) -> None:
    with (
        served(content) as port,
        open_idle(port, [("/", "ak_x")]) as (waiting,),
        pytest.raises(NotProven, match=said),
    ):
        waiting.expect(b"dev-1")


# --- a callback that is held -------------------------------------------------------------------


async def test_a_held_callback_takes_one_request_and_answers_when_it_is_released() -> None:
    arrivals = Arrivals(FLEET.events, LONE_EVENT_BYTES)
    arrivals.begin(FLEET.events)
    sink = CallbackSink(arrivals)
    head = b"PUT /events HTTP/1.1\r\nContent-Length: %d\r\n\r\n"
    requests = b"".join(head % len(text) + text for text in events_of(0)[:2])
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            await nursery.start(sink.run)
            sink.hold()
            port = int(sink.url.split(":")[2].split("/")[0])
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                await stream.send_all(requests)
                await arrivals.wait_until(1)
                await trio.testing.wait_all_tasks_blocked(0.05)
                assert arrivals.events == 1
                sink.release()
                answers = b""
                while answers.count(b"200 OK") < 2:
                    answers += await stream.receive_some(10_000)
            nursery.cancel_scope.cancel()
    assert arrivals.events == 2


def test_the_longest_turn_is_the_bound_that_all_kept() -> None:
    before = {0.001: 10.0, 0.005: 12.0, 0.05: 13.0, math.inf: 13.0}
    after = {0.001: 20.0, 0.005: 24.0, 0.05: 25.0, math.inf: 25.0}
    assert longest_turn_ms(before, after) == 5.0
    after[math.inf] += 1
    assert longest_turn_ms(before, after) == math.inf
