"""Who gets a notification, found by the bytes of its ep and path: the seam, and its plain form.

A table holds edges: from a node, over a text, to a node.  Two steps lead from an event
to its audience, and what a node stands for is its owner's business:

    ROOT --- ep ---> what devices have in common --- path ---> an audience

Texts are those of canonical records (``wire.canonical``): as they stand between the quotes,
escapes included.  Equal ones are written in one way only.

``queue.native_routes`` does the same in the native core, in batches, with the GIL released.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from dispatcher.core.routes import RoutePlan, fan_out_plainly
from dispatcher.model import RecordBlock, RecordMetas

ROOT = 0
"""The node at which devices begin."""

Resolve = Callable[[bytes, bytes], int]
"""Says to which number an ep and a path lead, when a table does not know."""

_KEY_SHIFT, _KEY_MASK = 32, (1 << 32) - 1
_BODY_HEAD_BYTES = len('{"ep":"')
_BETWEEN_BYTES = len('","path":"')
_BODY_MASK, _EP_SHIFT, _EP_MASK = (1 << 24) - 1, 40, (1 << 16) - 1  # of a meta: ``wire.canonical``
_KIND_SHIFT = 56


def text_of(name: str) -> bytes:
    """An ep or a path as it stands in canonical records."""
    return msgspec.json.encode(name)[1:-1]


def name_of(text: bytes) -> str:
    """The ep or path that ``text_of`` gave a text for."""
    return msgspec.json.decode(b'"%b"' % text, type=str)


class RouteTable(Protocol):
    """Edges, each with a node at its end; 0 is no node at an end.  Every step is O(1)."""

    def __len__(self) -> int: ...
    def get(self, node: int, text: bytes) -> int:
        """Where an edge leads; 0: there is none."""
        ...

    def put(self, node: int, text: bytes, to: int) -> None:
        """Lead an edge to a node, whether it was there or not."""
        ...

    def remove(self, node: int, text: bytes) -> None:
        """Remove an edge, if it is there."""
        ...


class Groups(msgspec.Struct, frozen=True):
    """A request's events by audience: the pairs found, in the order in which they come up.

    A pair is one number, its key.  ``of`` has the place in ``keys`` for each event; it is
    empty when all have the first.
    """

    keys: Sequence[int]
    of: array[int]  # type code 'I'

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """The pairs as such."""
        return [pair_of(key) for key in self.keys]


def key_of(one: int, other: int) -> int:
    """The key of a pair: what the first table leads to in the lower half, the second in the upper."""
    return one | other << _KEY_SHIFT


def pair_of(key: int) -> tuple[int, int]:
    """The pair that has a key."""
    return key & _KEY_MASK, key >> _KEY_SHIFT


class AudienceTable(Protocol):
    """The channels of pairs, by their keys."""

    def get(self, key: int) -> array[int] | None:
        """The channels of a pair (type code 'Q'), not to be changed; None: nobody put them in."""
        ...

    def put(self, key: int, channels: array[int]) -> None:
        """A pair that is not in it stands for these channels, each once.  Raises ``MemoryFull``."""
        ...

    def clear(self) -> None:
        """Forget all."""
        ...


class Way(msgspec.Struct, frozen=True):
    """All that is known of where an account's notifications go; see ``RouteFinder.find``."""

    manual: RouteTable | None
    chosen: RouteTable | None
    chosen_from: int
    audiences: AudienceTable


class RouteFinder(Protocol):
    """Makes tables, and walks the events of a request through them."""

    def new_table(self) -> RouteTable:
        """An empty one."""
        ...

    def new_audiences(self) -> AudienceTable:
        """An empty one."""
        ...

    def find(
        self,
        manual: RouteTable | None,
        chosen: RouteTable | None,
        chosen_from: int,
        block: RecordBlock,
        meta: RecordMetas,
        resolve: Resolve,
    ) -> Groups:
        """Find the audiences of notifications: the pair of what the two tables lead to.

        ``manual`` is walked from the root; what is not in it leads to 0.  ``chosen`` is
        walked from the root too, or by the paths alone from another node; what is not in it
        is resolved, which may put it there.  None leads to 0.
        """
        ...

    def fan_out(self, of: array[int], channels_of: Sequence[array[int]]) -> RoutePlan:
        """Who gets which events, when those of a group go to these channels (type code 'Q'), each once.

        Channels stand in the order in which events reach them: the same request, the same plan.
        """
        ...


class PlainTable:
    """A table that is a dictionary."""

    def __init__(self) -> None:
        self._edges: dict[tuple[int, bytes], int] = {}

    def __len__(self) -> int:
        return len(self._edges)

    def get(self, node: int, text: bytes) -> int:
        """See ``RouteTable``."""
        return self._edges.get((node, text), 0)

    def put(self, node: int, text: bytes, to: int) -> None:
        """See ``RouteTable``."""
        self._edges[node, text] = to

    def remove(self, node: int, text: bytes) -> None:
        """See ``RouteTable``."""
        self._edges.pop((node, text), None)


class PlainAudiences:
    """A table that is a dictionary."""

    def __init__(self) -> None:
        self._channels: dict[int, array[int]] = {}

    def get(self, key: int) -> array[int] | None:
        """See ``AudienceTable``."""
        return self._channels.get(key)

    def put(self, key: int, channels: array[int]) -> None:
        """See ``AudienceTable``."""
        self._channels[key] = channels

    def clear(self) -> None:
        """See ``AudienceTable``."""
        self._channels.clear()


class PlainFinder:
    """The finder as it is meant: short, slow, obviously right."""

    def new_table(self) -> RouteTable:
        """See ``RouteFinder``."""
        return PlainTable()

    def new_audiences(self) -> AudienceTable:
        """See ``RouteFinder``."""
        return PlainAudiences()

    def find(
        self,
        manual: RouteTable | None,
        chosen: RouteTable | None,
        chosen_from: int,
        block: RecordBlock,
        meta: RecordMetas,
        resolve: Resolve,
    ) -> Groups:
        """See ``RouteFinder``."""
        places: dict[int, int] = {}
        of = array("I")
        at = 0
        for each in meta:
            end = at + (each & _BODY_MASK)
            ep, path = _texts(bytes(block[at:end]), each)
            first = second = 0
            if manual is not None:
                device = manual.get(ROOT, ep)
                first = manual.get(device, path) if device else 0
            if chosen is not None:
                device = chosen_from or chosen.get(ROOT, ep)
                second = (chosen.get(device, path) if device else 0) or resolve(ep, path)
            of.append(places.setdefault(key_of(first, second), len(places)))
            at = end
        return Groups(list(places), of if len(places) > 1 else array("I"))

    def fan_out(self, of: array[int], channels_of: Sequence[array[int]]) -> RoutePlan:
        """See ``RouteFinder``."""
        return fan_out_plainly(of, channels_of)


def _texts(body: bytes, meta: int) -> tuple[bytes, bytes]:
    """The ep and the path of a notification."""
    if meta >> _KIND_SHIFT:
        raise ValueError("only notifications are looked up by ep and path")
    ep_end = _BODY_HEAD_BYTES + (meta >> _EP_SHIFT & _EP_MASK)
    path_at = end = ep_end + _BETWEEN_BYTES
    while body[end : end + 1] != b'"':
        end += 2 if body[end : end + 1] == b"\\" else 1
    return body[_BODY_HEAD_BYTES:ep_end], body[path_at:end]
