"""Notification messages at C speed: says yes, or says nothing.

Nearly every body is notifications alone, plainly written.  Those are decoded by
msgspec into structs that carry the limits, and encoded again in canonical form.
No event is looked at in Python.

msgspec is not strict JSON (it takes duplicate keys, and does not look inside
values that it skips), so nothing is believed before it is vouched for:

- The structs refuse unknown members, wrong types and values out of their limits.
- They are encoded as they came; that is the *echo*.  With a backslash, DEL or the byte
  that begins UTF-8's C1 controls in it, the text is not taken.  So no string holds a
  control character, a quotation mark or a backslash, however it was spelt.
- The text holds the members of the echo, duplicates of them, and white space.  A
  duplicate has at least two quotation marks that the echo has not.  When both have the
  same number, there is no duplicate.  When both have the same length, and no spelling
  of a value is shorter than the echo's, there is nothing else in the text at all, and
  counting can be left out.

Whatever cannot be vouched for, errors too, is the strict path's to judge.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Annotated, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType, structs

from dispatcher import limits
from dispatcher.model import Kind
from dispatcher.wire.canonical import TAIL_START_BYTES, pack_meta, pack_notifications

_Ep = Annotated[str, Meta(min_length=1, max_length=limits.EP_CHARS_MAX)]
_Path = Annotated[str, Meta(min_length=1, max_length=limits.PATH_CHARS_MAX)]
_Ct = Annotated[str, Meta(max_length=limits.CT_CHARS_MAX)]
_Payload = Annotated[bytes, Meta(max_length=limits.PAYLOAD_BYTES_MAX)]
_MaxAge = Annotated[int, Meta(ge=0, le=limits.JSON_INTEGER_MAX)]
_Integer = Annotated[int, Meta(ge=-limits.JSON_INTEGER_MAX, le=limits.JSON_INTEGER_MAX)]
_MessageId = Annotated[str, Meta(min_length=1, max_length=limits.IDEMPOTENCY_KEY_BYTES_MAX)]


class Vouched(msgspec.Struct, frozen=True):
    """Canonical notifications, in order."""

    bodies: list[bytes]
    meta: array[int]
    eps: list[str]
    paths: list[str]
    lasting: list[int]  # indices of those whose max-age is not 0, or was not given
    message_id: str | None


# Member order is the canonical order, so that encoding one of these is canonical.


class _Full(msgspec.Struct, rename="kebab", forbid_unknown_fields=True, gc=False):
    """A notification with every member that the canonical form has."""

    ep: _Ep
    path: _Path
    ct: _Ct
    payload: _Payload
    max_age: _MaxAge


class _Sparse(msgspec.Struct, rename="kebab", forbid_unknown_fields=True, gc=False):
    """A notification in which members may be absent, or stand that are not stored like this.

    ``uid`` and ``timestamp`` come with events that another dispatcher has delivered.
    """

    ep: _Ep
    path: _Path
    ct: _Ct | UnsetType = UNSET
    payload: _Payload | UnsetType = UNSET
    max_age: _MaxAge | str | UnsetType = UNSET
    original_ep: _Ep | UnsetType = UNSET
    uid: str | UnsetType = UNSET
    timestamp: _Integer | str | UnsetType = UNSET


class _FullMessage(msgspec.Struct, rename="kebab", forbid_unknown_fields=True, gc=False):
    notifications: list[_Full]


class _SparseMessage(msgspec.Struct, rename="kebab", forbid_unknown_fields=True, gc=False):
    notifications: list[_Sparse]


class _NamedFullMessage(_FullMessage):
    message_id: _MessageId | UnsetType = UNSET


class _NamedSparseMessage(_SparseMessage):
    message_id: _MessageId | UnsetType = UNSET


_Message = TypeVar("_Message", _FullMessage, _SparseMessage)

_encode = msgspec.json.Encoder().encode
_encode_lines = msgspec.json.Encoder().encode_lines
_decode_full = msgspec.json.Decoder(_FullMessage).decode
_decode_sparse = msgspec.json.Decoder(_SparseMessage).decode
_decode_named_full = msgspec.json.Decoder(_NamedFullMessage).decode
_decode_named_sparse = msgspec.json.Decoder(_NamedSparseMessage).decode

_age = attrgetter("max_age")
_BARE_ENVELOPE = _encode(_FullMessage([]))
_CLEAR_DIGITS = re.compile(r"[0-9]{1,15}")  # any 15 digits are below 2^53


def vouch(lines: Sequence[bytes], *, may_be_named: bool = False) -> tuple[int, Vouched | None]:
    """The notifications of plain messages, one in each line.

    Returns how many lines could be decoded before the first that could not, and their
    notifications, or None when there is none or they cannot be vouched for.  Only a lone
    line may be named, that is, have a ``message-id``.
    """
    full = _decode_run(_decode_named_full if may_be_named else _decode_full, lines)
    if len(full) == len(lines):
        return len(full), _vouch_full(b"".join(lines), full)
    sparse = _decode_run(_decode_named_sparse if may_be_named else _decode_sparse, lines)
    return len(sparse), _vouch_sparse(b"".join(lines[: len(sparse)]), sparse)


def _decode_run(decode: Callable[[bytes], _Message], lines: Sequence[bytes]) -> list[_Message]:
    messages: list[_Message] = []
    try:
        for line in lines:
            messages.append(decode(line))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    return messages


def _vouch_full(text: bytes, messages: list[_FullMessage]) -> Vouched | None:
    events = [event for message in messages for event in message.notifications]
    echo = _encode_lines(events)
    if not _accounts_for(text, echo, messages):
        return None
    bodies = echo.split(b"\n")
    bodies.pop()
    eps = [event.ep for event in events]
    if echo.isascii():
        metas = pack_notifications(bodies, eps)
    else:
        metas = array("Q", [_meta(body, ep, UNSET) for body, ep in zip(bodies, eps, strict=True)])
    lasting = [index for index, event in enumerate(events) if event.max_age] if any(map(_age, events)) else []
    return _vouched(bodies, metas, eps, [event.path for event in events], lasting, messages)


def _vouch_sparse(text: bytes, messages: list[_SparseMessage]) -> Vouched | None:
    events = [event for message in messages for event in message.notifications]
    if not _accounts_for(text, _encode_lines(events), messages):
        return None
    ageless = {index for index, event in enumerate(events) if event.max_age is UNSET}
    if not all(map(_complete, events)):
        return None
    lasting = [index for index, event in enumerate(events) if event.max_age or index in ageless]
    bodies = _encode_lines(events).split(b"\n")
    bodies.pop()
    metas = array(
        "Q", [_meta(body, event.ep, event.original_ep) for body, event in zip(bodies, events, strict=True)]
    )
    eps, paths = [event.ep for event in events], [event.path for event in events]
    return _vouched(bodies, metas, eps, paths, lasting, messages)


def _accounts_for(
    text: bytes, echo: bytes, messages: Sequence[_FullMessage] | Sequence[_SparseMessage]
) -> bool:
    """Whether nothing is in the text that is not in the echo, white space aside."""
    if not messages or b"\\" in echo or b"\x7f" in echo or b"\xc2" in echo:
        return False
    envelope = _envelope(messages[0])
    # Each event of the echo ends in a newline, where the text has a comma or an array's end.
    # With an empty array in it this is less than the text must have, and counting decides.
    if len(text) == len(echo) + (len(envelope) - 1) * len(messages):
        return True
    return text.count(b'"') == echo.count(b'"') + envelope.count(b'"') * len(messages)


def _envelope(message: _FullMessage | _SparseMessage) -> bytes:
    """The message without its events."""
    if getattr(message, "message_id", UNSET) is UNSET:
        return _BARE_ENVELOPE
    return _encode(structs.replace(message, notifications=[]))


def _complete(event: _Sparse) -> bool:
    """Bring a notification to canonical form; False when its max-age is unclear."""
    if event.ct is UNSET:
        event.ct = ""
    if event.payload is UNSET:
        event.payload = b""
    if event.original_ep == event.ep:
        event.original_ep = UNSET
    event.uid = event.timestamp = UNSET
    max_age = event.max_age
    if max_age is UNSET:
        event.max_age = 0
    elif isinstance(max_age, str):
        if not _CLEAR_DIGITS.fullmatch(max_age):
            return False
        event.max_age = int(max_age)
    return True


def _meta(body: bytes, ep: str, original_ep: str | UnsetType) -> int:
    tail_bytes = 0 if original_ep is UNSET else TAIL_START_BYTES + 2 + len(original_ep.encode())
    return pack_meta(Kind.NOTIFICATION, len(body), tail_bytes, len(ep.encode()))


def _vouched(
    bodies: list[bytes],
    metas: array[int],
    eps: list[str],
    paths: list[str],
    lasting: list[int],
    messages: Sequence[_FullMessage] | Sequence[_SparseMessage],
) -> Vouched | None:
    if not {path[0] for path in paths} <= {"/"}:
        return None
    message_id = getattr(messages[0], "message_id", UNSET) if messages else UNSET
    if message_id is not UNSET and not message_id.isascii():
        return None
    return Vouched(bodies, metas, eps, paths, lasting, message_id or None)
