"""What a journal's segments speak of, so that dead ones are known without reading them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Protocol

import msgspec

_EARLIER = 0  # stands for every segment of an earlier run; this one's have numbers from 1


class Stated(Protocol):
    """A channel, as far as the books are concerned: they write into it."""

    stated_in: int | None  # the segment that has its newest state; None: no segment says how it stands


class Contents(msgspec.Struct):
    """What stands in a segment, at most."""

    last_seqs: dict[int, int] = {}  # of each channel that has records in it
    answered_unix_ms: dict[int, int] = {}  # of each account that has answers in it, the newest's time


class SegmentBooks:
    """The contents of each segment, and where each channel's newest state stands.

    A segment that an earlier run wrote may hold anything that was there when this run
    began, and nothing that came since.

    Memory: 50 bytes for each channel and segment that has records of it; for a channel without
    records its ``stated_in`` alone.
    """

    def __init__(self, earlier: Contents, channels: Mapping[int, Stated]) -> None:
        """``earlier``: all that was there when this run began.

        ``channels``: those that exist, now and later; those of now have a state in an earlier segment.
        """
        self._earlier = earlier
        self._contents: dict[int, Contents] = {}
        self._channels = channels
        self._states = Counter[int | None]()  # segment -> of how many channels it has the newest
        self._stand_in(_EARLIER, channels)

    def wrote(self, segment: int, last_seqs: Mapping[int, int]) -> None:
        """A group that stands in a segment has records of these channels."""
        _raise_all(self._of(segment).last_seqs, last_seqs)

    def wrote_answers(self, segment: int, answered_unix_ms: Mapping[int, int]) -> None:
        """A group that stands in a segment has answers of these accounts."""
        _raise_all(self._of(segment).answered_unix_ms, answered_unix_ms)

    def wrote_states(self, segment: int, last_seqs: Mapping[int, int]) -> None:
        """A group that stands in a segment says how these channels stand.

        A channel that holds nothing has 0: no record of it is needed, wherever it stands.
        """
        self.wrote(segment, last_seqs)
        self._stand_in(segment, last_seqs)

    def moved(self, origin: int, segment: int) -> None:
        """What was live in one segment was written again in another."""
        from_here = self.contents(origin)
        self.wrote(segment, from_here.last_seqs)
        self.wrote_answers(segment, from_here.answered_unix_ms)

    def contents(self, segment: int) -> Contents:
        """What a segment speaks of, at most."""
        return self._contents.get(segment, self._earlier)

    def stated_last_in(self, segment: int) -> list[int]:
        """Channels of which no later segment says how they stand.

        Cost: O(all channels) when there are some, else constant.
        """
        here = [place for place in (segment, _EARLIER) if self._states[place]]
        if not here:
            return []
        return [number for number, channel in self._channels.items() if channel.stated_in in here]

    def emptied(self, segment: int) -> None:
        """No record and no answer in a segment is needed any more."""
        self._contents[segment] = Contents()

    def forget_segment(self, segment: int) -> None:
        """A segment is gone."""
        self._contents.pop(segment, None)
        del self._states[segment]

    def forget_channel(self, channel: Stated) -> None:
        """A channel is gone."""
        self._states[channel.stated_in] -= 1

    def _stand_in(self, segment: int, numbers: Iterable[int]) -> None:
        """A segment has the newest states of these channels, as far as they still exist."""
        for number in numbers:
            channel = self._channels.get(number)
            if channel is not None and channel.stated_in != segment:
                self._states[channel.stated_in] -= 1
                self._states[segment] += 1
                channel.stated_in = segment

    def _of(self, segment: int) -> Contents:
        contents = self._contents.get(segment)
        if contents is None:
            contents = self._contents[segment] = Contents()
        return contents


def _raise_all(values: dict[int, int], to: Mapping[int, int]) -> None:
    """Nothing is kept for what stays at 0."""
    for key, value in to.items():
        if value > values.get(key, 0):
            values[key] = value
