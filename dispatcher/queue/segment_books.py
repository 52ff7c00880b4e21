"""What a journal's segments speak of, so that dead ones are known without reading them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

import msgspec

_EARLIER = 0  # stands for every segment of an earlier run; this one's have numbers from 1


class Contents(msgspec.Struct):
    """What stands in a segment, at most."""

    last_seqs: dict[int, int] = {}  # of each channel that has records in it
    answered_unix_ms: dict[int, int] = {}  # of each account that has answers in it, the newest's time


class SegmentBooks:
    """The contents of each segment, and where each channel's newest state stands.

    A segment that an earlier run wrote may hold anything that was there when this run
    began, and nothing that came since.

    Memory: 50 bytes for each channel, and as much for each segment that has records of it.
    """

    def __init__(self, earlier: Contents, channels: Iterable[int] = ()) -> None:
        """``earlier``: all that was there when this run began; these ``channels`` have a state there."""
        self._earlier = earlier
        self._contents: dict[int, Contents] = {}
        self._newest = dict.fromkeys(channels, _EARLIER)  # channel -> the segment that has its newest state
        self._states = Counter({_EARLIER: len(self._newest)})  # segment -> how many

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
        self.wrote(segment, {channel: seq for channel, seq in last_seqs.items() if seq})
        self._states.subtract(self._newest[channel] for channel in last_seqs if channel in self._newest)
        self._states[segment] += len(last_seqs)
        self._newest.update(dict.fromkeys(last_seqs, segment))

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
        return [channel for channel, newest in self._newest.items() if newest in here] if here else []

    def emptied(self, segment: int) -> None:
        """No record and no answer in a segment is needed any more."""
        self._contents[segment] = Contents()

    def forget_segment(self, segment: int) -> None:
        """A segment is gone."""
        self._contents.pop(segment, None)
        del self._states[segment]

    def forget_channel(self, channel: int) -> None:
        """A channel is gone."""
        newest = self._newest.pop(channel, None)
        if newest is not None:
            self._states[newest] -= 1

    def _of(self, segment: int) -> Contents:
        return self._contents.setdefault(segment, Contents())


def _raise_all(values: dict[int, int], to: Mapping[int, int]) -> None:
    for key, value in to.items():
        values[key] = max(value, values.get(key, 0))
