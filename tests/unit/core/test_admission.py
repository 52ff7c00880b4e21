"""Whether an ingest request may be taken now."""

from __future__ import annotations

import pytest
from msgspec import structs

from dispatcher import limits
from dispatcher.core.admission import Load, decide
from dispatcher.errors import TooManyRequests, Unavailable

IDLE = Load(
    requests=0, gateway_requests=0, body_bytes=0, memory_bytes=0, memory_bytes_max=1000, may_drop=False
)
LARGEST = limits.REQUEST_BODY_BYTES_MAX
BODIES_MAX = limits.INGEST_BODIES_BYTES_MAX


@pytest.mark.parametrize(
    "load",
    [
        IDLE,
        structs.replace(IDLE, memory_bytes=999),
        structs.replace(IDLE, memory_bytes=1000, may_drop=True),
        structs.replace(IDLE, gateway_requests=limits.INGEST_REQUESTS_PER_GATEWAY_MAX - 1),
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
        (structs.replace(IDLE, memory_bytes=1000), Unavailable),
        (structs.replace(IDLE, gateway_requests=limits.INGEST_REQUESTS_PER_GATEWAY_MAX), TooManyRequests),
        (structs.replace(IDLE, requests=limits.INGEST_REQUESTS_MAX), Unavailable),
        (structs.replace(IDLE, requests=1, body_bytes=BODIES_MAX - LARGEST + 1), Unavailable),
    ],
)
def test_at_its_bounds_a_request_is_refused_with_a_time_to_come_back(load: Load, error: type) -> None:
    refused = decide(load, LARGEST)
    assert type(refused) is error
    assert refused.can_retry
    assert refused.retry_after_s
