"""The events of a benchmark: what is posted, and the proof that all of it arrived.

An event has 150 bytes and says which device sent it and as its how manieth:

    {"ep":"000...0017","path":"/3303/0/5700","payload":"D0000017N00000012345...","ct":"text/plain","max-age":0}

The payload is legible because every text of digits and letters whose length is a
multiple of four is valid base64.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum

import msgspec

_PATH = "/3303/0/5700"
_CT = "text/plain"
_FILL = "TheQuickBrownFoxJumpsOve"
_EVENT = f'{{"ep":"%032x","path":"{_PATH}","payload":"D%07dN%011d{_FILL}","ct":"{_CT}","max-age":0}}'
EVENT_BYTES = len(_EVENT % (0, 0, 0))
assert EVENT_BYTES == 150

_DEVICE = slice(1, 8)
_COUNTER = slice(9, 20)
_FILL_START = 20


class BodyForm(StrEnum):
    """How a request's events are laid out."""

    NDJSON = "ndjson"  # one message of one event per line
    JSON = "json"  # one message with all of them

    @property
    def media_type(self) -> str:
        """The body's Content-Type."""
        return "application/x-ndjson" if self is BodyForm.NDJSON else "application/json"


class Body(msgspec.Struct, frozen=True):
    """What one request posts."""

    content: bytes
    events: int


class Fleet(msgspec.Struct, frozen=True, kw_only=True):
    """Devices that send ``events`` events together, in turn.

    Each device sends through one of ``lanes`` connections, so that the order of its
    events is the order in which they were posted.
    """

    events: int
    devices: int = 1_000
    lanes: int = 2

    def bodies(self, lane: int, form: BodyForm, body_events: int) -> Iterator[Body]:
        """The requests of one lane, in order, with at most ``body_events`` events each."""
        share = [self._event(number) for number in range(lane, self.events, self.lanes)]
        for start in range(0, len(share), body_events):
            events = share[start : start + body_events]
            yield Body(_join(events, form), len(events))

    def _event(self, number: int) -> str:
        turn, place = divmod(number, self._devices_used)
        return _EVENT % (place, place, turn)

    @property
    def _devices_used(self) -> int:
        """A multiple of the lanes, so that a device stays in its lane."""
        return max(self.devices // self.lanes, 1) * self.lanes

    def expected(self, only_device: int | None = None) -> list[int]:
        """How many events each device sends; with ``only_device``, as if the others sent none."""
        turns, rest = divmod(self.events, self._devices_used)
        return [
            turns + (device < rest) if only_device in (None, device) else 0
            for device in range(self._devices_used)
        ]

    def number(self, device: int, counter: int) -> int:
        """Which event of all it is, in the order of posting, from 0."""
        return counter * self._devices_used + device


def _join(events: list[str], form: BodyForm) -> bytes:
    if form is BodyForm.JSON:
        return ('{"notifications":[' + ",".join(events) + "]}").encode()
    return ('{"notifications":[' + ']}\n{"notifications":['.join(events) + "]}\n").encode()


class NotProven(Exception):
    """An event is missing, came twice, out of order or changed; the message names it."""


class _Event(msgspec.Struct, rename="kebab", forbid_unknown_fields=True, gc=False):
    ep: str
    path: str
    payload: str
    ct: str
    max_age: int


class _Message(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    notifications: list[_Event]


_decode = msgspec.json.Decoder(_Message).decode


def count_events(message: bytes | memoryview) -> int:
    """How many events a received message holds."""
    return len(_decode(message).notifications)


def numbers(fleet: Fleet, message: bytes | memoryview) -> Iterator[int]:
    """The numbers of a proven message's events."""
    for event in _decode(message).notifications:
        yield fleet.number(int(event.payload[_DEVICE]), int(event.payload[_COUNTER]))


class Proof:
    """Follows what arrived of a fleet; raises ``NotProven`` at the first thing wrong.

    Complete: every event is decoded, all its members are compared, and each device's
    events must come as 0, 1, 2 ... up to its last.
    """

    def __init__(self, fleet: Fleet, only_device: int | None = None) -> None:
        """``only_device``: what arrives must be this device's alone."""
        self._expected = fleet.expected(only_device)
        self._eps = [f"{device:032x}" for device in range(len(self._expected))]
        self._next = [0] * len(self._expected)

    def take(self, message: bytes | memoryview) -> None:
        """The next message, as it was received."""
        expected_next = self._next
        for event in _decode_or_fail(message):
            device, counter = self._identity(event)
            if counter != expected_next[device]:
                raise NotProven(_disorder(device, counter, expected_next[device]))
            expected_next[device] = counter + 1

    def finish(self) -> None:
        """Nothing more will come: it must have been everything."""
        for device, (arrived, expected) in enumerate(zip(self._next, self._expected, strict=True)):
            if arrived != expected:
                raise NotProven(f"device {device}: {arrived} of {expected} events arrived")

    def _identity(self, event: _Event) -> tuple[int, int]:
        payload = event.payload
        try:
            device, counter = int(payload[_DEVICE]), int(payload[_COUNTER])
            is_intact = (
                event.ep == self._eps[device]
                and payload[_FILL_START:] == _FILL
                and event.path == _PATH
                and event.ct == _CT
                and event.max_age == 0
            )
        except (ValueError, IndexError):
            is_intact = False
        if not is_intact:
            raise NotProven(f"an event came changed: {event}")
        return device, counter


def _decode_or_fail(message: bytes | memoryview) -> list[_Event]:
    try:
        return _decode(message).notifications
    except msgspec.DecodeError as error:
        raise NotProven(f"a message cannot be read: {error}") from None


def _disorder(device: int, counter: int, expected: int) -> str:
    if counter < expected:
        return f"device {device}: event {counter} came again, or late: {expected} was next"
    return f"device {device}: event {counter} came when {expected} was next: lost, or out of order"
