"""The one form in which events are stored, whatever form they came in.

A record's body is one JSON object without white space, its members in the order
given by the structs below, strings escaped as ``msgspec`` does: ``"`` and ``\\``
with a backslash, control characters below U+0020 as ``\\b \\t \\n \\f \\r`` or
``\\u00xx``, all else as it is, in UTF-8.

    {"ep":"x","path":"/3/0/1","ct":"","payload":"MQ==","max-age":0,"original-ep":"y"}
    |<------------------------------- body ---------------------------------------->|
                                                                  |<---- tail ---->|
           ep (here 1 byte)

The *tail* is the ``original-ep``, which only some channels get; it stands last, before
the closing brace, so that leaving it out is one subtraction.  The tail is there only
when the original-ep was given and differs from the ep.

``meta`` of a record is described in ``queue.interface.Records``; this module and the
queue must agree on it bit by bit.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from dispatcher import limits, model
from dispatcher.model import Kind

_T = TypeVar("_T")

BODY_BITS, TAIL_BITS, EP_BITS = 24, 16, 16
_TAIL_SHIFT = BODY_BITS
_EP_SHIFT = BODY_BITS + TAIL_BITS
_KIND_SHIFT = BODY_BITS + TAIL_BITS + EP_BITS

assert limits.RECORD_BYTES_MAX < 1 << BODY_BITS
assert limits.EP_CHARS_MAX * 4 < 1 << EP_BITS  # a character takes at most 4 bytes, escaped or not


class Meta(msgspec.Struct, frozen=True):
    """The parts of a packed ``meta``."""

    kind: Kind
    body_bytes: int
    tail_bytes: int
    ep_bytes: int


class Record(msgspec.Struct, frozen=True):
    """One event in canonical form."""

    body: bytes
    meta: int


class Names(msgspec.Struct, frozen=True, gc=False):
    """Whose event it is, and of which resource: as far as its kind has that."""

    ep: str | None = None
    path: str | None = None


def pack_meta(kind: int, body_bytes: int, tail_bytes: int, ep_bytes: int) -> int:
    """One record's lengths and kind as a 64-bit number."""
    return body_bytes | tail_bytes << _TAIL_SHIFT | ep_bytes << _EP_SHIFT | kind << _KIND_SHIFT


def unpack_meta(meta: int) -> Meta:
    """What ``pack_meta`` packed."""
    return Meta(
        Kind(meta >> _KIND_SHIFT),
        meta & ((1 << BODY_BITS) - 1),
        meta >> _TAIL_SHIFT & ((1 << TAIL_BITS) - 1),
        meta >> _EP_SHIFT & ((1 << EP_BITS) - 1),
    )


class _Notification(msgspec.Struct, rename="kebab", gc=False):
    ep: str
    path: str
    ct: str
    payload: bytes
    max_age: int
    original_ep: str | UnsetType = UNSET


class _Registration(msgspec.Struct, rename="kebab", gc=False):
    ep: str
    ept: str | UnsetType
    q: bool | UnsetType
    resources: tuple[model.Resource, ...]
    original_ep: str | UnsetType = UNSET


class _Removal(msgspec.Struct, rename="kebab", gc=False):
    ep: str
    original_ep: str | UnsetType = UNSET


class _AsyncResponse(msgspec.Struct, rename="kebab", gc=False):
    id: str
    status: int
    payload: bytes
    ct: str
    max_age: int | UnsetType
    error: str | UnsetType


_KINDS: dict[type, Kind] = {
    model.Notification: Kind.NOTIFICATION,
    model.Registration: Kind.REGISTRATION,
    model.RegistrationUpdate: Kind.REG_UPDATE,
    model.Deregistration: Kind.DE_REGISTRATION,
    model.RegistrationExpired: Kind.REGISTRATION_EXPIRED,
    model.AsyncResponse: Kind.ASYNC_RESPONSE,
}
TAIL_START_BYTES = len(',"original-ep":')
_encode = msgspec.json.Encoder().encode
_decode_notification = msgspec.json.Decoder(model.Notification).decode
_decode_names = msgspec.json.Decoder(Names).decode
_decode_all_names = msgspec.json.Decoder(list[Names]).decode


def kind_of(event: model.Event) -> Kind:
    """The kind of a typed event."""
    return _KINDS[type(event)]


def record_of(event: model.Event) -> Record:
    """Write a checked event in canonical form."""
    kind = _KINDS[type(event)]
    if isinstance(event, model.AsyncResponse):
        body = _encode(_async_response(event))
        return Record(body, pack_meta(kind, len(body), 0, 0))
    original_ep = event.original_ep
    tail: str | UnsetType = UNSET if original_ep is None or original_ep == event.ep else original_ep
    body = _encode(_of_device(event, tail))
    tail_bytes = 0 if tail is UNSET else TAIL_START_BYTES + len(_encode(tail))
    return Record(body, pack_meta(kind, len(body), tail_bytes, len(_encode(event.ep)) - 2))


def read_notification(body: bytes | bytearray | memoryview) -> model.Notification:
    """A notification from its canonical form."""
    return _decode_notification(body)


def read_names(block: bytes | bytearray | memoryview, metas: Collection[int]) -> list[Names]:
    """The names in records that stand end to end."""
    bodies = bytes(block)
    if bodies.count(b"}") == len(metas) > 0:  # where records end, and nowhere else
        return _decode_all_names(b"[%b]" % bodies.replace(b"}", b"},")[:-1])
    names = []
    at = 0
    for meta in metas:
        end = at + unpack_meta(meta).body_bytes
        names.append(_decode_names(bodies[at:end]))
        at = end
    return names


def _of_device(
    event: model.Notification
    | model.Registration
    | model.RegistrationUpdate
    | model.Deregistration
    | model.RegistrationExpired,
    tail: str | UnsetType,
) -> _Notification | _Registration | _Removal:
    if isinstance(event, model.Notification):
        return _Notification(event.ep, event.path, event.ct, event.payload, event.max_age, tail)
    if isinstance(event, model.Registration | model.RegistrationUpdate):
        return _Registration(event.ep, _given(event.ept), _given(event.q), event.resources, tail)
    return _Removal(event.ep, tail)


def _async_response(event: model.AsyncResponse) -> _AsyncResponse:
    return _AsyncResponse(
        event.id,
        event.status,
        event.payload or b"",
        event.ct or "",
        _given(event.max_age),
        _given(event.error),
    )


def _given(value: _T | None) -> _T | UnsetType:
    return UNSET if value is None else value
