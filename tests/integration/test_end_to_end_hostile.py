"""Bad input of every kind: the documented error, nothing stored, and the daemon serves on."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest
import trio
from support.daemon import Daemon, Reply, Tenant, User, log_shown, new_tenant
from support.plain_websocket import open_websocket

pytestmark = pytest.mark.slow

DAEMON_FLAGS = ("--allow-private-callbacks",)

EVENTS = "/gateway/v1/events"
JSON = {"Content-Type": "application/json"}
NDJSON = {"Content-Type": "application/x-ndjson"}
BODY_BYTES_MAX = 16 * 1024 * 1024
WAIT_S = 10.0


@pytest.fixture
async def daemon(running: Daemon) -> AsyncIterator[Daemon]:
    """A daemon that must still serve after the test, and must not have failed inside."""
    before = running.log.read_text()
    with log_shown(running):
        yield running
        assert (await running.anyone.send("GET", "/healthz")).status == 200
    logged = running.log.read_text()[len(before) :]
    assert "Traceback" not in logged
    assert " ERROR " not in logged.upper()


@pytest.fixture(scope="module")
def known() -> dict[str, Tenant]:
    """Tenants that the tests of this file share."""
    return {}


@pytest.fixture
async def tenant(daemon: Daemon, known: dict[str, Tenant]) -> AsyncIterator[Tenant]:
    """A tenant with a WebSocket channel, in which nothing may have been stored after the test."""
    if "tenant" not in known:
        made = known["tenant"] = await new_tenant(daemon)
        assert (await made.application.send("PUT", "/v2/notification/websocket")).status == 201
        everything = [{"endpoint-name": "*"}]
        assert (await made.application.send("PUT", "/v2/subscriptions", everything)).status == 204
    application = known["tenant"].application
    yield known["tenant"]
    websocket = await application.send("GET", "/v2/notification/websocket")
    assert websocket.content()["queue_size"] == 0


@pytest.fixture
async def bystander(daemon: Daemon, known: dict[str, Tenant]) -> User:
    """An application without a channel."""
    if "bystander" not in known:
        known["bystander"] = await new_tenant(daemon)
    return known["bystander"].application


def expect_error(reply: Reply, status: int) -> Any:
    assert reply.status == status, reply.body
    error = reply.content()
    assert (error["object"], error["code"]) == ("error", status)
    assert error["request_id"]
    return error


def notification(**members: object) -> dict[str, object]:
    return {"ep": "d1", "path": "/3/0/1", **members}


# --- bodies that are not what they should be ------------------------------------------

NOT_JSON = {
    "empty": b"",
    "a word": b"hello",
    "cut short": b'{"notifications":[',
    "trailing words": b'{"notifications":[]} x',
    "two values": b'{"notifications":[]}{"notifications":[]}',
    "trailing comma": b'{"notifications":[],}',
    "single quotes": b"{'notifications':[]}",
    "a comment": b'{"notifications":[]/**/}',
    "NaN": b'{"notifications":[{"ep":"d","path":"/1","max-age":NaN}]}',
    "infinity": b'{"notifications":[{"ep":"d","path":"/1","max-age":1e999}]}',
    "leading zero": b'{"notifications":[{"ep":"d","path":"/1","max-age":01}]}',
    "huge number": b'{"notifications":[{"ep":"d","path":"/1","max-age":' + b"9" * 10_000 + b"}]}",
    "huge exponent": b'{"notifications":[{"ep":"d","path":"/1","max-age":1e1000000000}]}',
    "invalid UTF-8": b'{"notifications":[{"ep":"d\xff","path":"/1"}]}',
    "overlong UTF-8": b'{"notifications":[{"ep":"d\xc0\xaf","path":"/1"}]}',
    "surrogate as UTF-8": b'{"notifications":[{"ep":"d\xed\xa0\x80","path":"/1"}]}',
    "lone surrogate": b'{"notifications":[{"ep":"d\\ud800","path":"/1"}]}',
    "raw control character": b'{"notifications":[{"ep":"d\n","path":"/1"}]}',
    "byte order mark": b'\xef\xbb\xbf{"notifications":[]}',
    "UTF-16": '{"notifications":[]}'.encode("utf-16"),
    "deep arrays": b"[" * 100_000 + b"]" * 100_000,
    "deep objects": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    "deep in a member": b'{"notifications":[{"ep":"d","path":"/1","x":' + b"[" * 40 + b"]" * 40 + b"}]}",
    "duplicate member": b'{"notifications":[{"ep":"d","ep":"e","path":"/1"}]}',
    "duplicate array": b'{"notifications":[],"notifications":[]}',
}

WRONG_EVENTS: dict[str, object] = {
    "an array": [],
    "null": None,
    "a number": 1,
    "no array": {"notifications": {}},
    "a string for an event": {"notifications": ["x"]},
    "no ep": {"notifications": [{"path": "/1"}]},
    "no path": {"notifications": [{"ep": "d"}]},
    "empty ep": {"notifications": [notification(ep="")]},
    "long ep": {"notifications": [notification(ep="x" * 65)]},
    "ep of another type": {"notifications": [notification(ep=1)]},
    "control character in ep": {"notifications": [notification(ep="a\u0007")]},
    "C1 control character in ep": {"notifications": [notification(ep="a\u0085")]},
    "path without slash": {"notifications": [notification(path="3/0/1")]},
    "long path": {"notifications": [notification(path="/" + "x" * 255)]},
    "control character in path": {"notifications": [notification(path="/\u0000")]},
    "payload not base64": {"notifications": [notification(payload="***")]},
    "payload without padding": {"notifications": [notification(payload="MQ")]},
    "payload of another type": {"notifications": [notification(payload=1)]},
    "large payload": {"notifications": [notification(payload="QUFB" * 90_000)]},
    "negative max-age": {"notifications": [notification(**{"max-age": -1})]},
    "fractional max-age": {"notifications": [notification(**{"max-age": 1.5})]},
    "max-age beyond 2^53": {"notifications": [notification(**{"max-age": 2**53 + 1})]},
    "max-age in words": {"notifications": [notification(**{"max-age": "ten"})]},
    "boolean max-age": {"notifications": [notification(**{"max-age": True})]},
    "registration with wrong resources": {"registrations": [{"ep": "d", "resources": [{}]}]},
    "registration with too many resources": {
        "registrations": [{"ep": "d", "resources": [{"path": f"/{n}"} for n in range(1_001)]}]
    },
    "de-registration of a number": {"de-registrations": [1]},
    "async response without status": {"async-responses": [{"id": "a"}]},
    "good one before a bad one": {"notifications": [notification(), {}]},
    "good one in another kind": {"notifications": [notification()], "registrations": [{}]},
}


@pytest.mark.parametrize("name", NOT_JSON)
async def test_a_body_that_is_not_strict_json_is_400(tenant: Tenant, name: str) -> None:
    for headers in (JSON, NDJSON):
        if (headers is NDJSON) and (name in ("empty", "raw control character")):
            continue  # no lines is no events; the newline cuts the line
        reply = await tenant.gateway.send("POST", EVENTS, body=NOT_JSON[name], headers=headers)
        expect_error(reply, 400)


@pytest.mark.parametrize("name", WRONG_EVENTS)
async def test_a_wrong_event_is_400_and_its_field_is_named(tenant: Tenant, name: str) -> None:
    body = json.dumps(WRONG_EVENTS[name]).encode()
    reply = await tenant.gateway.send("POST", EVENTS, body=body, headers=JSON)
    error = expect_error(reply, 400)
    assert error["type"] in ("validation_error", "bad_request")
    if isinstance(WRONG_EVENTS[name], dict):
        assert error["fields"][0]["name"]
        assert error["fields"][0]["message"]


@pytest.mark.parametrize("content", [{}, {"notifications": []}, {"notifications": None}])
async def test_a_message_without_events_is_accepted_and_stores_nothing(
    tenant: Tenant, content: object
) -> None:
    reply = await tenant.gateway.send("POST", EVENTS, content)
    assert reply.status == 202, reply.body
    assert (reply.content()["accepted"], reply.content()["queued"]) == (0, 0)


async def test_the_line_and_the_field_of_a_bad_event_are_named(tenant: Tenant) -> None:
    lines = [{"notifications": [notification()]}, {"notifications": [notification(), notification(path="x")]}]
    body = "\n".join(map(json.dumps, lines)).encode()
    error = expect_error(await tenant.gateway.send("POST", EVENTS, body=body, headers=NDJSON), 400)
    (field,) = error["fields"]
    assert field["line"] == 2
    assert "path" in field["name"]


async def test_an_error_never_quotes_a_payload(tenant: Tenant) -> None:
    bad = {"notifications": [notification(payload="c2VjcmV0c2VjcmV0*")]}
    reply = await tenant.gateway.send("POST", EVENTS, bad)
    expect_error(reply, 400)
    assert b"c2VjcmV0" not in reply.body


@pytest.mark.parametrize("media_type", ["text/plain", "application/xml", "application/jsonl", ""])
async def test_events_of_another_media_type_are_415(tenant: Tenant, media_type: str) -> None:
    reply = await tenant.gateway.send("POST", EVENTS, body=b"{}", headers={"Content-Type": media_type})
    expect_error(reply, 415)


@pytest.mark.parametrize("key", ["", "x" * 256])
async def test_an_idempotency_key_of_a_wrong_length_is_400(tenant: Tenant, key: str) -> None:
    expect_error(await tenant.gateway.send("POST", EVENTS, {}, headers={"Idempotency-Key": key}), 400)


# --- bodies without end ---------------------------------------------------------------


async def test_a_body_announced_too_large_is_413_before_it_is_sent(tenant: Tenant) -> None:
    head = request_head(tenant.gateway, f"Content-Length: {BODY_BYTES_MAX + 1}", "Expect: 100-continue")
    assert (await exchange(tenant.gateway, head)).startswith(b"HTTP/1.1 413")


async def test_a_chunked_body_without_end_is_413_at_the_limit(tenant: Tenant) -> None:
    chunk = b"10000\r\n" + b" " * 65_536 + b"\r\n"
    sent = await pour(tenant.gateway, request_head(tenant.gateway, "Transfer-Encoding: chunked"), chunk)
    assert sent.answer.startswith(b"HTTP/1.1 413")
    assert BODY_BYTES_MAX <= sent.body_bytes < 4 * BODY_BYTES_MAX


async def test_a_head_without_end_is_431(daemon: Daemon) -> None:
    sent = await pour(daemon.anyone, b"GET / HTTP/1.1\r\n", b"X-Filler: " + b"x" * 1_000 + b"\r\n")
    assert sent.answer.startswith(b"HTTP/1.1 431")
    assert sent.body_bytes < 4 * 1024 * 1024


async def test_a_client_that_leaves_in_the_middle_of_a_body_stores_nothing(tenant: Tenant) -> None:
    body = json.dumps({"notifications": [notification()]}).encode()
    async with await trio.open_tcp_stream("127.0.0.1", tenant.gateway.port) as stream:
        await stream.send_all(request_head(tenant.gateway, f"Content-Length: {len(body) + 10}") + body)


# --- bytes that are not HTTP ----------------------------------------------------------

MALFORMED = {
    "noise": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)) + b"\r\n\r\n",
    "no target": b"GET\r\n\r\n",
    "no version": b"GET /healthz\r\n\r\n",
    "space in target": b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n",
    "control character in target": b"GET /\x01 HTTP/1.1\r\nHost: x\r\n\r\n",
    "header without colon": b"GET /healthz HTTP/1.1\r\nHost: x\r\nbroken\r\n\r\n",
    "space before colon": b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-A : b\r\n\r\n",
    "control character in header": b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-A: b\x00c\r\n\r\n",
    "no host": b"GET /healthz HTTP/1.1\r\n\r\n",
    "two hosts": b"GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "two lengths": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "negative length": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    "huge length": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: " + b"9" * 400 + b"\r\n\r\n",
    "length in words": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: ten\r\n\r\n",
    "length and chunks": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n",
    "unknown coding": b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("name", MALFORMED)
async def test_malformed_http_is_refused_and_the_connection_closed(daemon: Daemon, name: str) -> None:
    answer = await exchange(daemon.anyone, MALFORMED[name])
    status = int(answer[9:12])
    assert answer.startswith(b"HTTP/1.1 ")
    assert 400 <= status < 600
    assert status != 500
    assert answer.count(b"HTTP/1.1 ") == 1  # nothing after it was taken for a request
    body = answer.partition(b"\r\n\r\n")[2]
    assert json.loads(body)["code"] == status


async def test_a_bad_chunk_is_400(tenant: Tenant) -> None:
    head = request_head(tenant.gateway, "Transfer-Encoding: chunked")
    for chunk in (b"zz\r\n", b"-1\r\n", b"5;" + b"x" * 100_000, b"1\r\nab\r\n"):
        assert (await exchange(tenant.gateway, head + chunk)).startswith((b"HTTP/1.1 400", b"HTTP/1.1 413"))


# --- callbacks ------------------------------------------------------------------------

FORBIDDEN_HEADERS = [
    "Host", "content-length", "Transfer-Encoding", "Connection", "Upgrade", "TE", "Trailer", "Expect",
    "Keep-Alive", "Proxy-Authorization", "proxy-connection",
]  # fmt: skip


@pytest.mark.parametrize(
    "headers",
    [
        *({name: "x"} for name in FORBIDDEN_HEADERS),
        {"X-A": "b\r\nEvil: 1"},
        {"X-A": "b\nEvil: 1"},
        {"X-A": "b\r"},
        {"X-A": "b\u0000"},
        {"X-A\r\nEvil": "1"},
        {"X A": "1"},
        {"X-A:": "1"},
        {"": "1"},
        {"X-Ä": "1"},
        {"X-A": "1", "x-a": "2"},
    ],
)
async def test_headers_that_would_change_the_request_are_refused(
    bystander: User, headers: dict[str, str]
) -> None:
    content = {"url": f"http://127.0.0.1:{bystander.port}/healthz", "headers": headers}
    error = expect_error(await bystander.send("PUT", "/v2/notification/callback", content), 400)
    assert error["fields"][0]["name"].startswith("headers")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'"x"', b"\xff", b"[" * 100_000])
async def test_a_registration_that_is_not_an_object_is_400(bystander: User, body: bytes) -> None:
    reply = await bystander.send("PUT", "/v2/notification/callback", body=body, headers=JSON)
    expect_error(reply, 400)
    if body:  # a WebSocket is registered with an empty body
        reply = await bystander.send("PUT", "/v2/notification/websocket", body=body, headers=JSON)
        expect_error(reply, 400)


async def test_a_registration_over_a_mebibyte_is_413(tenant: Tenant) -> None:
    body = b" " * (1024 * 1024 + 1)
    for path in ("/v2/notification/websocket", "/v2/subscriptions"):
        expect_error(await tenant.application.send("PUT", path, body=body, headers=JSON), 413)


# --- frames ---------------------------------------------------------------------------

FRAMES = {
    "unmasked": (b"\x81\x02hi", {1002}),
    "reserved bit": (b"\xc1\x80\0\0\0\0", {1002}),
    "unknown opcode": (b"\x83\x80\0\0\0\0", {1002}),
    "fragmented ping": (b"\x09\x80\0\0\0\0", {1002}),
    "long ping": (b"\x89\xfe\x00\x7e\0\0\0\0" + bytes(126), {1002}),
    "continuation of nothing": (b"\x80\x80\0\0\0\0", {1002}),
    "invalid UTF-8": (b"\x81\x81\0\0\0\0\xff", {1007}),
    "announced exabytes": (b"\x81\xff\x7f" + b"\xff" * 7 + bytes(4) + bytes(100_000), {1009}),
    "close with half a code": (b"\x88\x81\0\0\0\0\x03", {1002}),
    "close with a reserved code": (b"\x88\x82\0\0\0\0\x03\xed", {1002}),
}


@pytest.mark.parametrize("name", FRAMES)
async def test_a_malformed_frame_closes_the_socket_with_its_code(tenant: Tenant, name: str) -> None:
    frame, codes = FRAMES[name]
    assert tenant.application.key is not None
    async with open_websocket(tenant.application.port, tenant.application.key.key) as socket:
        await socket.send(frame)
        assert (await socket.wait_closed())[0] in codes


async def test_a_message_without_end_from_a_client_closes_with_1009(tenant: Tenant) -> None:
    assert tenant.application.key is not None
    async with open_websocket(tenant.application.port, tenant.application.key.key) as socket:
        fragment = b"\xfe\x80\0" + bytes(4) + b" " * 32_768
        await socket.send(b"\x01" + fragment)
        with suppress(trio.BrokenResourceError):
            while socket.closed_with is None:
                await socket.send(b"\x00" + fragment)
        assert (await socket.wait_closed())[0] in (1006, 1009)  # a reset may overtake the Close frame


async def test_text_pongs_and_pings_from_a_client_are_taken(tenant: Tenant) -> None:
    assert tenant.application.key is not None
    async with open_websocket(tenant.application.port, tenant.application.key.key) as socket:
        for _ in range(100):
            await socket.send(b"\x81\x82\0\0\0\0hi" + b"\x8a\x84\0\0\0\0abcd" + b"\x89\x80\0\0\0\0")
        await socket.stay_silent(0.2)


# --- raw bytes ------------------------------------------------------------------------


def request_head(user: User, *lines: str) -> bytes:
    assert user.key is not None
    fixed = ["POST /gateway/v1/events HTTP/1.1", "Host: x", "Content-Type: application/json"]
    fixed.append(f"Authorization: Bearer {user.key.key}")
    return "\r\n".join([*fixed, *lines, "", ""]).encode()


async def exchange(user: User, content: bytes) -> bytes:
    """Everything that is answered to these bytes, until the daemon closes."""
    answer = b""
    with trio.fail_after(WAIT_S):
        async with await trio.open_tcp_stream("127.0.0.1", user.port) as stream:
            await stream.send_all(content)
            while data := await receive(stream):
                answer += data
    return answer


class Poured:
    """What became of bytes without end."""

    body_bytes = 0
    answer = b""


async def pour(user: User, head: bytes, piece: bytes) -> Poured:
    """Send ``piece`` again and again until the daemon has answered and closed."""
    poured = Poured()
    with trio.fail_after(WAIT_S):
        async with await trio.open_tcp_stream("127.0.0.1", user.port) as stream:
            await stream.send_all(head)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_send_on, stream, piece, poured)
                while data := await receive(stream):
                    poured.answer += data
                nursery.cancel_scope.cancel()
    return poured


async def _send_on(stream: trio.SocketStream, piece: bytes, poured: Poured) -> None:
    try:
        while True:  # ends when the daemon closes, or the answer is there
            await stream.send_all(piece)
            poured.body_bytes += len(piece)
    except trio.BrokenResourceError:
        return


async def receive(stream: trio.SocketStream) -> bytes:
    try:
        return bytes(await stream.receive_some(65_536))
    except trio.BrokenResourceError:
        return b""
