"""The last attempts at delivering each channel's events, in bounded memory.

Numbers only: what was sent is not in here, nor any word of a receiver's.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Callable

import msgspec

from dispatcher import limits
from dispatcher.deliver.sink import FailureClass

_PACKED = struct.Struct("<QIIIHBx")  # 24 bytes, a tenth of what the object takes
_MOST = 2**32 - 1
_MOST_S = _MOST / 1e6
_CLASSES = (None, *FailureClass)
_NUMBERS = {failure: number for number, failure in enumerate(_CLASSES)}


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """A batch that was sent, or was to be."""

    ended_unix_ms: int
    seconds: float
    events: int
    bytes_count: int
    failure: FailureClass | None = None  # None: it was handed over
    status: int | None = None  # what a callback answered


class AttemptLogs:
    """Of each channel the last ``limits.ATTEMPTS_PER_CHANNEL_MAX``, since the start.

    When more than ``channels_max`` channels have some, those of the one that tried
    longest ago are forgotten.
    """

    def __init__(self, now_unix_ms: Callable[[], int], channels_max: int = limits.ATTEMPT_LOGS_MAX) -> None:
        self._now_unix_ms = now_unix_ms
        self._channels_max = channels_max
        self._rings: OrderedDict[int, _Ring] = OrderedDict()

    def __repr__(self) -> str:
        return f"<AttemptLogs of {len(self._rings)} channels>"

    def add(
        self,
        channel: int,
        *,
        seconds: float,
        events: int,
        bytes_count: int,
        failure: FailureClass | None = None,
        status: int | None = None,
    ) -> None:
        """An attempt ended now."""
        ring = self._rings.get(channel)
        if ring is None:
            ring = self._rings[channel] = _Ring()
            if len(self._rings) > self._channels_max:
                self._rings.popitem(last=False)
        self._rings.move_to_end(channel)
        ring.add(
            _PACKED.pack(
                self._now_unix_ms(),
                int(seconds * 1e6) if seconds < _MOST_S else _MOST,
                events if events < _MOST else _MOST,
                bytes_count if bytes_count < _MOST else _MOST,
                status or 0,
                _NUMBERS[failure],
            )
        )

    def of(self, channel: int) -> list[Attempt]:
        """A channel's attempts, the newest first."""
        ring = self._rings.get(channel)
        return [] if ring is None else [_unpacked(entry) for entry in ring.newest_first()]

    def forget(self, channel: int) -> None:
        """The channel was deleted."""
        self._rings.pop(channel, None)


class _Ring:
    """Entries of one size, the oldest overwritten when it is full."""

    __slots__ = ("_added", "_entries")

    def __init__(self) -> None:
        self._entries = bytearray()
        self._added = 0

    def add(self, entry: bytes) -> None:
        at = self._added % limits.ATTEMPTS_PER_CHANNEL_MAX * _PACKED.size
        self._entries[at : at + _PACKED.size] = entry  # grows it until it is full
        self._added += 1

    def newest_first(self) -> list[bytes]:
        size = _PACKED.size
        entries = [bytes(self._entries[at : at + size]) for at in range(0, len(self._entries), size)]
        turn = self._added % limits.ATTEMPTS_PER_CHANNEL_MAX
        return [*entries[turn:], *entries[:turn]][::-1]


def _unpacked(entry: bytes) -> Attempt:
    ended_unix_ms, microseconds, events, bytes_count, status, number = _PACKED.unpack(entry)
    return Attempt(
        ended_unix_ms=ended_unix_ms,
        seconds=microseconds / 1e6,
        events=events,
        bytes_count=bytes_count,
        failure=_CLASSES[number],
        status=status or None,
    )
