"""What the paths of the admin API have in common: parameters, and how they are read."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from dispatcher import limits
from dispatcher.config import TierSettings, channel_limits
from dispatcher.core.paging import Place, parse_cursor
from dispatcher.errors import NotFound
from dispatcher.http.caller import Caller, key_of
from dispatcher.http.message import Request
from dispatcher.http.operation import Parameter
from dispatcher.observe.log import LogEvent, log
from dispatcher.runtime.active_channel import ActiveChannel
from dispatcher.runtime.directory import Directory
from dispatcher.wire.json_body import invalid_field

PREFIX = "/admin/v1"

LIMIT = Parameter(
    name="limit",
    place="query",
    model=Annotated[int, Meta(ge=1, le=limits.ADMIN_PAGE_MAX)],
    meaning=f"How many at most; {limits.ADMIN_PAGE} when left out.",
    example=50,
)
AFTER = Parameter(
    name="after",
    place="query",
    model=Annotated[str, Meta(pattern="^-?[0-9]{1,18}\\.[0-9]{1,18}$")],
    meaning="The `next` of the page before.",
    example="17.17",
)
ACCOUNT = Parameter(
    name="account",
    place="query",
    model=str,
    meaning="Of this account alone.",
    example="acme",
)
CHANNEL = Parameter(
    name="channel",
    place="path",
    model=Annotated[int, Meta(ge=1)],
    meaning="The channel's id, as the list shows it.",
    example=17,
    is_required=True,
)
PAGING = (AFTER, LIMIT)
RECORDS_LIMIT = Parameter(
    name="limit",
    place="query",
    model=Annotated[int, Meta(ge=1, le=limits.PEEK_RECORDS_MAX)],
    meaning=f"How many at most; {limits.PEEK_RECORDS} when left out.",
    example=10,
)
PAYLOADS = Parameter(
    name="payloads",
    place="query",
    model=Literal["true", "false"],
    meaning="With `true` also what the devices said; it is logged who asked.",
    example="false",
)
LIMITS_EXAMPLE = msgspec.to_builtins(channel_limits(TierSettings()))
NO_CHANNEL = "there is no such channel"
WRONG_PARAMETER = invalid_field("limit", f"must be a number from 1 to {limits.ADMIN_PAGE_MAX}")


def number(query: Mapping[str, str], name: str, default: int, highest: int) -> int:
    """A count in the query, from 1; raises ``ValidationError``."""
    text = query.get(name)
    if text is None:
        return default
    value = int(text) if text.isascii() and text.isdecimal() and len(text) <= len(str(highest)) else 0
    if not 1 <= value <= highest:
        raise invalid_field(name, f"must be a number from 1 to {highest}")
    return value


def channel_of(directory: Directory, request: Request) -> ActiveChannel:
    """The channel that a path names; raises ``NotFound``."""
    number = row_id(request.params["channel"])
    channel = None if number is None else directory.find_channel(number)
    if channel is None:
        raise NotFound(NO_CHANNEL)
    return channel


def row_id(text: str) -> int | None:
    """A number by which something is known; None: nothing is known by this text."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 18 else None


def one_of(query: Mapping[str, str], name: str, words: list[str]) -> str | None:
    """A word of the query, None when it is not there; raises ``ValidationError`` for another one."""
    word = query.get(name)
    if word is not None and word not in words:
        raise invalid_field(name, f"must be one of {', '.join(words)}")
    return word


def flag(query: Mapping[str, str], name: str) -> bool:
    """Whether the query says ``true``; raises ``ValidationError`` for what is neither."""
    return one_of(query, name, ["true", "false"]) == "true"


def place_after(query: Mapping[str, str]) -> Place | None:
    """Where the page begins; None: at the beginning.  Raises ``ValidationError``."""
    text = query.get("after")
    if text is None:
        return None
    place = parse_cursor(text)
    if place is None:
        raise invalid_field("after", "must be the 'next' of the page before")
    return place


def page_size(query: Mapping[str, str]) -> int:
    """How many items a page has at most; raises ``ValidationError``."""
    return number(query, "limit", limits.ADMIN_PAGE, limits.ADMIN_PAGE_MAX)


def tell(caller: Caller, action: str, **fields: object) -> None:
    """Log what an operator did, and with which key."""
    log(logging.INFO, LogEvent.ADMIN_ACTED, key=key_of(caller).id, action=action, **fields)
