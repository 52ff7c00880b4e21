"""What a row of the route table says of itself: the matter of ``/openapi.json`` and ``/asyncapi.json``.

Values only.  A model is any type that msgspec can describe; what all rows have in
common (``common_refusals``) is said here once and never in a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from dispatcher import errors, limits
from dispatcher.errors import CloseCode, DispatcherError
from dispatcher.http.message import JSON
from dispatcher.model import Role

ANY_MEDIA_TYPE = "*/*"
REQUEST_ID = "9c2e5a71d04b83f6"


class Content(msgspec.Struct, frozen=True):
    """A body: its media type, its model, and an invented example as it looks in JSON."""

    media_type: str
    model: Any
    example: Any


class Header(msgspec.Struct, frozen=True):
    """A field of an answer's head."""

    name: str
    model: Any
    meaning: str
    example: Any


class Answer(msgspec.Struct, frozen=True):
    """A status that is not a refusal."""

    status: int
    meaning: str
    content: Content | None = None
    headers: tuple[Header, ...] = ()


class Parameter(msgspec.Struct, frozen=True, kw_only=True):
    """Something a request says besides its body."""

    name: str
    place: Literal["path", "query", "header"]
    model: Any
    meaning: str
    example: Any
    is_required: bool = False


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """A request that we make: to the URL that stands in the body at ``url`` (a runtime expression)."""

    name: str
    method: str
    url: str
    summary: str
    request: Content
    answers: tuple[tuple[str, str], ...]  # a status or a range such as 2XX, and what it means to us


class SocketMessage(msgspec.Struct, frozen=True, kw_only=True):
    """What goes over a WebSocket.  ``opcode`` is that of RFC 6455, section 11.8."""

    name: str
    is_ours: bool  # sent by the dispatcher
    summary: str
    model: Any
    examples: tuple[Any, ...]
    opcode: Literal[1, 8, 9, 10] = 1


class Conversation(msgspec.Struct, frozen=True, kw_only=True):
    """What a WebSocket says once it is open."""

    name: str
    summary: str
    messages: tuple[SocketMessage, ...]
    closes: tuple[tuple[CloseCode, str], ...]  # what we close with, and why


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """What a method does at a path, and all that it may answer besides ``common_refusals``.

    ``refusals`` are errors as they would be raised; each is an example, too.
    """

    summary: str
    answers: tuple[Answer, ...]
    refusals: tuple[DispatcherError, ...] = ()
    parameters: tuple[Parameter, ...] = ()
    request: tuple[Content, ...] = ()  # one body, in any of these media types
    is_request_optional: bool = False
    is_deprecated: bool = False
    roles: tuple[Role, ...] = ()  # besides the row's, where the handler looks at the key itself
    delivery: Delivery | None = None
    conversation: Conversation | None = None


_EVERYWHERE: tuple[DispatcherError, ...] = (
    errors.BadRequest("the request's head, path or query cannot be read"),
    errors.RequestTimeout("the request came too slowly"),
    errors.HeaderTooLarge(f"the request's head is larger than {limits.REQUEST_HEAD_BYTES_MAX} bytes"),
    errors.DispatcherError("the server failed to answer this request"),
    errors.NotImplementedHere("this server does not know the method or the transfer coding"),
    errors.VersionNotSupported("this server speaks HTTP 1.0 and 1.1"),
)
_WITH_KEY: tuple[DispatcherError, ...] = (
    errors.InvalidAuth("Invalid access token."),
    errors.Forbidden("This needs an application key; the one used is a gateway key."),
    errors.Unavailable("the dispatcher cannot take work now; try again", retry_after_s=1),
    errors.StorageFull("the disk is full; make room and try again"),
)
_WITH_ACCOUNT = errors.TooManyRequests(
    "this account makes requests faster than its tier allows; come back in 1 s", retry_after_s=1
)
_TOO_LARGE = errors.BodyTooLarge("the body is larger than this path takes")
_WRONG_FIELD = errors.ValidationError(
    "a field: is wrong", fields=(errors.FieldError(name="a field", message="is wrong"),)
)


def common_refusals(operation: Operation, roles: Sequence[Role]) -> tuple[DispatcherError, ...]:
    """What a row of this kind may be refused with, whatever it does."""
    refusals = _EVERYWHERE
    if roles:
        refusals += _WITH_KEY
    if not {Role.APPLICATION, Role.GATEWAY}.isdisjoint(roles):
        refusals += (_WITH_ACCOUNT,)
    if operation.request:
        refusals += (_TOO_LARGE,)
        media_types = [content.media_type for content in operation.request]
        if ANY_MEDIA_TYPE not in media_types:
            wanted = f"send the body as Content-Type: {' or '.join(media_types)}"
            refusals += (errors.UnsupportedMediaType(wanted), _WRONG_FIELD)
    return refusals


# --- what several rows say --------------------------------------------------------------

DEVICE_ID = Parameter(
    name="device-id",
    place="path",
    model=Annotated[str, Meta(min_length=1)],
    meaning=f"A device, as its gateway names it in `ep`: at most {limits.EP_CHARS_MAX} characters.",
    example="0190aa11bb22000000000001001000a1",
    is_required=True,
)
RESOURCE_PATH = Parameter(
    name="resource-path",
    place="path",
    model=Annotated[str, Meta(min_length=1)],
    meaning="The rest of the path: a resource of the device, without its first slash. "
    f"With it, at most {limits.PATH_CHARS_MAX} characters.",
    example="3303/0/5700",
    is_required=True,
)


def done(meaning: str) -> Answer:
    """204."""
    return Answer(204, meaning)


def json_content(model: Any, example: Any) -> Content:
    """A body in JSON."""
    return Content(JSON, model, example)


def text_content(*words: str) -> Content:
    """A body of plain text; the first of ``words`` is the example."""
    return Content("text/plain", str, words[0])
