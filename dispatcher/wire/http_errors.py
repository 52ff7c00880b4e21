"""The one form of every error body."""

from __future__ import annotations

import msgspec

from dispatcher.errors import DispatcherError, FieldError


class ErrorResponse(msgspec.Struct, frozen=True, kw_only=True, tag_field="object", tag="error"):
    """What a caller is told: ``{"object": "error", "code", "type", "message", "request_id"}``.

    ``code`` repeats the HTTP status.  ``fields`` is there on validation errors alone.
    """

    code: int
    type: str
    message: str
    request_id: str
    fields: tuple[FieldError, ...] | msgspec.UnsetType = msgspec.UNSET


_encoder = msgspec.json.Encoder()


def error_response(error: DispatcherError, request_id: str) -> ErrorResponse:
    """The value behind ``encode``, for those who embed it in a larger message."""
    return ErrorResponse(
        code=error.status,
        type=error.code,
        message=error.message,
        request_id=request_id,
        fields=error.fields or msgspec.UNSET,
    )


def encode(error: DispatcherError, request_id: str) -> bytes:
    """An error as JSON."""
    return _encoder.encode(error_response(error, request_id))
