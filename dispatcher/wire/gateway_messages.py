"""What the dispatcher says on a gateway's socket: answers, and device requests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from dispatcher.errors import DispatcherError
from dispatcher.model import DeviceRequest
from dispatcher.wire.http_errors import ErrorResponse, error_response

_T = TypeVar("_T")

_encode = msgspec.json.Encoder().encode


class SocketAnswer(msgspec.Struct, frozen=True):
    accepted: int
    error: ErrorResponse | UnsetType = UNSET


class DeviceRequestMember(msgspec.Struct, frozen=True, kw_only=True, rename="kebab"):
    id: str | UnsetType = UNSET
    ep: str
    method: str
    uri: str
    accept: str | UnsetType = UNSET
    content_type: str | UnsetType = UNSET
    payload_b64: bytes | UnsetType = UNSET
    observe: bool | UnsetType = UNSET


class DeviceRequestsMessage(msgspec.Struct, frozen=True, rename="kebab"):
    device_requests: list[DeviceRequestMember]


def render_answer(accepted_total: int, error: DispatcherError | None, request_id: str) -> bytes:
    """The answer to one message: the events accepted on this socket so far, and what was wrong with it."""
    return _encode(
        SocketAnswer(accepted_total, UNSET if error is None else error_response(error, request_id))
    )


def render_requests(requests: Sequence[DeviceRequest]) -> bytes:
    """Requests for devices, each to be answered by an async response of the same id."""
    return _encode(
        DeviceRequestsMessage(
            [
                DeviceRequestMember(
                    id=request.wire_id,
                    ep=request.ep,
                    method=request.method,
                    uri=request.uri,
                    accept=_given(request.accept),
                    content_type=_given(request.content_type),
                    payload_b64=_given(request.payload),
                    observe=_given(request.observe),
                )
                for request in requests
            ]
        )
    )


def render_hints(ep: str, paths: Sequence[str], *, observe: bool) -> bytes:
    """Requests without an id, which are not answered: begin or end to observe resources."""
    return _encode(
        DeviceRequestsMessage(
            [DeviceRequestMember(ep=ep, method="GET", uri=path, observe=observe) for path in paths]
        )
    )


def _given(value: _T | None) -> _T | UnsetType:
    return UNSET if value is None else value
