"""What a journal's segments speak of, so that dead ones are known without reading them."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class Contents(msgspec.Struct):
    """What stands in a segment, at most."""

    last_seqs: dict[int, int] = {}  # of each channel that has records or a state in it
    answered_unix_ms: dict[int, int] = {}  # of each account that has answers in it, the newest's time


class SegmentBooks:
    """The contents of each segment, and where each channel's newest state stands.

    A segment that an earlier run wrote may hold anything that was there when this run
    began, and nothing that came since.
    """

    def __init__(self, earlier: Contents) -> None:
        """``earlier``: all that was there when this run began."""
        self._earlier = earlier
        self._contents: dict[int, Contents] = {}
        self._stated: dict[int, set[int]] = {}  # segment -> channels that have a state in it
        self._newest: dict[int, int] = {}  # channel -> the segment that has its newest state

    def wrote(self, segment: int, last_seqs: Mapping[int, int]) -> None:
        """A group that stands in a segment has records of these channels."""
        _raise_all(self._of(segment).last_seqs, last_seqs)

    def wrote_answers(self, segment: int, answered_unix_ms: Mapping[int, int]) -> None:
        """A group that stands in a segment has answers of these accounts."""
        _raise_all(self._of(segment).answered_unix_ms, answered_unix_ms)

    def wrote_states(self, segment: int, last_seqs: Mapping[int, int]) -> None:
        """A group that stands in a segment says how these channels stand."""
        self.wrote(segment, last_seqs)
        self._stated.setdefault(segment, set()).update(last_seqs)
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
        """Channels of which no later segment says how they stand."""
        stated = self._stated.get(segment)
        if stated is None:  # an earlier run's, or none
            return [channel for channel in self._earlier.last_seqs if channel not in self._newest]
        return [channel for channel in stated if self._newest.get(channel) == segment]

    def emptied(self, segment: int) -> None:
        """No record and no answer in a segment is needed any more."""
        self._contents[segment] = Contents()

    def forget_segment(self, segment: int) -> None:
        """A segment is gone."""
        self._contents.pop(segment, None)
        self._stated.pop(segment, None)

    def forget_channel(self, channel: int) -> None:
        """A channel is gone."""
        self._newest.pop(channel, None)

    def _of(self, segment: int) -> Contents:
        return self._contents.setdefault(segment, Contents())


def _raise_all(values: dict[int, int], to: Mapping[int, int]) -> None:
    for key, value in to.items():
        values[key] = max(value, values.get(key, 0))
