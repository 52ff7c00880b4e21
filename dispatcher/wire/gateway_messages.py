"""What the dispatcher says on a gateway's socket."""

from __future__ import annotations

import msgspec
from msgspec import UNSET, UnsetType

from dispatcher.errors import DispatcherError
from dispatcher.wire.http_errors import ErrorResponse, error_response

_encode = msgspec.json.Encoder().encode


class _Answer(msgspec.Struct, frozen=True):
    accepted: int
    error: ErrorResponse | UnsetType = UNSET


def render_answer(accepted_total: int, error: DispatcherError | None, request_id: str) -> bytes:
    """The answer to one message: the events accepted on this socket so far, and what was wrong with it."""
    return _encode(_Answer(accepted_total, UNSET if error is None else error_response(error, request_id)))
