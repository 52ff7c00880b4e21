"""Reads a conformance case: a Markdown document with a title, a why, settings and steps.

``conformance/cases/README.md`` defines the notation.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import msgspec
from support.case_shorthands import GIVEN, expanded, given
from support.case_step import Step

KINDS = ("request", "answer", "events", "open", "frames", "callback", "reply", "nothing", "cut", "daemon")

_FENCE = "```"
_SETTING = re.compile(r"Setting: `(?P<line>[a-z_]+ = [^`]+)`")
_GIVEN = "Given: "
_OWN_DAEMON = "Daemon: its own"
_TAKES = re.compile(r"Takes: (?P<seconds>\d+) s")
_VARIABLE = re.compile(r"\{([A-Z][A-Z_]*)\}")


class BadCase(Exception):
    """The document cannot be played; the message says where and why."""


class Message(msgspec.Struct, frozen=True):
    """The text of a ``request``, ``answer``, ``callback`` or ``reply``, taken apart."""

    first: str
    headers: tuple[str, ...]
    body: str | None  # None: the block has none


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """A whole document."""

    name: str
    title: str
    why: str
    settings: tuple[str, ...]  # lines of a tier's table
    has_own_daemon: bool
    takes_s: int  # by clocks that no setting shortens; 0: no time to speak of
    steps: tuple[Step, ...]

    @property
    def variables(self) -> frozenset[str]:
        """The names between braces in its steps."""
        return frozenset(name for step in self.steps for name in _VARIABLE.findall(step.text))


def read_cases(folder: Path) -> list[Case]:
    """Every document of the folder but its README.  Raises ``BadCase``."""
    return [read_case(path) for path in sorted(folder.glob("*.md")) if path.stem != "README"]


def read_case(path: Path) -> Case:
    """Raises ``BadCase``."""
    lines = path.read_text().splitlines()
    if not lines or not lines[0].startswith("# "):
        raise BadCase(f"{path.name}: the first line is not a title")
    prose, steps = _split(path.name, lines[1:])
    settings = tuple(match["line"] for line in prose if (match := _SETTING.fullmatch(line)))
    takes_s = sum(int(match["seconds"]) for line in prose if (match := _TAKES.fullmatch(line)))
    why = [line for line in prose if line and not _is_setup(line)]
    if not why or not steps:
        raise BadCase(f"{path.name}: a case has a why and steps")
    return Case(
        name=path.stem,
        title=lines[0].removeprefix("# "),
        why="\n".join(why),
        settings=settings,
        has_own_daemon=_OWN_DAEMON in prose,
        takes_s=takes_s,
        steps=tuple(steps),
    )


def read_message(text: str) -> Message:
    """Take a block apart: the first line, header lines, and after an empty line the body."""
    head, blank, body = text.partition("\n\n")
    first, *headers = head.split("\n")
    return Message(first, tuple(headers), body if blank else None)


def _is_setup(line: str) -> bool:
    is_line = _SETTING.fullmatch(line) or _TAKES.fullmatch(line)
    return is_line is not None or line == _OWN_DAEMON or line.startswith(_GIVEN)


def _split(name: str, lines: Sequence[str]) -> tuple[list[str], list[Step]]:
    """Prose, and steps."""
    prose: list[str] = []
    steps: list[Step] = []
    opened: tuple[str, int] | None = None
    block: list[str] = []
    for number, line in enumerate(lines, 2):
        if line.startswith(_FENCE) and opened is None:
            opened = (line.removeprefix(_FENCE), number)
        elif line.startswith(_FENCE) and opened is not None:
            steps += expanded(_step(name, *opened, block))
            opened, block = None, []
        elif opened is not None:
            block.append(line)
        else:
            prose.append(line)
            steps += _given(name, line, number)
    if opened is not None:
        raise BadCase(f"{name}:{opened[1]}: the block has no end")
    return prose, steps


def _given(name: str, line: str, number: int) -> list[Step]:
    """The steps behind ``Given: PHRASE, PHRASE.``"""
    if not line.startswith(_GIVEN):
        return []
    phrases = line.removeprefix(_GIVEN).removesuffix(".").split(", ")
    unknown = [phrase for phrase in phrases if phrase not in GIVEN]
    if unknown:
        raise BadCase(f"{name}:{number}: {unknown[0]!r} cannot be given; there are {', '.join(GIVEN)}")
    return [step for phrase in phrases for step in given(phrase, number)]


def _step(name: str, info: str, line: int, block: Sequence[str]) -> Step:
    kind, _, connection = info.partition(" ")
    if kind not in KINDS:
        raise BadCase(f"{name}:{line}: {kind!r} is no kind of block; there are {', '.join(KINDS)}")
    return Step(kind=kind, name=connection, text="\n".join(block), line=line)
