"""What parsers get wrong, picked by hand: who takes it, and that both paths say the same.

*native*: the native scan takes it; *strict*: it is rare, and taken by the strict path;
*refused*: by both, in the same words.
"""

from __future__ import annotations

import base64
import json

import pytest
from support.both_scans import SCANNER, parse

from dispatcher import limits
from dispatcher.errors import BadRequest
from dispatcher.wire.ingest import BodyForm

EVENT = b'{"ep":"a","path":"/1"'
DEEPEST = limits.JSON_DEPTH_MAX - 3  # an event's member stands in message, array and event


def member(value: bytes, name: bytes = b"x") -> bytes:
    return b'{"notifications":[%b,"%b":%b}]}' % (EVENT, name, value)


def named(name: bytes, value: bytes) -> bytes:
    """An event in which ``ep`` or ``path`` is another one."""
    members = {b"ep": b'"a"', b"path": b'"/1"', name: value}
    return b'{"notifications":[{%b}]}' % b",".join(b'"%b":%b' % item for item in members.items())


def members(name: bytes, values: bytes) -> list[bytes]:
    """Messages, each with one of the values that stand in a row."""
    return [member(value, name) for value in values.split(b" ")]


def names(name: bytes, values: bytes) -> list[bytes]:
    return [named(name, value) for value in values.split(b" ")]


def string(characters: str) -> bytes:
    return b'"%b"' % characters.encode()


def payload_of(count: int) -> bytes:
    return b'"%b"' % base64.b64encode(b"\xff" * count)


NATIVE = [
    *members(b"x", b"9007199254740992 -9007199254740992 -0 0 1e2 -0.0E-9"),
    *members(b"x", b'"\\u0000" "\x7f" "\xc2\x80" "\\ud83d\\ude00" "\\/\\b" "\xf4\x8f\xbf\xbf"'),
    *members(b"max-age", b'9007199254740992 -0 "0060" "9007199254740992" "\\u0030" null'),
    *members(b"ct", b'"\\u0000\\u001f" "\x7f" "\xc2\x85" "" null'),
    *members(b"payload", b'"QR==" "QUJ=" "\\u0051Q==" "\\/\\/\\/\\/" "" null'),
    member(payload_of(limits.PAYLOAD_BYTES_MAX), b"payload"),
    *members(b"original-ep", b'"b" "a" "\\u0061" null'),
    member(b'"u"', b"uid"),
    *names(b"ep", b'"\\u0061" "\\"\\\\" "\xc2\xa0"'),
    named(b"ep", string("é" * limits.EP_CHARS_MAX)),
    named(b"ep", string("😀" * limits.EP_CHARS_MAX)),
    named(b"ep", string("\\ud83d\\ude00" * limits.EP_CHARS_MAX)),
    *names(b"path", b'"\\/1" "\\u002f" "/\xe2\x80\xa8" "/\\u2028"'),
    named(b"path", string("/" + "日" * (limits.PATH_CHARS_MAX - 1))),
    member(b"[" * DEEPEST + b"]" * DEEPEST),
    member(b'{"a":' * (DEEPEST - 1) + b"{}" + b"}" * (DEEPEST - 1)),
    member(b'{"a":1,"b":{"a":1},"c":[{"a":1},{"a":1}]}'),
    b'{"notifications":null}',
    b' \t\r\n{ "notifications" : [ ] } \n',
    b'{"\\u006eotifications":[{"\\u0065p":"a","p\\u0061th":"/"}]}',
    b"{}",
]
STRICT = [
    *members(b"x", b'1e100 -1.5e-300 {"\\u0061":1}'),
    member(b"1", b"\\u0078"),
    b'{"notifications":[%b,%b}]}' % (EVENT, b",".join(b'"x%d":1' % number for number in range(40))),
    b'{"notifications":[],"de-registrations":["a"]}',
    b'{"registrations":null}',
]
REFUSED = [
    *members(b"x", b"9007199254740993 -9007199254740993 01 -01 1. .1 +1 1e 1e999 - NaN 0x1 tru nulll"),
    *members(b"x", b'"\\ud800" "\\udc00" "\\udc00\\ud800" "\\udc00\\udc00" "\\ud800\\ud800" "\\ud800x"'),
    *members(b"x", b'"\xc0\x80" "\xe0\x9f\xbf" "\xf0\x8f\xbf\xbf" "\xed\xa0\x80" "\xf4\x90\x80\x80"'),
    *members(b"x", b'"\xe2\x82" "\x80" "\xff" "\x00" "\x1f" "\\x" "\\u12" "\\u12g4" "\\ "a'),
    *members(
        b"x", b'1,"x":1 1,"\\u0078":1 1,"uid":1,"uid":1 {"a":1,"a":1} {"a":1,"\\u0061":1} [{"b":1,"b":1}]'
    ),
    *members(b"max-age", b'9007199254740993 -1 1.0 1e2 "" "1\\u0020" "-1" "9007199254740993" true'),
    member(string("é" * (limits.CT_CHARS_MAX + 1)), b"ct"),
    *members(
        b"payload", b'"QQ" "QQ=" "QQ====" "Q===" "====" "QQ==QQ==" "QQ==\\n" "-_==" "Q\xc3\xa9==" "\\u003d"'
    ),
    member(payload_of(limits.PAYLOAD_BYTES_MAX + 1), b"payload"),
    *members(b"original-ep", b'"" "\\n" 0'),
    member(string("x" * (limits.EP_CHARS_MAX + 1)), b"original-ep"),
    *names(b"ep", b'"" "\x7f" "\xc2\x80" "\\u0080" "\\u0000" "\\u001f" null 5'),
    named(b"ep", string("x" * (limits.EP_CHARS_MAX + 1))),
    named(b"ep", string("é" * (limits.EP_CHARS_MAX + 1))),
    *names(b"path", b'"1" "" "/\x7f" "/\xc2\x9f" "/\\u009f" null ["/1"]'),
    named(b"path", string("/" + "日" * limits.PATH_CHARS_MAX)),
    *members(b"ep", b'"b"'),
    *members(b"\\u0065p", b'"b"'),
    member(b"[" * (DEEPEST + 1) + b"]" * (DEEPEST + 1)),
    member(b'{"a":' * DEEPEST + b"{}" + b"}" * DEEPEST),
    b'{"notifications":[],"notifications":[]}',
    b'{"notifications":[],"\\u006eotifications":null}',
    b'\xef\xbb\xbf{"notifications":[]}',
    b'{"notifications":[]}\x00',
    b'{"notifications":[]}{}',
    b'{"notifications":[%b},]}' % EVENT,
    b'{"notifications":[%b,}]}' % EVENT,
    b'{"message-id":"m"}',
]


def is_taken_natively(text: bytes, *, may_be_named: bool = False) -> bool:
    return SCANNER.staging().take_message(text, 1_000, may_be_named=may_be_named).messages == 1


@pytest.mark.parametrize("text", NATIVE, ids=lambda text: text[:60])
@pytest.mark.parametrize("form", list(BodyForm))
def test_any_legal_spelling_of_notifications_is_taken_natively(text: bytes, form: BodyForm) -> None:
    if form is BodyForm.NDJSON:
        text = text.strip()
    assert is_taken_natively(text)
    parse(text, form)


@pytest.mark.parametrize("text", STRICT, ids=lambda text: text[:60])
def test_what_is_rare_is_taken_by_the_strict_path(text: bytes) -> None:
    assert not is_taken_natively(text)
    parse(text, BodyForm.JSON)
    parse(text + b"\n" + text, BodyForm.NDJSON)


@pytest.mark.parametrize("text", REFUSED, ids=lambda text: text[:60])
@pytest.mark.parametrize("form", [BodyForm.JSON, BodyForm.NDJSON])
def test_what_is_wrong_is_refused_in_the_same_words(text: bytes, form: BodyForm) -> None:
    assert not is_taken_natively(text)
    with pytest.raises(BadRequest):
        parse(text, form)
    if form is BodyForm.NDJSON:
        with pytest.raises(BadRequest) as caught:
            parse(NATIVE[0] + b"\n\n" + text + b"\n" + NATIVE[0], form)
        assert caught.value.fields[0].line == 3


@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\n\n", b" \t\r\n"])
@pytest.mark.parametrize("ending", [b"", b"\n", b"\r", b" "])
def test_lines_end_in_any_way(newline: bytes, ending: bytes) -> None:
    lines = [named(b"ep", b'"%d"' % number) for number in range(5)]
    lines[2] = b'{"de-registrations":["2"]}'
    assert parse(newline.join(lines) + ending, BodyForm.NDJSON).eps == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize("step_bytes", [1, 7, 60, 200])
def test_steps_may_end_anywhere(monkeypatch: pytest.MonkeyPatch, step_bytes: int) -> None:
    monkeypatch.setattr(limits, "INGEST_STEP_BYTES", step_bytes)
    lines = [named(b"ep", b'"\xc3\xa9%d"' % number) for number in range(20)]
    lines[7] = b'{"registrations":[{"ep":"\xc3\xa97"}]}'
    lines[13:13] = [b"", b" "]
    text = b"\n".join(lines)
    assert parse(text, BodyForm.NDJSON).eps == [f"é{number}" for number in range(20)]
    for end in range(
        len(text) - len(lines[-1]) + 1, len(text)
    ):  # within the last line, and within a character
        with pytest.raises(BadRequest) as caught:
            parse(text[:end], BodyForm.NDJSON)
        assert caught.value.fields[0].line == 22


@pytest.mark.parametrize("form", [BodyForm.JSON, BodyForm.NDJSON])
def test_brackets_in_strings_count_as_containers(form: BodyForm) -> None:
    brackets = limits.JSON_CONTAINERS_MAX - 3
    assert parse(member(b'"%b"' % (b"[" * brackets)), form).events == 1
    with pytest.raises(BadRequest):
        parse(member(b'"%b"' % (b"{" * (brackets + 1))), form)


@pytest.mark.parametrize("value", [*b'"m" "\\u00e9" "\\/"'.split(), string("m" * 255)])
def test_a_message_on_a_socket_is_named_in_any_spelling(value: bytes) -> None:
    for text in socket_messages(value):
        assert is_taken_natively(text, may_be_named=True)
        assert parse(text, BodyForm.SOCKET).message_id == json.loads(value)


@pytest.mark.parametrize(
    "value", [*b'"" null 5 "\\ud800" "m","message-id":"n"'.split(), string("m" * 256), string("é" * 128)]
)
def test_a_wrong_name_is_refused_in_the_same_words(value: bytes) -> None:
    for text in socket_messages(value):
        with pytest.raises(BadRequest):
            parse(text, BodyForm.SOCKET)


def socket_messages(name: bytes) -> list[bytes]:
    return [
        b'{"message-id":%b,"notifications":[%b}]}' % (name, EVENT),
        b'{"notifications":[%b}],"message-id" : %b}' % (EVENT, name),
        b'{"message-id":%b}' % name,
    ]
