"""Token buckets by tier: who is over the rate is told when to come back, and nobody else notices."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio
import trio.testing
from support.api_in_process import Caller, House, open_house
from support.scripted_gateway import connect
from trio.testing import MockClock

from dispatcher import limits
from dispatcher.config import TierSettings, channel_limits
from dispatcher.http.message import Headers, Request, Response, Upgrade
from dispatcher.model import Role

UNLIMITED = TierSettings()
TWO_A_SECOND = TierSettings(requests_per_s=2, requests_burst=4)
SLOW = TierSettings(requests_per_s=0.3, requests_burst=1)
TEN_EVENTS = TierSettings(events_per_s=10, events_burst=20)


HANDSHAKE = {
    "connection": "Upgrade",
    "upgrade": "websocket",
    "sec_websocket_version": "13",
    "sec_websocket_key": "AAAAAAAAAAAAAAAAAAAAAA==",
}
CLOSE_TRY_AGAIN_LATER = b"\x88"


class EndlessBody:
    """A body that never comes."""

    has_body = True

    async def read(self, bytes_max: int) -> bytes:
        """Wait for it."""
        await trio.sleep_forever()
        raise AssertionError


def announcing(app: Caller) -> Request:
    """A request whose body is announced to be as large as one may be."""
    headers = {
        "authorization": f"Bearer {app.key}",
        "content-type": "application/json",
        "content-length": str(limits.REQUEST_BODY_BYTES_MAX),
    }
    fields = Headers((name.encode(), value.encode()) for name, value in headers.items())
    return Request(method="PUT", path="/v2/subscriptions", headers=fields, body=EndlessBody())


async def first_bytes(client: trio.StapledStream) -> bytes:
    """The first byte of a frame that came; empty when none did."""
    with trio.move_on_after(0.1):
        return bytes(await client.receive_some())[:1]
    return b""


def message(count: int, path: str = "/1") -> dict[str, Any]:
    return {"notifications": [{"ep": "d", "path": path, "max-age": n} for n in range(count)]}


def retry_after(answer: Response) -> int:
    """What a refusal says, which must be an ErrorResponse."""
    assert answer.status == 429
    error = json.loads(answer.body)
    assert error["type"] == "too_many_requests"
    assert error["code"] == 429
    return int(dict(answer.headers)["Retry-After"])


async def limited(house: House) -> dict[str, float]:
    """The counters of refusals."""
    found = house.hub.parts.metrics.requests_limited.collect()
    return {s.labels["limit"]: s.value for m in found for s in m.samples if s.name.endswith("_total")}


async def stored(house: House) -> int:
    """How many events the application holds."""
    return len(await house.events())


async def test_by_default_nobody_is_limited(autojump_clock: MockClock) -> None:
    async with open_house() as house:
        for _ in range(1_000):
            assert (await house.app.send("GET", "/v2/subscriptions")).status == 200
        await house.gateway.post(message(50_000))
        await house.gateway.post(message(1))


@pytest.mark.parametrize("tier", [TWO_A_SECOND, SLOW])
async def test_retry_after_is_enough_and_no_second_too_long(
    autojump_clock: MockClock, tier: TierSettings
) -> None:
    async with open_house(tiers={"commercial": tier}) as house:
        for _ in range(tier.requests_burst):
            assert (await house.app.send("GET", "/v2/subscriptions")).status == 200
        seconds = retry_after(await house.app.send("GET", "/v2/subscriptions"))
        assert seconds == (1 if tier is TWO_A_SECOND else 4)
        await trio.sleep(seconds - 1)
        retry_after(await house.app.send("GET", "/v2/subscriptions"))
        await trio.sleep(1)
        assert (await house.app.send("GET", "/v2/subscriptions")).status == 200
        assert await limited(house) == {"requests": 2}


async def test_all_keys_of_an_account_share_its_rate_and_no_other_account_does(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_house(tiers={"commercial": TWO_A_SECOND}) as house:
        others = [await house.caller(Role.APPLICATION, "other"), await house.caller(Role.GATEWAY, "other")]
        for _ in range(2):
            assert (await house.app.send("GET", "/v2/subscriptions")).status == 200
            await house.gateway.post(message(1))
        for _ in range(500):
            retry_after(await house.app.send("GET", "/v2/subscriptions"))
            retry_after(await house.gateway.send("POST", "/gateway/v1/events", message(1)))
        for _ in range(2):
            assert (await others[0].send("GET", "/v2/subscriptions")).status == 200
            await others[1].post(message(1))
        told = [record for record in caplog.records if record.getMessage() == "account.limited"]
        assert [record.fields["account"] for record in told] == ["acme"]  # type: ignore[attr-defined]


async def test_refused_events_are_not_stored_and_may_be_sent_again(autojump_clock: MockClock) -> None:
    async with open_house(tiers={"commercial": TEN_EVENTS}) as house:
        await house.events()
        await house.app.send("PUT", "/v2/subscriptions/d/1")
        await house.gateway.post(message(50))  # more than a burst is taken, and paid back
        headers = {"idempotency_key": "k1"}
        again = await house.gateway.send("POST", "/gateway/v1/events", message(1), **headers)
        assert retry_after(again) == 4  # 30 overdrawn, and one to come
        assert await stored(house) == 50
        await trio.sleep(3)
        retry_after(await house.gateway.send("POST", "/gateway/v1/events", message(1), **headers))
        await trio.sleep(1)
        taken = await house.gateway.send("POST", "/gateway/v1/events", message(1), **headers)
        assert taken.status == 202
        replayed = await house.gateway.send("POST", "/gateway/v1/events", message(1), **headers)
        assert (replayed.status, replayed.body) == (202, taken.body)
        assert dict(replayed.headers)["Idempotency-Replayed"] == "true"
        assert await stored(house) == 1
        assert await limited(house) == {"events": 2}


async def test_a_request_that_is_refused_for_another_reason_costs_no_events(
    autojump_clock: MockClock,
) -> None:
    async with open_house(tiers={"commercial": TEN_EVENTS}) as house:
        bad = {"notifications": [*message(1_000)["notifications"], {"ep": "d"}]}
        assert (await house.gateway.send("POST", "/gateway/v1/events", bad)).status == 400
        await house.gateway.post(message(20))
        retry_after(await house.gateway.send("POST", "/gateway/v1/events", message(1)))


async def test_requests_that_parse_at_the_same_time_do_not_all_get_what_there_is_for_one(
    autojump_clock: MockClock,
) -> None:
    lines = b"\n".join(json.dumps(message(100)).encode() for _ in range(300))  # parsed in steps
    async with open_house(tiers={"commercial": TEN_EVENTS}) as house:
        statuses: list[int] = []

        async def post() -> None:
            answer = await house.gateway.send(
                "POST", "/gateway/v1/events", body=lines, content_type="application/x-ndjson"
            )
            statuses.append(answer.status)

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(post)
        assert sorted(statuses) == [202, 429, 429, 429, 429]


async def test_a_limit_follows_the_account_s_tier_and_is_not_copied_into_channels(
    autojump_clock: MockClock,
) -> None:
    tiers = {"commercial": TWO_A_SECOND, "large": UNLIMITED}
    async with open_house(tiers=tiers) as house:
        account = house.hub.parts.directory.accounts[house.application.account_id]
        async with connect(house.gateway) as gateway:
            for _ in range(3):
                await house.app.send("PUT", "/v2/notification/websocket")
            retry_after(await house.app.send("PUT", "/v2/notification/websocket"))
            await house.hub.set_tier(account, "large")
            for _ in range(100):
                assert (await house.app.send("PUT", "/v2/notification/websocket")).status == 200
                assert "error" not in await gateway.tell(message(1))
            await house.hub.set_tier(account, "commercial")  # where it had used up what there was
            retry_after(await house.app.send("PUT", "/v2/notification/websocket"))
    assert channel_limits(TWO_A_SECOND) == channel_limits(UNLIMITED)


async def test_a_gateway_s_socket_is_read_at_the_account_s_rate(autojump_clock: MockClock) -> None:
    async with open_house(tiers={"commercial": TEN_EVENTS}) as house:
        await house.events()
        await house.app.send("PUT", "/v2/subscriptions/d/1")
        other = await house.caller(Role.GATEWAY, "other")
        async with connect(house.gateway) as gateway, connect(other) as unhurried:
            began_s = trio.current_time()
            for _ in range(30):
                await gateway.send(message(5))
            assert await unhurried.tell(message(1)) == {"accepted": 1}
            assert trio.current_time() == began_s
            answers = [await gateway.message() for _ in range(30)]
            assert answers == [{"accepted": 5 * (n + 1)} for n in range(30)]  # all of them, in order
            assert trio.current_time() - began_s == pytest.approx(12.6, abs=0.1)
        assert await stored(house) == 150
        assert await limited(house) == {}


async def test_a_wait_that_is_too_long_for_a_socket_is_an_error_answer(autojump_clock: MockClock) -> None:
    async with open_house(tiers={"commercial": TEN_EVENTS}) as house, connect(house.gateway) as gateway:
        await house.events()
        await house.app.send("PUT", "/v2/subscriptions/d/1")
        assert await gateway.tell(message(90)) == {"accepted": 90}
        refused = await gateway.tell(message(1))
        assert refused["accepted"] == 90
        assert refused["error"]["code"] == 429
        assert "come back in 8 s" in refused["error"]["message"]
        assert await stored(house) == 90
        await trio.sleep(8 - limits.PACE_S_MAX)
        assert await gateway.tell(message(1)) == {"accepted": 91}
        assert await limited(house) == {"events": 1}


async def test_sockets_and_polls_of_an_account_are_bounded_together(autojump_clock: MockClock) -> None:
    async with open_house(tiers={"commercial": TierSettings(receivers_max=2)}) as house:
        apps = [await house.caller(Role.APPLICATION, "acme", f"app-{number}") for number in range(3)]
        other = await house.caller(Role.APPLICATION, "other", "app")
        answers: list[int] = []

        async def poll(app: Caller) -> None:
            answers.append((await app.send("GET", "/v2/notification/pull")).status)

        async with trio.open_nursery() as nursery:
            for app in apps[:2]:
                nursery.start_soon(poll, app)
            await trio.testing.wait_all_tasks_blocked()
            assert retry_after(await apps[2].send("GET", "/v2/notification/pull")) == 10
            refused = await apps[2].ask("GET", "/v2/notification/websocket-connect", **HANDSHAKE)
            assert isinstance(refused, Response)
            assert retry_after(refused) == 10
            nursery.start_soon(poll, other)
            await trio.testing.wait_all_tasks_blocked()
        assert answers == [204, 204, 204]
        assert (await apps[2].send("GET", "/v2/notification/pull")).status == 204
        assert await limited(house) == {"receivers": 2}
        assert not house.hub.parts.budgets._receivers


async def test_a_socket_counts_until_it_has_ended_and_handshakes_at_once_do_not_get_past_the_bound(
    autojump_clock: MockClock,
) -> None:
    async with open_house(tiers={"commercial": TierSettings(receivers_max=1)}) as house:
        await house.app.send("PUT", "/v2/notification/websocket")
        upgrades = [
            await house.app.ask("GET", "/v2/notification/websocket-connect", **HANDSHAKE) for _ in "ab"
        ]
        ends: list[tuple[trio.StapledStream, trio.StapledStream]] = []
        async with trio.open_nursery() as nursery:
            for upgrade in upgrades:
                assert isinstance(upgrade, Upgrade)  # neither was open when the other was looked at
                ends.append(trio.testing.memory_stream_pair())
                nursery.start_soon(upgrade.run, ends[-1][1], b"")
            await trio.testing.wait_all_tasks_blocked()
            taken = await house.app.ask("GET", "/v2/notification/websocket-connect", **HANDSHAKE)
            assert isinstance(taken, Response)
            closed = [await first_bytes(client) for client, _ in ends]
            assert sorted(closed) == [b"", CLOSE_TRY_AGAIN_LATER]
            for client, _ in ends:
                await client.aclose()
        again = await house.app.ask("GET", "/v2/notification/websocket-connect", **HANDSHAKE)
        assert isinstance(again, Upgrade)


async def test_bodies_of_applications_count_too(autojump_clock: MockClock) -> None:
    """They are announced and do not come; a second account is served while the first has its share."""
    async with open_house() as house:
        other = await house.caller(Role.APPLICATION, "other")
        async with trio.open_nursery() as nursery:
            for _ in range(limits.INGEST_BODIES_BYTES_MAX // limits.DEVICE_REQUEST_BODY_BYTES_MAX // 2):
                nursery.start_soon(house.handle, announcing(house.app))
            await trio.testing.wait_all_tasks_blocked()
            retry_after(await house.app.send("PUT", "/v2/subscriptions", []))
            assert (await house.app.send("GET", "/v2/subscriptions")).status == 200  # it has no body
            assert (await other.send("PUT", "/v2/subscriptions", [])).status == 204
            nursery.cancel_scope.cancel()
        assert (await house.app.send("PUT", "/v2/subscriptions", [])).status == 204


async def test_messages_of_sockets_count_as_requests(autojump_clock: MockClock) -> None:
    async with open_house(tiers={"commercial": TWO_A_SECOND}) as house, connect(house.gateway) as gateway:
        began_s = trio.current_time()
        for number in range(9):
            assert await gateway.tell(message(1)) == {"accepted": number + 1}
        assert trio.current_time() - began_s == pytest.approx(3.0, abs=0.1)
