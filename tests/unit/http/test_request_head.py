from __future__ import annotations

import pytest

from dispatcher import limits
from dispatcher.errors import (
    BadRequest,
    DispatcherError,
    HeaderTooLarge,
    NotImplementedHere,
    VersionNotSupported,
)
from dispatcher.http.request_head import Head, parse_head, split_target


def head(first: str = "GET / HTTP/1.1", *lines: str) -> Head:
    return parse_head("\r\n".join([first, "Host: x", *lines, "", ""]).encode("latin-1"))


def test_head_without_framing_has_an_empty_body() -> None:
    found = head("DELETE /a%20b?c=%64 HTTP/1.1")
    assert (found.method, found.path, found.query) == ("DELETE", "/a%20b", "c=%64")
    assert found.content_length == 0
    assert not found.expects_continue
    assert not found.is_last


def test_framing_is_read_from_the_head() -> None:
    assert head("POST / HTTP/1.1", "Content-Length: 17").content_length == 17
    assert head("POST / HTTP/1.1", "Transfer-Encoding: Chunked").content_length is None


def test_equal_content_lengths_count_as_one() -> None:
    assert head("POST / HTTP/1.1", "Content-Length: 5", "content-length: 5").content_length == 5
    assert head("POST / HTTP/1.1", "Content-Length: 5, 5").content_length == 5


@pytest.mark.parametrize(
    ("first", "line", "expects"),
    [
        ("POST / HTTP/1.1", "Expect: 100-Continue", True),
        ("POST / HTTP/1.0", "Expect: 100-continue", False),
        ("POST / HTTP/1.1", "Expect: 200-ok", False),
    ],
)
def test_only_http_1_1_clients_wait_for_100(first: str, line: str, expects: bool) -> None:
    assert head(first, line).expects_continue is expects


@pytest.mark.parametrize(
    ("first", "line", "is_last"),
    [
        ("GET / HTTP/1.1", "Connection: Keep-Alive", False),
        ("GET / HTTP/1.1", "Connection: foo, Close", True),
        ("GET / HTTP/1.0", "Connection: keep-alive", True),
    ],
)
def test_client_says_whether_more_requests_follow(first: str, line: str, is_last: bool) -> None:
    assert head(first, line).is_last is is_last


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/", ("/", "")),
        ("/a?b?c", ("/a", "b?c")),
        ("//a", ("//a", "")),
        ("*", ("*", "")),
        ("http://h:1/a?b", ("/a", "b")),
        ("HTTPS://h", ("/", "")),
        ("http://h?q", ("/", "q")),
    ],
)
def test_target_gives_path_and_query(target: str, expected: tuple[str, str]) -> None:
    assert split_target(target) == expected


@pytest.mark.parametrize("target", ["a", "h:443", "http:///a", "ftp://h/a", "?a", "http:/a", "**"])
def test_target_that_is_no_path_is_refused(target: str) -> None:
    with pytest.raises(BadRequest):
        split_target(target)


MALFORMED = [
    b"GET / HTTP/1.1\r\n\r\n",  # no Host
    b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    b"GET /\r\n\r\n",  # HTTP/0.9
    b"GET  / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET / HTTP/1.1 \r\nHost: x\r\n\r\n",
    b"GET /\x80 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"G(T / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET / http/1.1\r\nHost: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nA : b\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\n: b\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nab\r\n\r\n",
    b"GET / HTTP/1.1\r\n A: b\r\nHost: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nA: b\x00c\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nA: b\rc\r\n\r\n",
    b"GET / HTTP/1.1\nHost: x\n\n",
    b"GET / HTTP/1.1\r\nHost: x\nA: b\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\n\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5, 6\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1_0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0x1\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length:\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: " + b"9" * 30 + b"\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"POST / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
]


@pytest.mark.parametrize("data", MALFORMED)
def test_malformed_head_is_refused(data: bytes) -> None:
    with pytest.raises(BadRequest):
        parse_head(data)


@pytest.mark.parametrize(
    "coding",
    ["gzip, chunked", "gzip", "chunked, chunked", "identity", "xchunked", "chunked\r\nTransfer-Encoding: x"],
)
def test_other_transfer_codings_are_not_implemented(coding: str) -> None:
    with pytest.raises(NotImplementedHere):
        head("POST / HTTP/1.1", f"Transfer-Encoding: {coding}")


@pytest.mark.parametrize("first", ["CONNECT h:443 HTTP/1.1", "X" * 33 + " / HTTP/1.1"])
def test_methods_outside_of_what_routes_can_have_are_not_implemented(first: str) -> None:
    with pytest.raises(NotImplementedHere):
        head(first)


@pytest.mark.parametrize("first", ["PRI * HTTP/2.0", "GET / HTTP/2.0", "GET / HTTP/0.9", "GET / HTTP/1.2"])
def test_other_versions_are_not_supported(first: str) -> None:
    with pytest.raises(VersionNotSupported):
        head(first)


def test_as_many_headers_as_the_limit_says() -> None:
    lines = [f"X-{n}: {n}" for n in range(limits.REQUEST_HEADERS_MAX - 1)]  # Host is one
    assert head("GET / HTTP/1.1", *lines).method == "GET"
    with pytest.raises(HeaderTooLarge):
        head("GET / HTTP/1.1", *lines, "One: more")


def test_refusal_never_repeats_what_the_client_sent() -> None:
    with pytest.raises(DispatcherError) as caught:
        head("GET / HTTP/1.1", "Authorization: Bearer ak_secret\x00")
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
