from __future__ import annotations

import msgspec
import pytest

from dispatcher.errors import BadRequest, BodyTooLarge
from dispatcher.http.message import (
    Headers,
    ReadyBody,
    Request,
    json_response,
    no_content,
    text_response,
)


def test_header_names_match_in_any_case() -> None:
    headers = Headers([(b"Content-TYPE", b"a/b")])
    assert headers.get("content-type") == headers.get("CONTENT-Type") == "a/b"
    assert "Content-Type" in headers
    assert headers.get("accept") is None
    assert "accept" not in headers


def test_second_authorization_spoils_the_first() -> None:
    headers = Headers([(b"authorization", b"Bearer a"), (b"Authorization", b"Bearer b")])
    assert headers.get("authorization") == "Bearer a, Bearer b"
    assert headers.getlist("authorization") == ["Bearer a", "Bearer b"]
    assert headers.getlist("cookie") == []


def test_tokens_are_split_over_repeated_fields() -> None:
    headers = Headers([(b"connection", b"Keep-Alive, , Upgrade"), (b"connection", b"X")])
    assert headers.tokens("Connection") == ["keep-alive", "upgrade", "x"]
    assert headers.tokens("te") == []


def test_repr_never_shows_a_value() -> None:
    headers = Headers([(b"authorization", b"Bearer ak_secret")])
    assert repr(headers) == "<Headers authorization>"
    request = Request(method="GET", path="/x", query="key=ak_secret", headers=headers, request_id="ab")
    assert repr(request) == "<Request ab GET /x>"


def test_query_parameters_are_decoded() -> None:
    request = Request(method="GET", path="/", query="a=1&b=%26%3D&c+d=e+f&flag&&g=")
    assert request.query_params() == {"a": "1", "b": "&=", "c d": "e f", "flag": "", "g": ""}
    assert Request(method="GET", path="/").query_params() == {}


@pytest.mark.parametrize("query", ["a=1&a=2", "a=1&%61=2", "=1", "a=%", "a=%ff", "%zz=1"])
def test_query_that_cannot_be_read_one_way_is_refused(query: str) -> None:
    with pytest.raises(BadRequest):
        Request(method="GET", path="/", query=query).query_params()


@pytest.mark.parametrize(
    ("version", "headers", "wants"),
    [
        ("1.1", [(b"connection", b"keep-alive, Upgrade"), (b"upgrade", b"WebSocket")], True),
        ("1.1", [(b"connection", b"upgrade"), (b"upgrade", b"h2c, websocket")], True),
        ("1.0", [(b"connection", b"upgrade"), (b"upgrade", b"websocket")], False),
        ("1.1", [(b"connection", b"keep-alive"), (b"upgrade", b"websocket")], False),
        ("1.1", [(b"connection", b"upgrade")], False),
        ("1.1", [(b"connection", b"upgrade"), (b"upgrade", b"h2c")], False),
    ],
)
def test_upgrade_is_wanted_only_with_both_headers(
    version: str, headers: list[tuple[bytes, bytes]], wants: bool
) -> None:
    request = Request(method="GET", path="/", headers=Headers(headers), http_version=version)
    assert request.wants_upgrade() is wants


async def test_ready_body_has_the_bound_of_a_real_one() -> None:
    request = Request(method="PUT", path="/", body=ReadyBody(b"12345"))
    assert request.has_body
    assert await request.body(5) == b"12345"
    with pytest.raises(BodyTooLarge):
        await request.body(4)


async def test_request_without_body_reads_as_empty() -> None:
    request = Request(method="GET", path="/")
    assert not request.has_body
    assert await request.body(0) == b""


def test_responses_carry_their_media_type() -> None:
    response = json_response({"a": 1}, 201)
    assert (response.status, response.content_type) == (201, "application/json")
    assert msgspec.json.decode(response.body) == {"a": 1}
    assert text_response("REMOVED").content_type == "text/plain; charset=utf-8"
    assert (no_content().status, no_content().content_type) == (204, None)
