"""Who gets a notification, found in the native core (``core.route_table`` says what is meant)."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from dispatcher import limits
from dispatcher.core.route_table import Groups, Resolve, RouteTable
from dispatcher.core.routes import RoutePlan, Routes, fan_out_plainly
from dispatcher.errors import BodyTooLarge, MemoryFull
from dispatcher.model import RecordBlock, RecordMetas
from dispatcher.queue._core import ffi, lib
from dispatcher.queue.native_ring import made

_EVENTS_AT_FIRST = 64
_EVENTS_KEPT_MAX = 16_384  # working memory for more is given back after the request
_FAN_OUT_PLAINLY_MAX = 16  # events; for so few the core is not worth the call
_INDEX_BYTES = 4
_CHANNEL_BYTES = 8


class NativeTable:
    """A table in the native core; it takes memory with its first edge."""

    def __init__(self, space: Any) -> None:
        self._space = space
        self._raw: Any = None

    def __repr__(self) -> str:
        return f"<NativeTable of {len(self)} edges, {self.memory_bytes()} bytes>"

    def __len__(self) -> int:
        return 0 if self._raw is None else int(lib.nd_routes_edges(self._raw))

    def get(self, node: int, text: bytes) -> int:
        """See ``RouteTable``."""
        return 0 if self._raw is None else int(lib.nd_routes_get(self._raw, node, text, len(text)))

    def put(self, node: int, text: bytes, to: int) -> None:
        """See ``RouteTable``.  Raises ``MemoryFull``; ``ValueError`` for a text that no event can have."""
        status = lib.nd_routes_put(self.opened(), node, text, len(text), to)
        if status == lib.ND_ERR_ARGUMENT:
            raise ValueError(f"a text of {len(text)} bytes, or the node {to}, is out of its range")
        if status != lib.ND_OK:
            raise MemoryFull("the machine has no memory left for subscriptions; give it more")

    def remove(self, node: int, text: bytes) -> None:
        """See ``RouteTable``."""
        if self._raw is not None:
            lib.nd_routes_remove(self._raw, node, text, len(text))

    def memory_bytes(self) -> int:
        """What it takes of the machine, all included."""
        return 0 if self._raw is None else int(lib.nd_routes_bytes(self._raw))

    def opened(self) -> Any:
        """The table of the core."""
        if self._raw is None:
            self._raw = ffi.gc(made("nd_routes *", lib.nd_routes_open, self._space), lib.nd_routes_close)
        return self._raw


class NativeAudiences:
    """A table in the native core; it takes memory with its first pair."""

    def __init__(self) -> None:
        """Raises ``MemoryFull``."""
        opened = made("nd_audiences *", lib.nd_audiences_open, lib.nd_io_posix())
        self.raw = ffi.gc(opened, lib.nd_audiences_close)
        self._count = ffi.new("uint64_t *")

    def get(self, key: int) -> array[int] | None:
        """See ``AudienceTable``."""
        found = lib.nd_audiences_find(self.raw, key, self._count)
        if found == ffi.NULL:
            return None
        channels = array("Q")
        channels.frombytes(ffi.buffer(found, self._count[0] * _CHANNEL_BYTES))
        return channels

    def put(self, key: int, channels: array[int]) -> None:
        """See ``AudienceTable``."""
        with ffi.from_buffer("uint64_t[]", channels) as members:
            status = lib.nd_audiences_put(self.raw, key, members, len(channels))
        if status == lib.ND_ERR_ARGUMENT:
            raise ValueError(f"the pair {key} is in the table, or it cannot have so many channels")
        if status != lib.ND_OK:
            raise MemoryFull("the machine has no memory left for subscriptions; give it more")

    def clear(self) -> None:
        """See ``AudienceTable``."""
        lib.nd_audiences_clear(self.raw)


class _Buffers:
    """Working memory for the events of one request."""

    def __init__(self, events_max: int) -> None:
        self.events_max = events_max
        self.pairs = ffi.new("uint64_t[]", events_max)
        self.distinct = ffi.new("uint64_t[]", events_max)
        self.groups = ffi.new("uint32_t[]", events_max)
        self.slots = ffi.new("uint32_t[]", 2 * events_max)


class NativeFinder:
    """Finds in native tables, those that it made, and keeps working memory for requests of a usual size.

    ``key``: 16 secret, random bytes, so that nobody can name devices that collide.  All tables
    together take at most ``memory_bytes_max``; what is used is given back with the last of them.
    """

    def __init__(self, key: bytes, memory_bytes_max: int = limits.ROUTES_BYTES_MAX) -> None:
        """Raises ``MemoryFull``."""
        halves = (int.from_bytes(key[:8], "little"), int.from_bytes(key[8:16], "little"))
        space = made(
            "nd_route_space *", lib.nd_route_space_open, lib.nd_io_posix(), memory_bytes_max, *halves
        )
        self._space = ffi.gc(space, lib.nd_route_space_close)
        self._walk = ffi.new("nd_route_walk *")
        self._buffers = _Buffers(_EVENTS_AT_FIRST)

    def new_table(self) -> NativeTable:
        """See ``RouteFinder``."""
        return NativeTable(self._space)

    def new_audiences(self) -> NativeAudiences:
        """See ``RouteFinder``.  Raises ``MemoryFull``."""
        return NativeAudiences()

    def find(
        self,
        manual: RouteTable | None,
        chosen: RouteTable | None,
        chosen_from: int,
        block: RecordBlock,
        meta: RecordMetas,
        resolve: Resolve,
    ) -> Groups:
        """See ``RouteFinder``.  Raises ``ValueError`` when block and meta do not agree."""
        count = len(meta)
        buffers = self._buffers_for(count)
        walk, pairs, metas = self._walk, buffers.pairs, ffi.from_buffer("uint64_t[]", meta)
        bodies = block if isinstance(block, bytes) else ffi.from_buffer("uint8_t[]", block)
        walk.manual = raw_table(manual)
        walk.chosen = raw_table(chosen)
        walk.chosen_from = chosen_from
        walk.next = walk.next_byte = 0
        while (status := lib.nd_routes_find(walk, bodies, len(block), metas, count, pairs)) == lib.ND_EMPTY:
            ep = bytes(block[walk.ep_at : walk.ep_at + walk.ep_bytes])
            path = bytes(block[walk.path_at : walk.path_at + walk.path_bytes])
            pairs[walk.missed] |= resolve(ep, path) << 32
        if status != lib.ND_OK:
            raise ValueError("block and meta do not agree, or hold more than notifications")
        return self._grouped(buffers, count)

    def _grouped(self, buffers: _Buffers, count: int) -> Groups:
        if count == 1:
            return Groups((buffers.pairs[0],), array("I"))
        distinct, groups, slots = buffers.distinct, buffers.groups, buffers.slots
        found = lib.nd_routes_group(buffers.pairs, count, groups, distinct, slots, len(slots))
        of = array("I")
        if found > 1:
            of.frombytes(ffi.buffer(groups, count * _INDEX_BYTES))
        return Groups(ffi.unpack(distinct, found), of)

    def fan_out(self, of: array[int], channels_of: Sequence[array[int]]) -> RoutePlan:
        """See ``RouteFinder``.  Raises ``BodyTooLarge`` when 2^32 records would not be enough."""
        if len(of) <= _FAN_OUT_PLAINLY_MAX:
            return fan_out_plainly(of, channels_of)
        ends = array("I", accumulate(map(len, channels_of)))
        entries = ends[-1]
        channels = array("Q", bytes(entries * _CHANNEL_BYTES))
        route_ends, indices = array("I", bytes(entries * _INDEX_BYTES)), array("I")
        with (
            ffi.from_buffer("uint32_t[]", of) as groups,
            ffi.from_buffer("uint64_t[]", b"".join(channels_of)) as members,
            ffi.from_buffer("uint32_t[]", ends) as member_ends,
            ffi.from_buffer("uint64_t[]", channels) as routes,
            ffi.from_buffer("uint32_t[]", route_ends) as routes_end,
        ):
            slots = ffi.new("uint32_t[]", 2 << entries.bit_length())
            places = ffi.new("uint32_t[]", entries)
            fan = ffi.new(
                "nd_fan *",
                (
                    *(groups, len(of)),
                    *(members, member_ends, len(channels_of)),
                    *(routes, routes_end, places, slots, len(slots)),
                ),
            )
            if lib.nd_fan_plan(fan) != lib.ND_OK:
                raise BodyTooLarge(
                    "these events reach too many channels for one request; post fewer at a time"
                )
            indices.frombytes(bytes(fan.indices_count * _INDEX_BYTES))
            with ffi.from_buffer("uint32_t[]", indices) as parts:
                lib.nd_fan_fill(fan, parts)
        del channels[fan.routes_count :], route_ends[fan.routes_count :]
        return RoutePlan(Routes(len(of), channels, route_ends, indices), fan.unrouted)

    def _buffers_for(self, events: int) -> _Buffers:
        if events <= self._buffers.events_max:
            return self._buffers
        buffers = _Buffers(1 << (events - 1).bit_length())
        if buffers.events_max <= _EVENTS_KEPT_MAX:
            self._buffers = buffers
        return buffers


def raw_table(table: RouteTable | None) -> Any:
    """The core's table; NULL finds nothing."""
    if table is None:
        return ffi.NULL
    assert isinstance(table, NativeTable)
    return table.opened()
