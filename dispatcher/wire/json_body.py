"""A request's body as one of our types; what is wrong with it is named by its place."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from dispatcher.errors import BadRequest, FieldError, ValidationError
from dispatcher.wire import strict_json

_T = TypeVar("_T")


def parse_body(body: bytes, type_: type[_T]) -> _T:
    """The body as this type; unknown fields are ignored.

    Raises ``BadRequest`` when it is not JSON, ``ValidationError`` when a field is wrong.
    """
    try:
        value = strict_json.loads(body)
    except strict_json.NotStrict as refused:
        raise BadRequest(f"the body is refused: {refused}") from None
    try:
        return msgspec.convert(value, type=type_)
    except msgspec.ValidationError as error:
        raise invalid_field(*_place_and_reason(str(error))) from None


def _place_and_reason(text: str) -> tuple[str, str]:
    """Take apart msgspec's "Expected `int`, got `str` - at `$.cfg`"; never the value itself."""
    reason, _, place = text.partition(" - at `")
    name = place.removesuffix("`").removeprefix("$").removeprefix(".")
    if "missing required field" in reason:
        return _missing(name, reason.partition("`")[2].partition("`")[0])
    return name or "body", reason[:1].lower() + reason[1:]


def _missing(parent: str, name: str) -> tuple[str, str]:
    return strict_json.member_name(parent, name), "is missing"


def invalid_field(name: str, message: str) -> ValidationError:
    """The refusal of one field."""
    return ValidationError(f"{name}: {message}", fields=(FieldError(name=name, message=message),))
