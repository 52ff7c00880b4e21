"""What an operator sees of channels and does to them, and who may not; on a mock clock."""

from __future__ import annotations

import json
import logging

import pytest
import trio
from support.admin_api import Operator, open_operator
from support.api_in_process import UNIX_S, open_house

from dispatcher.http.message import Response
from dispatcher.model import Application, ChannelType, Notification, Registration, Role, Signing
from dispatcher.registry.memory import MemoryRegistry
from dispatcher.runtime.registrations import Callback

pytestmark = pytest.mark.usefixtures("autojump_clock")

SECRET_PAYLOAD = b"a payload that nobody asked for"


async def fleet(operator: Operator, count: int, account: str = "acme") -> list[Application]:
    """Applications with a WebSocket channel each."""
    owner = await operator.house.hub.ensure_account(account)
    found = []
    for number in range(count):
        application = await operator.house.hub.ensure_application(owner, f"{account}-{number}")
        await operator.channel_of(application)
        found.append(application)
    return found


def post(operator: Operator, application: Application, *payloads: bytes) -> None:
    for payload in payloads:
        operator.house.hub.publish(application, Notification("dev-1", "/1", payload))


# --- looking --------------------------------------------------------------------------------


async def test_channels_are_listed_page_by_page() -> None:
    async with open_operator() as operator:
        await fleet(operator, 5)
        first = await operator.ask("GET", "channels?limit=2")
        second = await operator.ask("GET", f"channels?limit=2&after={first['next']}")
        third = await operator.ask("GET", f"channels?limit=2&after={second['next']}")
        names = [row["application"] for page in (first, second, third) for row in page["channels"]]
        assert names == [f"acme-{number}" for number in range(5)]
        assert third["next"] is None


async def test_a_list_is_of_one_account_type_status_or_name() -> None:
    async with open_operator() as operator:
        await fleet(operator, 2)
        (other,) = await fleet(operator, 1, "other")
        paused = await operator.channel_of(other)
        await operator.ask("POST", f"channels/{paused}/pause", status=204)

        async def ids(query: str) -> list[str]:
            rows = (await operator.ask("GET", f"channels?{query}"))["channels"]
            return [f"{row['account']}/{row['application']}" for row in rows]

        assert await ids("account=other") == ["other/other-0"]
        assert await ids("account=nobody") == []
        assert await ids("status=paused") == ["other/other-0"]
        assert await ids("status=disconnected") == ["acme/acme-0", "acme/acme-1"]
        assert await ids("type=CALLBACK") == []
        assert await ids("search=ME-1") == ["acme/acme-1"]
        assert await ids(f"search={paused}") == ["other/other-0"]


async def test_the_fullest_or_the_longest_waiting_may_come_first() -> None:
    async with open_operator() as operator:
        empty, early, full = await fleet(operator, 3)
        post(operator, early, b"1")
        await trio.sleep(3)
        post(operator, full, b"1", b"2")
        by_depth = (await operator.ask("GET", "channels?order=depth"))["channels"]
        assert [row["application"] for row in by_depth] == [full.name, early.name, empty.name]
        by_age = (await operator.ask("GET", "channels?order=age"))["channels"]
        assert [row["application"] for row in by_age] == [early.name, full.name, empty.name]
        assert [row["oldest_age_s"] for row in by_age] == [
            pytest.approx(3, abs=1.4),
            pytest.approx(0, abs=1.4),
            None,
        ]


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=1001",
        "limit=x",
        "after=x",
        "type=callback",
        "status=x",
        "order=x",
        "limit=1&limit=2",
    ],
)
async def test_a_wrong_parameter_is_named(query: str) -> None:
    async with open_operator() as operator:
        told = await operator.ask("GET", f"channels?{query}", status=400)
        assert told["fields"][0]["name"] == query.partition("=")[0]


async def test_a_channel_is_shown_with_its_limits_and_when_it_will_be_removed() -> None:
    async with open_operator() as operator:
        (application,) = await fleet(operator, 1)
        post(operator, application, b"1", b"2")
        number = await operator.channel_of(application)
        shown = await operator.ask("GET", f"channels/{number}")
        assert (shown["records"], shown["status"], shown["account"]) == (2, "disconnected", "acme")
        assert shown["limits"]["queue_bytes"] == shown["queue_bytes"] == 50_000_000
        assert shown["queue"] == {"last_seq": 2, "settled_seq": 0, "gaps": 0}
        assert shown["sending"]["is_bound"] is False
        assert shown["removal"] == {"reason": "no socket was connected", "in_s": 86_400, "timeout_s": 86_400}
        assert shown["last_failure"] is None


@pytest.mark.parametrize("number", ["0", "99", "x", "-1", "9" * 30, "\u0661"])
async def test_a_channel_that_is_not_there_is_404(number: str) -> None:
    async with open_operator() as operator:
        for method, rest in (("GET", ""), ("DELETE", ""), ("GET", "/peek"), ("POST", "/pause")):
            await operator.ask(method, f"channels/{number}{rest}", status=404)


async def test_records_are_looked_at_without_their_payloads_and_stay() -> None:
    async with open_operator() as operator:
        (application,) = await fleet(operator, 1)
        number = await operator.channel_of(application)
        post(operator, application, SECRET_PAYLOAD, b"", b"x")
        operator.house.hub.publish(application, Registration(ep="dev-2", ept="thermometer"))
        reply = await operator.caller.send("GET", f"/admin/v1/channels/{number}/peek?limit=4")
        assert b'payload"' not in reply.body
        records = json.loads(reply.body)["records"]
        assert [record["seq"] for record in records] == [1, 2, 3, 4]
        assert [record["payload_bytes"] for record in records] == [len(SECRET_PAYLOAD), 0, 1, None]
        assert [record["kind"] for record in records] == ["notifications"] * 3 + ["registrations"]
        assert records[0]["received_unix_ms"] == pytest.approx(UNIX_S * 1000, abs=2_000)
        assert records[0]["event"] | {"uid": ""} == {
            "ep": "dev-1", "path": "/1", "ct": "", "max-age": 0, "original-ep": "dev-1", "uid": "",
        }  # fmt: skip
        assert len((await operator.ask("GET", f"channels/{number}/peek?limit=1"))["records"]) == 1
        assert (await operator.ask("GET", f"channels/{number}"))["records"] == 4


async def test_payloads_are_shown_to_who_asks_and_that_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with open_operator() as operator:
        (application,) = await fleet(operator, 1)
        number = await operator.channel_of(application)
        post(operator, application, b"21.5")
        (record,) = (await operator.ask("GET", f"channels/{number}/peek?payloads=true"))["records"]
        assert (record["event"]["payload"], record["payload_bytes"]) == ("MjEuNQ==", None)
        told = [line.fields for line in caplog.records if line.message == "admin.acted"]  # type: ignore[attr-defined]
        assert told == [{"key": operator.caller.key_id, "action": "peek with payloads", "channel": number}]
        assert "MjEuNQ" not in caplog.text


# --- acting ---------------------------------------------------------------------------------


async def test_a_paused_channel_stores_and_gives_nothing_until_it_is_resumed() -> None:
    async with open_operator() as operator:
        application = operator.house.application
        async with operator.house.hub.consume(application):
            pass
        channel = operator.house.hub.parts.directory.channel_of(application.id)
        assert channel is not None
        for _ in range(2):  # twice is once
            await operator.ask("POST", f"channels/{channel.row.id}/pause", status=204)
        post(operator, application, b"1")
        assert await operator.house.events() == []
        assert (await operator.ask("GET", f"channels/{channel.row.id}"))["status"] == "paused"
        for _ in range(2):
            await operator.ask("POST", f"channels/{channel.row.id}/resume", status=204)
        assert len(await operator.house.events()) == 1
        shown = await operator.ask("GET", f"channels/{channel.row.id}")
        assert (shown["status"], shown["records"], shown["confirmed"]) == ("ok", 0, 1)


async def test_a_poll_of_a_paused_channel_gets_what_waits_when_it_is_resumed() -> None:
    async with open_operator() as operator:
        house = operator.house
        await house.hub.register_long_poll(house.application)
        channel = house.hub.parts.directory.channel_of(house.application.id)
        assert channel is not None
        await operator.ask("POST", f"channels/{channel.row.id}/pause", status=204)
        post(operator, house.application, b"1")
        began_s = trio.current_time()
        answers: list[Response] = []

        async def poll() -> None:
            answers.append(await house.app.send("GET", "/v2/notification/pull"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(poll)
            await trio.sleep(7)
            assert answers == []
            await operator.ask("POST", f"channels/{channel.row.id}/resume", status=204)
        assert (answers[0].status, trio.current_time() - began_s) == (200, pytest.approx(7, abs=0.5))


async def test_a_pause_outlasts_a_change_of_the_registration_and_a_restart() -> None:
    registry = MemoryRegistry()
    async with open_house(registry) as house:
        operator = Operator(house, await house.caller(Role.ADMIN))
        number = await operator.channel_of(house.application)
        await operator.ask("POST", f"channels/{number}/pause", status=204)
        await operator.channel_of(house.application)
        assert (await operator.ask("GET", f"channels/{number}"))["status"] == "paused"
    async with open_house(registry) as house:
        operator = Operator(house, await house.caller(Role.ADMIN))
        assert (await operator.ask("GET", f"channels/{number}"))["status"] == "paused"


async def test_a_channel_is_deleted_with_its_queue() -> None:
    async with open_operator() as operator:
        (application,) = await fleet(operator, 1)
        number = await operator.channel_of(application)
        post(operator, application, b"1")
        await operator.ask("DELETE", f"channels/{number}", status=204)
        await operator.ask("GET", f"channels/{number}", status=404)
        assert (await operator.ask("GET", "stats"))["deleted"] == 1
        assert operator.house.hub.statistics(application) is None


async def test_only_a_callback_can_be_tried_again() -> None:
    async with open_operator() as operator:
        number = await operator.channel_of(operator.house.application)
        told = await operator.ask("POST", f"channels/{number}/retry", status=400)
        assert "only a callback" in told["message"]


# --- who may not ------------------------------------------------------------------------------


async def test_every_path_is_for_admin_keys_alone() -> None:
    async with open_operator() as operator:
        house = operator.house
        number = await operator.channel_of(house.application)
        document = json.loads((await operator.caller.send("GET", "/openapi.json")).body)
        tried = 0
        for path, item in document["paths"].items():
            if not path.startswith("/admin/"):
                continue
            for method in item:
                tried += 1
                target = path.replace("{channel}", str(number)).replace("{key}", operator.caller.key_id)
                for caller in (house.gateway, house.app):
                    reply = await caller.send(method.upper(), target)
                    assert reply.status == 403, f"{method} {target}"
                nobody = house.caller_with(await house.hub.create_key(Role.ADMIN))
                nobody.key = "ak_unknown"
                assert (await nobody.send(method.upper(), target)).status == 401
        assert tried >= 18
        assert (await operator.ask("GET", f"channels/{number}"))["status"] == "disconnected"


async def test_no_answer_holds_a_key_a_header_value_or_a_path_of_a_callback() -> None:
    async with open_operator() as operator:
        house = operator.house
        await house.hub.parts.registrations.register(
            house.application,
            ChannelType.CALLBACK,
            callback=Callback(
                url="https://user:hunter2@app.example.com:444/hook/s3cr3t?token=t0ken",
                headers={"X-Token": "h3ader"},
                signing=Signing(secret=b"s1gning-secret-of-the-channel"),
            ),
        )
        channel = house.hub.parts.directory.channel_of(house.application.id)
        assert channel is not None
        digests = [key.digest.hex() for key in (*house.hub.parts.directory.keys.keys(),)]
        shown = await operator.ask("GET", f"channels/{channel.row.id}")
        assert (shown["target"], shown["header_names"]) == ("https://app.example.com:444", ["X-Token"])
        for path in ("channels", f"channels/{channel.row.id}", "keys", "accounts", "applications", "stats"):
            body = (await operator.caller.send("GET", f"/admin/v1/{path}")).body.decode()
            for secret in (
                "hunter2",
                "s3cr3t",
                "t0ken",
                "h3ader",
                "s1gning",
                operator.caller.key,
                house.app.key,
            ):
                assert secret not in body, path
            assert not any(digest in body for digest in digests)
