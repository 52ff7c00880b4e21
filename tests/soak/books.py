"""What one application got of events that are numbered from 1 for each device.

The memory of a check must not grow with what it checks: of each device the last number is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


class Books:
    """Fails at the first event that is missing or comes too early; counts those that come again."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.events = 0
        self.again = 0
        self._last: dict[str, int] = {}

    def arrived(self, message: Mapping[str, Any]) -> None:
        """A message of the steady account: its notifications, in order."""
        self._arrived(message.get("notifications", ()))

    def last(self, device: str) -> int:
        """The highest number that came of a device."""
        return self._last.get(device, 0)

    def _arrived(self, events: Iterable[Mapping[str, Any]]) -> None:
        for event in events:
            device, number, last = event["ep"], event["max-age"], self.last(event["ep"])
            assert number <= last + 1, f"{self.name}: {device} {number} came after {last}"
            if number <= last:
                self.again += 1
            else:
                self.events += 1
                self._last[device] = number
