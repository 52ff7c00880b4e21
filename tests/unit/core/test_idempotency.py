"""Idempotency keys: what is answered again, what is new, what is refused, what is forgotten."""

from __future__ import annotations

import pytest
from msgspec import structs

from dispatcher import limits
from dispatcher.core.idempotency import (
    Answered,
    Begun,
    IdempotencyTable,
    InFlight,
    KeptAnswer,
    KeyScope,
)
from dispatcher.errors import TooManyRequests, UnprocessableKey

SCOPE = KeyScope(1, "gateway", "/gateway/v1/events", "key")
BODY, OTHER_BODY = b"\x01" * 32, b"\x02" * 32
DAY_S = limits.IDEMPOTENCY_LIFETIME_S


def key(number: int) -> KeyScope:
    return structs.replace(SCOPE, key=f"key-{number}")


def finish_one(table: IdempotencyTable, scope: KeyScope, now_s: float = 0.0) -> None:
    assert table.begin(scope, BODY, now_s) == Begun()
    table.finish(scope, b"answer", now_s)


def test_the_same_key_and_body_get_the_first_answer_again() -> None:
    table = IdempotencyTable()
    finish_one(table, SCOPE)
    assert table.begin(SCOPE, BODY, 1.0) == Answered(b"answer")
    assert table.begin(SCOPE, BODY, 2.0) == Answered(b"answer")


def test_while_the_first_is_in_flight_the_second_waits() -> None:
    table = IdempotencyTable()
    assert table.begin(SCOPE, BODY, 0.0) == Begun()
    assert table.begin(SCOPE, BODY, 0.0) == InFlight()
    table.finish(SCOPE, b"answer", 1.0)
    assert table.begin(SCOPE, BODY, 1.0) == Answered(b"answer")


def test_another_body_under_the_same_key_is_refused() -> None:
    table = IdempotencyTable()
    table.begin(SCOPE, BODY, 0.0)
    with pytest.raises(UnprocessableKey):
        table.begin(SCOPE, OTHER_BODY, 0.0)
    table.finish(SCOPE, b"answer", 0.0)
    with pytest.raises(UnprocessableKey):
        table.begin(SCOPE, OTHER_BODY, 1.0)
    assert table.begin(SCOPE, BODY, 1.0) == Answered(b"answer")


def test_what_was_abandoned_is_new_with_any_body() -> None:
    table = IdempotencyTable()
    table.begin(SCOPE, BODY, 0.0)
    table.abandon(SCOPE)
    assert table.count(1) == 0
    assert table.begin(SCOPE, OTHER_BODY, 0.0) == Begun()


@pytest.mark.parametrize(
    "other",
    [
        structs.replace(SCOPE, account_id=2),
        structs.replace(SCOPE, access_key_id="another"),
        structs.replace(SCOPE, path="/gateway/v1/applications/a/events"),
        structs.replace(SCOPE, key="KEY"),
    ],
)
def test_the_same_key_in_another_scope_is_another_key(other: KeyScope) -> None:
    table = IdempotencyTable()
    finish_one(table, SCOPE)
    assert table.begin(other, OTHER_BODY, 1.0) == Begun()


def test_an_answer_is_kept_for_a_day_and_no_longer() -> None:
    table = IdempotencyTable()
    finish_one(table, SCOPE, now_s=100.0)
    assert table.begin(SCOPE, BODY, 100.0 + DAY_S - 0.001) == Answered(b"answer")
    assert table.begin(SCOPE, OTHER_BODY, 100.0 + DAY_S) == Begun()


def test_what_is_in_flight_is_not_forgotten_with_time() -> None:
    table = IdempotencyTable()
    table.begin(SCOPE, BODY, 0.0)
    assert table.begin(SCOPE, BODY, 3 * DAY_S) == InFlight()


def test_the_answer_finished_first_makes_room_for_new_keys() -> None:
    table = IdempotencyTable(keys_max=3)
    for number in (1, 2, 3):
        finish_one(table, key(number))
    finish_one(table, key(4))
    assert table.count(1) == 3
    assert table.begin(key(2), BODY, 1.0) == Answered(b"answer")
    assert table.begin(key(1), BODY, 1.0) == Begun()


def test_accounts_do_not_take_each_others_room() -> None:
    table = IdempotencyTable(keys_max=1)
    finish_one(table, SCOPE)
    finish_one(table, structs.replace(SCOPE, account_id=2))
    assert table.begin(SCOPE, BODY, 1.0) == Answered(b"answer")


def test_keys_in_flight_are_never_forgotten_and_bounded_too() -> None:
    table = IdempotencyTable(keys_max=2)
    finish_one(table, key(0))
    table.begin(key(1), BODY, 0.0)
    table.begin(key(2), BODY, 0.0)
    assert table.count(1) == 2
    with pytest.raises(TooManyRequests) as caught:
        table.begin(key(3), BODY, 0.0)
    assert caught.value.retry_after_s
    assert table.begin(key(1), BODY, 0.0) == InFlight()
    table.finish(key(1), b"answer", 0.0)
    table.begin(key(3), BODY, 0.0)
    assert table.count(1) == 2


def test_answers_of_an_earlier_run_are_given_again() -> None:
    table = IdempotencyTable(keys_max=2)
    for number in (1, 2, 3):
        table.restore(key(number), KeptAnswer(BODY, b"old", float(number)))
    assert table.begin(key(3), BODY, 5.0) == Answered(b"old")
    assert table.begin(key(2), BODY, DAY_S + 2) == Begun()
    assert table.begin(key(3), BODY, DAY_S + 2) == Answered(b"old")
    assert table.count(2) == 0


def test_an_answer_restored_twice_is_as_old_as_its_newest() -> None:
    table = IdempotencyTable(keys_max=2)
    for number, finished_s in ((1, 1.0), (2, 2.0), (1, 3.0), (3, 4.0)):
        table.restore(key(number), KeptAnswer(BODY, b"old", finished_s))
    assert table.begin(key(1), BODY, 5.0) == Answered(b"old")
    assert table.begin(key(2), BODY, 5.0) == Begun()
