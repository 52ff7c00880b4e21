"""Parsing twice: with the native scan, and with each message judged by the strict path.

Both must come to the same records, facts and errors; the tests of either are tests of both.
"""

from __future__ import annotations

from collections.abc import Sequence

from dispatcher import model
from dispatcher.errors import BadRequest
from dispatcher.queue.native_scan import NativeScanner
from dispatcher.wire import ingest
from dispatcher.wire.ingest import BodyForm, Parsed
from dispatcher.wire.staging import NewStaging, StrictStaging, Text

SCANNER = NativeScanner()


def outcome(body: Text, form: BodyForm, new_staging: NewStaging) -> Parsed | BadRequest:
    """What comes of a body."""
    try:
        return ingest.parse(body, form, new_staging)
    except BadRequest as refused:
        return refused


def parse(body: bytes, form: BodyForm) -> Parsed:
    """``ingest.parse``, and the same again; raises as it does.

    The native scan reads it in place, where other bytes stand behind it.
    """
    in_place = memoryview(bytearray(body + b'"}\n'))[: len(body)]
    return agreed(outcome(in_place, form, SCANNER.staging), outcome(body, form, StrictStaging))


def encode_events(events: Sequence[model.Event | bytes]) -> Parsed:
    """``ingest.encode_events``, and the same again; raises as it does."""

    def encoded(new_staging: NewStaging) -> Parsed | BadRequest:
        try:
            return ingest.encode_events(events, new_staging)
        except BadRequest as refused:
            return refused

    return agreed(encoded(SCANNER.staging), encoded(StrictStaging))


def agreed(native: Parsed | BadRequest, strict: Parsed | BadRequest) -> Parsed:
    """The one outcome of both."""
    assert type(native) is type(strict), (native, strict)
    if isinstance(native, BadRequest):
        assert isinstance(strict, BadRequest)
        assert (native.message, native.fields) == (strict.message, strict.fields)
        raise native
    assert native == strict
    assert (list(native.meta), list(native.lasting)) == (list(strict.meta), list(strict.lasting))
    return native
