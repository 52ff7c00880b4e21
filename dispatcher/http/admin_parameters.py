"""What the paths of the admin API have in common: parameters, and how they are read."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Annotated

import msgspec
from msgspec import Meta

from dispatcher import limits
from dispatcher.config import TierSettings, channel_limits
from dispatcher.core.paging import Place, parse_cursor
from dispatcher.http.caller import Caller, key_of
from dispatcher.http.operation import Parameter
from dispatcher.observe.log import LogEvent, log
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
PAGING = (AFTER, LIMIT)
LIMITS_EXAMPLE = msgspec.to_builtins(channel_limits(TierSettings()))
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
