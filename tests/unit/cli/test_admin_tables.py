"""The tables of an operator's commands, on terminals wide and narrow and in pipes."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from dispatcher.cli.admin_tables import channels_table
from dispatcher.model import ChannelStatus, ChannelType
from dispatcher.wire.admin_api import ChannelRow

ROW = ChannelRow(
    id=12_345,
    account="acme",
    application="greenhouse-[bold]7",
    type=ChannelType.CALLBACK,
    status=ChannelStatus.DISCONNECTED,
    records=1_234_567,
    record_bytes=45_000_000,
    queue_bytes=50_000_000,
    oldest_age_s=90_061.0,
    confirmed=9_876_543,
    lost=21,
    failures=3,
    next_attempt_in_s=12.5,
)


def printed(width: int, *, is_terminal: bool) -> str:
    console = Console(
        file=io.StringIO(), width=width, force_terminal=is_terminal, highlight=False, markup=False
    )
    console.print(channels_table([ROW], console.width))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [80, 100, 120, 1_000])
def test_nothing_that_is_shown_is_cut_off_and_what_matters_is_there(width: int) -> None:
    text = printed(width, is_terminal=False)
    assert "…" not in text
    for word in ("12345", "acme/greenhouse-[bold]7", "disconnected", "1,234,567", "90%", "1d 1h", "21"):
        assert word in text
    assert ("9,876,543" in text) is (width >= 120)
    assert len(text.splitlines()) == 2


def test_a_pipe_gets_no_colours_and_a_terminal_does() -> None:
    assert "\x1b[" not in printed(120, is_terminal=False)
    assert "\x1b[" in printed(120, is_terminal=True)
