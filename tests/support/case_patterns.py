"""Compares what came with what a case expects, placeholders included."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from standardwebhooks import Webhook, WebhookVerificationError
from support.http_wire import WireResponse

Variables = dict[str, str]

_NAME = re.compile(r"\{([A-Z][A-Z_]*)\}")
_REPEATED = re.compile(r"\{(\w)\*(\d+)\}")
_BARE = re.compile(r'(?<!")<([a-z]+)( [A-Z_]+)?>(?!")')
_PLACEHOLDER = re.compile(r"<([a-z]+)(?: ([A-Z_]+))?>")
_ERROR = re.compile(r"<error ([a-z_]+)(?: (\S+))?>")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_RECENT_MS = range(1_600_000_000_000, 10_000_000_000_000)

_HOLDS: dict[str, Callable[[Any], bool]] = {
    "any": lambda value: True,
    "text": lambda value: isinstance(value, str) and value != "",
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "ms": lambda value: isinstance(value, int) and value in _RECENT_MS,
    "uuid": lambda value: isinstance(value, str) and _UUID.fullmatch(value) is not None,
}


def filled(text: str, variables: Mapping[str, str]) -> str:
    """The text with its variables in; a name that is not known fails."""
    repeated = _REPEATED.sub(lambda match: match[1] * int(match[2]), text)
    return _NAME.sub(lambda match: variables[match[1]], repeated)


def check_headers(wanted: Sequence[str], found: Mapping[str, str], variables: Variables) -> None:
    """``Name: value`` must be there, with this value or one that fits; ``!Name`` must not."""
    for line in wanted:
        if line.startswith("!"):
            assert line[1:].lower() not in found, f"{line[1:]} is there: {found[line[1:].lower()]!r}"
            continue
        name, _, value = line.partition(": ")
        assert name.lower() in found, f"{name} is missing; there are {sorted(found)}"
        check_json(value, found[name.lower()], variables, name)


def check_signature(secret: str, headers: Mapping[str, str], message: bytes) -> None:
    """The request is signed with this secret, in the judgement of the published package."""
    try:
        Webhook(secret).verify(message, dict(headers), json_parse=False)
    except WebhookVerificationError as error:
        raise AssertionError(f"not signed with {secret}: {error}") from None


def check_body(wanted: str, found: bytes, variables: Variables) -> None:
    """A JSON pattern, ``<empty>``, or the text itself.  Placeholders with a name set that variable."""
    if wanted == "<empty>":
        assert found == b"", f"not empty: {found!r}"
        return
    try:
        pattern = json.loads(_BARE.sub(lambda match: json.dumps(match[0]), wanted))
    except ValueError:
        assert found.decode() == wanted, f"another text: {found!r}"
        return
    check_json(pattern, json.loads(found), variables)


def check_json(pattern: Any, found: Any, variables: Variables, where: str = "$") -> None:
    """Equal but for placeholders: the same members, the same order in arrays."""
    placeholder = _PLACEHOLDER.fullmatch(pattern) if isinstance(pattern, str) else None
    if placeholder is not None:
        kind, name = placeholder.groups()
        assert _HOLDS[kind](found), f"{where}: want <{kind}>, found {found!r}"
        if name is not None:
            known = variables.setdefault(name, str(found))
            assert str(found) == known, f"{where}: want {known!r} as before, found {found!r}"
    elif isinstance(pattern, dict) and isinstance(found, dict):
        assert found.keys() == pattern.keys(), f"{where}: want {sorted(pattern)}, found {found}"
        for key, value in pattern.items():
            check_json(value, found[key], variables, f"{where}.{key}")
    elif isinstance(pattern, list) and isinstance(found, list):
        assert len(found) == len(pattern), f"{where}: want {len(pattern)} items, found {found}"
        for index, value in enumerate(pattern):
            check_json(value, found[index], variables, f"{where}[{index}]")
    else:
        same = type(found) is type(pattern) and found == pattern
        assert same, f"{where}: want {pattern!r}, found {found!r}"


def is_error_pattern(wanted: str) -> bool:
    """Whether it is ``<error TYPE>`` or ``<error TYPE FIELD>``."""
    return _ERROR.fullmatch(wanted) is not None


def check_error(wanted: str, found: WireResponse) -> None:
    """An ``ErrorResponse`` of this type, and with a field of this name among the wrong ones."""
    match = _ERROR.fullmatch(wanted)
    assert match is not None
    assert found.headers["content-type"].startswith("application/json")
    error = found.error
    assert error["type"] == match[1], error
    assert error["message"], error
    assert not error.keys() - {"object", "code", "type", "message", "request_id", "fields"}, error
    if match[2] is not None:
        assert match[2] in [field["name"] for field in error["fields"]], error


def check_no_null(message: bytes) -> None:
    """No message to an application has a null in it, at any depth."""

    def has_null(value: Any) -> bool:
        if isinstance(value, dict | list):
            return any(map(has_null, value.values() if isinstance(value, dict) else value))
        return value is None

    assert not has_null(json.loads(message)), f"a null in {message!r}"
