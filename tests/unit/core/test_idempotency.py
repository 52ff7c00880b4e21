"""Idempotency keys: what is answered again, what is new, what is refused, what is forgotten."""

from __future__ import annotations

import pytest

from dispatcher import limits
from dispatcher.core.idempotency import (
    Answered,
    Begun,
    FoundAnswers,
    IdempotencyTable,
    InFlight,
    KeptAnswer,
    KeyScope,
    key_scope,
)
from dispatcher.errors import TooManyRequests, UnprocessableKey

PATH = "/gateway/v1/events"
SCOPE = key_scope(1, "gateway", PATH, "key")
BODY, OTHER_BODY = b"\x01" * 32, b"\x02" * 32
DAY_MS = limits.IDEMPOTENCY_LIFETIME_MS


def key(number: int, account_id: int = 1) -> KeyScope:
    return key_scope(account_id, "gateway", PATH, f"key-{number}")


def finish_one(table: IdempotencyTable, scope: KeyScope, now_ms: int = 0) -> None:
    assert table.begin(scope, BODY, now_ms) == Begun()
    table.finish(scope, b"answer", now_ms)


def old(unix_ms: int) -> KeptAnswer:
    return KeptAnswer(BODY, b"old", unix_ms)


def restore(table: IdempotencyTable, found: FoundAnswers) -> None:
    for scope, kept in found.oldest_first():
        table.restore(scope, kept)


def test_the_same_key_and_body_get_the_first_answer_again() -> None:
    table = IdempotencyTable()
    finish_one(table, SCOPE)
    assert table.begin(SCOPE, BODY, 1) == Answered(b"answer")
    assert table.begin(SCOPE, BODY, 2) == Answered(b"answer")


def test_while_the_first_is_in_flight_the_second_waits() -> None:
    table = IdempotencyTable()
    assert table.begin(SCOPE, BODY, 0) == Begun()
    assert table.begin(SCOPE, BODY, 0) == InFlight()
    table.finish(SCOPE, b"answer", 1)
    assert table.begin(SCOPE, BODY, 1) == Answered(b"answer")


def test_another_body_under_the_same_key_is_refused() -> None:
    table = IdempotencyTable()
    table.begin(SCOPE, BODY, 0)
    with pytest.raises(UnprocessableKey):
        table.begin(SCOPE, OTHER_BODY, 0)
    table.finish(SCOPE, b"answer", 0)
    with pytest.raises(UnprocessableKey):
        table.begin(SCOPE, OTHER_BODY, 1)
    assert table.begin(SCOPE, BODY, 1) == Answered(b"answer")


def test_what_was_abandoned_is_new_with_any_body() -> None:
    table = IdempotencyTable()
    table.begin(SCOPE, BODY, 0)
    table.abandon(SCOPE)
    assert table.count(1) == 0
    assert table.begin(SCOPE, OTHER_BODY, 0) == Begun()


@pytest.mark.parametrize(
    "other",
    [
        key_scope(2, "gateway", PATH, "key"),
        key_scope(1, "another", PATH, "key"),
        key_scope(1, "gateway", "/gateway/v1/applications/a/events", "key"),
        key_scope(1, "gateway", PATH, "KEY"),
        key_scope(1, "gateway", PATH + "k", "ey"),
        key_scope(1, "gateway/", PATH[1:], "key"),
    ],
)
def test_the_same_key_in_another_scope_is_another_key(other: KeyScope) -> None:
    table = IdempotencyTable()
    finish_one(table, SCOPE)
    assert table.begin(other, OTHER_BODY, 1) == Begun()


def test_an_answer_is_kept_for_a_day_and_no_longer() -> None:
    table = IdempotencyTable()
    finish_one(table, SCOPE, now_ms=100)
    assert table.begin(SCOPE, BODY, 100 + DAY_MS - 1) == Answered(b"answer")
    assert table.kept == 1
    assert table.begin(SCOPE, OTHER_BODY, 100 + DAY_MS) == Begun()
    assert table.kept == 0


def test_what_is_in_flight_is_not_forgotten_with_time() -> None:
    table = IdempotencyTable()
    table.begin(SCOPE, BODY, 0)
    assert table.begin(SCOPE, BODY, 3 * DAY_MS) == InFlight()


def test_the_answer_finished_first_makes_room_for_new_keys() -> None:
    table = IdempotencyTable(keys_max=3)
    for number in (1, 2, 3):
        finish_one(table, key(number))
    finish_one(table, key(4))
    assert table.count(1) == 3
    assert table.begin(key(2), BODY, 1) == Answered(b"answer")
    assert table.begin(key(1), BODY, 1) == Begun()


def test_accounts_do_not_take_each_others_room() -> None:
    table = IdempotencyTable(keys_max=1)
    finish_one(table, SCOPE)
    finish_one(table, key_scope(2, "gateway", PATH, "key"))
    assert table.begin(SCOPE, BODY, 1) == Answered(b"answer")


def test_keys_in_flight_are_never_forgotten_and_bounded_too() -> None:
    table = IdempotencyTable(keys_max=2)
    finish_one(table, key(0))
    table.begin(key(1), BODY, 0)
    table.begin(key(2), BODY, 0)
    assert table.count(1) == 2
    with pytest.raises(TooManyRequests) as caught:
        table.begin(key(3), BODY, 0)
    assert caught.value.retry_after_s
    assert table.begin(key(1), BODY, 0) == InFlight()
    table.finish(key(1), b"answer", 0)
    table.begin(key(3), BODY, 0)
    assert table.count(1) == 2


def test_a_finished_request_cannot_be_abandoned() -> None:
    table = IdempotencyTable()
    finish_one(table, SCOPE)
    table.abandon(SCOPE)
    assert table.begin(SCOPE, BODY, 1) == Answered(b"answer")


def test_an_answer_says_what_to_wait_for_until_it_is_durable() -> None:
    class Ticket:
        is_durable = False

        async def durable(self) -> None: ...

    table, ticket = IdempotencyTable(), Ticket()
    table.begin(SCOPE, BODY, 0)
    kept = table.finish(SCOPE, b"answer", 0, ticket)
    assert table.begin(SCOPE, BODY, 1) == Answered(b"answer", ticket)
    kept.ticket = None
    assert table.begin(SCOPE, BODY, 1) == Answered(b"answer")


def test_accounts_that_ask_no_more_are_forgotten_with_their_last_answer() -> None:
    table = IdempotencyTable()
    for account_id in range(1, 50):
        finish_one(table, key(0, account_id), now_ms=account_id)
    finish_one(table, key(0, 99), now_ms=DAY_MS + 30)
    assert [table.count(account_id) for account_id in (1, 30, 31, 49, 99)] == [0, 0, 1, 1, 1]
    assert table.kept == 20
    assert len(table._accounts) == 20


def test_each_account_says_how_old_the_answers_are_that_it_keeps() -> None:
    table = IdempotencyTable(keys_max=2)
    for now_ms in (1, 2, 3):
        finish_one(table, key(now_ms), now_ms)
    finish_one(table, key(1, 2), now_ms=4)
    table.begin(key(1, 3), BODY, 5)
    assert table.kept_from(6) == {1: 2, 2: 4}
    assert table.kept_from(DAY_MS + 2) == {1: 3, 2: 4}
    assert table.kept_from(DAY_MS + 4) == {}


def test_answers_of_an_earlier_run_are_given_again_with_their_age() -> None:
    table, found = IdempotencyTable(keys_max=2), FoundAnswers(keys_max=2)
    for number in (3, 1, 2):
        found.add(key(number), old(number))
    restore(table, found)
    assert table.kept == table.count(1) == 2
    assert table.begin(key(3), BODY, 5) == Answered(b"old")
    assert table.begin(key(3), BODY, DAY_MS + 2) == Answered(b"old")
    assert table.begin(key(2), OTHER_BODY, DAY_MS + 2) == Begun()
    assert table.count(2) == 0


def test_an_answer_found_twice_counts_once_and_is_as_old_as_its_newest() -> None:
    table, found = IdempotencyTable(keys_max=2), FoundAnswers(keys_max=2)
    for number, unix_ms in ((1, 3), (2, 2), (1, 1), (1, 3), (3, 4)):
        found.add(key(number), old(unix_ms))
    restore(table, found)
    assert table.kept == 2
    assert table.begin(key(1), BODY, 5) == Answered(b"old")
    assert table.begin(key(2), BODY, 5) == Begun()


def test_of_what_is_found_the_newest_of_each_account_are_held_and_no_more() -> None:
    found = FoundAnswers(keys_max=10)
    for number in range(1_000):
        place = number * 7 % 1_000
        found.add(key(place), old(place))
        assert len(found._accounts[1]) <= 20
    found.add(key(0, 2), old(0))
    assert [kept.answered_unix_ms for _, kept in found.oldest_first()] == [*range(990, 1_000), 0]
