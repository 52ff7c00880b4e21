"""The metrics page: in the format that was asked for, and readable by others' parsers."""

from __future__ import annotations

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text
from support.metrics import totals_of

from dispatcher.core.levels import LEVELS
from dispatcher.observe.metrics import Metrics, wants_openmetrics

TOTALS = totals_of(
    1, dropped={"overflow": 3, "a reason to come": 2}, channels={("callback", "ok"): 2}, oldest_age_s=1.5
)
COUNTERS = (
    "events_accepted",
    "events_unrouted",
    "records_queued",
    "records_recovered",
    "records_acked",
    "records_expired",
    "records_dropped",
    "records_superseded",
    "records_parked",
    "records_deleted",
    "delivery_attempts",
)
GAUGES = ("queue_records", "queue_bytes", "channels", "oldest_event_age_seconds")
HISTOGRAMS = ("delivery_seconds", "journal_sync_seconds", "batch_events")


@pytest.mark.parametrize(
    ("accept", "wants"),
    [
        ("", False),
        ("*/*", False),
        ("text/plain", False),
        ("application/openmetrics-text", True),
        ("Application/OpenMetrics-Text; Version=1.0.0; charset=utf-8", True),
        ("application/openmetrics-text;version=2.0.0", False),
        ("application/openmetrics-text;q=0", False),
        ("application/openmetrics-text;q=0.000, text/plain;q=0", False),
        ("application/openmetrics-text;q=nan", False),
        ("application/openmetrics-text;q=0.2, text/plain;q=0.9", False),
        ("text/html, application/openmetrics-textual", False),
        (  # what Prometheus 2.5 and 3 ask for
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
            "text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            True,
        ),
        (
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
            "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;"
            "escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
            True,
        ),
        (  # and with PrometheusText1.0.0 first
            "text/plain;version=1.0.0;q=0.6,application/openmetrics-text;version=1.0.0;q=0.5,*/*;q=0.1",
            False,
        ),
    ],
)
def test_openmetrics_goes_to_who_likes_it_best(accept: str, wants: bool) -> None:
    assert wants_openmetrics(accept) is wants


def test_openmetrics_has_every_metric_of_the_contract_with_its_type_and_unit() -> None:
    body, content_type = Metrics(lambda: TOTALS).render("application/openmetrics-text")
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    assert body.endswith(b"# EOF\n")
    families = {family.name: family for family in read_openmetrics(body.decode())}
    for names, type_ in ((COUNTERS, "counter"), (GAUGES, "gauge"), (HISTOGRAMS, "histogram")):
        for name in names:
            assert families[f"dispatcher_{name}"].type == type_
    for name, family in families.items():
        assert family.documentation
        for unit in ("seconds", "bytes"):
            assert (family.unit == unit) is name.endswith(f"_{unit}")


def test_the_text_format_has_the_same_samples() -> None:
    metrics = Metrics(lambda: TOTALS)
    body, content_type = metrics.render("")
    assert content_type == "text/plain; version=0.0.4; charset=utf-8"
    assert b"# EOF" not in body
    in_text = {sample for family in read_text(body.decode()) for sample in samples_of(family)}
    openmetrics = metrics.render("application/openmetrics-text")[0].decode()
    assert in_text == {sample for family in read_openmetrics(openmetrics) for sample in samples_of(family)}


def samples_of(family: object) -> set[tuple[str, frozenset[tuple[str, str]], float]]:
    return {(s.name, frozenset(s.labels.items()), s.value) for s in family.samples}  # type: ignore[attr-defined]


def test_what_has_not_happened_yet_is_zero_and_a_reason_unknown_so_far_is_counted() -> None:
    body = Metrics(lambda: TOTALS).render("")[0].decode()
    assert 'dispatcher_delivery_attempts_total{outcome="failure",type="CALLBACK"} 0.0' in body
    for level in LEVELS:
        assert (
            f'dispatcher_channel_warnings_total{{kind="queue",percent="{level:.0%}"}} 0.0'.replace("%", "")
            in body
        )
    assert 'dispatcher_records_dropped_total{reason="memory"} 0.0' in body
    assert 'dispatcher_records_dropped_total{reason="a reason to come"} 2.0' in body
