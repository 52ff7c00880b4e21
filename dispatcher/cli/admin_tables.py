"""What an operator's commands print: tables in colour on a terminal, plain columns elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import msgspec
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from dispatcher.cli.quantities import bytes_text, count_text, moment_text, seconds_text, share_text
from dispatcher.model import ChannelStatus
from dispatcher.wire.admin_api import ChannelDetail, ChannelRow, Delivery, ParkedRow, PeekedRecord, Totals

_PLAIN_COLUMNS = 1_000  # a pipe has no width; nothing is cut off for it
_STYLES = {
    ChannelStatus.OK: "green",
    ChannelStatus.CONNECTED: "green",
    ChannelStatus.FAILING: "bold red",
    ChannelStatus.DISCONNECTED: "yellow",
    ChannelStatus.PAUSED: "cyan",
}


def stdout_console() -> Console:
    """Where tables go."""
    console = Console(highlight=False, markup=False)
    return console if console.is_terminal else Console(highlight=False, markup=False, width=_PLAIN_COLUMNS)


def channels_table(rows: Iterable[ChannelRow], columns: int) -> Table:
    """Channels, one line each; on a terminal of few columns without what can be missed first."""
    shown = [column for column in _CHANNEL_COLUMNS if columns >= column.columns_min]
    table = _table(*((column.name, column.side) for column in shown))
    for row in rows:
        table.add_row(*(column.cell(row) for column in shown))
    return table


def channel_facts(channel: ChannelDetail) -> Table:
    """All of one channel, a fact on each line."""
    facts = Table(box=None, show_header=False, pad_edge=False)
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column()
    for name, value in _facts(channel):
        facts.add_row(name, value)
    return facts


def deliveries_table(deliveries: Iterable[Delivery]) -> Table:
    """Attempts, one line each."""
    table = _table(
        ("ENDED", "left"), ("TOOK", "right"), ("EVENTS", "right"), ("BYTES", "right"), ("OUTCOME", "left")
    )
    for one in deliveries:
        words = f"{one.error or 'delivered'}{f' {one.status}' if one.status else ''}"
        outcome = Text(words, style="green" if one.error is None else "red")
        table.add_row(
            moment_text(one.ended_unix_ms),
            seconds_text(one.seconds),
            count_text(one.events),
            bytes_text(one.bytes),
            outcome,
        )
    return table


def records_table(records: Iterable[PeekedRecord]) -> Table:
    """Records of a queue, one line each."""
    table = _table(*_RECORD_COLUMNS)
    for one in records:
        table.add_row(*_record_cells(one))
    return table


def parked_table(rows: Iterable[ParkedRow]) -> Table:
    """Parked events, one line each."""
    table = _table(("ID", "right"), ("PARKED", "left"), ("ANSWER", "right"), *_RECORD_COLUMNS)
    for one in rows:
        cells = _record_cells(one.record)
        table.add_row(str(one.id), moment_text(one.parked_unix_ms), str(one.status), *cells)
    return table


def totals_facts(totals: Totals) -> Table:
    """All channels together, a fact on each line."""
    facts = Table(box=None, show_header=False, pad_edge=False)
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column(justify="right")
    statuses = ", ".join(f"{count:,} {status}" for status, count in sorted(totals.by_status.items()))
    lost = ", ".join(f"{count:,} {reason}" for reason, count in sorted(totals.dropped.items()) if count)
    for name, value in (
        ("version", totals.version),
        ("durability", totals.durability),
        ("up for", seconds_text(totals.up_s)),
        ("channels", f"{totals.channels:,}" + (f" ({statuses})" if statuses else "")),
        ("in queues", f"{count_text(totals.records)} records, {bytes_text(totals.record_bytes)}"),
        ("memory", f"{bytes_text(totals.memory_bytes)} of {bytes_text(totals.memory_bytes_max)}"),
        ("oldest record", seconds_text(totals.oldest_age_s) or "none"),
        ("queued", count_text(totals.queued)),
        ("recovered", count_text(totals.recovered)),
        ("confirmed", count_text(totals.acked)),
        ("expired", count_text(totals.expired)),
        ("dropped", lost or "0"),
        ("superseded", count_text(totals.superseded)),
        ("parked", count_text(totals.parked)),
        ("rejected", count_text(totals.rejected)),
        ("deleted", count_text(totals.deleted)),
    ):
        facts.add_row(name, value)
    return facts


def status_text(status: ChannelStatus) -> Text:
    """A status in its colour."""
    return Text(status.value, style=_STYLES[status])


_RECORD_COLUMNS = (
    ("SEQ", "right"),
    ("RECEIVED", "left"),
    ("KIND", "left"),
    ("EVENT", "left"),
    ("PAYLOAD", "right"),
)


def _record_cells(one: PeekedRecord) -> tuple[str | Text, ...]:
    return (
        str(one.seq),
        "" if one.received_unix_ms is None else moment_text(one.received_unix_ms),
        one.kind,
        Text(msgspec.json.encode(one.event).decode()),
        "" if one.payload_bytes is None else f"{bytes_text(one.payload_bytes)}, not shown",
    )


class _Column(msgspec.Struct, frozen=True):
    """A column of the table of channels."""

    name: str
    side: str
    cell: Callable[[ChannelRow], RenderableType]
    columns_min: int = 0  # of the terminal, for it to be shown


_CHANNEL_COLUMNS = (
    _Column("ID", "right", lambda row: str(row.id)),
    _Column("ACCOUNT/APPLICATION", "left", lambda row: f"{row.account}/{row.application}"),
    _Column("TYPE", "left", lambda row: row.type, 96),
    _Column("STATUS", "left", lambda row: status_text(row.status)),
    _Column("RECORDS", "right", lambda row: count_text(row.records)),
    _Column("BYTES", "right", lambda row: bytes_text(row.record_bytes), 108),
    _Column("FULL", "right", lambda row: share_text(row.record_bytes, row.queue_bytes)),
    _Column("OLDEST", "right", lambda row: seconds_text(row.oldest_age_s)),
    _Column("CONFIRMED", "right", lambda row: count_text(row.confirmed), 120),
    _Column("LOST", "right", lambda row: Text(count_text(row.lost), style="red" if row.lost else "")),
    _Column("NEXT TRY", "right", lambda row: seconds_text(row.next_attempt_in_s), 120),
)


def _facts(channel: ChannelDetail) -> Sequence[tuple[str, RenderableType]]:
    sending, bound = channel.sending, channel.limits
    facts: list[tuple[str, RenderableType]] = [
        ("channel", f"{channel.id}, {channel.type} of {channel.account}/{channel.application}"),
        ("status", status_text(channel.status)),
        (
            "queue",
            f"{count_text(channel.records)} records, {bytes_text(channel.record_bytes)} of "
            f"{bytes_text(channel.queue_bytes)} ({share_text(channel.record_bytes, channel.queue_bytes)}), "
            f"settled up to {channel.queue.settled_seq} of {channel.queue.last_seq}",
        ),
        ("oldest record", seconds_text(channel.oldest_age_s) or "none"),
        ("since the start", f"{count_text(channel.confirmed)} confirmed, {count_text(channel.lost)} lost"),
        (
            "on its way",
            f"{count_text(sending.unconfirmed_events)} events, {bytes_text(sending.unconfirmed_bytes)}",
        ),
        (
            "next batch",
            f"at most {count_text(sending.batch_events_max)} events, {bytes_text(sending.batch_bytes_max)}",
        ),
        ("when it is full", bound.overflow.value),
        ("event lifetime", seconds_text(bound.event_lifetime_s)),
    ]
    if channel.target is not None:
        facts.append(("target", channel.target))
    if channel.header_names:
        facts.append(("headers", ", ".join(channel.header_names)))
    if channel.last_failure is not None:
        said = f"{channel.last_failure.reason}, at {moment_text(channel.last_failure.at_unix_ms)}"
        facts.append(("last failure", said))
    if channel.failures:
        facts.append(("failing for", f"{seconds_text(channel.failing_for_s)}, {channel.failures} in a row"))
    if channel.next_attempt_in_s is not None:
        facts.append(("next try in", seconds_text(channel.next_attempt_in_s)))
    if sending.frozen_events is not None:
        facts.append(("to be sent again", f"{count_text(sending.frozen_events)} events, as they were"))
    if channel.parked.events:
        size = bytes_text(channel.parked.message_bytes)
        facts.append(("parked", f"{count_text(channel.parked.events)} refused events, {size}"))
    if channel.removal is not None:
        facts.append(("removed in", f"{seconds_text(channel.removal.in_s)}, if {channel.removal.reason}"))
    return facts


def _table(*columns: tuple[str, str]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name, side in columns:
        table.add_column(name, justify="right" if side == "right" else "left", no_wrap=name != "EVENT")
    return table
