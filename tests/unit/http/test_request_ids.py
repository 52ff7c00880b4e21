"""Request ids are drawn many at a time, and each is given once."""

from __future__ import annotations

import re

from dispatcher import limits
from dispatcher.http.service import RequestIds


def test_ids_are_hexadecimal_and_never_the_same() -> None:
    new_id = RequestIds()
    ids = [new_id() for _ in range(3 * limits.REQUEST_IDS_AT_ONCE + 1)]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch("[0-9a-f]{16}", each) for each in ids)


def test_two_servers_draw_their_own() -> None:
    assert RequestIds()() != RequestIds()()
