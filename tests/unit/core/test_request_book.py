"""The lines of requests in front of devices, asked about any moment."""

from __future__ import annotations

import itertools
import math
import random
from typing import Any

import pytest

from dispatcher import limits
from dispatcher.core.request_book import RequestBook
from dispatcher.errors import DeviceRequestRefused, RefusalReason
from dispatcher.model import AsyncAnswer, AsyncResponse, Device, DeviceRequest

ACCOUNT, GATEWAY, OTHER_GATEWAY = 1, "k_1", "k_2"
D = (ACCOUNT, "d")
HOUR_MS = 3_600_000
RETURN_MS = limits.GATEWAY_RETURN_S * 1000
ANSWER_MS = limits.DEVICE_ANSWER_TIMEOUT_S * 1000

_ids = itertools.count(1)


def device(ep: str = "d", *, q: bool = False, gateway_id: str | None = GATEWAY) -> Device:
    return Device(account_id=ACCOUNT, ep=ep, gateway_id=gateway_id, q=q)


def request(async_id: str = "a", ep: str = "d", **rest: Any) -> DeviceRequest:
    given = {"application_id": 7, "expires_unix_ms": HOUR_MS, "wire_id": async_id, **rest}
    return DeviceRequest(
        id=next(_ids), account_id=ACCOUNT, ep=ep, async_id=async_id, method="GET", uri="/1",
        accepted_unix_ms=0, **given,
    )  # fmt: skip


def book_of(*requests: DeviceRequest, q: bool = False, connected: bool = True) -> RequestBook:
    book = RequestBook(0)
    if connected:
        book.connected(GATEWAY, 1)
    for each in requests:
        book.add(each, device(each.ep, q=q))
    return book


def answer(async_id: str, status: int = 200) -> AsyncAnswer:
    return AsyncAnswer(0, AsyncResponse(id=async_id, status=status))


def give(
    book: RequestBook, async_id: str, status: int = 200, *, now_ms: float = 0, by: str = GATEWAY
) -> list[int | None]:
    """Let an answer come; the applications that get it."""
    judged = book.judge(ACCOUNT, by, [answer(async_id, status)])
    book.settle(judged, now_ms)
    return [verdict.asker for verdict in judged]


def told(book: RequestBook, now_ms: float) -> list[tuple[str, int, str | None]]:
    return [(f.response.id, f.response.status, f.response.error) for f in book.due(now_ms).finished]


# --- whose turn it is -----------------------------------------------------------------------------


def test_requests_go_one_at_a_time_in_order() -> None:
    first, second = request("a"), request("b")
    book = book_of(first, second)
    assert book.begin(D, 1, 0) == first
    assert book.begin(D, 1, 0) is None
    assert give(book, "a") == [7]
    assert book.begin(D, 1, 0) == second
    assert give(book, "b") == [7]
    assert book.begin(D, 1, 0) is None
    assert book.next_due_ms == 0 or told(book, HOUR_MS * 9) == []


def test_devices_do_not_wait_for_each_other() -> None:
    book = book_of(request("a"), request("b", "e"))
    assert book.begin(D, 1, 0) is not None
    assert book.begin((ACCOUNT, "e"), 1, 0) is not None


def test_only_a_socket_of_the_device_s_gateway_gets_its_requests() -> None:
    book = book_of(request("a"))
    book.connected(OTHER_GATEWAY, 2)
    assert book.begin(D, 2, 0) is None
    assert book.begin(D, 3, 0) is None
    assert book.begin(D, 1, 0) is not None


def test_what_was_in_flight_on_a_lost_socket_goes_again_and_costs_no_attempt() -> None:
    book = book_of(request("a"), request("b"))
    book.connected(GATEWAY, 2)
    for _ in range(5):
        first = book.begin(D, 1, 0)
        assert first is not None
        assert first.async_id == "a"
        assert book.disconnected(GATEWAY, 1, 0) == (D,)
        assert book.connected(GATEWAY, 1) == (D,)
    assert book.begin(D, 2, 0) == first
    book.disconnected(GATEWAY, 1, 0)  # another socket's end is not this request's
    assert book.begin(D, 2, 0) is None


def test_a_device_that_moved_gets_its_request_through_its_new_gateway() -> None:
    book = book_of(request("a"))
    book.connected(OTHER_GATEWAY, 2)
    book.begin(D, 1, 0)
    assert book.device_heard(D, OTHER_GATEWAY, None)
    assert book.gateway_of(D) == OTHER_GATEWAY
    assert book.begin(D, 1, 0) is None
    assert book.begin(D, 2, 0) is not None
    assert give(book, "a", by=GATEWAY) == [None]
    assert give(book, "a", by=OTHER_GATEWAY) == [7]


def test_a_refreshed_registration_leaves_what_is_in_flight() -> None:
    book = book_of(request("a"))
    book.begin(D, 1, 0)
    assert not book.device_heard(D, GATEWAY, True)
    assert give(book, "a") == [7]


# --- answers --------------------------------------------------------------------------------------


def test_only_the_device_s_own_gateway_answers_for_it() -> None:
    book = book_of(request("a"))
    book.begin(D, 1, 0)
    assert give(book, "a", by=OTHER_GATEWAY) == [None]
    assert [v.asker for v in book.judge(2, GATEWAY, [answer("a")])] == [None]  # another account's
    assert give(book, "a") == [7]


def test_an_answer_counts_once() -> None:
    book = book_of(request("a"))
    book.begin(D, 1, 0)
    judged = book.judge(ACCOUNT, GATEWAY, [answer("a"), answer("a"), answer("unknown")])
    assert [verdict.asker for verdict in judged] == [7, None, None]
    assert [r.async_id for r in book.settle(judged, 0)] == ["a"]
    assert give(book, "a") == [None]


def test_what_was_not_sent_yet_cannot_be_answered() -> None:
    book = book_of(request("a"), request("b"))
    book.begin(D, 1, 0)
    assert give(book, "b") == [None]
    assert give(book, "a") == [7]


def test_judging_changes_nothing() -> None:
    book = book_of(request("a"))
    book.begin(D, 1, 0)
    for _ in range(2):
        assert [v.asker for v in book.judge(ACCOUNT, GATEWAY, [answer("a")])] == [7]


def test_nobody_gets_the_answer_to_a_silent_request() -> None:
    book = book_of(request("a", is_silent=True))
    book.begin(D, 1, 0)
    assert give(book, "a") == [None]
    assert book.begin(D, 1, 0) is None


@pytest.mark.parametrize("status", [503, 504])
def test_a_device_that_was_not_reached_is_tried_again_as_often_as_was_asked(status: int) -> None:
    book = book_of(request("a", retry=2), request("b"))
    now_ms = 0.0
    for pause_s in (1, 2):
        assert book.begin(D, 1, now_ms) is not None
        assert give(book, "a", status, now_ms=now_ms) == [None]
        assert book.begin(D, 1, now_ms + pause_s * 1000 - 1) is None
        now_ms += pause_s * 1000
        assert book.due(now_ms).ready == [D]
    assert book.begin(D, 1, now_ms) is not None
    assert give(book, "a", status, now_ms=now_ms) == [7]
    following = book.begin(D, 1, now_ms)
    assert following is not None
    assert following.async_id == "b"


@pytest.mark.parametrize("status", [200, 400, 404, 429, 500, 502])
def test_any_other_answer_is_the_result(status: int) -> None:
    book = book_of(request("a", retry=10))
    book.begin(D, 1, 0)
    assert give(book, "a", status) == [7]


def test_a_device_that_wakes_ends_the_pause() -> None:
    book = book_of(request("a", retry=1))
    book.begin(D, 1, 0)
    give(book, "a", 503)
    assert book.begin(D, 1, 1) is None
    assert book.device_heard(D, GATEWAY, None)
    assert book.begin(D, 1, 1) is not None


# --- ids ------------------------------------------------------------------------------------------


def test_an_id_is_taken_while_it_waits_and_for_others_afterwards() -> None:
    book = book_of(request("a"))
    assert book.choose_wire_id(ACCOUNT, 7, "a") is None
    assert book.choose_wire_id(ACCOUNT, 8, "a") is None
    assert book.choose_wire_id(2, 8, "a") == "a"
    book.begin(D, 1, 0)
    give(book, "a")
    assert book.choose_wire_id(ACCOUNT, 7, "a") == "a"
    assert book.choose_wire_id(ACCOUNT, 8, "a") is None


def test_remembered_ids_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "DEVICE_REQUEST_IDS_REMEMBERED_MAX", 1)
    book = book_of(request("a"), request("b"))
    for async_id in "ab":
        book.begin(D, 1, 0)
        give(book, async_id)
    assert [book.choose_wire_id(ACCOUNT, 8, async_id) for async_id in "ab"] == ["a", None]


# --- bounds ---------------------------------------------------------------------------------------


def refusal(book: RequestBook, key: tuple[int, str] = D, payload_bytes: int = 0) -> RefusalReason | None:
    try:
        book.check_room(key, payload_bytes)
    except DeviceRequestRefused as refused:
        return refused.reason
    return None


def test_a_device_has_twenty_waiting_and_no_more() -> None:
    book = book_of(*[request(str(n)) for n in range(19)])
    assert refusal(book) is None
    book.add(request("19"), device())
    assert refusal(book) is RefusalReason.QUEUE_IS_FULL
    assert refusal(book, (ACCOUNT, "e")) is None
    book.begin(D, 1, 0)
    assert refusal(book) is RefusalReason.QUEUE_IS_FULL
    give(book, "0")
    assert refusal(book) is None


def test_an_account_has_so_many_bytes_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "DEVICE_REQUEST_BYTES_PER_ACCOUNT_MAX", 10)
    book = book_of(request("a", payload=b"12345"))
    assert refusal(book, (ACCOUNT, "e"), 5) is None
    assert refusal(book, (ACCOUNT, "e"), 6) is RefusalReason.QUEUE_IS_FULL
    assert refusal(book, (2, "e"), 10) is None
    told(book, HOUR_MS)
    assert refusal(book, (ACCOUNT, "e"), 10) is None


def test_an_account_has_so_many_requests_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "DEVICE_REQUESTS_PER_ACCOUNT_MAX", 1)
    book = book_of(request("a"))
    assert refusal(book, (ACCOUNT, "e")) is RefusalReason.QUEUE_IS_FULL
    assert refusal(book, (2, "e")) is None


# --- time -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_sent", [True, False])
def test_a_request_expires_wherever_it_is(is_sent: bool) -> None:
    book = book_of(request("a", expires_unix_ms=60_000), request("b", expires_unix_ms=61_000), q=True)
    if is_sent:
        book.begin(D, 1, 0)
    assert told(book, 59_999) == []
    assert told(book, 60_000) == [("a", 429, "REQUEST_EXPIRED")]
    assert give(book, "a") == [None]  # too late
    following = book.begin(D, 1, 60_000)
    assert following is not None
    assert following.async_id == "b"


def test_three_days_pass_in_a_moment() -> None:
    expires_ms = limits.DEVICE_REQUEST_QUEUE_MODE_EXPIRY_S * 1000
    book = book_of(request("a", expires_unix_ms=expires_ms), q=True, connected=False)
    assert book.next_due_ms == expires_ms
    assert told(book, expires_ms - 1) == []
    assert told(book, expires_ms) == [("a", 429, "REQUEST_EXPIRED")]
    assert book.next_due_ms == math.inf


def test_no_answer_in_time_is_a_failed_attempt_and_at_last_a_timeout() -> None:
    book = book_of(request("a", retry=1), request("b"))
    book.begin(D, 1, 0)
    assert book.next_due_ms == ANSWER_MS
    assert told(book, ANSWER_MS) == []
    now_ms = ANSWER_MS + 1_000
    assert book.due(now_ms).ready == [D]
    assert book.begin(D, 1, now_ms) is not None
    assert told(book, now_ms + ANSWER_MS - 1) == []
    due = book.due(now_ms + ANSWER_MS)
    assert [(f.response.status, f.response.error) for f in due.finished] == [(504, "TIMEOUT")]
    assert due.ready == [D]


def test_a_device_in_queue_mode_has_its_whole_lifetime_to_answer() -> None:
    book = book_of(request("a"), q=True)
    book.begin(D, 1, 0)
    assert told(book, HOUR_MS - 1) == []
    assert give(book, "a") == [7]


def test_without_a_gateway_all_requests_end_when_it_had_its_time_to_come_back() -> None:
    book = book_of(request("a"), request("b"))
    book.begin(D, 1, 0)
    book.disconnected(GATEWAY, 1, 5_000)
    assert not book.is_away(GATEWAY, 5_000 + RETURN_MS - 1)
    assert told(book, 5_000 + RETURN_MS - 1) == []
    assert told(book, 5_000 + RETURN_MS) == [("a", 503, "NOT_CONNECTED"), ("b", 503, "NOT_CONNECTED")]
    assert book.is_away(GATEWAY, 5_000 + RETURN_MS)


def test_a_gateway_that_comes_back_in_time_gets_them() -> None:
    book = book_of(request("a"))
    book.disconnected(GATEWAY, 1, 0)
    assert book.connected(GATEWAY, 2) == (D,)
    assert told(book, RETURN_MS * 2) == []
    assert book.begin(D, 2, RETURN_MS * 2) is not None


def test_after_a_start_every_gateway_has_its_time() -> None:
    book = book_of(request("a"), connected=False)
    assert told(book, RETURN_MS - 1) == []
    assert told(book, RETURN_MS) == [("a", 503, "NOT_CONNECTED")]


def test_a_device_in_queue_mode_waits_for_its_gateway_too() -> None:
    book = book_of(request("a"), q=True, connected=False)
    assert told(book, HOUR_MS - 1) == []


def test_nothing_waits_for_a_device_that_left() -> None:
    book = book_of(request("a"), request("b"), request("c", "e"))
    book.begin(D, 1, 0)
    gone = [(f.response.id, f.response.status, f.response.error) for f in book.device_gone(D)]
    assert gone == [(i, 429, "DEVICE_REMOVED_REGISTRATION") for i in "ab"]
    assert book.device_gone(D) == []
    assert give(book, "a") == [None]
    assert book.begin((ACCOUNT, "e"), 1, 0) is not None


def test_due_ends_when_a_pause_is_over_and_nobody_is_there() -> None:
    book = book_of(request("a", retry=5), q=True)
    book.begin(D, 1, 0)
    give(book, "a", 503)
    book.disconnected(GATEWAY, 1, 0)
    assert book.due(10_000).ready == [D]
    assert book.next_due_ms == HOUR_MS


# --- all of it ------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(30))
def test_every_request_ends_once_and_never_two_are_in_flight(seed: int) -> None:
    """Random operations; at the end everything has had exactly one result, and nothing is left."""
    dice = random.Random(seed)
    book = RequestBook(0)
    added: list[str] = []
    results: list[str] = []
    in_flight: dict[tuple[int, str], str] = {}
    sockets: list[int] = []
    now_ms = 0.0
    number = itertools.count(1)
    eps = ["d", "e", "f"]
    for _ in range(400):
        now_ms += dice.choice([0, 100, 5_000, 70_000])
        key = (ACCOUNT, dice.choice(eps))
        match dice.randrange(7):
            case 0 if refusal(book, key) is None:
                name = f"r{next(number)}"
                life_ms = dice.choice([60_000, 600_000])
                book.add(
                    request(name, key[1], retry=dice.randrange(3), expires_unix_ms=int(now_ms + life_ms)),
                    device(key[1], q=key[1] == "f"),
                )
                added.append(name)
            case 1:
                sockets.append(next(number))
                book.connected(GATEWAY, sockets[-1])
            case 2 if sockets:
                lost = sockets.pop(dice.randrange(len(sockets)))
                book.disconnected(GATEWAY, lost, now_ms)
                in_flight = {k: r for k, r in in_flight.items() if not r.endswith(f"@{lost}")}
            case 3 | 4 if sockets:
                begun = book.begin(key, sockets[-1], now_ms)
                if begun is not None:
                    assert key not in in_flight or in_flight[key].partition("@")[0] in results
                    in_flight[key] = f"{begun.async_id}@{sockets[-1]}"
            case 5 if key in in_flight:
                name = in_flight.pop(key).partition("@")[0]
                judged = book.judge(ACCOUNT, GATEWAY, [answer(name, dice.choice([200, 404, 503]))])
                results += [r.async_id for r in book.settle(judged, now_ms)]
            case 6 if dice.random() < 0.2:
                results += [f.request.async_id for f in book.device_gone(key)]
        due = book.due(now_ms)
        results += [f.request.async_id for f in due.finished]
        assert book.next_due_ms > now_ms
        for k in [k for k, r in in_flight.items() if book.gateway_of(k) == GATEWAY]:
            del in_flight[k]  # it timed out, and may go again
    results += [f.request.async_id for f in book.due(now_ms + HOUR_MS).finished]
    assert sorted(results) == sorted(added)
    assert repr(book) == "<RequestBook 0 requests in 0 lines>"
    assert book.next_due_ms == math.inf or not book.due(math.inf).finished
