"""What gateways are answered."""

from __future__ import annotations

from functools import lru_cache

import msgspec


class Accepted(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one request's events; the body of a 202."""

    accepted: int  # events
    queued: int  # records stored; one event in three channels is three
    unrouted: int  # events that reached no channel
    rejected: int  # records refused by full channels of policy reject
    durability: str  # what they survive: a ``model.Durability``


def encode_accepted(accepted: Accepted) -> bytes:
    """The body."""
    return _body(
        accepted.accepted, accepted.queued, accepted.unrouted, accepted.rejected, accepted.durability
    )


@lru_cache(maxsize=256)  # most posts are like one before
def _body(*values: object) -> bytes:
    return msgspec.json.encode(dict(zip(Accepted.__struct_fields__, values, strict=True)))
