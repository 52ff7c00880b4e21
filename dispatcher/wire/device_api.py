"""The bodies of ``/v2/endpoints`` and ``/v2/device-requests``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Literal, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from dispatcher import limits
from dispatcher.errors import DeviceRequestRefused, FieldError, RefusalReason, ValidationError
from dispatcher.model import Resource, WantedRequest
from dispatcher.wire import strict_json

_T = TypeVar("_T")

ASYNC_ID_PATTERN = rf"[A-Za-z0-9_\-]{{1,{limits.DEVICE_REQUEST_ASYNC_ID_CHARS_MAX}}}"

_ASYNC_ID = re.compile(ASYNC_ID_PATTERN)
_DIGITS = re.compile(r"[0-9]{1,9}")

_encode = msgspec.json.Encoder().encode


class DeviceRequestBody(msgspec.Struct, frozen=True, rename="kebab"):
    method: Literal["GET", "PUT", "POST", "DELETE"]
    uri: str
    accept: str | None = None
    content_type: str | None = None
    payload_b64: bytes | None = None


class ResourceAnswer(msgspec.Struct, frozen=True):
    uri: str
    obs: bool
    rt: str | UnsetType = UNSET
    type: str | UnsetType = UNSET


class AsyncIdAnswer(msgspec.Struct, frozen=True, rename="kebab"):
    async_response_id: str


def parse_device_request(query: Mapping[str, str], body: bytes) -> WantedRequest:
    """The query and body of POST device-requests.

    Raises ``DeviceRequestRefused`` for a malformed async-id or body, ``ValidationError`` for numbers
    out of their limits.  What ``uri`` leads to is not judged here.
    """
    async_id = query.get("async-id", "")
    if not _ASYNC_ID.fullmatch(async_id):
        raise DeviceRequestRefused(
            RefusalReason.MALFORMED_ASYNC_ID,
            "async-id: want 1 to "
            f"{limits.DEVICE_REQUEST_ASYNC_ID_CHARS_MAX} letters, digits, '_' or '-' in the query",
        )
    retry = _number(query, "retry", 0, limits.DEVICE_REQUEST_RETRY_MAX)
    expiry_s = _number(
        query, "expiry-seconds", limits.DEVICE_REQUEST_EXPIRY_S_MIN, limits.DEVICE_REQUEST_EXPIRY_S_MAX
    )
    found = _convert(body)
    return WantedRequest(
        async_id=async_id,
        method=found.method,
        uri=found.uri,
        accept=found.accept,
        content_type=found.content_type,
        payload=found.payload_b64,
        retry=retry,
        expiry_s=expiry_s,
    )


def _convert(body: bytes) -> DeviceRequestBody:
    try:
        found = msgspec.convert(strict_json.loads(body), DeviceRequestBody)
    except strict_json.NotStrict as refused:
        raise _malformed(str(refused)) from None
    except msgspec.ValidationError as error:
        raise _malformed(str(error)) from None
    if len(found.payload_b64 or b"") > limits.DEVICE_REQUEST_PAYLOAD_BYTES_MAX:
        raise _malformed(
            f"payload-b64 is longer than {limits.DEVICE_REQUEST_PAYLOAD_BYTES_MAX} bytes decoded"
        )
    return found


def _malformed(explanation: str) -> DeviceRequestRefused:
    return DeviceRequestRefused(RefusalReason.MALFORMED_JSON_CONTENT, explanation)


def _number(query: Mapping[str, str], name: str, low: int, high: int) -> int | None:
    text = query.get(name)
    if text is None:
        return None
    if not _DIGITS.fullmatch(text) or not low <= int(text) <= high:
        message = f"must be a number from {low} to {high}"
        raise ValidationError(f"{name}: {message}", fields=(FieldError(name=name, message=message),))
    return int(text)


def render_resources(resources: Sequence[Resource]) -> bytes:
    """The body of GET endpoints/{device}."""
    return _encode(
        [
            ResourceAnswer(resource.path, bool(resource.obs), _given(resource.rt), _given(resource.ct))
            for resource in resources
        ]
    )


def render_async_id(async_id: str) -> bytes:
    """The body of a 202 whose result will come over the channel."""
    return _encode(AsyncIdAnswer(async_id))


def _given(value: _T | None) -> _T | UnsetType:
    return UNSET if value is None else value
