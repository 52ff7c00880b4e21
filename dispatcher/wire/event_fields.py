"""The fields of an event: their types, their limits, and how they are read from JSON.

Two doors lead to the same rules: ``read`` takes a decoded JSON value, ``check``
a typed event made by a program.  What either lets through is in the limits
that ``docs/WIRE.md`` publishes.

Leniencies of ``read``, each because a real gateway or an older message needs it:
``null`` in an optional field counts as absent; ``max-age`` may be a string of
digits; fields that are not in the table are dropped (``uid`` and ``timestamp``
among them, which are the dispatcher's to give).
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable
from typing import Any

from dispatcher import limits, model
from dispatcher.model import Kind

ASYNC_STATUS_MIN, ASYNC_STATUS_MAX = 100, 599

# Unicode's control characters: C0, DEL and C1.  Surrogates cannot be encoded.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_DIGITS = re.compile(r"[0-9]{1,16}")
_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")


class BadField(Exception):
    """A field is wrong; ``name`` is its place, as in ``notifications[3].payload``."""

    def __init__(self, parent: str, key: str, message: str) -> None:
        self.name = f"{parent}.{key}" if parent and key else parent or key
        self.message = message
        super().__init__(f"{self.name}: {message}")


def read(kind: Kind, value: Any, name: str) -> model.Event:
    """The typed event in a decoded JSON value, or ``BadField``.

    ``name`` is the event's place in the message.
    """
    if isinstance(value, str) and kind in (Kind.DE_REGISTRATION, Kind.REGISTRATION_EXPIRED):
        value = {"ep": value}
    if not isinstance(value, dict):
        raise BadField(name, "", f"an object is expected, not {_type_of(value)}")
    return _READERS[kind](value, name)


def check(event: model.Event, name: str) -> None:
    """Apply to a typed event the rules that hold for posted ones, or raise ``BadField``."""
    match event:
        case model.Notification():
            _check_device(event, name)
            _check_path(event.path, name, "path")
            _check_text(event.ct, name, "ct", limits.CT_CHARS_MAX)
            _check_payload(event.payload, name)
            _check_max_age(event.max_age, name)
        case model.Registration() | model.RegistrationUpdate():
            _check_device(event, name)
            _check_registration(event, name)
        case model.Deregistration() | model.RegistrationExpired():
            _check_device(event, name)
        case model.AsyncResponse():
            _check_async_response(event, name)
        case _:
            raise BadField(name, "", f"an event is expected, not {type(event).__name__}")


# --- from JSON ------------------------------------------------------------------------


def _read_notification(value: dict[str, Any], name: str) -> model.Notification:
    event = model.Notification(
        _required(value, "ep", name),
        _required(value, "path", name),
        _read_payload(value, name) or b"",
        _or_absent(value.get("ct"), ""),
        _read_max_age(value, name) or 0,
        value.get("original-ep"),
    )
    _check_device(event, name)
    _check_path(event.path, name, "path")
    _check_text(event.ct, name, "ct", limits.CT_CHARS_MAX)
    return event


def _read_registration(value: dict[str, Any], name: str) -> model.Registration:
    event = model.Registration(
        ep=_required(value, "ep", name),
        original_ep=value.get("original-ep"),
        ept=value.get("ept"),
        q=value.get("q"),
        resources=_read_resources(value, name),
        lt=value.get("lt"),
    )
    _check_device(event, name)
    _check_registration(event, name)
    return event


def _read_update(value: dict[str, Any], name: str) -> model.RegistrationUpdate:
    found = _read_registration(value, name)
    return model.RegistrationUpdate(
        ep=found.ep,
        original_ep=found.original_ep,
        ept=found.ept,
        q=found.q,
        resources=found.resources,
        lt=found.lt,
    )


def _read_deregistration(value: dict[str, Any], name: str) -> model.Deregistration:
    event = model.Deregistration(_required(value, "ep", name), value.get("original-ep"))
    _check_device(event, name)
    return event


def _read_expired(value: dict[str, Any], name: str) -> model.RegistrationExpired:
    event = model.RegistrationExpired(_required(value, "ep", name), value.get("original-ep"))
    _check_device(event, name)
    return event


def _read_async_response(value: dict[str, Any], name: str) -> model.AsyncResponse:
    event = model.AsyncResponse(
        id=_required(value, "id", name),
        status=_required(value, "status", name),
        payload=_read_payload(value, name),
        ct=value.get("ct"),
        max_age=_read_max_age(value, name),
        error=value.get("error"),
    )
    _check_async_response(event, name)
    return event


_READERS: tuple[Callable[[dict[str, Any], str], model.Event], ...] = (
    _read_notification,
    _read_registration,
    _read_update,
    _read_deregistration,
    _read_expired,
    _read_async_response,
)


def _required(value: dict[str, Any], key: str, name: str) -> Any:
    member = value.get(key)
    if member is None:
        raise BadField(name, key, "is missing" if key not in value else "must not be null")
    return member


def _or_absent(member: Any, absent: str) -> Any:
    return absent if member is None else member


def _read_payload(value: dict[str, Any], name: str) -> bytes | None:
    member = value.get("payload")
    if member is None:
        return None
    if not isinstance(member, str):
        raise BadField(name, "payload", f"a base64 string is expected, not {_type_of(member)}")
    if len(member) > _BASE64_CHARS_MAX:
        raise BadField(name, "payload", _PAYLOAD_MESSAGE)
    if not _BASE64.fullmatch(member):
        raise BadField(name, "payload", "is not base64 (RFC 4648, section 4, with padding)")
    payload = binascii.a2b_base64(member)
    _check_payload(payload, name)
    return payload


def _read_max_age(value: dict[str, Any], name: str) -> int | None:
    member = value.get("max-age")
    if member is None:
        return None
    if isinstance(member, str):
        if not _DIGITS.fullmatch(member):
            raise BadField(name, "max-age", "as a string it must be 1 to 16 decimal digits")
        member = int(member)
    return _check_max_age(member, name)


def _read_resources(value: dict[str, Any], name: str) -> tuple[model.Resource, ...]:
    member = value.get("resources")
    if member is None:
        return ()
    if not isinstance(member, list):
        raise BadField(name, "resources", f"an array is expected, not {_type_of(member)}")
    if len(member) > limits.RESOURCES_MAX:
        raise BadField(name, "resources", _RESOURCES_MESSAGE)
    return tuple([_read_resource(item, name, index) for index, item in enumerate(member)])


def _read_resource(value: Any, name: str, index: int) -> model.Resource:
    if not isinstance(value, dict):
        raise BadField(name, f"resources[{index}]", f"an object is expected, not {_type_of(value)}")
    path = value.get("path")
    if path is None:
        raise BadField(name, f"resources[{index}].path", "is missing")
    return model.Resource(
        path=path, if_=value.get("if"), rt=value.get("rt"), ct=value.get("ct"), obs=value.get("obs")
    )


# --- rules ----------------------------------------------------------------------------

_BASE64_CHARS_MAX = (limits.PAYLOAD_BYTES_MAX + 2) // 3 * 4
_PAYLOAD_MESSAGE = f"is longer than {limits.PAYLOAD_BYTES_MAX} bytes decoded"
_RESOURCES_MESSAGE = f"holds more than {limits.RESOURCES_MAX} resources"


def _check_device(
    event: model.Notification
    | model.Registration
    | model.RegistrationUpdate
    | model.Deregistration
    | model.RegistrationExpired,
    name: str,
) -> None:
    _check_name(event.ep, name, "ep", limits.EP_CHARS_MAX)
    if event.original_ep is not None:
        _check_name(event.original_ep, name, "original-ep", limits.EP_CHARS_MAX)


def _check_registration(event: model.Registration | model.RegistrationUpdate, name: str) -> None:
    if event.ept is not None:
        _check_name(event.ept, name, "ept", limits.EPT_CHARS_MAX)
    _check_optional_boolean(event.q, name, "q")
    if event.lt is not None:
        _check_integer(event.lt, name, "lt", 0, limits.REGISTRATION_LIFETIME_S_MAX)
    if len(event.resources) > limits.RESOURCES_MAX:
        raise BadField(name, "resources", _RESOURCES_MESSAGE)
    for index, resource in enumerate(event.resources):
        _check_resource(resource, name, index)


def _check_resource(resource: model.Resource, name: str, index: int) -> None:
    try:
        _check_path(resource.path, "", "path")
        for key, text in (("if", resource.if_), ("rt", resource.rt), ("ct", resource.ct)):
            if text is not None:
                _check_text(text, "", key, limits.RESOURCE_ATTRIBUTE_CHARS_MAX)
        _check_optional_boolean(resource.obs, "", "obs")
    except BadField as bad:
        raise BadField(name, f"resources[{index}].{bad.name}", bad.message) from None


def _check_async_response(event: model.AsyncResponse, name: str) -> None:
    _check_name(event.id, name, "id", limits.ASYNC_ID_CHARS_MAX)
    _check_integer(event.status, name, "status", ASYNC_STATUS_MIN, ASYNC_STATUS_MAX)
    if event.payload is not None:
        _check_payload(event.payload, name)
    if event.ct is not None:
        _check_text(event.ct, name, "ct", limits.CT_CHARS_MAX)
    if event.max_age is not None:
        _check_max_age(event.max_age, name)
    if event.error is not None:
        _check_text(event.error, name, "error", limits.ASYNC_ERROR_CHARS_MAX)


def _check_text(value: Any, name: str, key: str, chars_max: int) -> None:
    if not isinstance(value, str):
        raise BadField(name, key, f"a string is expected, not {_type_of(value)}")
    if len(value) > chars_max:
        raise BadField(name, key, f"is longer than {chars_max} characters")
    if not value.isascii() and _SURROGATE.search(value):
        raise BadField(name, key, "holds half of a surrogate pair, which is no character")


def _check_name(value: Any, name: str, key: str, chars_max: int) -> None:
    """A string that routes or identifies: not empty, no control characters."""
    _check_text(value, name, key, chars_max)
    if not value:
        raise BadField(name, key, "must not be empty")
    if not value.isprintable() and _CONTROL.search(value):
        raise BadField(name, key, "holds a control character")


def _check_path(value: Any, name: str, key: str) -> None:
    _check_name(value, name, key, limits.PATH_CHARS_MAX)
    if value[0] != "/":
        raise BadField(name, key, "must start with a slash")


def _check_payload(value: Any, name: str) -> None:
    if not isinstance(value, bytes):
        raise BadField(name, "payload", f"bytes are expected, not {_type_of(value)}")
    if len(value) > limits.PAYLOAD_BYTES_MAX:
        raise BadField(name, "payload", _PAYLOAD_MESSAGE)


def _check_max_age(value: Any, name: str) -> int:
    return _check_integer(value, name, "max-age", 0, limits.JSON_INTEGER_MAX)


def _check_integer(value: Any, name: str, key: str, low: int, high: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise BadField(name, key, f"an integer is expected, not {_type_of(value)}")
    if not low <= value <= high:
        raise BadField(name, key, f"must be from {low} to {high}")
    return value


def _check_optional_boolean(value: Any, name: str, key: str) -> None:
    if value is not None and not isinstance(value, bool):
        raise BadField(name, key, f"true or false is expected, not {_type_of(value)}")


_TYPE_NAMES = {
    dict: "an object",
    list: "an array",
    str: "a string",
    bool: "a boolean",
    int: "a number",
    float: "a number with a fraction or exponent",
    type(None): "null",
}


def _type_of(value: Any) -> str:
    return _TYPE_NAMES.get(type(value), type(value).__name__)
