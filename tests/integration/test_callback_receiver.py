"""The scripted receiver itself, over plain sockets: other tests believe what it reports."""

from __future__ import annotations

import pytest
import trio
from support.receiver import CLOSE, RESET, SILENCE, When, answer, open_receiver

REQUEST = b"PUT /a HTTP/1.1\r\nHost: h\r\nX-A:  b \r\nContent-Length: 5\r\n\r\nhello"


async def read_all(stream: trio.SocketStream) -> bytes:
    received = b""
    with trio.fail_after(2):
        while data := await stream.receive_some(65_536):
            received += data
    return received


async def test_requests_are_kept_byte_for_byte_with_their_connection() -> None:
    async with open_receiver() as receiver:
        first = await trio.open_tcp_stream("127.0.0.1", receiver.port)
        await first.send_all(REQUEST + REQUEST[:20])
        await receiver.wait_requests(1)
        await first.send_all(REQUEST[20:])
        second = await trio.open_tcp_stream("127.0.0.1", receiver.port)
        await receiver.wait_requests(2)
        await second.send_all(REQUEST)
        requests = await receiver.wait_requests(3)
        for stream in (first, second):
            await stream.aclose()
    assert [request.connection for request in requests] == [0, 0, 1]
    assert {request.head + request.body for request in requests} == {REQUEST}
    assert requests[0].line == b"PUT /a HTTP/1.1"
    assert requests[0].headers[1] == (b"X-A", b"b")
    assert requests[0].values("content-LENGTH") == [b"5"]


async def test_the_script_is_followed_and_then_the_other_answer_is_given() -> None:
    async with open_receiver(answer(503), otherwise=answer(204)) as receiver:
        stream = await trio.open_tcp_stream("127.0.0.1", receiver.port)
        for status in (b"503", b"204", b"204"):
            await stream.send_all(REQUEST)
            assert (await stream.receive_some(65_536)).startswith(b"HTTP/1.1 " + status)
        await stream.aclose()


async def test_an_answer_can_come_before_the_body() -> None:
    async with open_receiver(answer(413, when=When.AFTER_HEAD)) as receiver:
        stream = await trio.open_tcp_stream("127.0.0.1", receiver.port)
        await stream.send_all(REQUEST.removesuffix(b"hello"))
        assert (await stream.receive_some(65_536)).startswith(b"HTTP/1.1 413")
        await stream.aclose()


async def test_connections_end_as_the_script_says() -> None:
    async with open_receiver(CLOSE, RESET, SILENCE) as receiver:
        streams = [await trio.open_tcp_stream("127.0.0.1", receiver.port) for _ in range(3)]
        await streams[0].send_all(REQUEST)
        assert await read_all(streams[0]) == b""
        await streams[1].send_all(REQUEST)
        with pytest.raises(trio.BrokenResourceError) as caught:
            await read_all(streams[1])
        assert isinstance(caught.value.__cause__, ConnectionResetError)
        await streams[2].send_all(REQUEST)
        await receiver.wait_requests(3)
        with trio.move_on_after(0.05) as waiting:
            await streams[2].receive_some(1)
        assert waiting.cancelled_caught
        for stream in streams:
            await stream.aclose()
