from __future__ import annotations

import io

import msgspec
import pytest
from rich.console import Console

from dispatcher.cli.demo_books import Books, read_books
from dispatcher.cli.demo_ledger import Fault, Verdict
from dispatcher.cli.demo_plan import DemoPlan
from dispatcher.cli.demo_report import ChannelResult, Display, Moment, Summary, percentile, print_summary

PLAN = DemoPlan(seconds=1, devices=2, rate=8)
PROVEN = Verdict(
    expected=10,
    received=10,
    redelivered=3,
    missing=0,
    out_of_order=0,
    repeated=0,
    uid_faults=0,
    unknown=0,
    first_fault=None,
)


def result(name: str, verdict: Verdict = PROVEN) -> ChannelResult:
    return ChannelResult(
        name=name,
        verdict=verdict,
        batches=4,
        largest_batch=5,
        p50_s=0.0015,
        p99_s=1.5,
        rate=8.0,
        failures="1 batch refused",
    )


GOOD = Summary(
    plan=PLAN,
    posted=8,
    channels=(result("callback"), result("WebSocket")),
    queued=20,
    books=Books(queued=20, acked=20, lost=0, in_queue=0),
)


def printed(summary: Summary) -> str:
    out = io.StringIO()
    print_summary(Console(file=out, width=120), summary)
    return out.getvalue()


def test_a_run_in_which_everything_arrived_is_proven() -> None:
    assert GOOD.problems() == []
    text = printed(GOOD)
    assert "Proven: every event of 2 devices" in text
    assert "NOT PROVEN" not in text


def test_the_first_missing_event_is_named() -> None:
    lost = msgspec.structs.replace(PROVEN, missing=1, received=9, first_fault=Fault("missing", 1, 4))
    bad = msgspec.structs.replace(GOOD, channels=(result("callback"), result("WebSocket", lost)))
    assert bad.problems() == ["WebSocket: device-000001: event 4 is missing"]
    assert "NOT PROVEN:\n  WebSocket: device-000001: event 4 is missing" in printed(bad)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault("missing", 0, 0), "device-000000: the registration is missing"),
        (Fault("has the uid of another event", 0, 1), "event 1 has the uid of another event"),
        (Fault("unknown", -1, -1), "events came that no device posted"),
    ],
)
def test_faults_are_told_in_words(fault: Fault, words: str) -> None:
    bad = msgspec.structs.replace(PROVEN, first_fault=fault)
    found = msgspec.structs.replace(GOOD, channels=(result("callback", bad),), queued=10).problems()
    assert words in found[0]


@pytest.mark.parametrize(
    "books",
    [
        Books(queued=20, acked=19, lost=0, in_queue=0),
        Books(queued=20, acked=19, lost=1, in_queue=0),
        Books(queued=20, acked=19, lost=0, in_queue=1),
        Books(queued=21, acked=21, lost=0, in_queue=0),
    ],
)
def test_books_of_the_daemon_that_tell_another_story_are_a_problem(books: Books) -> None:
    (problem,) = msgspec.structs.replace(GOOD, books=books).problems()
    assert "the daemon's books" in problem


def test_202s_that_told_of_fewer_records_are_a_problem() -> None:
    (problem,) = msgspec.structs.replace(GOOD, queued=19).problems()
    assert "202s" in problem


def test_a_machine_that_did_not_keep_up_is_said_to_be_so() -> None:
    assert "did not keep up with 8 events/s: 5 of 8" in printed(msgspec.structs.replace(GOOD, posted=5))


def test_records_that_the_daemon_dropped_are_said_with_what_helps() -> None:
    dropped = msgspec.structs.replace(GOOD, books=Books(queued=20, acked=13, lost=7, in_queue=0))
    assert "dropped 7 records" in printed(dropped)
    assert "lower --rate" in printed(dropped)


def test_planned_failures_in_the_latencies_are_said_unless_there_were_none() -> None:
    calm = msgspec.structs.replace(GOOD, plan=msgspec.structs.replace(PLAN, is_calm=True))
    assert "planned failures" in printed(GOOD)
    assert "planned failures" not in printed(calm)


def test_off_a_terminal_a_plain_line_comes_every_two_seconds() -> None:
    out = io.StringIO()
    with Display(Console(file=out, width=40), ("callback", "WebSocket")) as display:
        for look in range(20):
            display.show(
                Moment(
                    elapsed_s=look / 4,
                    events=100,
                    posted=look,
                    received=(look, look),
                    lag_s=(0.001, 2.0),
                    in_queue=1,
                    rate=4.0,
                )
            )
    lines = out.getvalue().splitlines()
    assert [line.split()[0] for line in lines] == ["2.0", "4.0"]
    assert "posted 8 (4/s)  callback 8 (lag 1.0 ms)  WebSocket 8 (lag 2.00 s)  in queue 1" in lines[0]


def test_on_a_terminal_the_display_leaves_only_what_was_said() -> None:
    out = io.StringIO()
    console = Console(file=out, width=80, force_terminal=True)
    with Display(console, ("callback",)) as display:
        display.say("this stays")
        display.show(Moment(elapsed_s=1, events=9, posted=3, received=(2,), lag_s=(0.1,), in_queue=0, rate=3))
    assert "this stays" in out.getvalue()
    assert "posted" in out.getvalue()


@pytest.mark.parametrize(("share", "value"), [(0.0, 1), (0.5, 51), (0.99, 100), (1.0, 100)])
def test_a_percentile_is_a_value_that_was_measured(share: float, value: int) -> None:
    assert percentile(range(1, 101), share) == value


def test_the_percentile_of_nothing_is_zero() -> None:
    assert percentile([], 0.5) == 0


def test_books_are_read_from_metrics_and_balance() -> None:
    text = """# HELP dispatcher_records_queued_total Records stored in channels
# TYPE dispatcher_records_queued_total counter
dispatcher_records_queued_total 20.0
dispatcher_records_acked_total 1.4e+01
dispatcher_records_expired_total 1.0
dispatcher_records_deleted_total 0.0
dispatcher_records_dropped_total{reason="overflow"} 2.0
dispatcher_records_dropped_total{reason="memory"} 1.0
dispatcher_queue_records 2.0
dispatcher_delivery_seconds_bucket{le="+Inf",type="CALLBACK"} 7.0
python_info{version="3"} 1.0
"""
    assert read_books(text) == Books(queued=20, acked=14, lost=4, in_queue=2)
    assert read_books(text).is_balanced
    assert not Books(queued=3, acked=1, lost=1, in_queue=0).is_balanced
