"""One connection over a pair of memory streams; every wait on a clock that jumps."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
from support.http_wire import WireClient, get, post, request
from support.served_connection import serve_alone

from dispatcher import limits
from dispatcher.deliver.tcp_receipt import TcpReceipt
from dispatcher.errors import FieldError, InvalidAuth, MethodNotAllowed, Unavailable, ValidationError
from dispatcher.http.connection import serve_connection
from dispatcher.http.message import EventStream, Reply, Request, Response, Upgrade, no_content, text_response
from dispatcher.http.service import BodyBudget, Service

Clock = trio.testing.MockClock

BODY_MAX = 100_000


async def answer(request: Request) -> Reply:
    """The handler of these tests: what it does stands in the path."""
    match request.path:
        case "/echo":
            return Response(200, await request.body(BODY_MAX), "application/octet-stream")
        case "/twice":
            return Response(200, await request.body(BODY_MAX) + await request.body(BODY_MAX))
        case "/about":
            return text_response(f"{request.method} {request.query} {request.scheme} {request.request_id}")
        case "/refuse":
            raise InvalidAuth("Invalid access token")
        case "/nothing":
            return no_content()
        case "/slow":
            await trio.sleep(3600)
            return text_response("at last")
        case "/bug":
            raise KeyError("Bearer ak_secret")
        case "/inject":
            return Response(200, headers=(("X", "a\r\nSet-Cookie: b"),))
        case "/stream":
            return EventStream(count_to_two)
        case "/stream-without-end":
            return EventStream(stream_for_ever)
        case "/upgrade":
            return Upgrade(echo_stream, (("Sec-WebSocket-Accept", "x="),))
        case "/bad-upgrade":
            return Upgrade(echo_stream, (("Sec-WebSocket-Accept", "a\r\nb"),))
    return text_response(request.path)


async def count_to_two(send: Callable[[bytes], Awaitable[None]]) -> None:
    for number in (b"1", b"2"):
        await send(b"data: " + number + b"\n\n")
        await trio.sleep(10)


async def stream_for_ever(send: Callable[[bytes], Awaitable[None]]) -> None:
    while True:
        await send(b"data\n\n")
        await trio.sleep(1)


async def echo_stream(stream: trio.abc.Stream, leftover: bytes) -> None:
    await stream.send_all(b"<" + leftover + b">")
    async for data in stream:
        await stream.send_all(data)


@asynccontextmanager
async def connected(service: Service | None = None) -> AsyncIterator[WireClient]:
    """A client whose connection is served; at the end it leaves, and the server's side must too."""
    ours, theirs = trio.testing.memory_stream_pair()
    with trio.fail_after(1_000_000):  # a moment on the clock of these tests
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve_alone, ours, Service(answer) if service is None else service)
            yield WireClient(theirs)
            await theirs.aclose()


async def test_requests_on_one_connection_are_answered_one_after_the_other(autojump_clock: Clock) -> None:
    async with connected() as client:
        for path in ("/a", "/b", "/c"):
            assert (await client.ask(get(path))).body == path.encode()


async def test_pipelined_requests_are_answered_in_order(autojump_clock: Clock) -> None:
    async with connected() as client:
        await client.send(get("/1") + post(b"2") + b"\r\n" + get("/3"))
        assert [(await client.response()).body for _ in range(3)] == [b"/1", b"2", b"/3"]


async def test_request_may_come_byte_by_byte(autojump_clock: Clock) -> None:
    async with connected() as client:
        for byte in b"\r\n" + post(b"12345") + get("/next"):
            await client.send(bytes([byte]))
            await trio.testing.wait_all_tasks_blocked()
        assert (await client.response()).body == b"12345"
        assert (await client.response()).body == b"/next"


async def test_short_head_behind_one_that_came_in_pieces_is_seen(autojump_clock: Clock) -> None:
    async with connected() as client:
        long_head = get("/long", "A: " + "a" * 500)
        await client.send(long_head[:-1])
        await trio.testing.wait_all_tasks_blocked()
        assert (await client.ask(long_head[-1:])).body == b"/long"
        assert (await client.ask(get("/short"))).body == b"/short"


async def test_repeated_head_is_a_request_of_its_own_each_time(autojump_clock: Clock) -> None:
    async with connected() as client:
        for body in (b"ab", b"cd", b"ef"):
            assert (await client.ask(post(body))).body == body
        assert (await client.ask(post(b"g"))).body == b"g"
        for _ in range(2):
            chunked = request("POST", "/echo", "Transfer-Encoding: chunked") + b"1\r\nx\r\n0\r\n\r\n"
            assert (await client.ask(chunked)).body == b"x"
        ids = {(await client.ask(get("/about"))).headers["x-request-id"] for _ in range(3)}
        assert len(ids) == 3


async def test_repeated_head_asks_for_100_each_time(autojump_clock: Clock) -> None:
    async with connected() as client:
        for _ in range(3):
            head = request("POST", "/echo", "Content-Length: 1", "Expect: 100-continue")
            assert (await client.ask(head)).status == 100
            assert (await client.ask(b"x")).body == b"x"


async def test_every_response_has_an_id_of_our_own(autojump_clock: Clock) -> None:
    async with connected() as client:
        first = await client.ask(get("/about", "X-Request-Id: mine"))
        second = await client.ask(get("/about"))
    ids = [first.headers["x-request-id"], second.headers["x-request-id"]]
    assert ids[0] != ids[1]
    assert all(6 <= len(id_) <= 32 and int(id_, 16) >= 0 for id_ in ids)
    assert first.body.decode().split()[-1] == ids[0]
    assert first.headers["server"] == "dispatcher"


async def test_target_forms_reach_the_handler_as_path_and_query(autojump_clock: Clock) -> None:
    async with connected() as client:
        assert (await client.ask(get("http://other/about?a=b"))).body.startswith(b"GET a=b http ")
        assert (await client.ask(request("OPTIONS", "*"))).body == b"*"


async def test_head_gets_the_length_and_no_body(autojump_clock: Clock) -> None:
    async with connected() as client:
        response = await client.ask(request("HEAD", "/abc"), is_head=True)
        assert response.headers["content-length"] == "4"
        refused = await client.ask(request("HEAD", "/refuse"), is_head=True)
        assert refused.status == 401
        assert (await client.ask(get("/next"))).body == b"/next"


async def test_204_has_neither_body_nor_length(autojump_clock: Clock) -> None:
    async with connected() as client:
        response = await client.ask(get("/nothing"))
        assert (response.status, response.body) == (204, b"")
        assert "content-length" not in response.headers
        assert (await client.ask(get("/next"))).body == b"/next"


@pytest.mark.parametrize(
    "head",
    [
        get("/a", "Connection: close"),
        b"GET /a HTTP/1.0\r\n\r\n",
        b"GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    ],
)
async def test_connection_ends_when_the_client_wants_no_more(autojump_clock: Clock, head: bytes) -> None:
    async with connected() as client:
        response = await client.ask(head)
        assert (response.body, response.headers["connection"]) == (b"/a", "close")
        assert await client.is_at_end()


async def test_client_that_half_closes_still_gets_its_answer(autojump_clock: Clock) -> None:
    async with connected() as client:
        assert isinstance(client.stream, trio.StapledStream)
        await client.send(get("/a"))
        await client.stream.send_eof()
        assert (await client.response()).body == b"/a"
        assert await client.is_at_end()


# --- bodies ---------------------------------------------------------------------------


async def test_chunked_body_with_extensions_and_trailers(autojump_clock: Clock) -> None:
    async with connected() as client:
        await client.send(request("POST", "/echo", "Transfer-Encoding: chunked"))
        await client.send(b"5;a=b\r\nhello\r\n")
        await client.send(b"1\r\n \r\n5\r\nworld\r\n0\r\nTrailer: x\r\n\r\n" + get("/next"))
        assert (await client.response()).body == b"hello world"
        assert (await client.response()).body == b"/next"


async def test_many_tiny_chunks_make_one_body(autojump_clock: Clock) -> None:
    async with connected() as client:
        body = bytes(n % 251 for n in range(3000))
        chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body)
        await client.send(request("POST", "/echo", "Transfer-Encoding: chunked") + chunks + b"0\r\n\r\n")
        assert (await client.response()).body == body


async def test_other_tasks_run_while_tiny_chunks_are_parsed(autojump_clock: Clock) -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with connected() as client, trio.open_nursery() as nursery:
        await client.send(request("POST", "/echo", "Transfer-Encoding: chunked"))
        await client.send(b"1\r\nx\r\n" * 30_000 + b"0\r\n\r\n")
        nursery.start_soon(count)
        await client.response()
        assert turns >= 30_000 // limits.REQUEST_CHUNKS_PER_TURN
        nursery.cancel_scope.cancel()


async def test_large_body_in_pieces_of_all_sizes(autojump_clock: Clock) -> None:
    body = bytes(n % 251 for n in range(BODY_MAX))
    async with connected() as client:
        await client.send(request("POST", "/echo", f"Content-Length: {BODY_MAX}"))
        start, size = 0, 1
        while start < BODY_MAX:
            await client.send(body[start : start + size])
            await trio.testing.wait_all_tasks_blocked()
            start, size = start + size, size * 3 % 9001
        assert (await client.response()).body == body


async def test_body_can_be_read_twice(autojump_clock: Clock) -> None:
    async with connected() as client:
        assert (await client.ask(post(b"ab", "/twice"))).body == b"abab"


@pytest.mark.parametrize("length", [BODY_MAX + 1, 10**19])
async def test_length_alone_refuses_a_body_before_it_is_read(autojump_clock: Clock, length: int) -> None:
    async with connected() as client:
        response = await client.ask(request("POST", "/echo", f"Content-Length: {length}"))
        assert response.error["type"] == "body_too_large"
        assert response.headers["connection"] == "close"
        assert await client.is_at_end()


async def test_chunked_body_is_refused_where_it_passes_the_bound(autojump_clock: Clock) -> None:
    async with connected() as client:
        await client.send(request("POST", "/echo", "Transfer-Encoding: chunked"))
        await client.send(b"%x\r\n" % BODY_MAX + bytes(BODY_MAX) + b"\r\n")
        await client.send(b"1\r\nx")
        assert (await client.response()).status == 413
        assert await client.is_at_end()


@pytest.mark.parametrize("size", [b"fffffffffffffffffffff", b"-1", b"0x5", b"", b" 5", b"5 x", b"g", b"5\n"])
async def test_malformed_chunk_is_a_bad_request(autojump_clock: Clock, size: bytes) -> None:
    async with connected() as client:
        await client.send(request("POST", "/echo", "Transfer-Encoding: chunked") + size + b"\r\nhello\r\n")
        assert (await client.response()).error["type"] == "bad_request"
        assert await client.is_at_end()


async def test_chunk_of_20_digits_is_only_a_number(autojump_clock: Clock) -> None:
    async with connected() as client:
        await client.send(request("POST", "/echo", "Transfer-Encoding: chunked") + b"f" * 20 + b"\r\n")
        await client.send(bytes(BODY_MAX + 1))
        assert (await client.response()).status == 413


@pytest.mark.parametrize(
    "data",
    [
        request("POST", "/echo", "Content-Length: 5") + b"1234",
        request("POST", "/echo", "Transfer-Encoding: chunked") + b"5\r\n1234",
        request("POST", "/echo", "Transfer-Encoding: chunked"),
        b"GET / HT",
    ],
)
async def test_request_that_breaks_off_is_a_bad_request(autojump_clock: Clock, data: bytes) -> None:
    async with connected() as client:
        assert isinstance(client.stream, trio.StapledStream)
        await client.send(data)
        await client.stream.send_eof()
        assert (await client.response()).status == 400
        assert await client.is_at_end()


async def test_unread_body_is_skipped_and_the_connection_lives_on(autojump_clock: Clock) -> None:
    async with connected() as client:
        assert (await client.ask(post(bytes(limits.UNREAD_BODY_BYTES_MAX), "/refuse"))).status == 401
        assert (await client.ask(get("/next"))).body == b"/next"


@pytest.mark.parametrize(
    "head",
    [
        request("POST", "/refuse", f"Content-Length: {limits.UNREAD_BODY_BYTES_MAX + 1}"),
        request("POST", "/refuse", "Transfer-Encoding: chunked"),
    ],
)
async def test_unread_body_that_may_be_long_ends_the_connection(autojump_clock: Clock, head: bytes) -> None:
    async with connected() as client:
        response = await client.ask(head)
        assert (response.status, response.headers["connection"]) == (401, "close")
        await client.send(bytes(1000))
        assert await client.is_at_end()


async def test_request_behind_an_unread_chunked_body_is_not_taken_from_it(autojump_clock: Clock) -> None:
    async with connected() as client:
        await client.send(request("POST", "/refuse", "Transfer-Encoding: chunked") + get("/smuggled"))
        assert (await client.response()).status == 401
        assert await client.is_at_end()


async def test_bodies_of_all_connections_share_one_budget(autojump_clock: Clock) -> None:
    service = Service(answer, bodies=BodyBudget(10))
    async with connected(service) as first, connected(service) as second:
        await first.send(request("POST", "/echo", "Content-Length: 9") + b"12345678")
        await trio.testing.wait_all_tasks_blocked()
        assert service.bodies.bytes_held == 8
        refused = await second.ask(post(b"123"))
        assert (refused.status, refused.headers["retry-after"]) == (503, "1")
        await first.send(b"9")
        assert (await first.response()).body == b"123456789"
        await trio.testing.wait_all_tasks_blocked()
        assert service.bodies.bytes_held == 0
    async with connected(service) as third:
        assert (await third.ask(post(b"123"))).body == b"123"


async def test_memory_of_a_refused_body_is_given_back(autojump_clock: Clock) -> None:
    service = Service(answer)
    async with connected(service) as client:
        await client.send(request("POST", "/echo", "Content-Length: 9") + b"1234")
        await trio.testing.wait_all_tasks_blocked()
        assert service.bodies.bytes_held == 4
    assert service.bodies.bytes_held == 0


# --- 100-continue ---------------------------------------------------------------------


async def test_100_is_sent_when_the_handler_reads(autojump_clock: Clock) -> None:
    async with connected() as client:
        response = await client.ask(request("POST", "/echo", "Content-Length: 2", "Expect: 100-continue"))
        assert (response.status, response.reason) == (100, "Continue")
        assert (await client.ask(b"ab")).body == b"ab"
        assert (await client.ask(get("/next"))).body == b"/next"


@pytest.mark.parametrize(("path", "length", "status"), [("/refuse", 2, 401), ("/echo", BODY_MAX + 1, 413)])
async def test_refused_request_gets_its_status_without_100(
    autojump_clock: Clock, path: str, length: int, status: int
) -> None:
    async with connected() as client:
        head = request("POST", path, f"Content-Length: {length}", "Expect: 100-continue")
        response = await client.ask(head)
        assert (response.status, response.headers["connection"]) == (status, "close")
        assert await client.is_at_end()


async def test_no_100_for_a_body_that_has_begun_or_is_empty(autojump_clock: Clock) -> None:
    async with connected() as client:
        assert (await client.ask(post(b"ab", "/echo", "Expect: 100-continue"))).status == 200
        assert (await client.ask(post(b"", "/echo", "Expect: 100-continue"))).status == 200


# --- time -----------------------------------------------------------------------------


async def test_idle_connection_is_closed_without_a_word(autojump_clock: Clock) -> None:
    async with connected() as client:
        await client.ask(get())
        started = trio.current_time()
        assert await client.is_at_end()
        assert trio.current_time() - started == pytest.approx(limits.KEEP_ALIVE_IDLE_S)


async def test_blank_lines_do_not_keep_a_connection(autojump_clock: Clock) -> None:
    async with connected() as client:
        started = trio.current_time()
        await _dribble(client, b"\r\n" * 20, 5)
        assert await client.is_at_end()
        assert trio.current_time() - started <= limits.KEEP_ALIVE_IDLE_S + 5


async def test_slow_head_is_408_however_it_dribbles(autojump_clock: Clock) -> None:
    async with connected() as client, trio.open_nursery() as nursery:
        started = trio.current_time()
        nursery.start_soon(_dribble, client, get("/" + "a" * 100), 1.0)
        assert (await client.response()).error["type"] == "request_timeout"
        assert trio.current_time() - started == pytest.approx(limits.REQUEST_HEAD_TIMEOUT_S)
        assert await client.is_at_end()
        nursery.cancel_scope.cancel()


async def test_silence_inside_a_body_is_408(autojump_clock: Clock) -> None:
    async with connected() as client:
        started = trio.current_time()
        await client.send(request("POST", "/echo", "Content-Length: 5") + b"1")
        await trio.sleep(limits.REQUEST_BODY_STALL_S - 1)
        await client.send(b"2")
        assert (await client.response()).status == 408
        assert trio.current_time() - started == pytest.approx(2 * limits.REQUEST_BODY_STALL_S - 1)
        assert await client.is_at_end()


@pytest.mark.parametrize("framing", ["Content-Length: 5000", "Transfer-Encoding: chunked"])
async def test_body_that_dribbles_is_408_in_the_end(autojump_clock: Clock, framing: str) -> None:
    body = b"5\r\n12345\r\n" * 500
    async with connected() as client, trio.open_nursery() as nursery:
        started = trio.current_time()
        await client.send(request("POST", "/echo", framing))
        nursery.start_soon(_dribble, client, body, 1.0)
        assert (await client.response()).status == 408
        assert trio.current_time() - started == pytest.approx(limits.REQUEST_BODY_TIMEOUT_S)
        nursery.cancel_scope.cancel()


async def test_handler_may_take_its_time(autojump_clock: Clock) -> None:
    async with connected() as client:
        assert (await client.ask(get("/slow"))).body == b"at last"


async def test_client_that_never_reads_is_let_go(autojump_clock: Clock) -> None:
    ours, theirs = trio.testing.lockstep_stream_pair()
    started = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_alone, ours, Service(answer))
        await theirs.send_all(get("/a"))
    assert trio.current_time() - started == pytest.approx(limits.RESPONSE_STALL_S)


async def test_client_that_reads_slowly_is_served(autojump_clock: Clock) -> None:
    size = 2 * limits.RESPONSE_PIECE_BYTES

    async def big(request: Request) -> Response:
        return Response(200, bytes(size))

    ours, theirs = trio.testing.lockstep_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_alone, ours, Service(big))
        await theirs.send_all(get("/a"))
        received = 0
        while received < size:
            await trio.sleep(limits.RESPONSE_STALL_S * 0.4)
            data = await theirs.receive_some(limits.RESPONSE_PIECE_BYTES // 2)
            assert data, f"cut off after {received} bytes"
            received += len(data)
        await theirs.aclose()


async def test_unread_body_that_stalls_ends_the_connection(autojump_clock: Clock) -> None:
    async with connected() as client:
        await client.send(request("POST", "/refuse", "Content-Length: 5") + b"1")
        assert (await client.response()).status == 401
        assert await client.is_at_end()


async def test_lingering_has_an_end(autojump_clock: Clock) -> None:
    async with connected() as client, trio.open_nursery() as nursery:
        started = trio.current_time()
        await client.ask(b"garbage\r\n\r\n")
        nursery.start_soon(_dribble, client, bytes(1000), 0.1)
        await trio.sleep(limits.LINGER_S + 1)
        with pytest.raises(trio.BrokenResourceError):
            await client.send(b"x")
        nursery.cancel_scope.cancel()
    assert trio.current_time() - started < limits.LINGER_S + 2


# --- errors ---------------------------------------------------------------------------


async def test_malformed_request_is_refused_and_counted(autojump_clock: Clock) -> None:
    service = Service(answer)
    async with connected(service) as client:
        response = await client.ask(b"GET /\r\n\r\n")
        assert response.error["type"] == "bad_request"
        assert response.headers["connection"] == "close"
        assert await client.is_at_end()
    assert (service.traffic.requests, service.traffic.requests_refused) == (0, 1)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x16\x03\x01", 400),
        (b"\n", 400),
        (b"GET / HTTP/1.1\n\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (request("CONNECT", "h:443"), 501),
        (request("POST", "/echo", "Transfer-Encoding: gzip"), 501),
        (get("/", "A: " + "a" * limits.REQUEST_HEAD_BYTES_MAX), 431),
        (b"GET /" + b"a" * limits.REQUEST_HEAD_BYTES_MAX, 431),
        (get("/", *[f"X: {n}" for n in range(limits.REQUEST_HEADERS_MAX)]), 431),
    ],
)
async def test_what_is_no_request_gets_a_status_at_once(
    autojump_clock: Clock, data: bytes, status: int
) -> None:
    async with connected() as client:
        started = trio.current_time()
        assert (await client.ask(data)).status == status
        assert trio.current_time() == started
        assert await client.is_at_end()


async def test_largest_head_is_served(autojump_clock: Clock) -> None:
    line = "A: "
    empty = len(get("/a", line))
    async with connected() as client:
        data = get("/a", line + "a" * (limits.REQUEST_HEAD_BYTES_MAX - empty))
        assert len(data) == limits.REQUEST_HEAD_BYTES_MAX
        assert (await client.ask(data)).status == 200


async def test_error_of_a_handler_becomes_its_status(autojump_clock: Clock) -> None:
    async def refuse(request: Request) -> Response:
        match request.path:
            case "/405":
                raise MethodNotAllowed("no", allow=("PUT",))
            case "/503":
                raise Unavailable("not now", retry_after_s=1.5)
            case _:
                raise ValidationError("bad", fields=(FieldError(name="ep", message="is missing", line=2),))

    async with connected(Service(refuse)) as client:
        assert (await client.ask(get("/405"))).headers["allow"] == "PUT"
        assert (await client.ask(get("/503"))).headers["retry-after"] == "2"
        assert (await client.ask(get("/"))).error["fields"] == [
            {"name": "ep", "message": "is missing", "line": 2}
        ]


async def test_unauthorized_keeps_its_reason_phrase(autojump_clock: Clock) -> None:
    async with connected() as client:
        response = await client.ask(get("/refuse"))
        assert (response.status, response.reason) == (401, "Unauthorized")
        assert response.headers["www-authenticate"] == "Bearer"
        assert response.error["message"] == "Invalid access token"
        assert (await client.ask(get("/next"))).body == b"/next"


async def test_bug_is_a_500_logged_with_its_id_and_place_and_nothing_more(
    autojump_clock: Clock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    service = Service(answer)
    async with connected(service) as client:
        response = await client.ask(get("/bug", "Authorization: Bearer ak_secret"))
        assert response.error["type"] == "internal_error"
        assert (await client.ask(get("/next"))).body == b"/next"
    assert service.traffic.requests_failed == 1
    (record,) = caplog.records
    assert (record.getMessage(), record.levelno) == ("request.failed", logging.ERROR)
    assert record.fields == {"request": response.headers["x-request-id"]}  # type: ignore[attr-defined]
    assert record.exc_text is not None
    assert "KeyError" in record.exc_text
    assert __file__ in record.exc_text
    assert "ak_secret" not in caplog.text.replace('raise KeyError("Bearer ak_secret")', "")
    assert b"KeyError" not in response.body


@pytest.mark.parametrize("path", ["/inject", "/bad-upgrade"])
async def test_header_that_would_inject_is_a_500(autojump_clock: Clock, path: str) -> None:
    async with connected() as client:
        response = await client.ask(get(path, "Connection: Upgrade", "Upgrade: websocket"))
        assert response.status == 500
        assert "set-cookie" not in response.headers
        assert (await client.ask(get("/next"))).body == b"/next"


# --- streams --------------------------------------------------------------------------


async def test_a_stream_sends_as_it_comes_and_ends_with_the_connection(autojump_clock: Clock) -> None:
    service = Service(answer)
    async with connected(service) as client:
        response = await client.ask(get("/stream"))
        assert response.status == 200
        assert response.headers["content-type"] == "text/event-stream"
        assert (response.headers["connection"], response.headers["cache-control"]) == ("close", "no-store")
        assert "content-length" not in response.headers
        assert service.traffic.streams_open == 1
        began_s = trio.current_time()
        received = bytes(client.received)
        client.received.clear()
        async for piece in client.stream:
            received += piece
        assert received == b"data: 1\n\ndata: 2\n\n"
        assert trio.current_time() - began_s == pytest.approx(20)
    assert service.traffic.streams_open == 0


async def test_head_of_a_stream_has_no_body(autojump_clock: Clock) -> None:
    async with connected() as client:
        response = await client.ask(request("HEAD", "/stream-without-end"), is_head=True)
        assert response.status == 200
        assert await client.is_at_end()


async def test_a_client_that_leaves_a_stream_ends_it(autojump_clock: Clock) -> None:
    service = Service(answer)
    async with connected(service) as client:
        await client.ask(get("/stream-without-end"))
        await trio.testing.wait_all_tasks_blocked()
        assert service.traffic.streams_open == 1
    assert (service.traffic.streams_open, service.traffic.connections_failed) == (0, 0)


async def test_a_client_that_reads_nothing_of_a_stream_is_given_up(autojump_clock: Clock) -> None:
    service = Service(answer)
    ours, theirs = trio.testing.lockstep_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_alone, ours, service)
        client = WireClient(theirs)
        await client.ask(get("/stream-without-end"))
        await trio.testing.wait_all_tasks_blocked()
        assert service.traffic.streams_open == 1
        await trio.sleep(limits.RESPONSE_STALL_S + 5)
        assert service.traffic.streams_open == 0
        nursery.cancel_scope.cancel()


# --- upgrade --------------------------------------------------------------------------

UPGRADE = get("/upgrade", "Connection: Upgrade", "Upgrade: websocket")


async def test_upgrade_after_requests_hands_over_stream_and_glued_bytes(autojump_clock: Clock) -> None:
    service = Service(answer)
    async with connected(service) as client:
        await client.ask(get("/first"))
        response = await client.ask(UPGRADE + b"glued")
        assert (response.status, response.reason) == (101, "Switching Protocols")
        assert response.headers["connection"] == "Upgrade"
        assert response.headers["upgrade"] == "websocket"
        assert response.headers["sec-websocket-accept"] == "x="
        assert await _exactly(client, b"<glued>") == b"<glued>"
        assert service.traffic.upgrades_open == 1
        await client.send(b"GET / HTTP/1.1\r\n\r\n")
        assert await _exactly(client, b"GET / HTTP/1.1\r\n\r\n") == b"GET / HTTP/1.1\r\n\r\n"
    assert service.traffic.upgrades_open == 0


async def test_upgraded_connection_has_none_of_our_timeouts(autojump_clock: Clock) -> None:
    async with connected() as client:
        await client.ask(UPGRADE)
        await _exactly(client, b"<>")
        await trio.sleep(86_400)
        await client.send(b"still here")
        assert await _exactly(client, b"still here") == b"still here"


async def test_upgrade_with_a_body_is_refused(autojump_clock: Clock) -> None:
    async with connected() as client:
        head = request("GET", "/upgrade", "Connection: Upgrade", "Upgrade: websocket", "Content-Length: 2")
        assert (await client.ask(head + b"ab")).status == 400


async def test_upgrade_nobody_asked_for_is_426(autojump_clock: Clock) -> None:
    async with connected() as client:
        response = await client.ask(get("/upgrade"))
        assert response.error["type"] == "upgrade_required"
        assert response.headers["upgrade"] == "websocket"
        assert response.headers["connection"] == "Upgrade"
        assert response.headers["sec-websocket-version"] == "13"
        assert (await client.ask(get("/next"))).body == b"/next"


async def test_offer_of_another_protocol_is_ignored(autojump_clock: Clock) -> None:
    async with connected() as client:
        head = request("POST", "/echo", "Connection: Upgrade", "Upgrade: h2c", "Content-Length: 2")
        assert (await client.ask(head + b"ab")).body == b"ab"


async def test_failure_of_an_upgrade_comes_out(autojump_clock: Clock) -> None:
    async def fail(stream: trio.abc.Stream, leftover: bytes) -> None:
        raise KeyError

    async def upgrade(request: Request) -> Upgrade:
        return Upgrade(fail)

    ours, theirs = trio.testing.memory_stream_pair()
    await theirs.send_all(UPGRADE)
    with pytest.raises(KeyError):
        await serve_connection(ours, Service(upgrade))
    assert (await WireClient(theirs).response()).status == 101
    assert await theirs.receive_some(1) == b""


# --- the end --------------------------------------------------------------------------


async def test_drain_closes_an_idle_connection_after_a_moment(autojump_clock: Clock) -> None:
    service = Service(answer)
    async with connected(service) as client:
        await client.ask(get())
        await trio.testing.wait_all_tasks_blocked()
        started = trio.current_time()
        service.timekeeper.drain()
        assert await client.is_at_end()
        assert trio.current_time() - started == pytest.approx(limits.DRAIN_IDLE_S)


async def test_request_in_that_moment_is_answered_and_its_client_told_to_connect_anew(
    autojump_clock: Clock,
) -> None:
    service = Service(answer)
    async with connected(service) as client:
        await client.ask(get())
        await trio.testing.wait_all_tasks_blocked()
        service.timekeeper.drain()
        await trio.sleep(limits.DRAIN_IDLE_S / 2)
        assert (await client.ask(get())).headers["connection"] == "close"
        assert await client.is_at_end()


@pytest.mark.parametrize("data", [b"", get()])
async def test_connection_that_begins_after_the_drain_has_one_request(
    data: bytes, autojump_clock: Clock
) -> None:
    service = Service(answer)
    service.timekeeper.drain()
    async with connected(service) as client:
        if data:
            assert (await client.ask(data)).headers["connection"] == "close"
        started = trio.current_time()
        assert await client.is_at_end()
    assert trio.current_time() - started <= limits.DRAIN_IDLE_S


async def test_drain_lets_a_request_finish_and_says_close(autojump_clock: Clock) -> None:
    service = Service(answer)
    async with connected(service) as client:
        await client.send(get("/slow"))
        await trio.testing.wait_all_tasks_blocked()
        service.timekeeper.drain()
        response = await client.response()
        assert (response.body, response.headers["connection"]) == (b"at last", "close")
        assert await client.is_at_end()


async def test_drain_lets_a_head_that_has_begun_finish(autojump_clock: Clock) -> None:
    service = Service(answer)
    async with connected(service) as client:
        data = get("/a")
        await client.send(data[:10])
        await trio.testing.wait_all_tasks_blocked()
        service.timekeeper.drain()
        assert (await client.ask(data[10:])).headers["connection"] == "close"


async def test_request_that_comes_as_the_drain_begins_is_answered_or_never_begun(
    autojump_clock: Clock,
) -> None:
    begun = 0

    async def count(request: Request) -> Response:
        nonlocal begun
        begun += 1
        await trio.sleep(1)
        return no_content()

    service = Service(count)
    async with connected(service) as client:
        await trio.testing.wait_all_tasks_blocked()
        await client.send(get())  # the server's task is woken, and did not run yet
        service.timekeeper.drain()
        data = await client.stream.receive_some(1000)
    assert (begun, bool(data)) in {(0, False), (1, True)}


async def test_cancelled_connection_is_closed(autojump_clock: Clock) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_alone, ours, Service(answer))
        await theirs.send_all(get("/slow"))
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert await theirs.receive_some(1) == b""


# --- long waits -----------------------------------------------------------------------


async def test_handler_can_notice_that_its_client_has_gone(autojump_clock: Clock) -> None:
    noticed = trio.Event()

    async def wait(request: Request) -> Response:
        await request.wait_disconnected()
        noticed.set()
        return no_content()

    async with connected(Service(wait)) as client:
        await client.send(get())
        await trio.sleep(100)
        assert not noticed.is_set()
        await client.stream.aclose()
        with trio.fail_after(1):
            await noticed.wait()


async def test_what_comes_while_a_handler_watches_is_kept(autojump_clock: Clock) -> None:
    async def wait(request: Request) -> Response:
        with trio.move_on_after(10):
            await request.wait_disconnected()
        return text_response(request.path)

    async with connected(Service(wait)) as client:
        await client.send(get("/1"))
        await trio.sleep(1)
        await client.send(get("/2"))
        assert [(await client.response()).body for _ in range(2)] == [b"/1", b"/2"]


async def test_watching_handler_holds_a_bounded_read_ahead(autojump_clock: Clock) -> None:
    async def wait(request: Request) -> Response:
        with trio.move_on_after(10):
            await request.wait_disconnected()
        return no_content()

    ours, theirs = trio.testing.lockstep_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_alone, ours, Service(wait))
        await theirs.send_all(get("/1"))
        sent = 0
        with trio.move_on_after(5):
            for _ in range(200):
                await theirs.send_all(bytes(1000))
                sent += 1000
        assert limits.REQUEST_HEAD_BYTES_MAX <= sent <= limits.REQUEST_HEAD_BYTES_MAX + 1000
        await trio.aclose_forcefully(theirs)


async def test_receipt_is_given_when_the_answer_went_out(autojump_clock: Clock) -> None:
    receipt = TcpReceipt()

    async def give(request: Request) -> Response:
        return Response(200, b"x", receipt=receipt)

    async with connected(Service(give)) as client:
        assert not receipt.is_acknowledged()
        await client.ask(get())
        await trio.testing.wait_all_tasks_blocked()
        assert receipt.is_acknowledged()


async def test_receipt_is_refused_when_the_client_did_not_read(autojump_clock: Clock) -> None:
    receipt = TcpReceipt()

    async def give(request: Request) -> Response:
        return Response(200, b"x", receipt=receipt)

    ours, theirs = trio.testing.lockstep_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_alone, ours, Service(give))
        await theirs.send_all(get("/a"))
        await trio.sleep(1)
        await trio.aclose_forcefully(theirs)
    assert not receipt.is_acknowledged()


async def _dribble(client: WireClient, data: bytes, interval_s: float) -> None:
    for byte in data:
        try:
            await client.send(bytes([byte]))
        except trio.BrokenResourceError:
            return
        await trio.sleep(interval_s)


async def _exactly(client: WireClient, expected: bytes) -> bytes:
    while len(client.received) < len(expected):
        client.received += await client.stream.receive_some(1000)
    data = bytes(client.received[: len(expected)])
    del client.received[: len(expected)]
    return data
