"""Bodies where they were received: in buffers that are used again, and by nobody meanwhile."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
from support.http_wire import WireClient, post, request
from support.served_connection import serve_alone

from dispatcher import limits
from dispatcher.http.body_buffers import BodyBuffers
from dispatcher.http.message import Reply, Request, Response
from dispatcher.http.service import Service

Clock = trio.testing.MockClock
Streams = tuple[trio.abc.Stream, trio.abc.Stream]

LENGTHS = (
    1,
    limits.BODY_BUFFER_WORTH_BYTES - 1,
    limits.BODY_BUFFER_WORTH_BYTES,
    300_000,
    limits.BODY_BUFFER_BYTES,
    limits.BODY_BUFFER_BYTES + 1,
)


def body_of(length: int, start: int = 0) -> bytes:
    return bytes((start + at) % 251 for at in range(251)) * (length // 251 + 1)


async def echo(request: Request) -> Reply:
    body = await request.body_in_place(limits.REQUEST_BODY_BYTES_MAX)
    return Response(200, bytes(body), "application/octet-stream")


async def memory_streams() -> Streams:
    return trio.testing.memory_stream_pair()


async def sockets() -> Streams:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    theirs = await trio.testing.open_stream_to_socket_listener(listener)
    ours = await listener.accept()
    await listener.aclose()
    return ours, theirs


@asynccontextmanager
async def connected(
    service: Service, open_streams: Callable[[], object] = memory_streams
) -> AsyncIterator[WireClient]:
    ours, theirs = await open_streams()  # type: ignore[misc]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_alone, ours, service)
        yield WireClient(theirs)
        await theirs.aclose()


@pytest.mark.parametrize("open_streams", [memory_streams, sockets])
async def test_a_body_of_any_length_is_what_was_sent(open_streams: Callable[[], object]) -> None:
    service = Service(echo)
    async with connected(service, open_streams) as client:
        for turn, length in enumerate((*LENGTHS, *reversed(LENGTHS))):
            body = body_of(length, turn)[:length]
            assert (await client.ask(post(body))).body == body
    assert repr(service.body_buffers) == "<BodyBuffers idle=1 taken=0>"


async def test_bodies_that_are_read_at_once_have_a_buffer_each_and_then_pieces() -> None:
    service = Service(echo)
    count = limits.BODY_BUFFERS_MAX + 3
    bodies = [body_of(100_000, number)[:100_000] for number in range(count)]
    answers: list[bytes] = [b""] * count
    begun = trio.Event()

    async def ask(number: int) -> None:
        async with connected(service) as client:
            message = post(bodies[number])
            await client.send(message[:50_000])
            await begun.wait()
            await client.send(message[50_000:])
            answers[number] = (await client.response()).body

    async with trio.open_nursery() as nursery:
        for number in range(count):
            nursery.start_soon(ask, number)
        await trio.testing.wait_all_tasks_blocked()
        assert repr(service.body_buffers) == f"<BodyBuffers idle=0 taken={limits.BODY_BUFFERS_MAX}>"
        begun.set()
    assert answers == bodies
    assert service.bodies.bytes_held == 0
    assert repr(service.body_buffers) == f"<BodyBuffers idle={limits.BODY_BUFFERS_MAX} taken=0>"


async def test_who_breaks_off_or_falls_silent_gives_the_buffer_back(autojump_clock: Clock) -> None:
    service = Service(echo)
    head = request("POST", "/", "Content-Length: 100000")
    async with connected(service) as client:
        await client.send(head + b"x" * 40_000)
        await client.stream.send_eof()  # type: ignore[attr-defined]
        assert (await client.response()).status == 400
    async with connected(service) as client:
        await client.send(head + b"x" * 40_000)
        assert (await client.response()).status == 408
    assert repr(service.body_buffers) == "<BodyBuffers idle=1 taken=0>"
    assert service.bodies.bytes_held == 0


async def test_who_announces_much_and_sends_nothing_takes_no_memory_of_the_bodies(
    autojump_clock: Clock,
) -> None:
    service = Service(echo)
    async with connected(service) as client:
        await client.send(request("POST", "/", "Content-Length: 100000"))
        await trio.testing.wait_all_tasks_blocked()
        assert service.bodies.bytes_held == 0


def test_buffers_are_for_bodies_that_are_worth_one() -> None:
    buffers = BodyBuffers()
    assert buffers.take(limits.BODY_BUFFER_WORTH_BYTES - 1) is None
    assert buffers.take(limits.BODY_BUFFER_BYTES + 1) is None
    first = buffers.take(limits.BODY_BUFFER_BYTES)
    assert first is not None
    second = buffers.take(limits.BODY_BUFFER_BYTES)
    assert second is not first
    buffers.give_back(first)
    assert buffers.take(limits.BODY_BUFFER_WORTH_BYTES) is first
