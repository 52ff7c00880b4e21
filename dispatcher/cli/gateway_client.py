"""Posting events as a gateway does: what ``publish``, ``demo`` and ``bench/`` are built on."""

from __future__ import annotations

import time
from collections.abc import Callable
from urllib.parse import quote

import msgspec
import trio

from dispatcher import limits
from dispatcher.cli.api_client import Answer, ApiClient
from dispatcher.core.retry import parse_retry_after
from dispatcher.errors import ServerUnreachable
from dispatcher.wire.gateway_api import Accepted
from dispatcher.wire.ingest import BodyForm

_WORTH_RETRYING = frozenset({429, 503, 507})


class GatewayClient:
    """Posts bodies of events, one at a time, in order.

    ``application``: the name of the one that gets them, subscriptions or not; None
    routes by subscription.  ``retries_max``: how often one body is posted again when
    the server asks for time (429, 503, 507), or when its answer was lost and the body has
    an idempotency key.  A server that never answered at all is not waited for.
    ``pausing`` is told why and for how many seconds, before each pause.
    """

    def __init__(
        self,
        api: ApiClient,
        *,
        application: str | None = None,
        retries_max: int = 0,
        pausing: Callable[[str, float], None] = lambda reason, pause_s: None,
    ) -> None:
        self._api = api
        self._retries_max = retries_max
        self._pausing = pausing
        self._has_answered = False
        self._path = "/gateway/v1/events"
        if application is not None:
            self._path = f"/gateway/v1/applications/{quote(application, safe='')}/events"

    def __repr__(self) -> str:
        return f"<GatewayClient {self._path} over {self._api!r}>"

    async def post(self, body: bytes, form: BodyForm, *, idempotency_key: str | None = None) -> Accepted:
        """Post one body and return what the 202 says of it.

        Raises ``RequestRefused`` with the server's status and fields, nothing of the body
        being stored then, and ``ServerUnreachable`` when nobody can tell.  Cancellation
        leaves the same doubt; with the same idempotency key the body may be posted again.
        """
        headers = () if idempotency_key is None else (("Idempotency-Key", idempotency_key),)
        for attempt in range(self._retries_max + 1):
            is_last = attempt == self._retries_max
            try:
                answer = await self._api.request(
                    "POST", self._path, body, content_type=form.value, headers=headers
                )
            except ServerUnreachable as lost:
                if is_last or idempotency_key is None or not self._has_answered:
                    raise
                await self._pause(lost.message, attempt, None)
                continue
            self._has_answered = True
            if answer.status == 202:
                return msgspec.json.decode(answer.body, type=Accepted)
            if is_last or answer.status not in _WORTH_RETRYING:
                raise self._api.refusal("POST", self._path, answer)
            await self._pause(f"the server answered {answer.status}", attempt, _retry_after_s(answer))
        raise AssertionError("the last attempt returns or raises")

    async def _pause(self, reason: str, attempt: int, asked_s: float | None) -> None:
        length_s = pause_s(attempt, asked_s)
        self._pausing(reason, length_s)
        await trio.sleep(length_s)


def pause_s(attempt: int, asked_s: float | None) -> float:
    """How long to wait after an attempt, the first being 0: doubling, and as the server asked."""
    backoff_s = limits.CLIENT_RETRY_INITIAL_S * 2.0**attempt
    return min(limits.CLIENT_RETRY_S_MAX, max(backoff_s, asked_s or 0.0))


def add(one: Accepted, other: Accepted) -> Accepted:
    """What two answers say together; the durability is the later one's."""
    return Accepted(
        accepted=one.accepted + other.accepted,
        queued=one.queued + other.queued,
        unrouted=one.unrouted + other.unrouted,
        rejected=one.rejected + other.rejected,
        durability=other.durability,
    )


def _retry_after_s(answer: Answer) -> float | None:
    value = answer.header("retry-after")
    return None if value is None else parse_retry_after(value, answer.header("date"), time.time())
