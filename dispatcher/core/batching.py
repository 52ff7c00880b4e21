"""How large a batch may be and how it is written.  Pure.

An idle channel sends at once: there is no lingering, so nothing here decides
*when*.  Batches grow by themselves while the receiver is busy with the last one.
"""

from __future__ import annotations

from functools import cache, lru_cache

from dispatcher.model import Channel, ChannelType, Form, Serialization, SliceLimits

_PLAIN = Serialization()

WHOLE = Form(
    mixed_kinds=True,
    deregistrations_as_object=True,
    include_uid=True,
    include_timestamp=True,
    include_original_ep=True,
)
"""A record with all that is known of it, as an operator is shown it."""


def form_of(channel: Channel) -> Form:
    """How this channel's records are written into messages."""
    return _form_of(channel.type, channel.serialization)


@lru_cache(maxsize=256)  # every idle channel has one, and most have the same
def _form_of(type_: ChannelType, serialization: Serialization | None) -> Form:
    chosen = serialization or _PLAIN
    mixed = chosen.mixed_kinds
    return _form(
        mixed_kinds=type_ is ChannelType.CALLBACK if mixed is None else mixed,
        deregistrations_as_object=chosen.deregistrations_as_object,
        include_uid=chosen.include_uid,
        include_timestamp=chosen.include_timestamp,
        include_original_ep=chosen.include_original_ep,
        include_gaps=bool(chosen.include_gaps),
    )


@cache  # there are 64, however many serializations
def _form(**flags: bool) -> Form:
    return Form(**flags)


def events_max(channel: Channel) -> int:
    """Most events of one batch: what the application asked for, else the tier's number."""
    chosen = channel.serialization or _PLAIN
    return chosen.max_chunk_size or channel.limits.batch_events


def bytes_max(channel: Channel) -> int:
    """Most bytes of one batch by the tier and by what the receiver is known to refuse."""
    limits = channel.limits
    allowed = limits.batch_bytes if channel.type is ChannelType.CALLBACK else limits.websocket_batch_bytes
    return min(allowed, channel.learned_batch_bytes or allowed)


def slice_limits(channel: Channel, bytes_now: int) -> SliceLimits:
    """The bounds of the next slice; ``bytes_now`` is what the last attempts taught."""
    return SliceLimits(events_max=events_max(channel), bytes_max=min(bytes_now, bytes_max(channel)))
