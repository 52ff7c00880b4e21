"""What a run of ``demo`` does and when, and what its devices say.  Pure."""

from __future__ import annotations

from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64

import msgspec

from dispatcher import limits

ENDPOINT_TYPE = "demo-sensor"
RESOURCE_PATH = "/3303/0/5700"
_EP_PREFIX = "device-"
_OUTAGE_S_MAX = 2.0


class Outage(msgspec.Struct, frozen=True):
    """A planned failure of a receiver, in seconds from the start of posting."""

    start_s: float
    end_s: float


class DemoPlan(msgspec.Struct, frozen=True, kw_only=True):
    """One run: ``devices`` take turns to say ``rate`` events a second for ``seconds``."""

    seconds: float
    devices: int
    rate: int
    is_calm: bool = False

    @property
    def events(self) -> int:
        """How many notifications the whole fleet has to post."""
        return int(self.seconds * self.rate)

    @property
    def callback_outage(self) -> Outage | None:
        """When the callback receiver answers 503."""
        return self._outage(0.3)

    @property
    def websocket_outage(self) -> Outage | None:
        """When the WebSocket client is away."""
        return self._outage(0.6)

    def due_by(self, tick: int) -> int:
        """How many events are due when so many ticks have passed."""
        return min(self.events, int(tick * limits.DEMO_TICK_S * self.rate + 1e-6))

    def expected(self, device: int, posted: int) -> int:
        """How many of the first ``posted`` notifications are this device's."""
        return posted // self.devices + (device < posted % self.devices)

    def _outage(self, share: float) -> Outage | None:
        if self.is_calm:
            return None
        length_s = min(_OUTAGE_S_MAX, self.seconds / 5)
        return Outage(self.seconds * share, self.seconds * share + length_s)


class Reading(msgspec.Struct, frozen=True):
    """What a notification's payload carries: its number on its device, and when it was due."""

    counter: int  # from 1; 0 stands for the device's registration
    due_us: int  # on Trio's clock


def device_name(device: int) -> str:
    """The ``ep`` of a device."""
    return f"{_EP_PREFIX}{device:06d}"


def device_number(ep: str) -> int:
    """The device of an ``ep``, or -1 when it is none of ours."""
    number = ep.removeprefix(_EP_PREFIX)
    return int(number) if number.isdecimal() and len(number) == 6 and number != ep else -1


def registration_line(device: int) -> bytes:
    """A device's registration as a line of NDJSON."""
    return (
        f'{{"registrations":[{{"ep":"{device_name(device)}","ept":"{ENDPOINT_TYPE}",'
        f'"resources":[{{"path":"{RESOURCE_PATH}","obs":true}}]}}]}}\n'
    ).encode()


def notification_lines(plan: DemoPlan, first: int, end: int, due_us: int) -> list[bytes]:
    """The fleet's notifications number ``first`` to ``end - 1``, from 0, as lines of NDJSON."""
    return [
        b'{"notifications":[{"ep":"%b%06d","path":"%b","payload":"%b","ct":"text/plain"}]}\n'
        % (
            _EP_PREFIX.encode(),
            number % plan.devices,
            RESOURCE_PATH.encode(),
            b2a_base64(b"%d %d" % (number // plan.devices + 1, due_us), newline=False),
        )
        for number in range(first, end)
    ]


def read_payload(payload: str) -> Reading | None:
    """The reading in a notification's payload, or None when no device of ours made it."""
    try:
        counter, due_us = a2b_base64(payload).split()
        return Reading(int(counter), int(due_us))
    except (Base64Error, ValueError):
        return None
