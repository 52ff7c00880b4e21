"""What one application received from a daemon that lives several times, checked as it comes.

Within a life each device's events rise.  Over lives an event may come again, but only as
long as nobody can know that its confirmation was durable.  Someone can, without a clock:

    delivery i arrives      the daemon has confirmed all but the last ``unconfirmed_max``
                            deliveries before it, or it would not have sent it
    a POST is begun then    its group is sealed later, and with the states of those
    and answered 202        that group is durable: what is settled in it stays settled

``proof`` is taken before a POST and given back after its 202.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any


class DeliveryBooks:
    """One application's books.  ``unconfirmed_max``: deliveries the daemon may have in flight."""

    def __init__(self, name: str, unconfirmed_max: int) -> None:
        self.name = name
        self.duplicates = 0
        self._unconfirmed_max = unconfirmed_max
        self._arrived: dict[str, dict[int, None]] = {}  # numbers by device, each where it came first
        self._events_by_uid: dict[str, tuple[str, int]] = {}
        self._uids_by_event: dict[tuple[str, int], str] = {}
        self._latest: dict[str, int] = {}  # number by device, in this life
        self._in_flight: deque[dict[str, int]] = deque()  # of recent deliveries, their last numbers by device
        self._confirmed: dict[str, int] = {}  # by device: for certain, in this life
        self._settled: dict[str, int] = {}  # by device: durable, so that it must never come again

    def __repr__(self) -> str:
        return f"<DeliveryBooks {self.name}: {len(self._uids_by_event)} events, {self.duplicates} again>"

    def begin_life(self) -> None:
        """Another process sends from now on."""
        self._latest.clear()
        self._in_flight.clear()
        self._confirmed.clear()

    def begin_delivery(self) -> None:
        """What arrives next is confirmed apart from what came before."""
        self._in_flight.append({})
        while len(self._in_flight) > self._unconfirmed_max:
            self._confirmed.update(self._in_flight.popleft())

    def arrived(self, events: Iterable[Mapping[str, Any]]) -> None:
        """Events of one delivery: ``ep``, the number as the ``path``, and ``uid``."""
        for event in events:
            ep, number = event["ep"], int(event["path"][1:])
            self._check_uid(event["uid"], (ep, number))
            assert number > self._latest.get(ep, 0), f"{self.name}: {ep} {number} is out of order"
            assert number > self._settled.get(ep, 0), (
                f"{self.name}: {ep} {number} came again, and was settled"
            )
            self._latest[ep] = number
            self._in_flight[-1][ep] = number
            seen = self._arrived.setdefault(ep, {})
            self.duplicates += number in seen
            seen[number] = None

    def numbers(self, ep: str) -> list[int]:
        """A device's numbers, in the order in which they first came."""
        return list(self._arrived.get(ep, {}))

    def has(self, ep: str, number: int) -> bool:
        """Whether an event has arrived."""
        return (ep, number) in self._uids_by_event

    def proof(self) -> dict[str, int]:
        """What is confirmed now: the last number of each device."""
        return dict(self._confirmed)

    def prove(self, proof: Mapping[str, int]) -> None:
        """What was confirmed then is durable now."""
        for ep, number in proof.items():
            self._settled[ep] = max(number, self._settled.get(ep, 0))

    def _check_uid(self, uid: str, event: tuple[str, int]) -> None:
        assert self._events_by_uid.setdefault(uid, event) == event, f"{self.name}: one uid for two events"
        assert self._uids_by_event.setdefault(event, uid) == uid, f"{self.name}: two uids for one event"
