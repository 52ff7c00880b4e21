"""The operator's webhook on a mock clock, with a receiver behind streams in memory."""

from __future__ import annotations

import json
import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
import trio
from standardwebhooks import Webhook
from support.metrics import totals_of
from support.receiver import SILENCE, Answer, Receiver, answer
from trio.testing import MockClock, memory_stream_pair

from dispatcher import limits
from dispatcher.config import OperatorSettings
from dispatcher.core.addresses import AddressPolicy
from dispatcher.deliver.dialer import Dialer
from dispatcher.errors import ConfigError
from dispatcher.observe.log import LogEvent
from dispatcher.observe.metrics import Metrics
from dispatcher.runtime.operator_webhook import ANYWHERE, OperatorWebhook, webhook_of

SECRET = "whsec_" + "MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0"
URL = "http://10.0.0.9/alarms?token=of-the-operator"
FILLING = LogEvent.CHANNEL_FILLING


class Operator:
    """A webhook and who receives it; ``is_dead``: nothing listens there."""

    def __init__(
        self, nursery: trio.Nursery, *script: Answer, otherwise: Answer, is_dead: bool, secret: str
    ) -> None:
        self.is_dead = is_dead
        self.dialled = 0
        self.receiver = Receiver(80, "http", script, lambda _: otherwise)
        self.metrics = Metrics(lambda: totals_of(0))
        self._nursery = nursery
        webhook = webhook_of(
            OperatorSettings(webhook=URL, webhook_secret=secret),
            new_dialer=self._dialer,
            load_tls=ssl.create_default_context,
            metrics=self.metrics,
            wall_unix_ms=lambda: 1_767_225_600_000 + int(trio.current_time() * 1000),
            random_bytes=lambda count: self.dialled.to_bytes(count, "big"),
        )
        assert webhook is not None
        self.webhook: OperatorWebhook = webhook

    def _dialer(self, is_proxied: bool, tls: ssl.SSLContext) -> Dialer:
        assert not is_proxied
        return Dialer(ANYWHERE, tls, connect=self._connect)

    async def _connect(self, address: str, port: int) -> trio.abc.Stream:
        self.dialled += 1
        if self.is_dead:
            raise ConnectionRefusedError
        ours, theirs = memory_stream_pair()
        self._nursery.start_soon(self.receiver.serve, theirs)
        return ours

    def note(self, channel: int, percent: int = 50) -> None:
        self.webhook.note(FILLING, str(channel), {"channel": channel, "percent": percent})

    def messages(self) -> list[Any]:
        return [json.loads(request.body) for request in self.receiver.requests]

    def count(self, outcome: str) -> float | None:
        return self.metrics.registry.get_sample_value(
            "dispatcher_operator_warnings_total", {"outcome": outcome}
        )


@asynccontextmanager
async def open_operator(
    *script: Answer, otherwise: Answer | None = None, is_dead: bool = False, secret: str = ""
) -> AsyncIterator[Operator]:
    async with trio.open_nursery() as nursery:
        operator = Operator(
            nursery, *script, otherwise=otherwise or answer(204), is_dead=is_dead, secret=secret
        )
        nursery.start_soon(operator.webhook.run)
        await trio.testing.wait_all_tasks_blocked()
        yield operator
        nursery.cancel_scope.cancel()


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Any:
    """The lines logged so far."""
    caplog.set_level(logging.INFO)
    return lambda: [(record.message, record.fields) for record in caplog.records]  # type: ignore[attr-defined]


async def test_what_comes_together_is_one_signed_post(autojump_clock: MockClock) -> None:
    async with open_operator(secret=SECRET) as operator:
        operator.note(7)
        await trio.sleep(limits.OPERATOR_GATHER_S / 2)
        operator.note(7, 70)
        operator.note(8)
        await trio.sleep(60)
        (request,) = operator.receiver.requests
        assert request.line == b"POST /alarms?token=of-the-operator HTTP/1.1"
        (id,), (unix_s,) = request.values("webhook-id"), request.values("webhook-timestamp")
        when = datetime.fromtimestamp(int(unix_s), UTC)
        signature = Webhook(SECRET).sign(id.decode(), when, request.body.decode())
        assert request.values("webhook-signature") == [signature.encode()]
        (message,) = operator.messages()
        assert message["type"] == "dispatcher.warnings"
        assert message["timestamp"] == "2026-01-01T00:00:01.000Z"
        assert message["data"]["untold"] == {}
        first, second = message["data"]["warnings"]
        assert first == {
            "event": "channel.filling",
            "first": "2026-01-01T00:00:00.000Z",
            "last": "2026-01-01T00:00:00.500Z",
            "times": 2,
            "channel": 7,
            "percent": 70,
        }
        assert second["channel"] == 8
        assert (operator.count("delivered"), operator.count("dropped")) == (2, 0)


async def test_a_storm_is_one_bounded_message_and_a_number(autojump_clock: MockClock, told: Any) -> None:
    async with open_operator() as operator:
        for channel in range(10_000):
            operator.note(channel)
        await trio.sleep(60)
        (request,) = operator.receiver.requests
        assert len(request.body) < 100_000
        (message,) = operator.messages()
        assert len(message["data"]["warnings"]) == limits.OPERATOR_WARNINGS_MAX
        left = 10_000 - limits.OPERATOR_WARNINGS_MAX
        assert message["data"]["untold"] == {"channel.filling": left}
        assert (operator.count("delivered"), operator.count("dropped")) == (
            limits.OPERATOR_WARNINGS_MAX,
            left,
        )
        ((event, fields),) = told()
        assert (event, fields["count"]) == ("operator.warnings-dropped", left)


async def test_a_refused_message_goes_again_with_its_id_until_it_is_taken(
    autojump_clock: MockClock, told: Any
) -> None:
    script = [answer(503), answer(302), SILENCE, answer(404), answer(200)]
    async with open_operator(*script, secret=SECRET) as operator:
        operator.note(7)
        await trio.sleep(limits.OPERATOR_GATHER_S + 1)
        operator.note(8)  # while the other is on its way
        await trio.sleep(300)
        bodies = [request.body for request in operator.receiver.requests]
        assert bodies[:5] == [bodies[0]] * 5
        ids = [request.values("webhook-id") for request in operator.receiver.requests]
        assert ids[:5] == [ids[0]] * 5 != ids[1:]
        assert [one["channel"] for one in operator.messages()[5]["data"]["warnings"]] == [8]
        assert (operator.count("delivered"), operator.count("dropped")) == (2, 0)
        assert told() == [("operator.webhook-failed", {"reason": "status 503"})]


async def test_a_dead_receiver_costs_bounded_memory_few_lines_and_every_loss_is_counted(
    autojump_clock: MockClock, told: Any
) -> None:
    async with open_operator(is_dead=True) as operator:
        noted = 0
        for _ in range(3600):
            for _ in range(5):
                operator.note(noted)
                noted += 1
            await trio.sleep(1)
        assert len(operator.webhook._book) <= limits.OPERATOR_WARNINGS_MAX
        dropped = operator.count("dropped")
        assert dropped is not None
        on_its_way = limits.OPERATOR_WARNINGS_MAX  # at most
        assert noted - on_its_way <= dropped + len(operator.webhook._book) <= noted
        rounds = 3600 / limits.OPERATOR_GIVE_UP_S + 1
        assert len(told()) <= 3 * rounds
        assert operator.dialled < 20 * rounds
        assert {event for event, _ in told()} == {"operator.webhook-failed", "operator.warnings-dropped"}
    assert operator.count("dropped") == noted  # what was left when it stopped is counted too
    assert told()[-1][1]["reason"] == "the daemon stopped"
    assert "of-the-operator" not in repr(told())


async def test_after_a_message_was_given_up_the_next_one_is_tried(autojump_clock: MockClock) -> None:
    async with open_operator(is_dead=True) as operator:
        operator.note(1)
        await trio.sleep(2 * limits.OPERATOR_GIVE_UP_S)
        assert operator.count("dropped") == 1
        operator.is_dead = False
        operator.note(2)
        await trio.sleep(limits.OPERATOR_GATHER_S + 1)
        assert [one["channel"] for one in operator.messages()[0]["data"]["warnings"]] == [2]


async def test_nothing_is_dialled_while_there_is_nothing_to_tell(autojump_clock: MockClock) -> None:
    async with open_operator() as operator:
        await trio.sleep(86_400)
        assert operator.dialled == 0


@pytest.mark.parametrize(
    ("url", "secret", "words"),
    [
        ("ftp://x/SECRET", "", "operator.webhook must start with http"),
        ("http://user:SECRET@x/", "", "user information"),
        ("http://x/", "whsec_SECRET", "operator.webhook_secret must be whsec_"),
        ("http://x/", "SECRET", "operator.webhook_secret must be whsec_"),
    ],
)
def test_a_wrong_setting_stops_the_start_and_is_not_repeated(url: str, secret: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        made(OperatorSettings(webhook=url, webhook_secret=secret))
    assert words in caught.value.message
    assert "SECRET" not in caught.value.message


def test_there_is_none_unless_it_is_set() -> None:
    assert made(OperatorSettings()) is None


def made(settings: OperatorSettings) -> OperatorWebhook | None:
    return webhook_of(
        settings,
        new_dialer=lambda is_proxied, tls: Dialer(AddressPolicy(), tls),
        load_tls=ssl.create_default_context,
        metrics=Metrics(lambda: totals_of(0)),
        wall_unix_ms=lambda: 0,
        random_bytes=bytes,
    )
