"""What the notation of the cases lets through, and what it does not."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook
from support.case_document import BadCase, read_case
from support.case_patterns import (
    Variables,
    check_body,
    check_headers,
    check_no_null,
    check_signature,
    filled,
)

UUID = "7d6b4f9e-1c52-4f0a-9a53-0b1f5e2c7a10"


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ('{"a": <number>, "b": [<text>]}', b'{"b":["x"],"a":1}'),
        ('{"at": <ms>, "uid": <uuid>}', f'{{"at":1767225600123,"uid":"{UUID}"}}'.encode()),
        ("<empty>", b""),
        ("REMOVED", b"REMOVED"),
    ],
)
def test_a_body_that_fits_is_let_through(pattern: str, found: bytes) -> None:
    check_body(pattern, found, {})


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ('{"a": 1}', b'{"a":1,"uid":2}'),
        ('{"a": 1, "b": 2}', b'{"a":1}'),
        ('{"a": 1}', b'{"a":true}'),
        ('{"a": <number>}', b'{"a":"1"}'),
        ('{"a": <text>}', b'{"a":""}'),
        ('{"a": <uuid>}', b'{"a":"no"}'),
        ('{"a": <ms>}', b'{"a":"1767225600123"}'),
        ("[1, 2]", b"[2,1]"),
        ("<empty>", b"{}"),
        ("REMOVED", b"ALREADY_DELETED"),
    ],
)
def test_a_body_that_does_not_fit_fails(pattern: str, found: bytes) -> None:
    with pytest.raises(AssertionError):
        check_body(pattern, found, {})


def test_a_remembered_value_must_be_the_same_again() -> None:
    variables: Variables = {}
    check_body('{"id": <text FIRST>}', b'{"id":"x"}', variables)
    assert filled("{FIRST}", variables) == "x"
    with pytest.raises(AssertionError):
        check_body('{"id": <text FIRST>}', b'{"id":"y"}', variables)


def test_headers_must_be_there_or_must_not() -> None:
    found = {"allow": "GET", "cache-control": "x"}
    check_headers(["Allow: GET", "Cache-Control: <any>", "!Upgrade"], found, {})
    for wanted in ("Allow: PUT", "Upgrade: <any>", "!Allow"):
        with pytest.raises(AssertionError):
            check_headers([wanted], {"allow": "GET"}, {})


def test_a_headers_value_can_be_remembered() -> None:
    variables: Variables = {}
    check_headers(["Id: <any FIRST>"], {"id": "x"}, variables)
    check_headers(["Id: <any FIRST>", "Id: {FIRST}".format(**variables)], {"id": "x"}, variables)
    with pytest.raises(AssertionError):
        check_headers(["Id: <any FIRST>"], {"id": "y"}, variables)


def test_a_signature_is_by_this_secret_and_over_this_message() -> None:
    secret = f"whsec_{base64.b64encode(bytes(32)).decode()}"
    now = datetime.now(UTC)
    headers = {"webhook-id": "1", "webhook-timestamp": str(int(now.timestamp()))}
    headers["webhook-signature"] = Webhook(secret).sign("1", now, "{}")
    check_signature(secret, headers, b"{}")
    for other in ((secret.replace("A", "B"), b"{}"), (secret, b"[]")):
        with pytest.raises(AssertionError):
            check_signature(other[0], headers, other[1])


@pytest.mark.parametrize("message", [b"null", b'{"a":null}', b'{"a":[{"b":null}]}'])
def test_a_null_at_any_depth_fails(message: bytes) -> None:
    with pytest.raises(AssertionError):
        check_no_null(message)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("no title", "title"),
        ("# Title\n\n```answer\n200\n```", "why"),
        ("# Title\n\nWhy.", "steps"),
        ("# Title\n\nWhy.\n\n```requst\nGET /\n```", "no kind of block"),
        ("# Title\n\nWhy.\n\n```request\nGET /", "no end"),
        ("# Title\n\nGiven: a socket.\n\nWhy.\n\n```cut\n```", "cannot be given"),
    ],
)
def test_a_document_that_cannot_be_played_says_what_is_wrong(tmp_path: Path, text: str, words: str) -> None:
    document = tmp_path / "case.md"
    document.write_text(text)
    with pytest.raises(BadCase, match=words):
        read_case(document)


def test_a_given_channel_and_posted_events_are_steps(tmp_path: Path) -> None:
    document = tmp_path / "case.md"
    document.write_text("# Title\n\nWhy.\n\nGiven: a WebSocket channel.\n\n```events\n{}\n```\n")
    case = read_case(document)
    found: list[Any] = [(step.kind, step.text.partition("\n")[0]) for step in case.steps]
    assert found == [
        ("request", "PUT /v2/notification/websocket"),
        ("answer", "201"),
        ("request", "POST /gateway/v1/events"),
        ("answer", "202"),
    ]
    assert case.variables == {"KEY", "GATEWAY_KEY"}
    assert case.why == "Why."
