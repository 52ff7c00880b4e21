"""Accounts, applications, keys and tiers by the admin API."""

from __future__ import annotations

import json

import pytest
from support.admin_api import open_operator
from support.api_in_process import Caller

from dispatcher import limits
from dispatcher.model import Role

pytestmark = pytest.mark.usefixtures("autojump_clock")


async def test_an_account_is_made_once_with_its_tier() -> None:
    async with open_operator() as operator:
        made = await operator.ask("POST", "accounts", {"name": "new", "tier": "free"})
        assert made == {"name": "new", "tier": "free", "applications": 0, "channels": 0}
        assert await operator.ask("POST", "accounts", {"name": "new"}) == made
        rows = (await operator.ask("GET", "accounts"))["accounts"]
        assert [row["name"] for row in rows] == ["acme", "new"]
        told = await operator.ask("POST", "accounts", {"name": "other", "tier": "gold"}, status=400)
        assert "commercial, free" in told["message"]


async def test_applications_are_listed_with_their_channels() -> None:
    async with open_operator() as operator:
        made = await operator.ask("POST", "applications", {"account": "acme", "name": "second"})
        assert made == {"name": "second", "account": "acme", "channel": None}
        number = await operator.channel_of(operator.house.application)
        rows = (await operator.ask("GET", "applications?account=acme"))["applications"]
        assert rows == [{"name": "app", "account": "acme", "channel": number}, made]
        await operator.ask("GET", "applications?account=nobody", status=404)
        await operator.ask("POST", "applications", {"account": "nobody", "name": "a"}, status=404)
        await operator.ask("POST", "applications", {"account": "acme", "name": "a b"}, status=400)


async def test_the_bound_of_a_tier_holds_here_too() -> None:
    async with open_operator() as operator:
        await operator.ask("POST", "accounts", {"name": "small", "tier": "free"})
        for number in range(4):
            await operator.ask("POST", "applications", {"account": "small", "name": f"a{number}"})
        await operator.ask("POST", "applications", {"account": "small", "name": "a4"}, status=429)


async def test_a_key_is_shown_once_works_and_is_revoked() -> None:
    async with open_operator() as operator:
        wanted = {"role": "application", "account": "acme", "application": "fresh", "expires_in_s": 3600}
        made = await operator.ask("POST", "keys", wanted, status=201)
        assert made["key"].startswith("ak_")
        caller = Caller(operator.house, made["key"], made["id"])
        assert (await caller.send("GET", "/v2/notification/channel")).status == 404
        reply = await operator.caller.send("GET", "/admin/v1/keys?account=acme")
        assert made["key"] not in reply.body.decode()
        (row,) = [row for row in json.loads(reply.body)["keys"] if row["id"] == made["id"]]
        assert row == {name: value for name, value in made.items() if name != "key"}
        await operator.ask("DELETE", f"keys/{made['id']}", status=204)
        assert (await caller.send("GET", "/v2/notification/channel")).status == 401
        await operator.ask("DELETE", f"keys/{made['id']}", status=404)


@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        ({"role": "gateway"}, "account"),
        ({"role": "gateway", "account": "acme", "application": "app"}, "application"),
        ({"role": "application", "account": "acme"}, "application"),
        ({"role": "admin", "account": "acme"}, "account"),
        ({"role": "admin", "expires_in_s": 0}, "expires_in_s"),
        ({"role": "king"}, "role"),
        ({}, "role"),
    ],
)
async def test_a_key_that_cannot_be_says_what_is_wrong(wanted: dict[str, object], field: str) -> None:
    async with open_operator() as operator:
        told = await operator.ask("POST", "keys", wanted, status=400)
        assert [one["name"] for one in told["fields"]] == [field]


async def test_all_keys_come_page_by_page() -> None:
    async with open_operator() as operator:
        for _ in range(5):
            await operator.house.caller(Role.GATEWAY)
        seen: list[str] = []
        after = ""
        for _ in range(8):
            page = await operator.ask("GET", f"keys?limit=2{after}")
            seen += [row["id"] for row in page["keys"]]
            if page["next"] is None:
                break
            after = f"&after={page['next']}"
        assert len(seen) == len(set(seen)) == 8  # the operator's, the application's, and six gateways'
        assert seen == sorted(seen)


async def test_tiers_are_those_of_the_settings() -> None:
    async with open_operator() as operator:
        tiers = (await operator.ask("GET", "tiers"))["tiers"]
        assert [(tier["name"], tier["applications_max"]) for tier in tiers] == [
            ("commercial", 25),
            ("free", 4),
        ]
        assert tiers[0]["limits"]["queue_bytes"] == 50_000_000


async def test_a_body_that_is_too_large_or_not_json_is_refused() -> None:
    async with open_operator() as operator:
        large = b'{"name": "' + b"a" * limits.API_BODY_BYTES_MAX + b'"}'
        for body, status in ((large, 413), (b"{", 400), (b"[]", 400)):
            reply = await operator.caller.send("POST", "/admin/v1/accounts", body=body)
            assert reply.status == status
        reply = await operator.caller.send(
            "POST", "/admin/v1/accounts", body=b"a=b", content_type="text/plain"
        )
        assert reply.status == 415
