"""Which channels a journal's segments speak of, so that dead ones are known without reading them."""

from __future__ import annotations

from collections.abc import Mapping


class SegmentBooks:
    """Per segment: the last seq of each channel that has records or a state in it.

    Of segments that an earlier run wrote nothing is known.
    """

    def __init__(self) -> None:
        self._last_seqs: dict[int, dict[int, int]] = {}
        self._stated: dict[int, set[int]] = {}  # segment -> channels that have a state in it
        self._newest: dict[int, int] = {}  # channel -> the segment that has its newest state
        self._unknown: set[int] = set()  # segments with records that were moved out of an earlier run's

    def wrote(self, segment: int, last_seqs: Mapping[int, int]) -> None:
        """A group that stands in a segment has records of these channels."""
        known = self._last_seqs.setdefault(segment, {})
        for channel, last_seq in last_seqs.items():
            known[channel] = max(last_seq, known.get(channel, 0))

    def wrote_states(self, segment: int, last_seqs: Mapping[int, int]) -> None:
        """A group that stands in a segment says how these channels stand."""
        self.wrote(segment, last_seqs)
        self._stated.setdefault(segment, set()).update(last_seqs)
        self._newest.update(dict.fromkeys(last_seqs, segment))

    def moved(self, origin: int, segment: int) -> None:
        """Records of one segment were written again in another."""
        from_here = self.last_seqs(origin)
        if from_here is None:
            self._unknown.add(segment)
        else:
            self.wrote(segment, from_here)

    def last_seqs(self, segment: int) -> Mapping[int, int] | None:
        """What a segment speaks of; None when nobody knows."""
        return None if segment in self._unknown else self._last_seqs.get(segment)

    def stated_last_in(self, segment: int) -> list[int]:
        """Channels of which no later segment says how they stand."""
        return [channel for channel in self._stated.get(segment, ()) if self._newest.get(channel) == segment]

    def forget_segment(self, segment: int) -> None:
        """A segment is gone."""
        self._last_seqs.pop(segment, None)
        self._stated.pop(segment, None)
        self._unknown.discard(segment)

    def forget_channel(self, channel: int) -> None:
        """A channel is gone."""
        self._newest.pop(channel, None)
