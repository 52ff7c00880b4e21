"""The notification message as a model: what a gateway posts and an application receives.

``event_fields`` is what reads and checks events, by hand because it must be fast and
word its refusals well.  Here the same table stands for the generated documents; both
take their limits from ``limits``, and a test posts what these models allow.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from dispatcher import limits
from dispatcher.wire.event_fields import ASYNC_STATUS_MAX, ASYNC_STATUS_MIN

_PRINTABLE = r"^[^\u0000-\u001f\u007f-\u009f]*$"
_BASE64_CHARS_MAX = (limits.PAYLOAD_BYTES_MAX + 2) // 3 * 4

DeviceName = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=limits.EP_CHARS_MAX,
        pattern=_PRINTABLE,
        description="A device ID.",
        examples=["0190aa11bb22000000000001001000a1"],
    ),
]
OriginalName = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=limits.EP_CHARS_MAX,
        pattern=_PRINTABLE,
        description="The name that the device gave itself.",
    ),
]
DeviceType = Annotated[str, Meta(min_length=1, max_length=limits.EPT_CHARS_MAX, pattern=_PRINTABLE)]
ResourcePath = Annotated[
    str,
    Meta(min_length=1, max_length=limits.PATH_CHARS_MAX, pattern=r"^/[^\u0000-\u001f\u007f-\u009f]*$"),
]
Payload = Annotated[
    bytes,
    Meta(
        description=f"At most {limits.PAYLOAD_BYTES_MAX} bytes, in base64.",
        extra_json_schema={
            "maxLength": _BASE64_CHARS_MAX,
            "pattern": "^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$",
        },
    ),
]
MediaType = Annotated[str, Meta(max_length=limits.CT_CHARS_MAX)]
MaxAge = Annotated[
    int,
    Meta(ge=0, le=limits.JSON_INTEGER_MAX, description="Seconds; a string of digits is taken as well."),
]
Attribute = Annotated[str, Meta(max_length=limits.RESOURCE_ATTRIBUTE_CHARS_MAX)]
Uid = Annotated[
    str,
    Meta(
        description="The event's UUID, the same on every redelivery; the dispatcher's to give.",
        extra_json_schema={"format": "uuid"},
    ),
]
Timestamp = Annotated[
    int,
    Meta(
        ge=0,
        le=limits.JSON_INTEGER_MAX,
        description="When the event was queued, in ms since 1970; the dispatcher's to give.",
    ),
]


class ResourceMember(msgspec.Struct):
    """A resource of a registered device."""

    path: ResourcePath
    if_: Attribute | None = msgspec.field(default=None, name="if")
    rt: Attribute | None = None
    ct: Attribute | None = None
    obs: bool | None = None


class NotificationMember(msgspec.Struct, rename="kebab"):
    """A resource's new value."""

    ep: DeviceName
    path: ResourcePath
    payload: Payload = b""
    ct: MediaType = ""
    max_age: MaxAge = 0
    uid: Uid | UnsetType = UNSET
    timestamp: Timestamp | UnsetType = UNSET
    original_ep: OriginalName | UnsetType = UNSET


class RegistrationMember(msgspec.Struct, rename="kebab"):
    """A device registered, or refreshed its registration."""

    ep: DeviceName
    original_ep: OriginalName | UnsetType = UNSET
    ept: DeviceType | UnsetType = UNSET
    q: Annotated[bool, Meta(description="Queue mode.")] | UnsetType = UNSET
    resources: Annotated[list[ResourceMember], Meta(max_length=limits.RESOURCES_MAX)] = []
    lt: (
        Annotated[
            int,
            Meta(
                ge=0,
                le=limits.REGISTRATION_LIFETIME_S_MAX,
                description="Lifetime in seconds, 0 for ever; not sent on to applications.",
            ),
        ]
        | UnsetType
    ) = UNSET
    uid: Uid | UnsetType = UNSET
    timestamp: Timestamp | UnsetType = UNSET


class DepartureMember(msgspec.Struct, rename="kebab"):
    """A device that left, with ``deregistrations_as_object``; without it, its ID alone."""

    ep: DeviceName
    original_ep: OriginalName | UnsetType = UNSET
    uid: Uid | UnsetType = UNSET
    timestamp: Timestamp | UnsetType = UNSET


class AsyncResponseMember(msgspec.Struct, rename="kebab"):
    """The answer to a device request."""

    id: Annotated[str, Meta(min_length=1, max_length=limits.ASYNC_ID_CHARS_MAX, pattern=_PRINTABLE)]
    status: Annotated[int, Meta(ge=ASYNC_STATUS_MIN, le=ASYNC_STATUS_MAX)]
    payload: Payload | UnsetType = UNSET
    ct: MediaType | UnsetType = UNSET
    max_age: MaxAge | UnsetType = UNSET
    error: Annotated[str, Meta(max_length=limits.ASYNC_ERROR_CHARS_MAX)] | UnsetType = UNSET


class NotificationMessage(msgspec.Struct, rename="kebab", forbid_unknown_fields=True):
    """Events by kind; every member may be absent, and ``{}`` is a message."""

    notifications: list[NotificationMember] | UnsetType = UNSET
    registrations: list[RegistrationMember] | UnsetType = UNSET
    reg_updates: list[RegistrationMember] | UnsetType = UNSET
    de_registrations: list[DeviceName | DepartureMember] | UnsetType = UNSET
    registrations_expired: list[DeviceName | DepartureMember] | UnsetType = UNSET
    async_responses: list[AsyncResponseMember] | UnsetType = UNSET


class SocketUpMessage(NotificationMessage, rename="kebab", forbid_unknown_fields=True):
    """A notification message on a gateway's socket, which may have a name."""

    message_id: (
        Annotated[
            str,
            Meta(
                min_length=1,
                max_length=limits.IDEMPOTENCY_KEY_BYTES_MAX,
                description="Works like `Idempotency-Key`.",
            ),
        ]
        | UnsetType
    ) = UNSET


MESSAGE_EXAMPLE = {
    "notifications": [
        {
            "ep": "0190aa11bb22000000000001001000a1",
            "path": "/3303/0/5700",
            "ct": "text/plain",
            "payload": "MjEuNQ==",
            "max-age": 0,
        }
    ]
}
REGISTRATION_EXAMPLE = {
    "registrations": [
        {
            "ep": "0190aa11bb22000000000001001000a1",
            "original-ep": "greenhouse-7",
            "ept": "thermo",
            "q": False,
            "resources": [{"path": "/3303/0/5700", "rt": "temp", "ct": "text/plain", "obs": True}],
        }
    ]
}
ASYNC_RESPONSE_EXAMPLE = {
    "async-responses": [
        {"id": "job-42", "status": 200, "payload": "MjEuNQ==", "ct": "text/plain", "max-age": 60}
    ]
}
