"""Limits and odd inputs of the notification API, from a real daemon."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.daemon import Daemon, Reply, User, log_shown, open_daemon
from support.receiver import Receiver, answer, open_receiver

pytestmark = pytest.mark.slow

DAEMON_FLAGS = ("--allow-private-callbacks",)

CALLBACK = "/v2/notification/callback"
WEBSOCKET = "/v2/notification/websocket"
SUBSCRIPTIONS = "/v2/subscriptions"


@pytest.fixture(scope="module")
def known() -> dict[str, User]:
    """The application that most tests of this file share: a new key costs half a second."""
    return {}


@pytest.fixture
async def application(daemon: Daemon, known: dict[str, User]) -> AsyncIterator[User]:
    """An application without a channel and without subscriptions."""
    if "application" not in known:
        known["application"] = await daemon.user("application")
    user = known["application"]
    yield user
    for path in (CALLBACK, WEBSOCKET, SUBSCRIPTIONS, f"{SUBSCRIPTIONS}/d1", f"{SUBSCRIPTIONS}/urn:dev%2F1"):
        await user.send("DELETE", path)


@pytest.fixture
async def new_application(daemon: Daemon) -> User:
    """An application of which no callback was ever verified: there is a bound for a minute."""
    return await daemon.user("application")


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with open_receiver() as receiver:
        yield receiver


def expect_error(reply: Reply, status: int, type_: str) -> str:
    """The reply is an ``ErrorResponse``; its message."""
    assert reply.status == status, reply.body
    assert reply.headers["content-type"].startswith("application/json")
    found = reply.content()
    assert (found["object"], found["code"], found["type"]) == ("error", status, type_)
    assert found["request_id"] == reply.headers["x-request-id"]
    assert found["message"]
    return str(found["message"])


# --- callback -------------------------------------------------------------------------


async def test_the_callbacks_url_is_read_back_exactly_as_it_was_written(
    new_application: User, receiver: Receiver
) -> None:
    url = f"HTTP://127.0.0.1:{receiver.port}/a%20b?C=d&e"
    assert (await new_application.send("PUT", CALLBACK, {"url": url})).status == 204
    assert (await new_application.send("GET", CALLBACK)).content() == {"url": url, "headers": {}}
    assert receiver.requests[0].line == b"PUT /a%20b?C=d&e HTTP/1.1"


async def test_a_callback_that_answers_another_status_is_not_registered(new_application: User) -> None:
    statuses = (201, 301, 400, 401, 404, 500, 503)
    located = (("Location", "/elsewhere"),)
    refusals = [answer(status, b"internal words", headers=located) for status in statuses]
    async with open_receiver(*refusals) as receiver:
        for number, status in enumerate(statuses, 1):
            put = await new_application.send("PUT", CALLBACK, {"url": receiver.url})
            message = expect_error(put, 400, put.content()["type"])
            assert str(status) in message
            assert "internal words" not in message
            assert len(receiver.requests) == number
    expect_error(await new_application.send("GET", CALLBACK), 404, "not_found")


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"url": 1},
        {"url": None},
        {"url": ""},
        {"url": "ftp://example.com/"},
        {"url": "http://"},
        {"url": "http://example.com:99999/"},
        {"url": "http://example.com/", "headers": []},
        {"url": "http://example.com/", "headers": {"X-A": 1}},
        {"url": "http://example.com/" + "x" * 400},
        {"url": "http://example.com/", "headers": {"X-A": "x" * 400}},
        {"url": "http://example.com/", "serialization": {"type": "v1"}},
        {"url": "http://example.com/", "serialization": {"type": "v2", "max_chunk_size": 99}},
        {"url": "http://example.com/", "serialization": {"type": "v2", "max_chunk_size": 20_001}},
        {"url": "http://example.com/", "serialization": {"type": "v2", "max_chunk_size": "many"}},
        {"url": "http://example.com/", "serialization": {"type": "v2", "cfg": {"include_uid": "yes"}}},
        {"url": "http://example.com/", "serialization": {"type": "v2", "cfg": {"include_uid": 1}}},
        [],
        "http://example.com/",
    ],
)
async def test_a_wrong_callback_is_refused_with_the_field(application: User, content: object) -> None:
    reply = await application.send("PUT", CALLBACK, content)
    expect_error(reply, 400, "validation_error")
    assert reply.content()["fields"]


async def test_url_and_headers_together_have_at_most_400_characters(
    new_application: User, receiver: Receiver
) -> None:
    room = 400 - len(receiver.url) - len("X-A")
    fits = {"url": receiver.url, "headers": {"X-A": "v" * room}}
    assert (await new_application.send("PUT", CALLBACK, fits)).status == 204
    over = {"url": receiver.url, "headers": {"X-A": "v" * (room + 1)}}
    assert "400" in str((await new_application.send("PUT", CALLBACK, over)).content())


# --- subscriptions --------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        {},
        [1],
        [{"endpoint-name": 1}],
        [{"endpoint-name": "x" * 65}],
        [{"endpoint-type": "x" * 65}],
        [{"endpoint-name": "a*b"}],
        [{"resource-path": []}],
        [{"resource-path": "/3/0"}],
        [{"resource-path": ["/" + "x" * 128]}],
        [{"resource-path": [f"/{n}" for n in range(257)]}],
        [{"endpoint-name": f"d{n}"} for n in range(1_025)],
    ],
)
async def test_wrong_presubscriptions_leave_the_earlier_ones(application: User, content: object) -> None:
    assert (await application.send("PUT", SUBSCRIPTIONS, [{"endpoint-name": "d1"}])).status == 204
    expect_error(await application.send("PUT", SUBSCRIPTIONS, content), 400, "validation_error")
    assert (await application.send("GET", SUBSCRIPTIONS)).content() == [{"endpoint-name": "d1"}]


async def test_as_many_presubscriptions_as_are_allowed_are_taken(application: User) -> None:
    entries = [
        {"endpoint-name": f"{n:063}*", "endpoint-type": "t" * 64, "resource-path": ["/" + f"{n % 256:0127}"]}
        for n in range(1_024)
    ]
    assert (await application.send("PUT", SUBSCRIPTIONS, entries)).status == 204
    assert (await application.send("GET", SUBSCRIPTIONS)).content() == entries


async def test_subscriptions_of_one_application_are_not_anothers(daemon: Daemon, application: User) -> None:
    assert application.key is not None
    other = await daemon.user("application", account=application.key.account)
    await application.send("PUT", f"{SUBSCRIPTIONS}/d1/3/0/1")
    assert (await other.send("GET", f"{SUBSCRIPTIONS}/d1/3/0/1")).status == 404
    await other.send("DELETE", f"{SUBSCRIPTIONS}/d1")
    assert (await application.send("GET", f"{SUBSCRIPTIONS}/d1/3/0/1")).status == 200


async def test_names_in_a_path_may_be_percent_encoded(application: User) -> None:
    assert (await application.send("PUT", f"{SUBSCRIPTIONS}/urn%3Adev%2F1/a%20b/c")).status == 200
    listed = await application.send("GET", f"{SUBSCRIPTIONS}/urn:dev%2F1")
    assert listed.body.decode() == "/a b/c"
    long = await application.send("PUT", f"{SUBSCRIPTIONS}/{'d' * 65}/3")
    expect_error(long, 400, long.content()["type"])


# --- who may, and what there is -------------------------------------------------------


async def test_every_answer_has_another_request_id(application: User) -> None:
    ids = {(await application.send("GET", SUBSCRIPTIONS)).headers["x-request-id"] for _ in range(5)}
    assert len(ids) == 5


async def test_status_pages_move_to_the_internal_address(tmp_path: Path) -> None:
    config = '[server]\ninternal_listen = "127.0.0.1:0"\n'
    with open_daemon(tmp_path, config=config) as daemon, log_shown(daemon):
        for path in ("/healthz", "/readyz", "/metrics", "/admin/v1/stats", "/console", "/console/console.js"):
            assert (await daemon.anyone.send("GET", path)).status == 404
