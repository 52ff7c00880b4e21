"""Events of a program as a text that the core can take."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from support.both_scans import encode_events, parse

from dispatcher.model import Deregistration, Event, Notification
from dispatcher.wire.ingest import BodyForm, text_of_events

EVENTS = Notification("a", "/1", b"21.5"), Notification('ä"\\', "/x" * 50, b"\x00" * 300, "t", 7, "o")


@pytest.mark.parametrize(
    "events",
    [
        [EVENTS[0]],
        EVENTS,
        [b"{}"],
        [b' {"notifications":[]} '],
        [b"{}", b'{"notifications":[{"ep":"a","path":"/1"}]}'],
    ],
)
def test_the_text_of_events_says_what_they_say(events: Sequence[Event | bytes]) -> None:
    found = text_of_events(events)
    assert found is not None
    text, is_lines = found
    parsed, wanted = parse(text, BodyForm.NDJSON if is_lines else BodyForm.JSON), encode_events(events)
    assert parsed == wanted
    assert list(parsed.lasting) == list(wanted.lasting)


NOTE = Notification("a", "/1")


@pytest.mark.parametrize(
    "events",
    [
        [],
        [Deregistration("a")],
        [NOTE, Deregistration("a")],
        [NOTE, b"{}"],
        [b"{}", NOTE],
        [b"{}", b"\n{}"],
        [b"{}", b""],
        [Notification(b"a", "/1")],  # type: ignore[arg-type]  # which JSON has a form for, as for those below
        [Notification("a", b"/1")],  # type: ignore[arg-type]
        [NOTE, Notification("a", "/1", "MQ==")],  # type: ignore[arg-type]
        [Notification("a", "/1", bytearray(b"1"))],  # type: ignore[arg-type]
        [Notification("a", "/1", b"1", b"ct")],  # type: ignore[arg-type]
        [Notification("a", "/1", b"1", "ct", True)],
        [Notification("a", "/1", b"1", "ct", "60")],  # type: ignore[arg-type]
        [Notification("a", "/1", b"1", "ct", 0, b"o")],  # type: ignore[arg-type]
        [Notification("\ud800", "/1")],
    ],
)
def test_what_a_text_would_make_another_of_has_none(events: Sequence[Event | bytes]) -> None:
    assert text_of_events(events) is None
