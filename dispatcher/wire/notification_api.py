"""The JSON bodies of the ``/v2`` notification API.

``parse_*`` take a request's body, ``render_*`` give a response's.  Unknown fields are
ignored, as the service always has.  Numbers and booleans may come as strings, because
the service's own examples write them so; they go out as numbers and booleans.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType

from dispatcher import limits
from dispatcher.model import Channel, ChannelType, Presubscription, Serialization, Signing
from dispatcher.wire.json_body import invalid_field, parse_body
from dispatcher.wire.webhook_signature import SECRET_PREFIX

_T = TypeVar("_T")

SERIALIZATION_TYPE: Final = "v2"
CONTENT_ENCODINGS: Final = ("gzip", "identity")

_encode = msgspec.json.Encoder().encode
_BOOLEANS = {"true": True, "false": False}


class Webhook(msgspec.Struct, frozen=True):
    """A callback as an application asks for it; URL, headers and secret are not judged yet."""

    url: str
    headers: dict[str, str] = {}  # values are secrets: never logged
    serialization: Serialization | None = None
    signing_secret: str | None = None  # never logged
    is_gzipped: bool = False

    def __repr__(self) -> str:
        return f"<Webhook with {len(self.headers)} headers>"


# The shapes on the wire, as the generated documents show them.  None and absent are the same:
# clients send null for absent fields.  What ``_documented`` adds is checked by rules that word
# their refusals: in here, or in ``core``.


def _documented(**schema: Any) -> Meta:
    return Meta(extra_json_schema=schema)


_Pattern = Annotated[str, _documented(minLength=1, maxLength=limits.PRESUBSCRIPTION_NAME_CHARS_MAX)]
_PathPattern = Annotated[
    str,
    _documented(
        minLength=1,
        maxLength=limits.PRESUBSCRIPTION_PATH_CHARS_MAX,
        pattern=r"^[^*]*\*?$",
        description="A resource's path; one * may stand at its end.",
    ),
]
_ChunkSize = Annotated[int, _documented(minimum=limits.MAX_CHUNK_SIZE_MIN, maximum=limits.MAX_CHUNK_SIZE_MAX)]
_ChunkSizeText = Annotated[str, _documented(pattern="^[0-9]{3,5}$")]
_Url = Annotated[
    str,
    _documented(
        pattern="^[Hh][Tt][Tt][Pp][Ss]?://",
        maxLength=limits.CALLBACK_CHARS_MAX,
        description=f"With all header names and values at most {limits.CALLBACK_CHARS_MAX} characters.",
    ),
]


class SerializationFlagsBody(msgspec.Struct, frozen=True):
    deregistrations_as_object: bool | str | None = None
    include_uid: bool | str | None = None
    include_timestamp: bool | str | None = None
    include_original_ep: bool | str | None = None
    include_gaps: bool | str | None = None
    mixed_kinds: bool | str | None = None


class SerializationBody(msgspec.Struct, frozen=True):
    type: Annotated[str, _documented(const=SERIALIZATION_TYPE)] | None = None
    max_chunk_size: _ChunkSize | _ChunkSizeText | None = None
    cfg: SerializationFlagsBody | None = None


class SigningBody(msgspec.Struct, frozen=True):
    secret: Annotated[
        str,
        _documented(
            pattern=f"^{SECRET_PREFIX}[A-Za-z0-9+/]+=*$",
            description=(
                f"The base64 of {limits.SIGNING_SECRET_BYTES_MIN} to {limits.SIGNING_SECRET_BYTES_MAX} "
                "random bytes. Never shown again."
            ),
        ),
    ]

    def __repr__(self) -> str:
        return "<SigningBody>"


_ContentEncoding = Annotated[str, _documented(enum=list(CONTENT_ENCODINGS))]


class WebhookBody(msgspec.Struct, frozen=True):
    url: _Url
    headers: dict[str, str] | None = None
    serialization: SerializationBody | None = None
    signing: SigningBody | None = None
    content_encoding: _ContentEncoding | None = None

    def __repr__(self) -> str:
        return "<WebhookBody>"


class RegistrationBody(msgspec.Struct, frozen=True):
    serialization: SerializationBody | None = None


class PresubscriptionBody(msgspec.Struct, frozen=True, rename="kebab"):
    endpoint_name: _Pattern | None = None
    endpoint_type: _Pattern | None = None
    resource_path: Annotated[list[_PathPattern], _documented(minItems=1)] | None = None


PresubscriptionSet = Annotated[list[PresubscriptionBody], _documented(maxItems=limits.PRESUBSCRIPTIONS_MAX)]


class SerializationFlagsAnswer(msgspec.Struct, frozen=True):
    deregistrations_as_object: bool
    include_uid: bool
    include_timestamp: bool
    include_original_ep: bool
    include_gaps: bool | UnsetType = UNSET
    mixed_kinds: bool | UnsetType = UNSET


class SerializationAnswer(msgspec.Struct, frozen=True, kw_only=True):
    type: Literal["v2"]
    max_chunk_size: int | UnsetType = UNSET
    cfg: SerializationFlagsAnswer


class SigningAnswer(msgspec.Struct, frozen=True):
    older_secret_until: Annotated[int, _documented(description="Unix milliseconds.")] | UnsetType = UNSET


class WebhookAnswer(msgspec.Struct, frozen=True):
    url: str
    headers: dict[str, str]
    serialization: SerializationAnswer | UnsetType = UNSET
    signing: SigningAnswer | UnsetType = UNSET
    content_encoding: Literal["gzip"] | UnsetType = UNSET

    def __repr__(self) -> str:
        return "<WebhookAnswer>"


class WebsocketChannelAnswer(msgspec.Struct, frozen=True):
    status: Literal["connected", "disconnected"]
    queue_size: int
    serialization: SerializationAnswer | UnsetType = UNSET


class PresubscriptionAnswer(msgspec.Struct, frozen=True, rename="kebab"):
    endpoint_name: str | UnsetType = UNSET
    endpoint_type: str | UnsetType = UNSET
    resource_path: tuple[str, ...] | UnsetType = UNSET


class DeliveryMechanismAnswer(msgspec.Struct, frozen=True):
    delivery_mechanism: str


# --- requests -------------------------------------------------------------------------


def parse_webhook(body: bytes) -> Webhook:
    """The body of PUT callback.

    Raises ``BadRequest`` when it is not JSON, ``ValidationError`` when a field is wrong.
    """
    found = parse_body(body, WebhookBody)
    if found.content_encoding not in (None, *CONTENT_ENCODINGS):
        raise invalid_field("content_encoding", f"must be one of {', '.join(CONTENT_ENCODINGS)}")
    return Webhook(
        found.url,
        found.headers or {},
        _serialization(found.serialization),
        signing_secret=None if found.signing is None else found.signing.secret,
        is_gzipped=found.content_encoding == "gzip",
    )


def parse_registration(body: bytes) -> Serialization | None:
    """The body of PUT websocket and PUT pull, which may be empty.  Raises as ``parse_webhook`` does."""
    if not body.strip():
        return None
    return _serialization(parse_body(body, RegistrationBody).serialization)


def parse_presubscriptions(body: bytes) -> tuple[Presubscription, ...]:
    """The body of PUT subscriptions, as it was given.  Raises as ``parse_webhook`` does.

    Only the shape is checked; the limits are ``core.presubscriptions.check``'s business.
    """
    return tuple(
        Presubscription(
            endpoint_name=entry.endpoint_name,
            endpoint_type=entry.endpoint_type,
            resource_paths=None if entry.resource_path is None else tuple(entry.resource_path),
        )
        for entry in parse_body(body, list[PresubscriptionBody])
    )


def _serialization(found: SerializationBody | None) -> Serialization | None:
    if found is None:
        return None
    if found.type not in (None, SERIALIZATION_TYPE):
        raise invalid_field("serialization.type", f"must be {SERIALIZATION_TYPE!r}")
    cfg = found.cfg or SerializationFlagsBody()
    return Serialization(
        max_chunk_size=_chunk_size(found.max_chunk_size),
        deregistrations_as_object=_flag(cfg.deregistrations_as_object, "deregistrations_as_object") or False,
        include_uid=_flag(cfg.include_uid, "include_uid") or False,
        include_timestamp=_flag(cfg.include_timestamp, "include_timestamp") or False,
        include_original_ep=_flag(cfg.include_original_ep, "include_original_ep") or False,
        include_gaps=_flag(cfg.include_gaps, "include_gaps"),
        mixed_kinds=_flag(cfg.mixed_kinds, "mixed_kinds"),
    )


def _chunk_size(value: int | str | None) -> int | None:
    if value is None:
        return None
    low, high = limits.MAX_CHUNK_SIZE_MIN, limits.MAX_CHUNK_SIZE_MAX
    if isinstance(value, str):
        is_number = value.isascii() and value.isdecimal() and len(value) <= len(str(high))
        value = int(value) if is_number else -1
    if not low <= value <= high:
        raise invalid_field("serialization.max_chunk_size", f"must be a number from {low} to {high}")
    return value


def _flag(value: bool | str | None, name: str) -> bool | None:
    if not isinstance(value, str):
        return value
    flag = _BOOLEANS.get(value.lower())
    if flag is None:
        raise invalid_field(f"serialization.cfg.{name}", "must be true or false")
    return flag


# --- responses ------------------------------------------------------------------------


def render_webhook(channel: Channel) -> bytes:
    """The body of GET callback: the URL as it was given, always with headers, never with a secret."""
    return _encode(
        WebhookAnswer(
            channel.url,
            channel.headers,
            _serialization_out(channel.serialization),
            UNSET if channel.signing is None else _signing_out(channel.signing),
            "gzip" if channel.is_gzipped else UNSET,
        )
    )


def render_websocket_channel(channel: Channel, *, is_connected: bool, queue_size: int) -> bytes:
    """The body of PUT and GET websocket; ``queue_size`` in events."""
    status: Literal["connected", "disconnected"] = "connected" if is_connected else "disconnected"
    return _encode(WebsocketChannelAnswer(status, queue_size, _serialization_out(channel.serialization)))


def render_delivery_mechanism(type_: ChannelType) -> bytes:
    """The body of GET channel."""
    return _encode(DeliveryMechanismAnswer(type_.value))


def render_presubscriptions(entries: Sequence[Presubscription]) -> bytes:
    """The body of GET subscriptions: what was put, absent fields left out."""
    return _encode(
        [
            PresubscriptionAnswer(
                _given(entry.endpoint_name), _given(entry.endpoint_type), _given(entry.resource_paths)
            )
            for entry in entries
        ]
    )


def render_uri_list(paths: Sequence[str]) -> bytes:
    """The body of GET subscriptions/{device}: one path in each line.

    No newline at the end: the Python SDK would take it for an empty path.
    """
    return "\n".join(paths).encode()


def _signing_out(signing: Signing) -> SigningAnswer:
    return SigningAnswer() if signing.older_secret is None else SigningAnswer(signing.older_until_unix_ms)


def _serialization_out(serialization: Serialization | None) -> SerializationAnswer | UnsetType:
    if serialization is None:
        return UNSET
    cfg = SerializationFlagsAnswer(
        serialization.deregistrations_as_object,
        serialization.include_uid,
        serialization.include_timestamp,
        serialization.include_original_ep,
        _given(serialization.include_gaps),
        _given(serialization.mixed_kinds),
    )
    return SerializationAnswer(
        type=SERIALIZATION_TYPE, max_chunk_size=_given(serialization.max_chunk_size), cfg=cfg
    )


def _given(value: _T | None) -> _T | UnsetType:
    return UNSET if value is None else value
