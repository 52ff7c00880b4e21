"""Whether an ingest request may be taken now."""

from __future__ import annotations

import pytest
from msgspec import structs

from dispatcher import limits
from dispatcher.core.admission import Load, decide
from dispatcher.errors import TooManyRequests, Unavailable

IDLE = Load(
    requests=0,
    account_requests=0,
    key_requests=0,
    body_bytes=0,
    account_body_bytes=0,
)
LARGEST = limits.REQUEST_BODY_BYTES_MAX
MIB = limits.MIB
BODIES_MAX = limits.INGEST_BODIES_BYTES_MAX


@pytest.mark.parametrize(
    "load",
    [
        IDLE,
        structs.replace(IDLE, key_requests=limits.INGEST_REQUESTS_PER_GATEWAY_MAX - 1),
        structs.replace(IDLE, requests=limits.INGEST_REQUESTS_MAX - 1),
        structs.replace(IDLE, requests=1, body_bytes=BODIES_MAX - LARGEST),
        structs.replace(IDLE, body_bytes=BODIES_MAX),
    ],
)
def test_up_to_its_bounds_a_request_is_taken(load: Load) -> None:
    assert decide(load, LARGEST) is None


@pytest.mark.parametrize(
    ("load", "error"),
    [
        (structs.replace(IDLE, key_requests=limits.INGEST_REQUESTS_PER_GATEWAY_MAX), TooManyRequests),
        (structs.replace(IDLE, requests=limits.INGEST_REQUESTS_MAX), Unavailable),
        (structs.replace(IDLE, requests=1, body_bytes=BODIES_MAX - LARGEST + 1), Unavailable),
    ],
)
def test_at_its_bounds_a_request_is_refused_with_a_time_to_come_back(load: Load, error: type) -> None:
    refused = decide(load, LARGEST)
    assert type(refused) is error
    assert refused.can_retry
    assert refused.retry_after_s


def test_an_account_that_takes_all_it_can_leaves_as_much_to_the_next() -> None:
    """Ten accounts come one after the other; each sends the largest bodies until it is refused."""
    held: dict[int, int] = {}
    for account in range(10):
        held[account] = 0
        while True:
            load = structs.replace(
                IDLE,
                requests=sum(held.values()),
                account_requests=held[account],
                body_bytes=sum(held.values()) * MIB,
                account_body_bytes=held[account] * MIB,
            )
            if decide(load, MIB) is not None:
                break
            held[account] += 1
    assert [held[account] for account in range(4)] == [128, 64, 32, 16]
    assert held[7] >= 1  # the eighth gets in, too


def test_requests_in_flight_are_shared_in_the_same_way() -> None:
    half = limits.INGEST_REQUESTS_MAX // 2
    load = structs.replace(IDLE, requests=half, account_requests=half)
    assert isinstance(decide(load, 0), TooManyRequests)
    assert decide(structs.replace(load, requests=half - 1, account_requests=half - 1), 0) is None
    assert decide(structs.replace(load, account_requests=0), 0) is None
