"""The nouns of the dispatcher: identities, registrations, events, positions.

Those of which there are a hundred thousand are not looked at for garbage (``gc=False``, which saves
16 bytes each): what a frozen value holds was there before it, so it is in no cycle.

Values only.  Nothing in here acts, reads a clock or knows about a transport;
every layer may import it.
"""

from __future__ import annotations

from array import array
from enum import IntEnum, StrEnum
from typing import Protocol, TypeAlias

import msgspec

RecordBlock: TypeAlias = bytes | bytearray | memoryview
"""Bodies of records end to end, as ``queue.interface.Records`` describes them."""

RecordMetas: TypeAlias = "array[int] | memoryview"  # of type code 'Q'
"""The lengths and kinds of these records."""


class Kind(IntEnum):
    """Which array of a notification message an event belongs to.

    The numbers are stored in records (FORMAT.md); never renumber them.
    """

    NOTIFICATION = 0
    REGISTRATION = 1
    REG_UPDATE = 2
    DE_REGISTRATION = 3
    REGISTRATION_EXPIRED = 4
    ASYNC_RESPONSE = 5


KIND_NAMES: tuple[str, ...] = (
    "notifications",
    "registrations",
    "reg-updates",
    "de-registrations",
    "registrations-expired",
    "async-responses",
)
"""Array names on the wire, indexed by ``Kind``."""


class Position(msgspec.Struct, frozen=True, order=True):
    """A place in a channel's sequence of records and gaps.  Ordered by epoch, then seq."""

    epoch: int
    seq: int
    is_behind_gap: bool = False  # also behind the gap that follows this record, before the next one


GAP_REASONS: tuple[str, ...] = (
    "overflow",
    "memory",
    "rejected",
    "expired",
    "corrupt",
    "superseded",
    "parked",
)
"""Why records leave a channel without being delivered.

A reason's place, counted from 1, is stored in the journal (FORMAT.md): never change the order.
"""


class Gap(msgspec.Struct, frozen=True, kw_only=True):
    """Records that the receiver of a channel does not get, by one cause.

    It stands in front of the first record whose seq is above ``behind_seq``.
    """

    behind_seq: int
    last_seq: int  # 0 for rejected ones, which never had a number
    count: int  # others may stand between first and last
    reason: str  # one of GAP_REASONS
    from_unix_ms: int = 0  # when the first was received; 0: not known
    to_unix_ms: int = 0  # and the last

    @property
    def first_seq(self) -> int:
        """The seq that the gap begins with."""
        return self.behind_seq + 1

    @property
    def end_seq(self) -> int:
        """The seq that it ends with; one less than the first when its records never had a number."""
        return self.last_seq or self.behind_seq


class ChannelType(StrEnum):
    """How a channel reaches its application; the values are the wire's words."""

    CALLBACK = "CALLBACK"
    WEB_SOCKET = "WEB_SOCKET"
    LONG_POLLING = "LONG_POLLING"
    IN_PROCESS = "IN_PROCESS"  # consumed by the embedding program; never on the wire's paths

    @property
    def awaits_clients(self) -> bool:
        """Whether its application connects to us, so that for a time there may be no client."""
        return self in (ChannelType.WEB_SOCKET, ChannelType.LONG_POLLING)


class ChannelStatus(StrEnum):
    """How a channel does, in one word: of metrics, of the admin API and the console."""

    OK = "ok"
    FAILING = "failing"  # its callback did not take the last batch
    CONNECTED = "connected"
    DISCONNECTED = "disconnected"
    PAUSED = "paused"  # by the operator


class Overflow(StrEnum):
    """What a full channel does with the next record."""

    DROP_OLDEST = "drop-oldest"
    REJECT = "reject"
    KEEP_LATEST = "keep-latest"  # first what newer values of the same resource followed, then as drop-oldest


class RefusedEvents(StrEnum):
    """What becomes of an event that a callback refuses (400 or 422) though it came alone."""

    RETRY = "retry"  # it is sent again and again, and what is behind it waits
    PARK = "park"  # it is set aside for the operator, and its absence named


class Durability(StrEnum):
    """What a publisher's 202 promises about a crash."""

    DISK = "disk"  # it survives a power cut
    PROCESS = "process"  # it survives a killed process
    MEMORY = "memory"  # it survives nothing


class Role(StrEnum):
    """What an access key may do."""

    APPLICATION = "application"
    GATEWAY = "gateway"
    ADMIN = "admin"


class Serialization(msgspec.Struct, frozen=True, kw_only=True):
    """The options an application chose for its messages in its registration."""

    max_chunk_size: int | None = None  # events per message; None: the tier's batch_events
    deregistrations_as_object: bool = False
    include_uid: bool = False
    include_timestamp: bool = False
    include_original_ep: bool = False
    include_gaps: bool | None = None  # None: false
    mixed_kinds: bool | None = None  # None: true for callbacks, false for the others


class Form(msgspec.Struct, frozen=True, kw_only=True):
    """How records are written into messages; the same form gives the same bytes."""

    mixed_kinds: bool  # True: one message with all kinds; False: one message per kind
    deregistrations_as_object: bool = False
    include_uid: bool = False
    include_timestamp: bool = False
    include_original_ep: bool = False
    include_gaps: bool = False  # what the receiver does not get is told where it is missing


class SliceLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of one slice; it ends at the first one met.  A larger single record goes alone."""

    events_max: int
    bytes_max: int  # of its messages as they are sent


class Ticket(Protocol):
    """The durability of one append."""

    is_durable: bool  # whether ``durable`` would return at once

    async def durable(self) -> None:
        """Return when all that was stored by the request is durable (INV-5).

        Raises ``StorageFull`` while the disk has no room for it: it stays stored, becomes
        durable when there is room, and can be waited for again.  ``JournalFailed``: it
        never will in this run.  Cancellation leaves it stored.
        """
        ...


class ChannelLimits(msgspec.Struct, frozen=True, kw_only=True):
    """A tier's settings as they were when the channel was registered.

    The same fields, with units and meaning, as ``config.TierSettings``; a later
    change of the tier holds only for channels registered after it.
    """

    queue_bytes: int
    event_lifetime_s: float
    overflow: Overflow
    idle_timeout_s: float
    delivery_failure_timeout_s: float
    websocket_disconnected_timeout_s: float
    websocket_inactivity_s: float
    batch_events: int
    batch_bytes: int
    websocket_batch_bytes: int
    delete_channel_on_client_close: bool
    callback_timeout_s: float
    retry_initial_s: float
    retry_max_s: float
    ping_interval_s: float
    pong_timeout_s: float
    ack_timeout_s: float
    long_poll_hold_s: float
    long_poll_idle_s: float
    refused_events: RefusedEvents = RefusedEvents.RETRY  # rows of earlier versions have none


class Account(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Owns devices, applications and gateways, and has a tier."""

    id: int
    name: str
    tier: str


class Application(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Owns at most one channel and one set of subscriptions.  ``name`` is unique in its account."""

    id: int
    account_id: int
    name: str


class AccessKey(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What is known of a key; the key itself is never kept.

    ``digest`` is HMAC-SHA256 of the key under the server's secret.
    ``account_id`` is None for admin keys; ``application_id`` is set for
    application keys alone.
    """

    id: str
    role: Role
    digest: bytes
    account_id: int | None = None
    application_id: int | None = None
    expires_unix_ms: int | None = None  # from then on it opens nothing; None: it does not expire


class Signing(msgspec.Struct, frozen=True, kw_only=True):
    """What an application's deliveries are signed with.  Secrets: never logged, never answered."""

    secret: bytes
    older_secret: bytes | None = None  # the one before, which signs too for a time
    older_until_unix_ms: int = 0

    def __repr__(self) -> str:
        return "<Signing>"


class Channel(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A registration.  Its queue is found by ``id``.

    ``incarnation`` is a random 64-bit number, never reused: a channel that was
    deleted and made again is another channel.
    """

    id: int
    application_id: int
    account_id: int
    type: ChannelType
    incarnation: int
    limits: ChannelLimits
    serialization: Serialization | None = None  # None: none was given
    url: str = ""  # callback only
    headers: dict[str, str] = {}  # callback only; values are secrets: never logged
    signing: Signing | None = None  # callback only; None: deliveries are not signed
    is_gzipped: bool = False  # callback only
    learned_batch_bytes: int | None = None  # what the receiver was found to take (1009)
    is_paused: bool = False  # by the operator: it goes on storing, and sends nothing

    def __repr__(self) -> str:
        return f"<Channel {self.id} {self.type} of application {self.application_id}>"


class ParkedEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event that was set aside because its receiver refused it, until an operator says what to do."""

    id: int  # given by the registry, never twice
    channel_id: int
    position: Position  # where it stood in its channel
    kind: Kind
    message: bytes  # a notification message that holds it alone, with all that is known of it
    parked_unix_ms: int
    status: int  # the answer that refused it


class ParkedCount(msgspec.Struct, frozen=True):
    """How much of a channel is parked."""

    events: int = 0
    message_bytes: int = 0


class ChannelClocks(msgspec.Struct, frozen=True, kw_only=True):
    """Since when a channel's removal clocks run, in seconds of the dispatcher's up time."""

    last_event_s: float  # when the last event came in, or the channel was registered
    failing_since_s: float | None = None  # callback: None: it works
    disconnected_since_s: float | None = None  # WebSocket, long poll: None: a socket or a poll is open


class Presubscription(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of an application's pre-subscriptions; None: matches all.

    A name, a type and each path may end in one ``*``.
    """

    endpoint_name: str | None = None
    endpoint_type: str | None = None
    resource_paths: tuple[str, ...] | None = None


class Subscription(msgspec.Struct, frozen=True, order=True):
    """A manual subscription of an application; ``path`` starts with a slash."""

    application_id: int
    ep: str
    path: str


# Events, as gateways post them and as the library takes them.  Field order is the
# canonical order of the stored form.


class Resource(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A resource of a registered device."""

    path: str
    if_: str | None = msgspec.field(default=None, name="if")
    rt: str | None = None
    ct: str | None = None
    obs: bool | None = None


class Notification(msgspec.Struct, frozen=True, rename="kebab"):
    """A resource's new value.  ``payload`` is the raw value, base64 on the wire."""

    ep: str
    path: str
    payload: bytes = b""
    ct: str = ""
    max_age: int = 0  # seconds
    original_ep: str | None = None


class Registration(msgspec.Struct, frozen=True, kw_only=True, rename="kebab"):
    """A device registered."""

    ep: str
    original_ep: str | None = None
    ept: str | None = None  # device type
    q: bool | None = None  # queue mode
    resources: tuple[Resource, ...] = ()
    lt: int | None = None  # lifetime, seconds; 0 or None: it does not run out; not sent on


class RegistrationUpdate(msgspec.Struct, frozen=True, kw_only=True, rename="kebab"):
    """A device refreshed its registration."""

    ep: str
    original_ep: str | None = None
    ept: str | None = None
    q: bool | None = None
    resources: tuple[Resource, ...] = ()
    lt: int | None = None


class Deregistration(msgspec.Struct, frozen=True, rename="kebab"):
    """A device said that it leaves."""

    ep: str
    original_ep: str | None = None


class RegistrationExpired(msgspec.Struct, frozen=True, rename="kebab"):
    """A device's registration ran out."""

    ep: str
    original_ep: str | None = None


class AsyncResponse(msgspec.Struct, frozen=True, kw_only=True, rename="kebab"):
    """The answer to a device request or to a subscription's observe."""

    id: str
    status: int
    payload: bytes | None = None
    ct: str | None = None
    max_age: int | None = None
    error: str | None = None


Event = (
    Notification | Registration | RegistrationUpdate | Deregistration | RegistrationExpired | AsyncResponse
)


# What a request's events tell about devices and requests; routing acts on these.


class DeviceChange(msgspec.Struct, frozen=True):
    """A life-cycle event: the device came, stayed or went.  ``index`` is its place in the request."""

    index: int
    kind: Kind
    ep: str
    ept: str | None = None  # device type, when the event told one
    told: Registration | RegistrationUpdate | None = None  # the whole of it, unless the device went


class AsyncAnswer(msgspec.Struct, frozen=True):
    """An async response; ``index`` is its place in the request."""

    index: int
    response: AsyncResponse

    @property
    def id(self) -> str:
        """The id of the request that it answers."""
        return self.response.id


# What is known of devices.


class DeviceReport(msgspec.Struct, frozen=True, kw_only=True):
    """A device's life-cycle event, and through whom it came."""

    account_id: int
    gateway_id: str | None  # the access key of the gateway; None: an embedding program
    change: DeviceChange
    heard_unix_ms: int


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """A device in an account's directory, by what its registration said."""

    account_id: int
    ep: str
    gateway_id: str | None = None  # the access key of the gateway that last told of it
    original_ep: str | None = None
    ept: str | None = None
    q: bool = False
    resources: tuple[Resource, ...] = ()  # none: not told, so anything may be there
    lifetime_s: int | None = None  # None: the registration does not run out
    heard_unix_ms: int = 0
    is_gone: bool = False  # it left, or its registration ran out: known not to exist

    @property
    def expires_unix_ms(self) -> int | None:
        """When the registration runs out, unless it is refreshed."""
        return None if self.lifetime_s is None else self.heard_unix_ms + self.lifetime_s * 1000


class DeviceRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What an application wants of a device, waiting to be carried out by its gateway."""

    id: int  # given by the registry, never twice
    account_id: int
    application_id: int
    ep: str
    async_id: str  # by which the application knows it
    wire_id: str  # by which the gateway knows it: the same, unless that was taken
    method: str
    uri: str
    accept: str | None = None
    content_type: str | None = None
    payload: bytes | None = None
    observe: bool | None = None  # True: begin to observe, False: end it
    is_silent: bool = False  # nobody wants to know the answer
    retry: int = 0  # attempts after the first
    accepted_unix_ms: int
    expires_unix_ms: int

    @property
    def payload_bytes(self) -> int:
        """The length of its payload."""
        return len(self.payload or b"")


class WantedRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A device request as an application asks for it; None: as the device's mode wants it."""

    async_id: str
    method: str
    uri: str
    accept: str | None = None
    content_type: str | None = None
    payload: bytes | None = None
    observe: bool | None = None
    is_silent: bool = False
    retry: int | None = None
    expiry_s: int | None = None


# --- what an operator is told ---------------------------------------------------------


class OperatorWarning(msgspec.Struct):
    """One event of one subject (a channel, a certificate, the storage), however often it happened."""

    event: str  # its name in the log
    first_unix_ms: int
    last_unix_ms: int
    times: int
    fields: dict[str, object]  # as in the log, of the last time; counts are sums
