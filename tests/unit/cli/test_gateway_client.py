from __future__ import annotations

import json

import pytest
from support.receiver import CLOSE, Answer, Receiver, answer, open_receiver

from dispatcher import limits
from dispatcher.cli.api_client import ApiClient
from dispatcher.cli.gateway_client import GatewayClient, add, pause_s
from dispatcher.cli.server_address import ServerAddress
from dispatcher.errors import RequestRefused, ServerUnreachable
from dispatcher.wire.gateway_api import Accepted
from dispatcher.wire.ingest import BodyForm

BODY = b'{"notifications":[]}\n'


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CLIENT_RETRY_INITIAL_S", 0.001)


def accepted(count: int = 1) -> Answer:
    body = {"accepted": count, "queued": 2 * count, "unrouted": 0, "rejected": 0, "durability": "memory"}
    return answer(202, json.dumps(body).encode())


def gateway(receiver: Receiver, *, application: str | None = None, retries_max: int = 0) -> GatewayClient:
    api = ApiClient(ServerAddress(is_tls=False, host="127.0.0.1", port=receiver.port), "ak_1key")
    return GatewayClient(api, application=application, retries_max=retries_max)


async def test_a_body_goes_to_the_subscribers_as_what_it_is() -> None:
    async with open_receiver(accepted(3), accepted()) as receiver:
        client = gateway(receiver)
        assert (await client.post(BODY, BodyForm.NDJSON)).accepted == 3
        await client.post(b"{}", BodyForm.JSON)
    first, second = receiver.requests
    assert first.line == b"POST /gateway/v1/events HTTP/1.1"
    assert first.body == BODY
    assert first.values("content-type") == [b"application/x-ndjson"]
    assert first.values("idempotency-key") == []
    assert second.values("content-type") == [b"application/json"]


async def test_an_application_is_named_in_the_path() -> None:
    async with open_receiver(accepted()) as receiver:
        await gateway(receiver, application="green/house").post(BODY, BodyForm.NDJSON)
    assert receiver.requests[0].line == b"POST /gateway/v1/applications/green%2Fhouse/events HTTP/1.1"


@pytest.mark.parametrize("status", [429, 503, 507])
async def test_a_server_that_asks_for_time_gets_the_same_body_again(status: int) -> None:
    busy = answer(status, headers=(("Retry-After", "0"),))
    async with open_receiver(busy, busy, accepted()) as receiver:
        result = await gateway(receiver, retries_max=2).post(BODY, BodyForm.NDJSON, idempotency_key="k1")
    assert result.accepted == 1
    assert [request.body for request in receiver.requests] == [BODY] * 3
    assert [request.values("idempotency-key") for request in receiver.requests] == [[b"k1"]] * 3


async def test_retries_are_bounded_and_not_made_unless_asked_for() -> None:
    busy = answer(503)
    async with open_receiver(otherwise=busy) as receiver:
        with pytest.raises(RequestRefused, match="503"):
            await gateway(receiver, retries_max=2).post(BODY, BodyForm.NDJSON)
        assert len(receiver.requests) == 3
        with pytest.raises(RequestRefused, match="503"):
            await gateway(receiver).post(BODY, BodyForm.NDJSON)
        assert len(receiver.requests) == 4


@pytest.mark.parametrize("status", [400, 401, 413, 422, 500])
async def test_what_trying_again_cannot_help_is_refused_at_once(status: int) -> None:
    async with open_receiver(otherwise=answer(status)) as receiver:
        with pytest.raises(RequestRefused) as error:
            await gateway(receiver, retries_max=5).post(BODY, BodyForm.NDJSON, idempotency_key="k")
    assert error.value.status == status
    assert len(receiver.requests) == 1


async def test_after_a_lost_answer_only_a_body_with_an_idempotency_key_goes_again() -> None:
    async with open_receiver(accepted(), CLOSE, accepted(2), CLOSE) as receiver:
        client = gateway(receiver, retries_max=3)
        await client.post(BODY, BodyForm.NDJSON)
        assert (await client.post(BODY, BodyForm.NDJSON, idempotency_key="k")).accepted == 2
        with pytest.raises(ServerUnreachable):
            await client.post(BODY, BodyForm.NDJSON)
    assert len(receiver.requests) == 4


async def test_a_server_that_never_answered_is_not_waited_for() -> None:
    async with open_receiver(CLOSE, accepted()) as receiver:
        with pytest.raises(ServerUnreachable):
            await gateway(receiver, retries_max=3).post(BODY, BodyForm.NDJSON, idempotency_key="k")


async def test_each_pause_is_told_with_its_reason_and_length() -> None:
    told: list[tuple[str, float]] = []
    async with open_receiver(answer(503), answer(429), accepted()) as receiver:
        api = ApiClient(ServerAddress(is_tls=False, host="127.0.0.1", port=receiver.port), "ak_1key")
        client = GatewayClient(
            api, retries_max=2, pausing=lambda reason, length_s: told.append((reason, length_s))
        )
        await client.post(BODY, BodyForm.NDJSON)
    assert told == [("the server answered 503", 0.001), ("the server answered 429", 0.002)]


def test_pauses_double_follow_the_server_and_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CLIENT_RETRY_INITIAL_S", 0.5)
    assert [pause_s(attempt, None) for attempt in range(3)] == [0.5, 1.0, 2.0]
    assert pause_s(0, 7.0) == 7.0
    assert pause_s(3, 0.0) == 4.0
    assert pause_s(50, None) == pause_s(0, 1e9) == limits.CLIENT_RETRY_S_MAX


def test_answers_add_up() -> None:
    one = Accepted(accepted=1, queued=2, unrouted=3, rejected=4, durability="")
    other = Accepted(accepted=10, queued=20, unrouted=30, rejected=40, durability="memory")
    assert add(one, other) == Accepted(accepted=11, queued=22, unrouted=33, rejected=44, durability="memory")
