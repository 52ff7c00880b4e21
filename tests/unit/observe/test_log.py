"""What a log line looks like, in both forms, and what is in neither."""

from __future__ import annotations

import ast
import importlib.util
import json
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dispatcher.deliver.sink import DeliveryFailed, FailureClass
from dispatcher.observe.log import RESERVED_FIELDS, LogEvent, log, log_failure, log_to_stderr

PACKAGE = Path(importlib.util.find_spec("dispatcher").origin).parent  # type: ignore[union-attr, arg-type]


class Stderr:
    """What was written to it since the last look."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def text(self) -> str:
        return self._capsys.readouterr().err

    def objects(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text().split("\n") if line]


@pytest.fixture
def stderr(capsys: pytest.CaptureFixture[str]) -> Iterator[Stderr]:
    """Logging is as it was afterwards."""
    root = logging.getLogger()
    before = (root.handlers[:], root.level)
    yield Stderr(capsys)
    root.handlers, root.level = before
    logging.captureWarnings(False)


def raised(words: str) -> Exception:
    try:
        raise ValueError(words)
    except ValueError as error:
        return error


def test_a_json_line_is_one_object_with_typed_fields(stderr: Stderr) -> None:
    log_to_stderr("json")
    failure = DeliveryFailed(FailureClass.STATUS, status=503)
    log(logging.WARNING, LogEvent.DELIVERY_FAILED, channel=7, seconds=0.25, reason=failure, is_new=True)
    log(
        logging.INFO, LogEvent.TIER_UNKNOWN, account='a "b"\n\x1b[31m\u2028', tier=None, kind=FailureClass.DNS
    )
    first, second = stderr.objects()
    assert list(first)[:3] == ["time", "level", "event"]
    assert first["time"].endswith("Z")
    assert {**first, "time": ""} == {
        "time": "",
        "level": "warning",
        "event": "delivery.failed",
        "channel": 7,
        "seconds": 0.25,
        "reason": "status 503",
        "is_new": True,
    }
    assert (second["account"], second["tier"], second["kind"]) == ('a "b"\n\x1b[31m\u2028', None, "dns")


def test_a_text_line_is_one_line_whatever_a_name_holds(stderr: Stderr) -> None:
    log_to_stderr()
    log(
        logging.INFO,
        LogEvent.TIER_UNKNOWN,
        account="plain",
        other='a "b"\nERROR x=y',
        colour="\x1b[31m",
        no="",
    )
    (line,) = stderr.text().splitlines()
    assert line.partition(" INFO ")[2] == (
        "tier.unknown account=plain other='a \"b\"\\nERROR x=y' colour='\\x1b[31m' no=''"
    )


@pytest.mark.parametrize("form", ["text", "json"])
def test_of_an_exception_the_class_and_the_places_are_told_and_never_its_words(
    form: Any, stderr: Stderr
) -> None:
    log_to_stderr(form)
    group = ExceptionGroup("SECRET", [raised("SECRET"), raised("SECRET")])
    log_failure(LogEvent.CHANNEL_TASK_FAILED, group, channel=7)
    text = stderr.text()
    assert text.count("ValueError") >= 2
    assert text.count("in raised") == 2
    assert "SECRET" not in text
    if form == "json":
        assert json.loads(text)["exception"].startswith("ValueError")


def test_the_level_holds_and_a_second_call_replaces_the_first(stderr: Stderr) -> None:
    log_to_stderr()
    log_to_stderr("json", "warning")
    log(logging.INFO, LogEvent.STARTED)
    log(logging.WARNING, LogEvent.STOPPING)
    assert [line["event"] for line in stderr.objects()] == ["dispatcher.stopping"]


def test_a_library_and_a_python_warning_speak_in_the_same_form(stderr: Stderr) -> None:
    log_to_stderr("json")
    logging.getLogger("some.library").warning("it is %s", "late")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(False)
        logging.captureWarnings(True)
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    library, python = stderr.objects()
    assert (library["event"], library["library"], library["words"]) == (
        "library.said",
        "some.library",
        "it is late",
    )
    assert python["library"] == "py.warnings"


def test_no_event_has_a_field_of_a_name_that_every_line_has() -> None:
    calls = [
        node
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("log", "log_failure")
    ]
    assert len(calls) > 20
    names = {keyword.arg for call in calls for keyword in call.keywords}
    assert not names & RESERVED_FIELDS
