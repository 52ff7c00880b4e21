"""Whether a request with a body may be taken now.  Pure: figures in, verdict out.

What is refused here is refused before its body is read, so that overload costs
little.  The queues are not asked: one channel's trouble never answers for the others,
and full memory makes room or refuses when it comes to storing.

An account may hold at most as much as is still free.  Alone it gets half; among n that take
all they can each gets one part of n + 1, and whoever comes next finds as much: nobody has to be
counted, and nothing is set aside for those that are not there.
"""

from __future__ import annotations

import msgspec

from dispatcher import limits
from dispatcher.errors import TooManyRequests, Unavailable

RETRY_SOON_S = 1.0  # requests end within milliseconds; a second lets a burst pass


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What is going on when a request comes."""

    requests: int  # in flight, of all accounts
    account_requests: int  # those of this request's account
    key_requests: int  # and those of its access key
    body_bytes: int  # announced or read, of all requests in flight
    account_body_bytes: int


def decide(load: Load, request_bytes: int) -> Unavailable | TooManyRequests | None:
    """The reason to refuse one more request of this size, or None to take it.

    ``request_bytes`` is the announced length, or ``limits.REQUEST_BODY_BYTES_MAX`` when
    none is.  A lone request is taken whatever its size.
    """
    if load.key_requests >= limits.INGEST_REQUESTS_PER_GATEWAY_MAX:
        return TooManyRequests(
            f"this access key has {load.key_requests} requests in flight; wait for their answers",
            retry_after_s=RETRY_SOON_S,
        )
    if load.requests >= limits.INGEST_REQUESTS_MAX:
        return Unavailable("too many requests are in flight", retry_after_s=RETRY_SOON_S)
    if load.requests and load.body_bytes + request_bytes > limits.INGEST_BODIES_BYTES_MAX:
        return Unavailable("bodies in flight fill the memory set aside for them", retry_after_s=RETRY_SOON_S)
    if load.account_requests >= limits.INGEST_REQUESTS_MAX - load.requests:
        return TooManyRequests(
            f"this account has {load.account_requests} requests in flight, as many as are left for others; "
            "wait for their answers",
            retry_after_s=RETRY_SOON_S,
        )
    free_bytes = limits.INGEST_BODIES_BYTES_MAX - load.body_bytes
    if load.account_requests and load.account_body_bytes + request_bytes > free_bytes:
        return TooManyRequests(
            f"this account has {load.account_body_bytes} bytes of bodies in flight, and this one would be "
            "over its share; wait for the answers to them",
            retry_after_s=RETRY_SOON_S,
        )
    return None
