"""Pages of a long list, in an order that needs no list kept between them.  Pure.

A cursor names the last item that was shown, by its rank and its id.  Where ranks
change meanwhile, an item may be missed or come twice: it has moved.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T")

Place = tuple[int, int]
"""Where an item stands: its rank, then its id.  Smaller comes first."""

_CURSOR = re.compile(r"(-?[0-9]{1,18})\.([0-9]{1,18})")


def page(
    placed: Iterable[tuple[Place, T]], after: Place | None, count_max: int
) -> tuple[list[T], str | None]:
    """The first items behind a place, and the cursor of the page after it; None: that was all.

    Memory: one page, however many there are.
    """
    behind = (item for item in placed if after is None or item[0] > after)
    found = heapq.nsmallest(count_max + 1, behind, key=lambda item: item[0])
    if len(found) <= count_max:
        return [item for _, item in found], None
    shown = found[:count_max]
    rank, id_ = shown[-1][0]
    return [item for _, item in shown], f"{rank}.{id_}"


def parse_cursor(text: str) -> Place | None:
    """The place that a cursor names; None: it is no cursor of ours."""
    match = _CURSOR.fullmatch(text)
    return None if match is None else (int(match[1]), int(match[2]))
