"""Every error the dispatcher raises, with a stable code, whose fault it is, and
whether trying again can help.

Each class names its HTTP status and ``type`` here, once; the HTTP face only
copies them into an ``ErrorResponse``.  WebSocket close codes are in ``CloseCode``.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum

import msgspec


class Fault(StrEnum):
    """Who has to act."""

    CALLER = "caller"
    RECEIVER = "receiver"
    OPERATOR = "operator"
    OURS = "ours"


class CloseCode(IntEnum):
    """WebSocket close codes we send."""

    NORMAL = 1000  # the channel was deleted
    GOING_AWAY = 1001  # replaced by a newer socket, ping timeout, inactivity
    PROTOCOL_ERROR = 1002
    INVALID_DATA = 1007
    POLICY = 1008  # the key was revoked
    TOO_BIG = 1009
    INTERNAL = 1011  # no WebSocket channel, or our own failure
    RESTART = 1012
    TRY_AGAIN_LATER = 1013  # too many large messages of gateways at once, or too many sockets of an account


class FieldError(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing wrong with a request: where, and what."""

    name: str
    message: str
    line: int | None = None  # of an NDJSON body, from 1


class DispatcherError(Exception):
    """Base of all; catching it catches nothing that is a bug."""

    code = "internal_error"
    status = 500
    fault = Fault.OURS
    can_retry = False

    def __init__(
        self,
        message: str,
        *,
        fields: tuple[FieldError, ...] = (),
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.fields = fields
        self.retry_after_s = retry_after_s


class BadRequest(DispatcherError):
    """The request cannot be carried out as it stands."""

    code, status, fault = "bad_request", 400, Fault.CALLER


class ValidationError(BadRequest):
    """A field of the request is wrong; ``fields`` says which and why."""

    code = "validation_error"


class InvalidAuth(DispatcherError):
    """No key, or one that is not (or no longer) valid."""

    code, status, fault = "invalid_auth", 401, Fault.CALLER


class Forbidden(DispatcherError):
    """A valid key of the wrong role."""

    code, status, fault = "forbidden", 403, Fault.CALLER


class NotFound(DispatcherError):
    """What the path names does not exist."""

    code, status, fault = "not_found", 404, Fault.CALLER


class MethodNotAllowed(DispatcherError):
    """The path exists, the method does not; ``allow`` lists those that do."""

    code, status, fault = "method_not_allowed", 405, Fault.CALLER

    def __init__(self, message: str, *, allow: tuple[str, ...]) -> None:
        super().__init__(message)
        self.allow = allow


class RequestTimeout(DispatcherError):
    """The request came too slowly."""

    code, status, fault = "request_timeout", 408, Fault.CALLER


class Conflict(DispatcherError):
    """Another request holds what this one needs."""

    code, status, fault, can_retry = "conflict", 409, Fault.CALLER, True


class BodyTooLarge(DispatcherError):
    """The body is over ``limits.REQUEST_BODY_BYTES_MAX``."""

    code, status, fault = "body_too_large", 413, Fault.CALLER


class UnsupportedMediaType(DispatcherError):
    """The body's media type is not one this path takes."""

    code, status, fault = "unsupported_media_type", 415, Fault.CALLER


class UnprocessableKey(DispatcherError):
    """An ``Idempotency-Key`` was used before with another body."""

    code, status, fault = "idempotency_key_reused", 422, Fault.CALLER


class DeviceGone(DispatcherError):
    """The device existed, and left."""

    code, status, fault = "device_gone", 410, Fault.CALLER


class UpgradeRequired(DispatcherError):
    """The path speaks WebSocket only."""

    code, status, fault = "upgrade_required", 426, Fault.CALLER


class TooManyRequests(DispatcherError):
    """A rate or a per-application bound was met; ``retry_after_s`` says when to come back."""

    code, status, fault, can_retry = "too_many_requests", 429, Fault.CALLER, True


class QueueFull(TooManyRequests):
    """A channel with overflow policy ``reject`` has no room; nothing was stored."""

    code = "queue_full"


class HeaderTooLarge(DispatcherError):
    """The request's head is over ``limits.REQUEST_HEAD_BYTES_MAX``."""

    code, status, fault = "header_too_large", 431, Fault.CALLER


class NotImplementedHere(DispatcherError):
    """HTTP knows the method or the transfer coding; this server does not do it."""

    code, status, fault = "not_implemented", 501, Fault.CALLER


class DeviceNotConnected(DispatcherError):
    """Nobody can reach the device now."""

    code, status, fault, can_retry = "device_not_connected", 502, Fault.RECEIVER, True


class VersionNotSupported(DispatcherError):
    """The request is of an HTTP version other than 1.0 and 1.1."""

    code, status, fault = "http_version_not_supported", 505, Fault.CALLER


class Unavailable(DispatcherError):
    """The dispatcher cannot take work now; nothing was stored, trying again is right."""

    code, status, fault, can_retry = "unavailable", 503, Fault.OURS, True


class MemoryFull(Unavailable):
    """The memory of all queues is used up and nothing may be dropped to make room."""

    code = "memory_full"


class JournalBehind(Unavailable):
    """More is being posted than the disk takes; trying again in a moment is right."""

    code = "journal_behind"


class JournalFailed(Unavailable):
    """A write or sync of the journal failed: nothing is accepted until a restart."""

    code, fault = "journal_failed", Fault.OPERATOR


class StorageFull(DispatcherError):
    """The disk is full; nothing was stored, and trying again is right once there is room."""

    code, status, fault, can_retry = "storage_full", 507, Fault.OPERATOR, True


class RefusalReason(StrEnum):
    """Why a device request is not accepted: the notification API's own words, sent as they stand."""

    RESOURCE_NOT_FOUND = "RESOURCE_NOT_FOUND"
    DEVICE_NOT_CONNECTED = "DEVICE_NOT_CONNECTED"
    MALFORMED_JSON_CONTENT = "MALFORMED_JSON_CONTENT"
    MALFORMED_ASYNC_ID = "MALFORMED_ASYNC_ID"
    QUEUE_IS_FULL = "QUEUE_IS_FULL"
    DEVICE_NOT_FOUND = "DEVICE_NOT_FOUND"
    URI_PATH_DOES_NOT_EXISTS = "URI_PATH_DOES_NOT_EXISTS"  # sic


_NOT_FOUND_REASONS = {RefusalReason.DEVICE_NOT_FOUND, RefusalReason.URI_PATH_DOES_NOT_EXISTS}


class DeviceRequestRefused(BadRequest):
    """A device request cannot be accepted: 404 for what does not exist, else 400.

    The message is the ``reason`` alone, as clients compare it; ``explanation`` is in ``fields``.
    """

    def __init__(self, reason: RefusalReason, explanation: str, *, is_gone: bool = False) -> None:
        super().__init__(reason.value, fields=(FieldError(name="reason", message=explanation),))
        self.reason = reason
        self.explanation = explanation
        self.is_gone = is_gone  # the device existed
        if reason in _NOT_FOUND_REASONS:
            self.status, self.code = NotFound.status, NotFound.code


class StorageUnreadable(Unavailable):
    """The disk does not give back what was moved out of memory; a restart reads it from the journal."""

    code, fault = "storage_unreadable", Fault.OPERATOR


class ConfigError(DispatcherError):
    """A setting is wrong; the message names the file, line or variable, and what to do."""

    code, fault = "config_error", Fault.OPERATOR


class DataFolderError(DispatcherError):
    """The data folder cannot be used; the message says why and what to do."""

    code, fault = "data_folder_error", Fault.OPERATOR


class ChannelGone(DispatcherError):
    """The channel was deleted while it was being used."""

    code, status, fault = "channel_gone", 410, Fault.CALLER


class PositionLost(DispatcherError):
    """A slice asked for records that have been expired or dropped meanwhile."""

    code = "position_lost"


class CorruptRecord(DispatcherError):
    """A stored record's checksum does not match; it is never delivered."""

    code = "corrupt_record"


class ServerUnreachable(DispatcherError):
    """A client could not reach the dispatcher, or lost it before the whole answer came."""

    code, fault, can_retry = "unreachable", Fault.OPERATOR, True


class RequestRefused(DispatcherError):
    """The dispatcher answered a client's request with an error, whose ``status`` and ``fields`` these are."""

    code, fault = "refused", Fault.CALLER

    def __init__(self, message: str, *, status: int, fields: tuple[FieldError, ...] = ()) -> None:
        super().__init__(message, fields=fields)
        self.status = status


class DemoFailed(DispatcherError):
    """The demo could not be carried out to its end; the message says why."""

    code = "demo_failed"
