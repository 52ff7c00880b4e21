"""JSON as RFC 8259 has it and nothing more, with errors that name the place.

Python's own decoder is lenient where two parsers could read the same bytes
differently: duplicate keys, ``NaN``, numbers beyond a double, half surrogate
pairs.  What is stored here is read by other people's parsers later, so all of
that is refused, and so is what would make checking expensive (depth, huge
integers).

The decoder runs at C speed as long as all is well.  Only a text that is refused
is decoded a second time, to find out where the trouble lies.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

from dispatcher import limits

_KEY_CHARS_SHOWN_MAX = 64
_INTEGER_CHARS_MAX = len(str(-limits.JSON_INTEGER_MAX))
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")
_LONE_SURROGATE = re.compile(r"[\ud800-\udfff]")

_DEPTH_MESSAGE = f"nested deeper than {limits.JSON_DEPTH_MAX} levels"
_INTEGER_MESSAGE = f"an integer beyond {limits.JSON_INTEGER_MAX}, which other parsers would round"
_SURROGATE_MESSAGE = "half of a surrogate pair, which is no character"


class NotStrict(Exception):
    """The text is refused; ``name`` is the place (``notifications[3].ep``, "" for the whole)."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(f"{name}: {message}" if name else message)
        self.name = name
        self.message = message


class _Refused(Exception):
    """Something somewhere in the text; a second pass says where."""


class _Flaw:
    """Stands in the decoded value where something is refused."""

    def __init__(self, message: str, key: str = "") -> None:
        self.message = message
        self.key = key


def loads(text: bytes | bytearray) -> Any:
    """Decode one JSON text, or raise ``NotStrict``.

    Integers come as ``int``, all other numbers as finite ``float``; every string
    can be encoded as UTF-8.
    """
    string = _decode_utf8(text)
    containers_max = string.count("{") + string.count("[")  # more than there are when strings hold some
    if containers_max > limits.JSON_CONTAINERS_MAX:
        raise NotStrict("", f"more than {limits.JSON_CONTAINERS_MAX} objects and arrays; post it in parts")
    try:
        value = _DECODER.decode(string)
    except json.JSONDecodeError as error:
        raise _malformed(string, error) from None
    except RecursionError:
        raise NotStrict("", _DEPTH_MESSAGE) from None
    except _Refused:
        raise _locate(string) from None
    if ("\\u" in string and _SURROGATE_ESCAPE.search(string)) or (
        containers_max > limits.JSON_DEPTH_MAX and not _is_shallow(value)
    ):
        flaw = _first_flaw(value, "", 1)
        if flaw is not None:
            raise flaw
    return value


def member_name(parent: str, key: str) -> str:
    """The place of a member, as error messages write it: short, and safe to show."""
    if len(key) > _KEY_CHARS_SHOWN_MAX:
        key = f"{key[:_KEY_CHARS_SHOWN_MAX]}..."
    if not key.isprintable():
        key = ascii(key)[1:-1]
    return f"{parent}.{key}" if parent else key


def _locate(string: str) -> NotStrict:
    """Say where a text that was refused is wrong."""
    try:
        value = _LOCATING_DECODER.decode(string)
    except json.JSONDecodeError as error:
        return _malformed(string, error)
    except RecursionError:
        return NotStrict("", _DEPTH_MESSAGE)
    flaw = _first_flaw(value, "", 1)
    assert flaw is not None, "the first decoder refuses only what the second one marks"
    return flaw


def _decode_utf8(text: bytes | bytearray) -> str:
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError as error:
        raise NotStrict("", f"not UTF-8 at byte {error.start}") from None


def _malformed(string: str, error: json.JSONDecodeError) -> NotStrict:
    if not string.strip(" \t\r\n"):
        return NotStrict("", "empty where a JSON value is expected")
    if string.startswith("\ufeff"):
        return NotStrict("", "begins with a byte order mark, which JSON does not allow")
    at_byte = len(string[: error.pos].encode())
    reason = error.msg[0].lower() + error.msg[1:]
    return NotStrict("", f"not JSON: {reason} at byte {at_byte}")


def _is_shallow(value: Any) -> bool:
    """Whether containers nest at most as deep as allowed.  Goes down level by level."""
    containers = [value] if isinstance(value, dict | list) else []
    for _ in range(limits.JSON_DEPTH_MAX):
        containers = [
            child
            for container in containers
            for child in (container.values() if isinstance(container, dict) else container)
            if isinstance(child, dict | list)
        ]
    return not containers


def _first_flaw(value: Any, name: str, depth: int) -> NotStrict | None:
    """The first thing refused, in the order of the text.  Recurses at most to the depth allowed."""
    if isinstance(value, _Flaw):
        return NotStrict(member_name(name, value.key) if value.key else name, value.message)
    if isinstance(value, str):
        return NotStrict(name, _SURROGATE_MESSAGE) if _LONE_SURROGATE.search(value) else None
    if not isinstance(value, dict | list):
        return None
    if depth > limits.JSON_DEPTH_MAX:
        return NotStrict(name, _DEPTH_MESSAGE)
    if isinstance(value, list):
        members = [(f"{name}[{index}]", child) for index, child in enumerate(value)]
    else:
        if any(_LONE_SURROGATE.search(key) for key in value):
            return NotStrict(name, f"a key with {_SURROGATE_MESSAGE}")
        members = [(member_name(name, key), child) for key, child in value.items()]
    for child_name, child in members:
        flaw = _first_flaw(child, child_name, depth + 1)
        if flaw is not None:
            return flaw
    return None


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise _Refused
    return members


def _refuse_large_integers(digits: str) -> int:
    if len(digits) <= _INTEGER_CHARS_MAX and abs(value := int(digits)) <= limits.JSON_INTEGER_MAX:
        return value
    raise _Refused


def _refuse_infinity(digits: str) -> float:
    if math.isfinite(value := float(digits)):
        return value
    raise _Refused


def _refuse_constant(_word: str) -> Any:
    raise _Refused


def _mark_duplicates(pairs: list[tuple[str, Any]]) -> Any:
    members: dict[str, Any] = {}
    for key, value in pairs:
        if key in members:
            return _Flaw("this key stands twice in one object", key)
        members[key] = value
    return members


def _mark_large_integers(digits: str) -> Any:
    try:
        return _refuse_large_integers(digits)
    except _Refused:
        return _Flaw(_INTEGER_MESSAGE)


def _mark_infinity(digits: str) -> Any:
    try:
        return _refuse_infinity(digits)
    except _Refused:
        return _Flaw("a number beyond the range of a double")


def _mark_constant(word: str) -> Any:
    return _Flaw(f"{word} is not JSON")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_refuse_duplicates,
    parse_int=_refuse_large_integers,
    parse_float=_refuse_infinity,
    parse_constant=_refuse_constant,
)
_LOCATING_DECODER = json.JSONDecoder(
    object_pairs_hook=_mark_duplicates,
    parse_int=_mark_large_integers,
    parse_float=_mark_infinity,
    parse_constant=_mark_constant,
)
