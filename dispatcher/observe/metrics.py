"""The metrics of the contract, in one table.

Records are counted by the queue itself; ``RecordsCollector`` copies its totals at
scrape time, so that queued + recovered = acked + expired + dropped + superseded +
parked + deleted + in queue holds in every single scrape (INV-8).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial

import msgspec
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from dispatcher.model import ChannelType
from dispatcher.observe.distribution import Deliveries, Distribution

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20)
EVENTS = (1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000, 20_000)
_OPENMETRICS = "application/openmetrics-text"
_QUALITY = re.compile(r"[01](\.[0-9]{0,3})?")  # RFC 9110, 12.4.2
WARNING_PERCENTS = ("50", "70", "90")  # of core.levels
LOSS_REASONS = ("overflow", "memory", "corrupt")


def wants_openmetrics(accept: str) -> bool:
    """Whether ``Accept`` likes OpenMetrics, in a version that we write, at least as much as text."""
    openmetrics_q = text_q = 0.0
    for part in accept.split(","):
        name, *parameters = (word.strip().lower() for word in part.split(";"))
        given = dict(word.split("=", 1) for word in parameters if "=" in word)
        q = _quality(given.get("q", "1"))
        if name == _OPENMETRICS and given.get("version", "1.0.0") in ("1.0.0", "0.0.1"):
            openmetrics_q = max(openmetrics_q, q)
        elif name in ("text/plain", "text/*", "*/*"):
            text_q = max(text_q, q)
    return openmetrics_q > 0 and openmetrics_q >= text_q


def _quality(text: str) -> float:
    return float(text) if _QUALITY.fullmatch(text) else 0.0


class RecordTotals(msgspec.Struct, frozen=True, kw_only=True):
    """The queue's books at a moment, and what only a scrape needs."""

    accepted: int  # events
    unrouted: int
    queued: int
    recovered: int
    acked: int
    expired: int
    deleted: int
    dropped: Mapping[str, int]
    superseded: int
    parked: int
    rejected: int
    records: int
    record_bytes: int
    memory_bytes: int
    scratch_bytes: int
    journal_bytes: int
    channels: Mapping[tuple[str, str], int]  # by type and status
    oldest_age_s: float


class TurnsCollector(Collector):
    """Shows how long the turns of the event loop last."""

    def __init__(self, seconds: Distribution) -> None:
        self._seconds = seconds

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """See ``Collector``."""
        yield HistogramMetricFamily(
            "dispatcher_loop_turn_seconds",
            "How long the event loop was busy before it looked at sockets and deadlines again",
            self._seconds.buckets(),
            self._seconds.total,
            unit="seconds",
        )


class RecordsCollector(Collector):
    """Copies ``RecordTotals`` into metric families, once per scrape."""

    def __init__(self, totals: Callable[[], RecordTotals]) -> None:
        self._totals = totals

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        """All families of one scrape from one reading of the totals."""
        now = self._totals()
        for name, value, text in (
            ("accepted", now.accepted, "Events answered with 202"),
            ("unrouted", now.unrouted, "Accepted events that reached no channel"),
        ):
            yield CounterMetricFamily(f"dispatcher_events_{name}", text, value=value)
        for name, value, text in (
            ("queued", now.queued, "Records stored in channels"),
            ("recovered", now.recovered, "Records found again at start"),
            ("acked", now.acked, "Records that their receiver confirmed"),
            ("expired", now.expired, "Records removed at the end of their lifetime"),
            ("superseded", now.superseded, "Records replaced by a newer value"),
            ("parked", now.parked, "Records set aside because their receiver refused them"),
            ("deleted", now.deleted, "Records removed with their channel"),
        ):
            yield CounterMetricFamily(f"dispatcher_records_{name}", text, value=value)
        dropped = CounterMetricFamily(
            "dispatcher_records_dropped", "Records dropped from a queue", labels=["reason"]
        )
        for reason in dict.fromkeys(
            (*LOSS_REASONS, *now.dropped)
        ):  # one that has no row would unbalance the books
            dropped.add_metric([reason], now.dropped.get(reason, 0))
        yield dropped
        yield CounterMetricFamily(
            "dispatcher_records_rejected", "Records refused by full queues", value=now.rejected
        )
        for name, unit, gauge, text in (
            ("queue_records", "", now.records, "Records in queues"),
            ("queue_bytes", "bytes", now.record_bytes, "Stored bytes of these"),
            (
                "queue_memory_bytes",
                "bytes",
                now.memory_bytes,
                "Memory for them, at most storage.memory_bytes",
            ),
            ("queue_scratch_bytes", "bytes", now.scratch_bytes, "Disk for what memory cannot hold"),
            ("journal_bytes", "bytes", now.journal_bytes, "Disk for the journal"),
            ("oldest_event_age_seconds", "seconds", now.oldest_age_s, "Age of the oldest record"),
        ):
            yield GaugeMetricFamily(f"dispatcher_{name}", text, value=gauge, unit=unit)
        channels = GaugeMetricFamily("dispatcher_channels", "Registered channels", labels=["type", "status"])
        for labels, count in sorted(now.channels.items()):
            channels.add_metric(list(labels), count)
        yield channels


class DeliveriesCollector(Collector):
    """Shows what is counted at every delivery."""

    def __init__(self, deliveries: Mapping[str, Deliveries], batch_events: Distribution) -> None:
        self._deliveries = deliveries
        self._batch_events = batch_events

    def collect(self) -> Iterator[CounterMetricFamily | HistogramMetricFamily]:
        """See ``Collector``."""
        attempts = CounterMetricFamily(
            "dispatcher_delivery_attempts", "Batches sent", labels=["type", "outcome"]
        )
        seconds = HistogramMetricFamily(
            "dispatcher_delivery_seconds",
            "From the start of a batch to its answer or hand-over",
            labels=["type"],
            unit="seconds",
        )
        for type_, of_type in self._deliveries.items():
            attempts.add_metric([type_, "success"], of_type.succeeded)
            attempts.add_metric([type_, "failure"], of_type.failed)
            seconds.add_metric([type_], of_type.seconds.buckets(), of_type.seconds.total)
        yield attempts
        yield seconds
        events = self._batch_events
        yield HistogramMetricFamily(
            "dispatcher_batch_events", "Events per batch sent", events.buckets(), events.total
        )


class Metrics:
    """Everything that is counted; one of its own per dispatcher."""

    def __init__(self, totals: Callable[[], RecordTotals], turn_seconds: Distribution | None = None) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(RecordsCollector(totals))
        self.registry.register(TurnsCollector(turn_seconds or Distribution(())))
        counter = partial(Counter, registry=self.registry)
        gauge = partial(Gauge, registry=self.registry)
        histogram = partial(Histogram, registry=self.registry)
        self.deliveries = {type_.value: Deliveries(SECONDS) for type_ in ChannelType}
        self.batch_events = Distribution(EVENTS)
        self.registry.register(DeliveriesCollector(self.deliveries, self.batch_events))
        self.journal_sync_seconds = histogram(
            "dispatcher_journal_sync_seconds",
            "To write one group of records and acknowledgements, and to sync it",
            buckets=SECONDS,
            unit="seconds",
        )
        self.journal_damaged_groups = gauge(
            "dispatcher_journal_damaged_groups",
            "Groups of the journal that were durable and could not be read when it was opened",
        )
        self.warnings = counter(
            "dispatcher_channel_warnings",
            "Channels whose queue, or whose time until they are removed, reached so many percent",
            ["kind", "percent"],
        )
        self.is_accepting = gauge("dispatcher_accepting", "1 while events can be stored, 0 while they cannot")
        self.is_accepting.set(1)
        self.certificate_end = gauge(
            "dispatcher_certificate_end_timestamp_seconds",
            "When the certificate in use ends, in Unix time",
            ["of"],
            unit="seconds",
        )
        self.operator_warnings = counter(
            "dispatcher_operator_warnings",
            "Warnings for the operator's webhook that it took, or that were dropped",
            ["outcome"],
        )
        self.websocket_deflate_bytes = counter(
            "dispatcher_websocket_deflate_bytes",
            "Of messages that may be compressed: what was, what came of it, and what was over the rate",
            ["stage"],
            unit="bytes",
        )
        self.requests_limited = counter(
            "dispatcher_requests_limited",
            "Requests and gateways' messages refused because their account was over a limit of its tier",
            ["limit"],
        )
        self.connections_shed = counter(
            "dispatcher_connections_shed",
            "Clients not let in: their address had too many connections, or there was no file descriptor",
            ["reason"],
        )
        self._begin_at_zero()

    def _begin_at_zero(self) -> None:
        """Show what has not happened yet: a rate over a series that begins with its first event misses it."""
        for outcome in ("delivered", "dropped"):
            self.operator_warnings.labels(outcome)
        for stage in ("in", "out", "over_rate"):
            self.websocket_deflate_bytes.labels(stage)
        for kind in ("queue", "removal"):
            for percent in WARNING_PERCENTS:
                self.warnings.labels(kind, percent)

    def render(self, accept: str) -> tuple[bytes, str]:
        """The exposition a scraper asked for, and its content type."""
        if wants_openmetrics(accept):
            body: bytes = openmetrics.generate_latest(self.registry)  # type: ignore[no-untyped-call]
            return body, openmetrics.CONTENT_TYPE_LATEST
        return generate_latest(self.registry), "text/plain; version=0.0.4; charset=utf-8"
