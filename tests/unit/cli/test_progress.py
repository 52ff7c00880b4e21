"""The bar: what is drawn, that it goes away, and that it asks nobody who has gone."""

from __future__ import annotations

import io
import time

import pytest

from dispatcher.cli.progress import Bar, progress


class Terminal(io.StringIO):
    """80 columns, since it cannot be asked; knows what stands on its last line."""

    def isatty(self) -> bool:
        return True

    def line(self) -> str:
        columns: list[str] = []
        at = 0
        for character in self.getvalue().rpartition("\n")[2]:
            if character == "\r":
                at = 0
                continue
            columns[at : at + 1] = [character]
            at += 1
        return "".join(columns).rstrip()


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def terminal() -> Terminal:
    return Terminal()


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_step_is_drawn_with_what_was_done_of_it(terminal: Terminal, clock: Clock) -> None:
    bar = Bar(terminal, clock)
    with bar.step("copying", whole=4_000):
        bar.advance(1_000)
        clock.now_s += 2
        bar.draw()
    assert terminal.line().startswith("copying  [##")
    assert terminal.line().endswith("25%  1.0 kB of 4.0 kB  500 B/s  6s left")


def test_each_step_begins_anew(terminal: Terminal, clock: Clock) -> None:
    bar = Bar(terminal, clock)
    with bar.step("copying the journal", whole=10):
        bar.advance(10)
        bar.draw()
    clock.now_s += 60
    with bar.step("looking"):
        bar.draw()
    assert terminal.line() == "looking  0s"  # and nothing of what was longer


def test_a_step_that_is_looked_at_is_not_asked_when_it_is_over(terminal: Terminal) -> None:
    bar, asked = Bar(terminal), []
    with bar.step("checking", whole=10, look=lambda: asked.append(0) or 5):
        bar.draw()
    bar.draw()
    assert asked == [0]


def test_it_leaves_an_empty_line_also_after_a_failure(terminal: Terminal) -> None:
    bar = Bar(terminal)

    def fail() -> None:
        with bar.step("copying"):
            bar.draw()
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        fail()
    bar.erase()
    assert terminal.line() == ""
    assert terminal.getvalue().endswith("\r")


def test_what_is_said_stands_on_a_line_of_its_own(
    terminal: Terminal, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr", terminal)
    bar = Bar(terminal, clock)
    with bar.step("publishing"):
        bar.draw()
        bar.say("the server is busy")
        assert terminal.getvalue().endswith("\rthe server is busy\n")
        bar.draw()
    assert terminal.line() == "publishing  0s"


def test_it_has_neither_colours_nor_other_control_codes(terminal: Terminal) -> None:
    bar = Bar(terminal)
    with bar.step("copying", whole=10):
        bar.draw()
    bar.erase()
    assert {character for character in terminal.getvalue() if not character.isprintable()} == {"\r"}


def test_a_terminal_that_has_gone_is_no_failure() -> None:
    class Gone(Terminal):
        def write(self, text: str) -> int:
            raise OSError(5, "Input/output error")

    bar = Bar(Gone())
    with bar.step("copying"):
        bar.draw()
    bar.erase()


@pytest.mark.parametrize(
    ("is_terminal", "kind", "is_wanted"),
    [(False, "xterm", True), (True, "dumb", True), (True, "xterm", False)],
    ids=["a pipe", "a dumb terminal", "with --json"],
)
def test_nothing_is_drawn_for_nobody(
    monkeypatch: pytest.MonkeyPatch, is_terminal: bool, kind: str, is_wanted: bool
) -> None:
    stderr = Terminal()
    monkeypatch.setattr("dispatcher.limits.PROGRESS_AFTER_S", 0.0)
    monkeypatch.setattr("sys.stderr", stderr)
    monkeypatch.setattr(stderr, "isatty", lambda: is_terminal)
    monkeypatch.setenv("TERM", kind)
    with progress(is_wanted) as bar, bar.step("copying"):
        bar.draw()
    assert stderr.getvalue() == ""


def test_short_work_is_not_worth_a_bar_and_long_work_is(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = Terminal()
    monkeypatch.setattr("sys.stderr", stderr)
    monkeypatch.setenv("TERM", "xterm")
    with progress() as bar, bar.step("copying"):
        pass
    assert stderr.getvalue() == ""
    monkeypatch.setattr("dispatcher.limits.PROGRESS_AFTER_S", 0.001)
    with progress() as bar, bar.step("copying"):
        patient_until_s = time.monotonic() + 20  # another thread draws, when it has its turn
        while not stderr.getvalue() and time.monotonic() < patient_until_s:
            time.sleep(0.001)
        assert "copying" in stderr.getvalue()
