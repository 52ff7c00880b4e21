"""The load side: what sinks store and answer, and how the generator is held back."""

from __future__ import annotations

import zlib
from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

from bench.load.arrivals import Arrivals
from bench.load.callback_sink import CallbackSink
from bench.load.deflated_sink import DeflatedSink
from bench.load.fleet import BodyForm, Fleet, NotProven
from bench.load.generator import Generator, Refused
from bench.load.websocket_sink import SinkFailed, WebSocketSink

FLEET = Fleet(events=500, devices=10, lanes=2)
ACCEPTED = b'{"accepted":50,"queued":50,"unrouted":0,"rejected":0,"durability":"memory"}'

Serve = Callable[[trio.SocketStream], Awaitable[None]]


def messages(fleet: Fleet = FLEET) -> list[bytes]:
    return [body.content for lane in range(2) for body in fleet.bodies(lane, BodyForm.JSON, 50)]


def frame(first: int, payload: bytes) -> bytes:
    size = len(payload)
    if size < 126:
        return bytes((first, size)) + payload
    if size < 65536:
        return bytes((first, 126)) + size.to_bytes(2) + payload
    return bytes((first, 127)) + size.to_bytes(8) + payload


async def serve(nursery: trio.Nursery, handler: Serve) -> int:
    listeners = await nursery.start(trio.serve_tcp, handler, 0)
    return int(listeners[0].socket.getsockname()[1])


def port_of(url: str) -> int:
    return int(url.split(":")[2].split("/")[0])


async def read_head(stream: trio.SocketStream) -> bytes:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += await stream.receive_some(1)
    return head


class ServedFrames:
    """A daemon that upgrades and then writes prepared bytes, some at a time."""

    def __init__(self, content: bytes, piece_bytes: int, pong_bytes: int = 0, answer: str = "") -> None:
        self._answer = answer
        self.head = b""
        self._content = content
        self._piece_bytes = piece_bytes
        self._pong_bytes = pong_bytes
        self.answered = b""
        self.done = trio.Event()

    async def handle(self, stream: trio.SocketStream) -> None:
        self.head = await read_head(stream)
        await stream.send_all(f"HTTP/1.1 101 Switching Protocols\r\n{self._answer}\r\n".encode())
        for start in range(0, len(self._content), self._piece_bytes):
            await stream.send_all(self._content[start : start + self._piece_bytes])
        while len(self.answered) < self._pong_bytes:
            self.answered += await stream.receive_some(100)
        self.done.set()
        await trio.sleep_forever()


@pytest.mark.parametrize("piece_bytes", [1, 7, 4096, 10**6])
async def test_frames_are_stored_and_proven_however_they_are_cut(piece_bytes: int) -> None:
    content = b"".join(frame(0x81, message) for message in messages())
    arrivals = Arrivals(FLEET.events)
    arrivals.begin(FLEET.events)
    served = ServedFrames(content, piece_bytes)
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            port = await serve(nursery, served.handle)
            await nursery.start(WebSocketSink(arrivals).run, port, "ak_x")
            await arrivals.wait_complete()
            nursery.cancel_scope.cancel()
    arrivals.prove(FLEET)
    assert arrivals.last_at_s > 0


@pytest.mark.parametrize("piece_bytes", [7, 4096, 10**6])
async def test_compressed_frames_are_stored_as_they_were_before(piece_bytes: int) -> None:
    content = b""
    for number, message in enumerate(messages()):
        compressor = zlib.compressobj(1, zlib.DEFLATED, -15)
        data = (compressor.compress(message) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]
        match number % 3:
            case 0:
                content += frame(0xC1, data)
            case 1:
                content += frame(0x41, data[:100]) + frame(0x00, data[100:200]) + frame(0x80, data[200:])
            case _:
                content += frame(0x81, message)
    arrivals = Arrivals(FLEET.events)
    arrivals.begin(FLEET.events)
    served = ServedFrames(content, piece_bytes, answer="Sec-WebSocket-Extensions: permessage-deflate\r\n")
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            port = await serve(nursery, served.handle)
            await nursery.start(DeflatedSink(arrivals).run, port, "ak_x")
            await arrivals.wait_complete()
            nursery.cancel_scope.cancel()
    arrivals.prove(FLEET)
    assert b"Sec-WebSocket-Extensions: permessage-deflate" in served.head


async def test_a_sink_that_wants_compression_fails_without_and_the_others_never_offer_it() -> None:
    served = ServedFrames(b"", 1)
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            port = await serve(nursery, served.handle)
            await nursery.start(WebSocketSink(Arrivals(1)).run, port, "ak_x")
            assert b"Sec-WebSocket-Extensions" not in served.head
            with pytest.raises(SinkFailed, match="compresses nothing"):
                await DeflatedSink(Arrivals(1)).run(port, "ak_x")
            nursery.cancel_scope.cancel()


async def test_a_round_begins_at_the_front_while_the_sink_waits() -> None:
    arrivals = Arrivals(FLEET.events)
    content = b"".join(frame(0x81, message) for message in messages())
    once_more = trio.Event()

    async def serve_twice(stream: trio.SocketStream) -> None:
        await read_head(stream)
        await stream.send_all(b"HTTP/1.1 101 Switching Protocols\r\n\r\n" + content)
        await once_more.wait()
        await stream.send_all(content)
        await trio.sleep_forever()

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            sink = WebSocketSink(arrivals)
            port = await serve(nursery, serve_twice)
            arrivals.begin(FLEET.events)
            await nursery.start(sink.run, port, "ak_x")
            await arrivals.wait_complete()
            await trio.testing.wait_all_tasks_blocked()
            sink.begin()
            arrivals.begin(FLEET.events)
            once_more.set()
            await arrivals.wait_complete()
            nursery.cancel_scope.cancel()
    arrivals.prove(FLEET)


async def test_every_ping_is_answered_with_its_payload_masked() -> None:
    arrivals = Arrivals(FLEET.events)
    content = frame(0x89, b"\0\0\0\1") + frame(0x81, messages()[0]) + frame(0x89, b"\0\0\0\2")
    served = ServedFrames(content, 5, pong_bytes=20)
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            port = await serve(nursery, served.handle)
            await nursery.start(WebSocketSink(arrivals).run, port, "ak_x")
            await served.done.wait()
            nursery.cancel_scope.cancel()
    assert served.answered == b"\x8a\x84\0\0\0\0\0\0\0\1\x8a\x84\0\0\0\0\0\0\0\2"


@pytest.mark.parametrize(
    ("content", "said"),
    [(frame(0x88, b"\x03\xe9bye"), "closed with 1001: bye"), (frame(0x01, b"part"), "begins with 0x1")],
)
async def test_a_close_or_an_unknown_frame_ends_the_run(content: bytes, said: str) -> None:
    arrivals = Arrivals(FLEET.events)
    served = ServedFrames(content, 100)

    async def receive() -> None:
        async with trio.open_nursery() as nursery:
            port = await serve(nursery, served.handle)
            await nursery.start(WebSocketSink(arrivals).run, port, "ak_x")

    with trio.fail_after(5), pytest.raises(ExceptionGroup) as caught:
        await receive()
    assert caught.group_contains(SinkFailed, match=said)


async def test_a_callback_sink_stores_bodies_and_answers_each() -> None:
    arrivals = Arrivals(FLEET.events)
    arrivals.begin(FLEET.events)
    sink = CallbackSink(arrivals)
    bodies = [b"{}", *messages()]
    head = "PUT /events HTTP/1.1\r\nHost: x\r\ncontent-length: {}\r\n\r\n"
    request = b"".join(head.format(len(body)).encode() + body for body in bodies)
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            await nursery.start(sink.run)
            async with await trio.open_tcp_stream(
                "127.0.0.1", int(sink.url.split(":")[2].split("/")[0])
            ) as s:
                await s.send_all(request)
                answers = b""
                while answers.count(b"\r\n\r\n") < len(bodies):
                    answers += await s.receive_some(10_000)
            nursery.cancel_scope.cancel()
    assert answers.count(b"HTTP/1.1 200 OK\r\n") == len(bodies)
    arrivals.prove(FLEET)


class Daemon:
    """Answers posts; lets none of the events arrive until told."""

    def __init__(self, answer: bytes = ACCEPTED, status: int = 202) -> None:
        self._answer = b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s" % (status, len(answer), answer)
        self.posts = 0

    async def handle(self, stream: trio.SocketStream) -> None:
        while True:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                byte = await stream.receive_some(1)
                if not byte:
                    return
                head += byte
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            while length:
                length -= len(await stream.receive_some(length))
            self.posts += 1
            await stream.send_all(self._answer)


async def test_the_generator_does_not_run_further_ahead_than_allowed() -> None:
    daemon, arrivals = Daemon(), Arrivals(FLEET.events)
    arrivals.begin(FLEET.events)
    generator = Generator(FLEET, BodyForm.NDJSON, "ak_x", body_events=50, ahead_events_max=150)
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            port = await serve(nursery, daemon.handle)
            with trio.move_on_after(0.2) as held:
                await generator.run(port, arrivals)
            assert held.cancelled_caught
            assert daemon.posts == 3
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (b"{}", 503),
        (ACCEPTED.replace(b'"queued":50', b'"queued":49'), 202),
        (ACCEPTED.replace(b'"rejected":0', b'"rejected":1'), 202),
    ],
)
async def test_a_body_that_was_not_taken_whole_fails_the_run(answer: bytes, status: int) -> None:
    daemon, arrivals = Daemon(answer, status), Arrivals(FLEET.events)
    generator = Generator(FLEET, BodyForm.JSON, "ak_x", body_events=50, ahead_events_max=10_000)

    async def post() -> None:
        async with trio.open_nursery() as nursery:
            port = await serve(nursery, daemon.handle)
            await generator.run(port, arrivals)

    with trio.fail_after(5), pytest.raises(ExceptionGroup) as caught:
        await post()
    assert caught.group_contains(Refused)


def test_a_message_of_an_unknown_size_is_counted_by_reading_it() -> None:
    arrivals = Arrivals(FLEET.events)
    text = messages()[0].replace(b'"max-age":0}', b'"max-age": 0}', 2)
    arrivals.view[: len(text)] = text
    arrivals.add(0, len(text))
    assert arrivals.events == 50


def test_far_more_than_was_posted_is_refused() -> None:
    arrivals = Arrivals(10)
    with pytest.raises(NotProven, match="more than was posted"):
        arrivals.room(len(arrivals.memory), 10)
