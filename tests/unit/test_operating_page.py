"""OPERATING.md names every event that the log has at WARNING or above, and no metric that there is not."""

from __future__ import annotations

import ast
import importlib.util
import re
from pathlib import Path

import pytest

from dispatcher.observe.log import LogEvent
from dispatcher.observe.metrics import Metrics, RecordTotals

PACKAGE = Path(importlib.util.find_spec("dispatcher").origin).parent  # type: ignore[union-attr, arg-type]
PAGE = (PACKAGE / "docs" / "OPERATING.md").read_text()
SERIOUS = {"WARNING", "ERROR", "CRITICAL"}
SERIOUS_CALLS = {"warning", "error", "exception", "critical"}


def attributes(node: ast.AST) -> set[str]:
    return {part.attr for part in ast.walk(node) if isinstance(part, ast.Attribute)}


def serious_events(source: str) -> set[LogEvent]:
    """The events in calls that also speak of a serious level, or that call a method which does.

    It may name one too many, and never one too few within a module.
    """
    tree = ast.parse(source)
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    serious = [call for call in calls if attributes(call) & (SERIOUS | SERIOUS_CALLS)]
    named = {name for call in serious for name in attributes(call)}
    chosen_by = {
        function.name
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef) and any(node in serious for node in ast.walk(function))
    }
    for call in calls:
        if isinstance(call.func, ast.Attribute) and call.func.attr in chosen_by:
            named |= attributes(call)
    return {event for event in LogEvent if event.name in named}


FOUND = {event for path in PACKAGE.rglob("*.py") for event in serious_events(path.read_text())}


def row_of(event: LogEvent) -> bool:
    return re.search(rf"^\| `{re.escape(event)}` \| .{{20,}} \| .{{4,}} \|$", PAGE, re.M) is not None


def test_each_serious_event_has_a_row_with_a_meaning_and_an_advice() -> None:
    assert {LogEvent.CHANNEL_FILLING, LogEvent.EVENT_NOT_PARKED, LogEvent.STORAGE_REFUSES} <= FOUND
    assert [event for event in sorted(FOUND) if not row_of(event)] == []


@pytest.mark.parametrize(
    "source",
    [
        "log(logging.WARNING, LogEvent.DEVICES_UNSAVED)",
        "log(logging.ERROR if bad else logging.INFO, LogEvent.DEVICES_UNSAVED)",
        "logger.exception(LogEvent.DEVICES_UNSAVED)",
        "def warn(self, event): log(logging.WARNING, event)\nself.warn(LogEvent.DEVICES_UNSAVED)",
    ],
)
def test_a_serious_event_is_found_however_it_is_written(source: str) -> None:
    assert serious_events(source) == {LogEvent.DEVICES_UNSAVED}


def test_an_event_for_information_is_none() -> None:
    assert serious_events("log(logging.INFO, LogEvent.STARTED)") == set()


def test_the_page_names_no_metric_that_there_is_not() -> None:
    zero = dict.fromkeys(RecordTotals.__struct_fields__, 0) | {"dropped": {}, "channels": {}}
    text = Metrics(lambda: RecordTotals(**zero)).render("")[0].decode()
    told = set(re.findall(r"^# TYPE (\S+)", text, re.M))
    named = set(re.findall(r"`(dispatcher_\w+)", PAGE))
    assert named
    assert named - told == set()


def test_what_readyz_says_is_quoted_as_it_is_said() -> None:
    (row,) = (line for line in PAGE.splitlines() if line.startswith("| `/readyz` is 503"))
    quoted = re.findall(r"`([^`]+)`: ", row)
    source = "".join(path.read_text() for path in PACKAGE.rglob("*.py"))
    assert len(quoted) == 4
    assert [text for text in quoted if text not in source] == []
