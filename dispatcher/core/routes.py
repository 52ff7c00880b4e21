"""Where the records of a request go: in three arrays, so that a thousand channels cost no object each."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from typing import NamedTuple, overload

import msgspec


class Route(NamedTuple):
    """Which records of a request go to one channel; ``indices`` None: all of them.

    Indices rise strictly (type code 'I').  A channel stands in at most one route of a request.
    """

    channel: int
    indices: array[int] | None = None


class Routes(Sequence[Route]):
    """The routes of a request of so many records.

    The indices of the i-th of ``channels`` (type code 'Q') are those from ``ends[i - 1]`` to
    ``ends[i]``, and of the first from 0 on (both 'I').  Without ``ends`` all records go to each.
    """

    __slots__ = ("channels", "ends", "indices", "records")

    def __init__(
        self,
        records: int,
        channels: array[int],
        ends: array[int] | None = None,
        indices: array[int] | None = None,
    ) -> None:
        self.records = records
        self.channels = channels
        self.ends = ends
        self.indices = indices

    @classmethod
    def of(cls, routes: Sequence[Route], records: int) -> Routes:
        """Routes as arrays; those that are some are returned as they are."""
        if isinstance(routes, Routes):
            return routes
        channels = array("Q", [route.channel for route in routes])
        if all(route.indices is None for route in routes):
            return cls(records, channels)
        ends, indices = array("I"), array("I")
        for route in routes:
            indices.extend(range(records) if route.indices is None else route.indices)
            ends.append(len(indices))
        return cls(records, channels, ends, indices)

    def __repr__(self) -> str:
        return f"<Routes of {self.records} records to {len(self.channels)} channels>"

    def __len__(self) -> int:
        return len(self.channels)

    def __iter__(self) -> Iterator[Route]:
        return (self._at(index) for index in range(len(self)))

    @overload
    def __getitem__(self, index: int) -> Route: ...
    @overload
    def __getitem__(self, index: slice) -> list[Route]: ...
    def __getitem__(self, index: int | slice) -> Route | list[Route]:
        if isinstance(index, slice):
            return [self._at(at) for at in range(*index.indices(len(self)))]
        return self._at(range(len(self))[index])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]  # arrays change

    def _at(self, index: int) -> Route:
        if self.ends is None or self.indices is None:
            return Route(self.channels[index])
        begin, end = self.ends[index - 1] if index else 0, self.ends[index]
        return Route(self.channels[index], None if end - begin == self.records else self.indices[begin:end])


class RoutePlan(msgspec.Struct, frozen=True):
    """Where a request's events go: each channel once."""

    routes: Routes
    unrouted: int  # events that reach no channel


def fan_out_plainly(of: Sequence[int], channels_of: Sequence[array[int]]) -> RoutePlan:
    """See ``route_table.RouteFinder.fan_out``."""
    indices: dict[int, array[int]] = {}
    unrouted = 0
    for index, group in enumerate(of):
        channels = channels_of[group]
        unrouted += not channels
        for channel in channels:
            indices.setdefault(channel, array("I")).append(index)
    return RoutePlan(Routes.of([Route(*item) for item in indices.items()], len(of)), unrouted)
