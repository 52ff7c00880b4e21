"""Strict JSON: every leniency of the standard decoder is closed, and the place is named."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dispatcher import limits
from dispatcher.wire.strict_json import NotStrict, loads


def refuse(text: bytes) -> NotStrict:
    with pytest.raises(NotStrict) as caught:
        loads(text)
    return caught.value


@pytest.mark.parametrize(
    "value",
    [
        {"a": [1, -1, 0, 1.5, "x", True, False, None, {"b": {}}]},
        {},
        [],
        "é日😀\u2028",
        2**53,
        -(2**53),
        1e300,
        "a\u0000b",
    ],
)
def test_what_json_allows_is_decoded(value: Any) -> None:
    assert loads(json.dumps(value).encode()) == value
    assert loads(json.dumps(value, ensure_ascii=False).encode()) == value
    assert loads(b" \t\r\n" + json.dumps(value).encode() + b"\n") == value


def test_a_surrogate_pair_is_one_character() -> None:
    assert loads(b'"\\ud83d\\ude00"') == "😀"


@pytest.mark.parametrize(
    ("text", "name", "word"),
    [
        (b'{"a":{"b":[0,{"c":1,"c":2}]}}', "a.b[1].c", "twice"),
        (b'{"a":1,"\\u0061":2}', "a", "twice"),
        (b'{"a":NaN}', "a", "NaN"),
        (b'{"a":[Infinity]}', "a[0]", "Infinity"),
        (b"-Infinity", "", "-Infinity"),
        (b'{"a":1e999}', "a", "double"),
        (b'{"a":-1e999}', "a", "double"),
        (b'{"a":9007199254740993}', "a", "integer"),
        (b'{"a":-9007199254740993}', "a", "integer"),
        (b'{"a":' + b"1" * 5000 + b"}", "a", "integer"),
        (b'{"a":"\\ud800"}', "a", "surrogate"),
        (b'{"a":"\\udc00\\ud800"}', "a", "surrogate"),
        (b'{"\\udfff":1}', "", "surrogate"),
        (b'{"a":[{"b":"x\\uD800x"}]}', "a[0].b", "surrogate"),
        (b'\xef\xbb\xbf{"a":1}', "", "byte order mark"),
        (b'{"a":"\xff"}', "", "UTF-8"),
        (b'{"a":"\xed\xa0\x80"}', "", "UTF-8"),
        (b'{"a":"\xc0\x80"}', "", "UTF-8"),
        (b"", "", "empty"),
        (b" \n", "", "empty"),
        (b'{"a":1} x', "", "byte 8"),
        (b'{"a":01}', "", "not JSON"),
        (b'{"a":+1}', "", "not JSON"),
        (b'{"a":.5}', "", "not JSON"),
        (b'{"a":5.}', "", "not JSON"),
        (b'{"a":0x10}', "", "not JSON"),
        (b"{'a':1}", "", "not JSON"),
        (b'{"a":1,}', "", "not JSON"),
        (b"[1,]", "", "not JSON"),
        (b'{"a":"\n"}', "", "not JSON"),
        (b'{"a":"\\x41"}', "", "not JSON"),
        (b'{"a":"\\u00g0"}', "", "not JSON"),
        (b'{"a":"\\u 123"}', "", "not JSON"),
        (b'{"a":tru}', "", "not JSON"),
        (b'\x0b{"a":1}', "", "not JSON"),
        ("\u00a0{}".encode(), "", "not JSON"),
        (b"{} // end", "", "not JSON"),
        (b'{"a":NaN, "b":', "", "not JSON"),
    ],
)
def test_what_is_not_strict_is_refused_at_its_place(text: bytes, name: str, word: str) -> None:
    error = refuse(text)
    assert error.name == name
    assert word in error.message


def nested(levels: int, opening: str, closing: str) -> bytes:
    return (opening * levels + "1" + closing * levels).encode()


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}"), ('[{"a":', "}]")])
def test_depth_is_allowed_up_to_the_limit_and_no_further(opening: str, closing: str) -> None:
    per_turn = len(opening.replace('"a":', ""))
    turns = limits.JSON_DEPTH_MAX // per_turn
    assert loads(nested(turns, opening, closing)) is not None
    assert "deeper" in refuse(nested(turns + 1, opening, closing)).message
    assert "deeper" in refuse(nested(1_000, opening, closing)).message
    assert "deeper" in refuse(nested(100_000, opening, closing)).message


def test_a_deep_value_beside_many_shallow_ones_is_found() -> None:
    text = b"[" + b"{}," * 1000 + nested(16, "[", "]") + b"]"
    assert refuse(text).name.startswith("[1000]")


def test_more_containers_than_the_limit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "JSON_CONTAINERS_MAX", 10)
    assert loads(b"[" + b",".join([b"{}"] * 9) + b"]") == [{}] * 9
    assert "more than 10" in refuse(b"[" + b",".join([b"{}"] * 10) + b"]").message


def test_a_place_is_short_and_can_be_shown() -> None:
    error = refuse(b'{"' + b"k" * 10_000 + b'":NaN}')
    assert len(error.name) < 100
    assert refuse(b'{"\\u0007\\ud800":1,"\\u0007\\ud800":1}').name.isprintable()
