"""The events of a run: each carries a mark, on the wire and on the disk, by which it is known.

A mark is ``sim0`` and eight hexadecimal digits: base64 as well as a name, so that it can
be a notification's payload or a life-cycle event's ``original-ep``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import msgspec

from dispatcher.model import KIND_NAMES, Kind

MARK = re.compile(rb"sim0([0-9a-f]{8})")
MARK_CHARS = 12
LIFE_CYCLE = (Kind.REGISTRATION, Kind.REG_UPDATE, Kind.DE_REGISTRATION, Kind.REGISTRATION_EXPIRED)


class Event(msgspec.Struct, frozen=True):
    """One event as a gateway posts it."""

    number: int  # in its mark; no other event has it
    ep: str
    kind: Kind
    filling: int  # bytes added to its payload

    @property
    def mark(self) -> str:
        """How it is known."""
        return f"sim0{self.number:08x}"


class Shown(msgspec.Struct, frozen=True):
    """One event as an application got it."""

    number: int
    ep: str
    uid: str


class _Received(msgspec.Struct, frozen=True, rename="kebab"):
    ep: str
    uid: str
    payload: str = ""
    original_ep: str = ""


_messages = msgspec.json.Decoder(dict[str, list[_Received]])


def render(events: Iterable[Event]) -> bytes:
    """One notification message.  ``events`` of one kind stand together."""
    arrays: dict[str, list[dict[str, object]]] = {}
    for event in events:
        arrays.setdefault(KIND_NAMES[event.kind], []).append(_fields(event))
    return msgspec.json.encode(arrays)


def _fields(event: Event) -> dict[str, object]:
    if event.kind is Kind.NOTIFICATION:
        return {
            "ep": event.ep,
            "path": f"/3/0/{event.number % 7}",
            "payload": event.mark + "AAAA" * (event.filling // 4),
        }
    if event.kind in (Kind.DE_REGISTRATION, Kind.REGISTRATION_EXPIRED):
        return {"ep": event.ep, "original-ep": event.mark}
    return {"ep": event.ep, "original-ep": event.mark, "ept": "meter", "resources": [{"path": "/3/0/1"}]}


def read(message: bytes) -> list[Shown]:
    """The events of a message as an application gets it, in order."""
    return [
        Shown(int((found.payload or found.original_ep)[4:MARK_CHARS], 16), found.ep, found.uid)
        for events in _messages.decode(message).values()
        for found in events
    ]


def grouped(kinds: Sequence[Kind]) -> list[Kind]:
    """The order that the arrays of one message give to its events."""
    return [kind for first in dict.fromkeys(kinds) for kind in kinds if kind is first]


def numbers_in(data: bytes | bytearray) -> list[int]:
    """The numbers of all marks in some bytes."""
    return [int(digits, 16) for digits in MARK.findall(data)]
