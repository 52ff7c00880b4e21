"""The books of one channel in ``demo``: did every event arrive, once, in order?  Pure.

Each device numbers its events from 0, its registration, upwards.  The dispatcher
promises: in order, at least once, and on a second time with the same ``uid``.  So what
a receiver may see of one device is

    0 1 2 3 4 | 3 4 5 6          | the receiver failed or was away: ``restarted``

that is, the next number always, except that after a restart the device's numbers may go
back once, with the uids they had the first time.  Anything else is a fault, and named.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from enum import Enum

import msgspec

from dispatcher import limits

_NOT_SEEN = 0


class Arrival(Enum):
    """What an event was when it came."""

    FIRST = "first"
    REDELIVERED = "redelivered"
    OUT_OF_ORDER = "out of order"
    REPEATED = "repeated"
    UID_CHANGED = "came again with another uid"
    UNKNOWN = "unknown"


class Fault(msgspec.Struct, frozen=True):
    """One thing that must not be: what, and on which event."""

    what: str
    device: int
    counter: int


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """The end of the books."""

    expected: int
    received: int  # different events
    redelivered: int
    missing: int
    out_of_order: int
    repeated: int
    uid_faults: int
    unknown: int
    first_fault: Fault | None

    @property
    def is_proven(self) -> bool:
        """Whether everything arrived, in order, and exactly once after de-duplication by uid."""
        return self.first_fault is None


class Ledger:
    """Takes every event of a channel as it comes; ``verdict`` closes the books.

    Memory: 8 bytes for each event.
    """

    def __init__(self, devices: int) -> None:
        self.received = 0
        self._counts = dict.fromkeys(Arrival, 0)
        self._uids = [array("q") for _ in range(devices)]  # a hash of each event's uid, by counter
        self._last = array("q", [-1]) * devices  # the counter that came last
        self._run = array("q", [0]) * devices  # the restart in which it came
        self._restarts = 0
        self._first_fault: Fault | None = None

    def __repr__(self) -> str:
        return f"<Ledger received={self.received} {self._first_fault or 'in order'}>"

    def restarted(self) -> None:
        """From here on every device may go back once: the receiver failed or was away."""
        self._restarts += 1

    def take(self, device: int, counter: int, uid: str) -> Arrival:
        """Enter one event."""
        arrival = self._judge(device, counter, hash(uid) or 1)
        self._counts[arrival] += 1
        if arrival not in (Arrival.FIRST, Arrival.REDELIVERED) and self._first_fault is None:
            self._first_fault = Fault(arrival.value, device, counter)
        return arrival

    def verdict(self, expected: Callable[[int], int]) -> Verdict:
        """Close the books; ``expected`` says how many events of a device there must be."""
        wanted = [expected(device) for device in range(len(self._uids))]
        missing, first_missing = self._missing(wanted)
        surplus = sum(max(0, len(uids) - count) for uids, count in zip(self._uids, wanted, strict=True))
        unknown = self._counts[Arrival.UNKNOWN] + surplus
        shared = self._shared_uid()
        nobodys = Fault(Arrival.UNKNOWN.value, -1, -1) if unknown else None
        return Verdict(
            expected=sum(wanted),
            received=self.received,
            redelivered=self._counts[Arrival.REDELIVERED],
            missing=missing,
            out_of_order=self._counts[Arrival.OUT_OF_ORDER],
            repeated=self._counts[Arrival.REPEATED],
            uid_faults=self._counts[Arrival.UID_CHANGED] + (shared is not None),
            unknown=unknown,
            first_fault=first_missing or self._first_fault or shared or nobodys,
        )

    def _missing(self, wanted: Sequence[int]) -> tuple[int, Fault | None]:
        """How many events never came, and the first of the first device."""
        total, first = 0, None
        for device, (uids, count) in enumerate(zip(self._uids, wanted, strict=True)):
            absent = max(0, count - len(uids)) + uids.count(_NOT_SEEN)
            total += absent
            if absent and first is None:
                counter = uids.index(_NOT_SEEN) if _NOT_SEEN in uids else len(uids)
                first = Fault("missing", device, counter)
        return total, first

    def _judge(self, device: int, counter: int, uid: int) -> Arrival:
        if not (0 <= device < len(self._uids) and 0 <= counter <= limits.DEMO_EVENTS_MAX):
            return Arrival.UNKNOWN
        uids, last = self._uids[device], self._last[device]
        self._last[device] = counter
        is_first_since_restart = self._run[device] != self._restarts
        self._run[device] = self._restarts
        if counter == len(uids):
            uids.append(uid)
            self.received += 1
            return Arrival.FIRST if counter == last + 1 else Arrival.OUT_OF_ORDER
        if counter > len(uids):
            uids.extend([_NOT_SEEN] * (counter - len(uids)))
            uids.append(uid)
            self.received += 1
            return Arrival.OUT_OF_ORDER
        if uids[counter] == _NOT_SEEN:
            uids[counter] = uid
            self.received += 1
            return Arrival.OUT_OF_ORDER
        if uids[counter] != uid:
            return Arrival.UID_CHANGED
        if counter == last + 1 or (counter <= last and is_first_since_restart):
            return Arrival.REDELIVERED
        return Arrival.REPEATED if counter <= last else Arrival.OUT_OF_ORDER

    def _shared_uid(self) -> Fault | None:
        """An event with the uid of another one: de-duplication would lose it."""
        seen: set[int] = set()
        for device, uids in enumerate(self._uids):
            for counter, uid in enumerate(uids):
                if uid != _NOT_SEEN and uid in seen:
                    return Fault("has the uid of another event", device, counter)
                seen.add(uid)
        return None
