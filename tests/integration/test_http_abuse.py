"""What hostile, broken and slow clients do on real sockets; a good request is answered after each."""

from __future__ import annotations

import socket
import struct
from collections.abc import AsyncIterator

import pytest
import trio
from support.http_servers import RunningServer, eventually, running
from support.http_wire import get, post, request

from dispatcher import limits


@pytest.fixture
async def server() -> AsyncIterator[RunningServer]:
    async with running(grace_s=0.2) as found:
        yield found
        await found.check_alive()


CHUNKED = request("POST", "/echo", "Transfer-Encoding: chunked")

ABUSES = {
    "nothing like HTTP": (b"\x00\x01\x02\x03\r\n\r\n", 400),
    "TLS to the plain port": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500), 400),
    "HTTP/0.9": (b"GET /\r\n\r\n", 400),
    "HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "HTTP/3.0": (b"GET / HTTP/3.0\r\nHost: x\r\n\r\n", 505),
    "no Host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "two Hosts": (get("/", "Host: other"), 400),
    "CONNECT": (request("CONNECT", "example.com:443"), 501),
    "authority as target": (request("GET", "example.com:80"), 400),
    "space in target": (request("GET", "/a b"), 400),
    "bare LF": (get().replace(b"\r\n", b"\n"), 400),
    "one bare LF": (get("/", "A: b").replace(b"\r\nA", b"\nA"), 400),
    "bare CR in a value": (get("/", "A: b\rc"), 400),
    "NUL in a value": (get("/", "A: b\x00c"), 400),
    "NUL in a name": (get("/", "A\x00: b"), 400),
    "space before the colon": (get("/", "Content-Length : 5"), 400),
    "folded first header": (b"GET / HTTP/1.1\r\n Host: x\r\n\r\n", 400),
    "header flood": (get("/", *[f"X-{n}: {n}" for n in range(2000)]), 431),
    "header of 65 KiB": (get("/", "A: " + "a" * 65 * limits.KIB), 431),
    "target of 65 KiB": (get("/" + "a" * 65 * limits.KIB), 431),
    "no line end in 70 KiB": (b"G" * 70 * limits.KIB, 431),
    "length and chunked": (
        request("POST", "/echo", "Content-Length: 3", "Transfer-Encoding: chunked") + b"0\r\n\r\n",
        400,
    ),
    "two lengths": (request("POST", "/echo", "Content-Length: 3", "Content-Length: 4") + b"abcd", 400),
    "negative length": (request("POST", "/echo", "Content-Length: -3"), 400),
    "length of 30 digits": (request("POST", "/echo", "Content-Length: " + "9" * 30), 400),
    "length of 20 digits": (request("POST", "/echo", "Content-Length: " + "9" * 20), 413),
    "length that is no number": (request("POST", "/echo", "Content-Length: 0x3"), 400),
    "gzip coding": (request("POST", "/echo", "Transfer-Encoding: gzip, chunked"), 501),
    "chunked in HTTP/1.0": (b"POST /echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "chunk size of 21 digits": (CHUNKED + b"f" * 21 + b"\r\n", 400),
    "chunk size of 20 digits": (CHUNKED + b"f" * 20 + b"\r\n" + bytes(2 * limits.MIB), 413),
    "negative chunk": (CHUNKED + b"-1\r\n", 400),
    "chunk longer than its size": (CHUNKED + b"3\r\nabcdef\r\n0\r\n\r\n", 400),
    "malformed trailer": (CHUNKED + b"0\r\nA B: c\r\n\r\n", 400),
    "trailer of 70 KiB": (CHUNKED + b"0\r\nA: " + b"a" * 70 * limits.KIB, 400),
    "chunk extension of 70 KiB": (CHUNKED + b"1;" + b"a" * 70 * limits.KIB, 400),
    "body over the bound": (
        request("POST", "/echo", f"Content-Length: {limits.API_BODY_BYTES_MAX + 1}"),
        413,
    ),
    "upgrade with a body": (
        request("GET", "/upgrade", "Connection: Upgrade", "Upgrade: websocket", "Content-Length: 1") + b"x",
        400,
    ),
}


@pytest.mark.parametrize(("data", "status"), ABUSES.values(), ids=ABUSES.keys())
async def test_refused_with_its_status_and_closed(server: RunningServer, data: bytes, status: int) -> None:
    client = await server.connect()
    with trio.fail_after(5):
        response = await client.ask(data)
        assert response.status == status
        assert response.error["message"]
        if status != 400 or "upgrade" not in response.error["message"]:
            assert response.headers["connection"] == "close"
            assert await client.is_at_end()
    await client.stream.aclose()


@pytest.mark.parametrize(
    ("data", "body"),
    [
        (request("GET", "http://elsewhere.test/a?b"), b"/a"),
        (request("OPTIONS", "*"), b"*"),
        (b"\r\n\r\n" + get("/a"), b"/a"),
        (b"GET /a HTTP/1.0\r\n\r\n", b"/a"),
        (CHUNKED + b"3;x=y\r\nabc\r\n0\r\nTrailer: value\r\n\r\n", b"abc"),
        (CHUNKED + b"0003\r\nabc\r\n000\r\n\r\n", b"abc"),
        (request("POST", "/echo", "Content-Length: 3", "Content-Length: 3") + b"abc", b"abc"),
        (request("X-NEW", "/a"), b"/a"),
    ],
)
async def test_odd_but_valid_requests_are_served(server: RunningServer, data: bytes, body: bytes) -> None:
    client = await server.connect()
    with trio.fail_after(5):
        assert (await client.ask(data)).body == body
    await client.stream.aclose()


async def test_request_byte_by_byte(server: RunningServer) -> None:
    client = await server.connect()
    for byte in post(b"slowly"):
        await client.send(bytes([byte]))
        await trio.sleep(0.001)
    assert (await client.response()).body == b"slowly"
    await client.stream.aclose()


async def test_slowloris_is_told_408(server: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "REQUEST_HEAD_TIMEOUT_S", 0.3)
    clients = [await server.connect() for _ in range(20)]
    async with trio.open_nursery() as nursery:
        for client in clients:
            nursery.start_soon(_drip, client.stream)
        await server.check_alive()
        with trio.fail_after(5):
            for client in clients:
                assert (await client.response()).status == 408
        nursery.cancel_scope.cancel()
    for client in clients:
        await trio.aclose_forcefully(client.stream)


async def test_body_that_stops_is_told_408(server: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "REQUEST_BODY_STALL_S", 0.2)
    client = await server.connect()
    with trio.fail_after(5):
        assert (await client.ask(request("POST", "/echo", "Content-Length: 9") + b"1234")).status == 408
        assert await client.is_at_end()


async def test_client_that_never_reads_is_let_go(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "RESPONSE_STALL_S", 0.2)
    client = await server.connect()
    await client.send(get("/big"))
    await eventually(lambda: not server.is_deserted())
    await eventually(server.is_deserted)
    await client.stream.aclose()


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HT",
        request("POST", "/echo", "Content-Length: 100000") + bytes(5000),
        CHUNKED + b"ff\r\nabc",
        get("/big"),
        get("/slow"),
        get("/upgrade", "Connection: Upgrade", "Upgrade: websocket"),
    ],
)
@pytest.mark.parametrize("with_reset", [False, True])
async def test_disconnect_at_any_point_is_no_failure_of_ours(
    server: RunningServer, data: bytes, with_reset: bool
) -> None:
    client = await server.connect()
    assert isinstance(client.stream, trio.SocketStream)
    await client.send(data)
    await eventually(lambda: not server.is_deserted())
    await trio.sleep(0.01)  # so that it is inside of what it does
    if with_reset:
        client.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    await client.stream.aclose()
    await eventually(server.is_deserted)
    statistics = server.server.statistics()
    assert (statistics.connections_failed_total, statistics.requests_failed_total) == (0, 0)


async def test_connect_and_leave_500_times(server: RunningServer) -> None:
    for _ in range(500):
        client = await server.connect()
        await client.stream.aclose()


@pytest.mark.slow
async def test_5000_requests_in_one_send(server: RunningServer) -> None:
    client = await server.connect()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.send, get("/a") * 5000)
        with trio.fail_after(20):
            for _ in range(5000):
                assert (await client.response()).body == b"/a"
    await client.stream.aclose()


async def _drip(stream: trio.abc.Stream) -> None:
    for byte in get("/" + "a" * 1000):
        try:
            await stream.send_all(bytes([byte]))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return
        await trio.sleep(0.02)
