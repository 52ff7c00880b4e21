"""The JSON of the admin API.  Never a key, a header's value, or a payload that nobody asked for.

Times are milliseconds since 1970 in UTC, ages and waits seconds.  Counters of a channel
count since the daemon's start.
"""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlsplit

import msgspec
from msgspec import UNSET, Meta, UnsetType

from dispatcher import limits
from dispatcher.model import (
    KIND_NAMES,
    ChannelLimits,
    ChannelStatus,
    ChannelType,
    Kind,
    Role,
    Serialization,
)

# --- channels -------------------------------------------------------------------------


class ChannelRow(msgspec.Struct, frozen=True, kw_only=True):
    """A channel on one line."""

    id: int
    account: str
    application: str
    type: ChannelType
    status: ChannelStatus
    records: int  # in its queue
    record_bytes: int
    queue_bytes: int  # the queue's bound
    oldest_age_s: float | None  # of the oldest record that nobody confirmed
    confirmed: int
    lost: int  # records that went without being delivered
    failures: int  # attempts in a row
    next_attempt_in_s: float | None
    rate_in: float | UnsetType = UNSET  # records a second, lately; on the event stream alone
    rate_out: float | UnsetType = UNSET  # of those confirmed


class QueueState(msgspec.Struct, frozen=True, kw_only=True):
    """How far a queue is."""

    last_seq: int
    settled_seq: int
    gaps: int  # that the receiver was not told of yet, or did not confirm


class SendState(msgspec.Struct, frozen=True, kw_only=True):
    """What is on its way, and how large the next batch may be."""

    is_bound: bool  # there is somewhere to send to: a callback, an open socket
    unconfirmed_events: int
    unconfirmed_bytes: int
    frozen_events: int | None  # of the batch that has to go again as it was
    batch_events_max: int
    batch_bytes_max: int


class ParkedState(msgspec.Struct, frozen=True, kw_only=True):
    """What was set aside because the receiver refused it."""

    events: int
    message_bytes: int


class FailureState(msgspec.Struct, frozen=True, kw_only=True):
    """Why the last delivery that failed did so, in the daemon's words."""

    at_unix_ms: int
    reason: str


class RemovalState(msgspec.Struct, frozen=True, kw_only=True):
    """When the channel will be removed if nothing changes."""

    reason: str
    in_s: float
    timeout_s: float


class ChannelDetail(ChannelRow, frozen=True, kw_only=True):
    """A channel, all that is known of it."""

    target: str | None  # where its callback is: scheme, host and port, for a path may be a secret
    header_names: list[str]
    serialization: Serialization | None
    limits: ChannelLimits
    queue: QueueState
    sending: SendState
    parked: ParkedState
    failing_for_s: float | None
    last_failure: FailureState | None
    removal: RemovalState | None


class ChannelPage(msgspec.Struct, frozen=True, kw_only=True):
    channels: list[ChannelRow]
    next: str | None  # for ``after``; null: that was all


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt at delivering a batch."""

    ended_unix_ms: int
    seconds: float
    events: int
    bytes: int
    outcome: Annotated[str, Meta(extra_json_schema={"enum": ["delivered", "failed"]})]
    error: str | None  # the class of failure
    status: int | None  # what a callback answered, if it did


class Deliveries(msgspec.Struct, frozen=True, kw_only=True):
    deliveries: list[Delivery]  # the newest first


class PeekedRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A record, as it waits in its queue."""

    epoch: int
    seq: int
    kind: str
    received_unix_ms: int | None
    is_in_flight: bool
    event: dict[str, Any]
    payload_bytes: int | None = None  # of the value that was left out; null: none was


class Peek(msgspec.Struct, frozen=True, kw_only=True):
    records: list[PeekedRecord]  # the oldest first


class ParkedRow(msgspec.Struct, frozen=True, kw_only=True):
    """An event that was set aside, as it stood in its channel."""

    id: int
    parked_unix_ms: int
    status: int  # the answer that refused it
    record: PeekedRecord


class ParkedPage(msgspec.Struct, frozen=True, kw_only=True):
    events: list[ParkedRow]  # in the order in which they were parked
    next: int | None  # for ``after``; null: that was all


class ParkedDone(msgspec.Struct, frozen=True, kw_only=True):
    events: int  # how many were given back, or discarded


def origin(url: str) -> str | None:
    """Scheme, host and port of a callback; None when there is none.  The rest may be a secret."""
    if not url:
        return None
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def peeked_record(
    *, epoch: int, seq: int, kind: Kind, is_in_flight: bool, message: bytes, with_payload: bool
) -> PeekedRecord:
    """A record out of the message that holds it alone."""
    (event,) = msgspec.json.decode(message)[KIND_NAMES[kind]]
    if not isinstance(event, dict):
        event = {"ep": event}
    received_unix_ms = event.pop("timestamp", None)
    payload_bytes = None
    if not with_payload and "payload" in event:
        payload_bytes = _decoded_bytes(event.pop("payload"))
    return PeekedRecord(
        epoch=epoch,
        seq=seq,
        kind=KIND_NAMES[kind],
        received_unix_ms=received_unix_ms,
        is_in_flight=is_in_flight,
        event=event,
        payload_bytes=payload_bytes,
    )


def _decoded_bytes(base64: str) -> int:
    return len(base64) * 3 // 4 - base64.count("=", -2)


# --- the fleet ------------------------------------------------------------------------


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """All channels together, since the daemon's start."""

    at_unix_ms: int
    version: str
    durability: str
    up_s: float
    channels: int
    by_status: dict[ChannelStatus, int]
    records: int
    record_bytes: int
    memory_bytes: int  # of queues, taken from the machine
    memory_bytes_max: int
    oldest_age_s: float | None
    queued: int
    recovered: int
    acked: int
    expired: int
    dropped: dict[str, int]  # by reason
    superseded: int
    parked: int
    rejected: int
    deleted: int
    rate_in: float | UnsetType = UNSET  # records a second, lately; on the event stream alone
    rate_out: float | UnsetType = UNSET  # of those confirmed


class FleetUpdate(msgspec.Struct, frozen=True, kw_only=True):
    """One message of the event stream: how all channels are now, and some of them."""

    totals: Totals
    channels: list[ChannelRow]  # of those asked for, what changed; of the others, whose status did
    gone: list[int]  # channels that were deleted
    untold: int  # channels whose status changed and that did not find room here


# --- who there is ---------------------------------------------------------------------


class AccountRow(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    tier: str
    applications: int
    channels: int


class AccountPage(msgspec.Struct, frozen=True, kw_only=True):
    accounts: list[AccountRow]
    next: str | None


class ApplicationRow(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    account: str
    channel: int | None  # its id


class ApplicationPage(msgspec.Struct, frozen=True, kw_only=True):
    applications: list[ApplicationRow]
    next: str | None


class KeyRow(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a key; its text is not."""

    id: str
    role: Role
    account: str | None
    application: str | None
    expires_unix_ms: int | None


class KeyPage(msgspec.Struct, frozen=True, kw_only=True):
    keys: list[KeyRow]
    next: str | None


class NewKey(KeyRow, frozen=True, kw_only=True):
    """A new key, the only time its text is seen."""

    key: str


class TierRow(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    applications_max: int  # of an account; 0: no limit
    limits: ChannelLimits  # of channels registered from now on


class Tiers(msgspec.Struct, frozen=True, kw_only=True):
    tiers: list[TierRow]


_Name = Annotated[
    str,
    Meta(
        extra_json_schema={
            "minLength": 1,
            "maxLength": limits.NAME_CHARS_MAX,
            "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]*$",
        }
    ),
]


class AccountBody(msgspec.Struct, frozen=True, kw_only=True):
    name: _Name
    tier: str = "commercial"


class ApplicationBody(msgspec.Struct, frozen=True, kw_only=True):
    account: _Name
    name: _Name


class KeyBody(msgspec.Struct, frozen=True, kw_only=True):
    role: Role
    account: _Name | None = None  # for gateways and applications
    application: _Name | None = None  # for applications; made when it is not there
    expires_in_s: Annotated[float, Meta(gt=0, le=3_153_600_000)] | None = None  # null: never
