"""Backpressure at the gateway paths: refused before a body is read."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from dispatcher import limits
from dispatcher.errors import TooManyRequests, Unavailable
from dispatcher.http.ingest_gate import IngestGate
from dispatcher.http.message import Headers, Request
from dispatcher.model import AccessKey, Role


def request_of(body_bytes: int | None) -> Request:
    headers = [] if body_bytes is None else [(b"content-length", b"%d" % body_bytes)]
    return Request(method="POST", path="/gateway/v1/events", headers=Headers(headers))


def key(number: int, account: int = 1) -> AccessKey:
    return AccessKey(id=f"k_{number}", role=Role.GATEWAY, digest=b"", account_id=account)


def new_gate() -> IngestGate:
    return IngestGate()


def test_one_gateway_cannot_take_every_place() -> None:
    gate = new_gate()
    with ExitStack() as stack:
        for _ in range(limits.INGEST_REQUESTS_PER_GATEWAY_MAX):
            stack.enter_context(gate.passing(key(1), request_of(10)))
        with pytest.raises(TooManyRequests) as refused:
            stack.enter_context(gate.passing(key(1), request_of(10)))
        assert refused.value.retry_after_s is not None
        stack.enter_context(gate.passing(key(2), request_of(10)))


def test_bodies_in_flight_are_bounded_together() -> None:
    gate = new_gate()
    with ExitStack() as stack:
        for number in range(limits.INGEST_BODIES_BYTES_MAX // limits.REQUEST_BODY_BYTES_MAX):
            stack.enter_context(gate.passing(key(number, number), request_of(None)))
        with pytest.raises(Unavailable):
            stack.enter_context(gate.passing(key(999, 999), request_of(None)))


def test_a_place_is_given_back_when_a_request_ends_or_fails() -> None:
    gate = new_gate()
    for _ in range(limits.INGEST_REQUESTS_PER_GATEWAY_MAX + 1):
        with pytest.raises(ZeroDivisionError), gate.passing(key(1), request_of(10)):
            raise ZeroDivisionError
    with gate.passing(key(1), request_of(10)):
        pass


def test_a_length_that_is_a_lie_counts_as_the_most_that_is_read() -> None:
    gate = new_gate()
    with gate.passing(key(1), request_of(10**18)), gate.passing(key(2), request_of(10)):
        pass


def test_an_account_cannot_take_the_memory_of_all_with_however_many_keys() -> None:
    gate = new_gate()
    with ExitStack() as stack:
        for number in range(limits.INGEST_BODIES_BYTES_MAX // limits.REQUEST_BODY_BYTES_MAX // 2):
            stack.enter_context(gate.passing(key(number), request_of(None)))
        with pytest.raises(TooManyRequests, match="over its share"):
            stack.enter_context(gate.passing(key(999), request_of(None)))
        for account in range(2, 5):
            stack.enter_context(gate.passing(key(1000, account), request_of(None)))
    with ExitStack() as stack:  # all of it was given back
        for _ in range(limits.INGEST_BODIES_BYTES_MAX // limits.REQUEST_BODY_BYTES_MAX // 2):
            stack.enter_context(gate.passing(key(1), request_of(None)))


def test_nothing_is_kept_of_an_account_that_has_nothing_in_flight() -> None:
    gate = new_gate()
    for number in range(1_000):
        with gate.passing(key(number, number), request_of(10)):
            pass
    assert not gate._by_account
    assert not gate._by_key
