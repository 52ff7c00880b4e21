"""What ``demo`` shows: a live table or plain lines while it runs, the proof at the end."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from dispatcher.cli.demo_books import Books
from dispatcher.cli.demo_ledger import Fault, Verdict
from dispatcher.cli.demo_plan import DemoPlan, device_name


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """A look at a running demo."""

    elapsed_s: float
    events: int  # to be posted in all, registrations included
    posted: int
    received: tuple[int, ...]  # different events, by channel
    lag_s: tuple[float, ...]
    in_queue: int
    rate: float  # events posted a second, lately


class ChannelResult(msgspec.Struct, frozen=True, kw_only=True):
    """How one channel came out."""

    name: str
    verdict: Verdict
    batches: int
    largest_batch: int  # events
    p50_s: float
    p99_s: float
    rate: float  # notifications a second, from the first that was due to the last that came
    failures: str  # what it suffered, on purpose or not


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """The end of a run."""

    plan: DemoPlan
    posted: int  # notifications
    channels: tuple[ChannelResult, ...]
    queued: int  # records, as the 202s say
    books: Books

    def problems(self) -> list[str]:
        """Why nothing is proven; empty when everything is."""
        found = [f"{c.name}: {_words(c.verdict.first_fault)}" for c in self.channels if c.verdict.first_fault]
        expected = sum(channel.verdict.expected for channel in self.channels)
        if self.queued != expected:
            found.append(f"the 202s tell of {self.queued} records in channels, not of {expected}")
        books = self.books
        if not books.is_balanced or (books.queued, books.acked) != (expected, expected):
            found.append(
                f"the daemon's books say {books.queued} queued, {books.acked} confirmed, "
                f"{books.lost} lost, {books.in_queue} in queue, not {expected} queued and confirmed"
            )
        return found


class Display:
    """Live on a terminal, else a line every ``plain_every_s``."""

    def __init__(self, console: Console, channels: Sequence[str], *, plain_every_s: float = 2.0) -> None:
        self._console = console
        self._channels = channels
        self._plain_every_s = plain_every_s
        self._plain_due_s = plain_every_s
        self._live = Live(console=console, auto_refresh=False, transient=True)

    def __enter__(self) -> Display:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def say(self, line: str) -> None:
        """Print a line that stays."""
        self._console.print(Text(line), soft_wrap=True)

    def show(self, moment: Moment) -> None:
        """Show where the run stands."""
        if self._console.is_terminal:
            self._live.update(self._table(moment), refresh=True)
        elif moment.elapsed_s >= self._plain_due_s:
            self._plain_due_s += self._plain_every_s
            self.say(self._line(moment))

    def _table(self, moment: Moment) -> Group:
        table = Table(box=None, pad_edge=False)
        table.add_column("")
        table.add_column("events", justify="right")
        table.add_column("", min_width=24)
        table.add_column("lag", justify="right")
        table.add_row("posted", f"{moment.posted:,}", _bar(moment.posted, moment.events), "")
        for name, received, lag_s in zip(self._channels, moment.received, moment.lag_s, strict=True):
            table.add_row(name, f"{received:,}", _bar(received, moment.events), _time(lag_s))
        table.add_row("in queue", f"{moment.in_queue:,}", "", "")
        return Group(Text(f"{moment.elapsed_s:5.1f} s   {moment.rate:,.0f} events/s", style="bold"), table)

    def _line(self, moment: Moment) -> str:
        channels = "  ".join(
            f"{name} {received:,} (lag {_time(lag_s)})"
            for name, received, lag_s in zip(self._channels, moment.received, moment.lag_s, strict=True)
        )
        return (
            f"{moment.elapsed_s:5.1f} s  posted {moment.posted:,} ({moment.rate:,.0f}/s)  {channels}  "
            f"in queue {moment.in_queue:,}"
        )


def print_summary(console: Console, summary: Summary) -> None:
    """The table of the run, and what it proves or why it does not."""
    table = Table(title="What each application received", title_justify="left", box=None, pad_edge=False)
    table.add_column("")
    for channel in summary.channels:
        table.add_column(channel.name, justify="right")
    for label, cells in _rows(summary):
        table.add_row(label, *cells)
    console.print()
    console.print(table)
    console.print()
    for line in _conclusion(summary):
        console.print(Text(line), soft_wrap=True)


def percentile(ordered: Sequence[int], share: float) -> int:
    """The value that this share of ``ordered`` does not exceed; 0 for none."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0


def counted(count: int, one: str, many: str) -> str:
    """A number with the right form of its noun."""
    return f"{count:,} {one if count == 1 else many}"


def _rows(summary: Summary) -> list[tuple[str, list[str]]]:
    channels = summary.channels
    verdicts = [channel.verdict for channel in channels]
    return [
        ("failures", [channel.failures for channel in channels]),
        ("events expected", [f"{v.expected:,}" for v in verdicts]),
        ("received", [f"{v.received:,}" for v in verdicts]),
        ("missing", [f"{v.missing:,}" for v in verdicts]),
        ("out of order", [f"{v.out_of_order:,}" for v in verdicts]),
        ("repeated without reason", [f"{v.repeated:,}" for v in verdicts]),
        ("wrong uid", [f"{v.uid_faults:,}" for v in verdicts]),
        ("unknown", [f"{v.unknown:,}" for v in verdicts]),
        ("redelivered, same uid", [f"{v.redelivered:,}" for v in verdicts]),
        ("batches", [f"{channel.batches:,}" for channel in channels]),
        ("largest batch", [f"{channel.largest_batch:,}" for channel in channels]),
        ("latency p50", [_time(channel.p50_s) for channel in channels]),
        ("latency p99", [_time(channel.p99_s) for channel in channels]),
        ("notifications per second", [f"{channel.rate:,.0f}" for channel in channels]),
    ]


def _conclusion(summary: Summary) -> list[str]:
    plan = summary.plan
    lines = []
    if not plan.is_calm:
        lines.append("The planned failures are in the latencies; --calm runs without them.")
    if summary.posted < plan.events:
        lines.append(
            f"This machine did not keep up with {plan.rate:,} events/s: "
            f"{summary.posted:,} of {plan.events:,} notifications were posted."
        )
    if summary.books.lost:
        lines.append(
            f"The daemon dropped {summary.books.lost:,} records and says so: a queue was full, "
            "because its receiver did not keep up. A lower --rate leaves room."
        )
    problems = summary.problems()
    if problems:
        return [*lines, "NOT PROVEN:", *(f"  {problem}" for problem in problems)]
    return [
        *lines,
        f"Proven: every event of {counted(plan.devices, 'device', 'devices')} arrived on every channel, "
        "in the order of its device, and exactly once after de-duplication by uid.",
    ]


def _words(fault: Fault) -> str:
    if fault.device < 0:
        return "events came that no device posted"
    what = f"event {fault.counter}" if fault.counter else "the registration"
    return f"{device_name(fault.device)}: {what} {_verb(fault.what)}"


def _verb(what: str) -> str:
    return what if what.startswith(("has", "came")) else f"is {what}"


def _time(seconds: float) -> str:
    return f"{seconds * 1000:,.1f} ms" if seconds < 1 else f"{seconds:,.2f} s"


def _bar(count: int, whole: int, width: int = 24) -> Text:
    filled = min(width, count * width // whole) if whole else 0
    return Text("━" * filled, style="green") + Text("─" * (width - filled), style="dim")
