"""docs/OBSERVING.md names every event of the log and every metric, and none that is not there."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

from support.metrics import totals_of

from dispatcher.observe.log import LogEvent
from dispatcher.observe.metrics import Metrics

PACKAGE = Path(importlib.util.find_spec("dispatcher").origin).parent  # type: ignore[union-attr, arg-type]
PAGE = (PACKAGE / "docs" / "OBSERVING.md").read_text()


def rows_of(title: str) -> str:
    """The first column of a section's table."""
    section = PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    return "\n".join(line.split(" | ")[0] for line in section.splitlines() if line.startswith("| `"))


def test_every_event_of_the_log_is_on_the_page() -> None:
    assert set(re.findall(r"`([a-z.-]+)`", rows_of("Log"))) == {event.value for event in LogEvent}


def test_every_metric_is_on_the_page() -> None:
    families = Metrics(lambda: totals_of(0)).registry.collect()
    there = {f"{family.name}{'_total' if family.type == 'counter' else ''}" for family in families}
    assert set(re.findall(r"`(dispatcher_[a-z_]+)", rows_of("Metrics"))) == there
