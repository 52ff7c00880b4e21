"""One step of a conformance case."""

from __future__ import annotations

import msgspec


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One fenced block."""

    kind: str
    name: str  # of the connection; "" when the block names none
    text: str
    line: int  # of the document, from 1
