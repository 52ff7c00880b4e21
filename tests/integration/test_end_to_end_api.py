"""Every documented status of the notification API, from a real daemon."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from support.daemon import Daemon, Reply, User, log_shown, open_daemon
from support.plain_websocket import CONNECT_PATH, Rejected, open_websocket
from support.receiver import Receiver, answer, open_receiver

pytestmark = pytest.mark.slow

CALLBACK = "/v2/notification/callback"
WEBSOCKET = "/v2/notification/websocket"
CHANNEL = "/v2/notification/channel"
SUBSCRIPTIONS = "/v2/subscriptions"
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}
API = [
    ("PUT", CALLBACK),
    ("GET", CALLBACK),
    ("DELETE", CALLBACK),
    ("PUT", WEBSOCKET),
    ("GET", WEBSOCKET),
    ("DELETE", WEBSOCKET),
    ("GET", CHANNEL),
    ("PUT", SUBSCRIPTIONS),
    ("GET", SUBSCRIPTIONS),
    ("DELETE", SUBSCRIPTIONS),
    ("GET", f"{SUBSCRIPTIONS}/d1"),
    ("DELETE", f"{SUBSCRIPTIONS}/d1"),
    ("PUT", f"{SUBSCRIPTIONS}/d1/3/0/1"),
    ("GET", f"{SUBSCRIPTIONS}/d1/3/0/1"),
    ("DELETE", f"{SUBSCRIPTIONS}/d1/3/0/1"),
]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with open_daemon(tmp_path_factory.mktemp("daemon"), "--allow-private-callbacks") as daemon:
        yield daemon


@pytest.fixture
def daemon(running: Daemon) -> Iterator[Daemon]:
    with log_shown(running):
        yield running


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


async def test_the_callback_is_put_read_and_deleted(new_application: User, receiver: Receiver) -> None:
    expect_error(await new_application.send("GET", CALLBACK), 404, "not_found")
    expect_error(await new_application.send("DELETE", CALLBACK), 404, "not_found")
    put = await new_application.send("PUT", CALLBACK, {"url": receiver.url, "headers": {"X-Mine": "secret"}})
    assert (put.status, put.body) == (204, b"")
    found = await new_application.send("GET", CALLBACK)
    assert (found.status, found.content()) == (200, {"url": receiver.url, "headers": {"X-Mine": "secret"}})
    deleted = await new_application.send("DELETE", CALLBACK)
    assert (deleted.status, deleted.body) == (204, b"")
    expect_error(await new_application.send("GET", CALLBACK), 404, "not_found")


async def test_the_callbacks_url_is_read_back_exactly_as_it_was_written(
    new_application: User, receiver: Receiver
) -> None:
    url = f"HTTP://127.0.0.1:{receiver.port}/a%20b?C=d&e"
    assert (await new_application.send("PUT", CALLBACK, {"url": url})).status == 204
    assert (await new_application.send("GET", CALLBACK)).content() == {"url": url, "headers": {}}
    assert receiver.requests[0].line == b"PUT /a%20b?C=d&e HTTP/1.1"


async def test_a_callback_put_again_is_replaced(new_application: User, receiver: Receiver) -> None:
    for path in ("one", "two"):
        assert (await new_application.send("PUT", CALLBACK, {"url": receiver.url + path})).status == 204
    assert (await new_application.send("GET", CALLBACK)).content()["url"] == receiver.url + "two"


async def test_a_callbacks_serialization_is_read_back(new_application: User, receiver: Receiver) -> None:
    options = {"type": "v2", "max_chunk_size": 20_000, "cfg": {"include_uid": "true"}}
    put = await new_application.send("PUT", CALLBACK, {"url": receiver.url, "serialization": options})
    assert put.status == 204
    found = (await new_application.send("GET", CALLBACK)).content()["serialization"]
    assert found["max_chunk_size"] == 20_000
    assert found["cfg"]["include_uid"] is True
    assert found["cfg"]["include_timestamp"] is False


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


async def test_a_callback_that_answers_200_or_204_is_registered(new_application: User) -> None:
    async with open_receiver(answer(200), answer(204)) as receiver:
        for _ in range(2):
            assert (await new_application.send("PUT", CALLBACK, {"url": receiver.url})).status == 204


async def test_an_unreachable_callback_is_named_as_refused(new_application: User, receiver: Receiver) -> None:
    put = await new_application.send("PUT", CALLBACK, {"url": "http://127.0.0.1:1/"})
    assert "refused" in expect_error(put, 400, put.content()["type"])


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


async def test_another_media_type_is_415(application: User) -> None:
    for path in (CALLBACK, WEBSOCKET, SUBSCRIPTIONS):
        reply = await application.send("PUT", path, body=b"{}", headers={"Content-Type": "text/plain"})
        expect_error(reply, 415, "unsupported_media_type")


async def test_callbacks_are_verified_at_most_ten_times_a_minute(
    new_application: User, receiver: Receiver
) -> None:
    for _ in range(10):
        assert (await new_application.send("PUT", CALLBACK, {"url": receiver.url})).status == 204
    reply = await new_application.send("PUT", CALLBACK, {"url": receiver.url})
    expect_error(reply, 429, "too_many_requests")
    assert 0 < int(reply.headers["retry-after"]) <= 60
    assert len(receiver.requests) == 10


# --- websocket ------------------------------------------------------------------------


@pytest.mark.parametrize("media_type", ["application/json", "", None])
async def test_the_websocket_is_put_with_an_empty_body_read_and_deleted(
    application: User, media_type: str | None
) -> None:
    headers = {} if media_type is None else {"Content-Type": media_type}
    expect_error(await application.send("GET", WEBSOCKET), 404, "not_found")
    expect_error(await application.send("DELETE", WEBSOCKET), 404, "not_found")
    first = await application.send("PUT", WEBSOCKET, headers=headers)
    assert first.status == 201
    assert first.content()["status"] == "disconnected"
    again = await application.send("PUT", WEBSOCKET, headers=headers)
    assert again.status == 200
    assert isinstance(again.content(), dict)
    found = await application.send("GET", WEBSOCKET)
    assert (found.status, found.content()) == (200, {"status": "disconnected", "queue_size": 0})
    deleted = await application.send("DELETE", WEBSOCKET)
    assert (deleted.status, deleted.body) == (204, b"")
    expect_error(await application.send("GET", WEBSOCKET), 404, "not_found")


@pytest.mark.parametrize(
    "content", [[], {"serialization": 1}, {"serialization": {"type": "v3"}}, {"serialization": {"cfg": []}}]
)
async def test_a_wrong_websocket_registration_is_refused(application: User, content: object) -> None:
    expect_error(await application.send("PUT", WEBSOCKET, content), 400, "validation_error")
    expect_error(await application.send("GET", WEBSOCKET), 404, "not_found")


# --- exclusion, and which channel there is --------------------------------------------


async def test_only_one_type_of_channel_at_a_time(new_application: User, receiver: Receiver) -> None:
    expect_error(await new_application.send("GET", CHANNEL), 404, "not_found")
    assert (await new_application.send("PUT", WEBSOCKET)).status == 201
    assert (await new_application.send("GET", CHANNEL)).content() == {"delivery_mechanism": "WEB_SOCKET"}
    refused = await new_application.send("PUT", CALLBACK, {"url": receiver.url})
    expect_error(refused, 400, "bad_request")
    assert receiver.requests == []
    expect_error(await new_application.send("GET", CALLBACK), 404, "not_found")
    expect_error(await new_application.send("DELETE", CALLBACK), 404, "not_found")

    assert (await new_application.send("DELETE", WEBSOCKET)).status == 204
    assert (await new_application.send("PUT", CALLBACK, {"url": receiver.url})).status == 204
    assert (await new_application.send("GET", CHANNEL)).content() == {"delivery_mechanism": "CALLBACK"}
    expect_error(await new_application.send("PUT", WEBSOCKET), 400, "bad_request")
    expect_error(await new_application.send("GET", WEBSOCKET), 404, "not_found")
    expect_error(await new_application.send("DELETE", WEBSOCKET), 404, "not_found")
    assert (await new_application.send("GET", CALLBACK)).status == 200


async def test_keys_of_one_application_share_its_channel(daemon: Daemon, application: User) -> None:
    assert application.key is not None
    key = application.key
    other = await daemon.user("application", account=key.account, application=key.application)
    stranger = await daemon.user("application", account=key.account)
    assert (await application.send("PUT", WEBSOCKET)).status == 201
    assert (await other.send("GET", WEBSOCKET)).status == 200
    assert (await stranger.send("GET", WEBSOCKET)).status == 404


# --- websocket-connect ----------------------------------------------------------------


@pytest.mark.parametrize("is_key_first", [False, True])
async def test_wss_is_answered_in_either_order_and_the_key_is_not_echoed(
    application: User, is_key_first: bool
) -> None:
    assert application.key is not None
    offered = ["wss", f"pelion_{application.key.key}"]
    if is_key_first:
        offered.reverse()
    await application.send("PUT", WEBSOCKET)
    async with open_websocket(application.port, subprotocols=offered) as socket:
        assert socket.subprotocol == "wss"
        await socket.stay_silent(0.1)


async def test_only_the_key_offered_is_answered_with_it(application: User) -> None:
    assert application.key is not None
    offered = f"pelion_{application.key.key}"
    await application.send("PUT", WEBSOCKET)
    async with open_websocket(application.port, subprotocols=[offered]) as socket:
        assert socket.subprotocol == offered


async def test_a_key_in_the_header_needs_no_subprotocol(application: User) -> None:
    assert application.key is not None
    bearer = [("Authorization", f"Bearer {application.key.key}")]
    await application.send("PUT", WEBSOCKET)
    async with open_websocket(application.port, subprotocols=[], headers=bearer) as socket:
        assert socket.subprotocol is None
        await socket.stay_silent(0.1)
    async with open_websocket(application.port, subprotocols=["wss"], headers=bearer) as socket:
        assert socket.subprotocol == "wss"


async def test_the_header_wins_over_the_subprotocol(daemon: Daemon, application: User) -> None:
    assert application.key is not None
    await application.send("PUT", WEBSOCKET)
    bearer = [("Authorization", f"bearer {application.key.key}")]
    async with open_websocket(daemon.port, "ak_unknown", headers=bearer) as socket:
        await socket.stay_silent(0.1)
    with pytest.raises(Rejected) as refused:
        async with open_websocket(
            daemon.port, application.key.key, headers=[("Authorization", "Bearer ak_unknown")]
        ):
            pass
    assert refused.value.status == 401


@pytest.mark.parametrize("subprotocols", [[], ["wss"], ["wss", "pelion_"], ["wss", "pelion_ak_unknown"]])
async def test_a_handshake_without_a_valid_key_is_401(daemon: Daemon, subprotocols: list[str]) -> None:
    with pytest.raises(Rejected) as refused:
        async with open_websocket(daemon.port, subprotocols=subprotocols):
            pass
    assert refused.value.status == 401
    assert b"invalid_auth" in refused.value.body


async def test_a_gateways_key_opens_no_application_socket(daemon: Daemon) -> None:
    gateway = await daemon.create_key("gateway")
    with pytest.raises(Rejected) as refused:
        async with open_websocket(daemon.port, gateway.key):
            pass
    assert refused.value.status == 403


async def test_a_plain_get_of_the_socket_is_426(application: User) -> None:
    reply = await application.send("GET", CONNECT_PATH)
    expect_error(reply, 426, "upgrade_required")
    assert reply.headers["sec-websocket-version"] == "13"
    assert reply.headers["upgrade"].lower() == "websocket"


@pytest.mark.parametrize("missing", ["Sec-WebSocket-Version", "Sec-WebSocket-Key"])
async def test_a_handshake_without_a_required_header_is_400(application: User, missing: str) -> None:
    headers = {name: value for name, value in UPGRADE.items() if name != missing}
    expect_error(await application.send("GET", CONNECT_PATH, headers=headers), 400, "bad_request")


async def test_another_websocket_version_is_426(application: User) -> None:
    reply = await application.send("GET", CONNECT_PATH, headers={**UPGRADE, "Sec-WebSocket-Version": "8"})
    expect_error(reply, 426, "upgrade_required")
    assert reply.headers["sec-websocket-version"] == "13"


# --- subscriptions --------------------------------------------------------------------


async def test_presubscriptions_are_put_read_and_deleted(application: User) -> None:
    entries = [
        {"endpoint-name": "node*", "endpoint-type": "Light", "resource-path": ["/3/*", "/3303/0/5700"]},
        {"endpoint-type": "Meter"},
        {},
    ]
    assert (await application.send("GET", SUBSCRIPTIONS)).content() == []
    put = await application.send("PUT", SUBSCRIPTIONS, entries)
    assert (put.status, put.body) == (204, b"")
    found = await application.send("GET", SUBSCRIPTIONS)
    assert (found.status, found.content()) == (200, entries)
    assert (await application.send("PUT", SUBSCRIPTIONS, [])).status == 204
    assert (await application.send("GET", SUBSCRIPTIONS)).content() == []
    await application.send("PUT", SUBSCRIPTIONS, entries)
    assert (await application.send("DELETE", SUBSCRIPTIONS)).status == 204
    assert (await application.send("GET", SUBSCRIPTIONS)).content() == []


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


async def test_a_resource_is_subscribed_read_and_unsubscribed(application: User) -> None:
    light, temperature = f"{SUBSCRIPTIONS}/d1/3311/0/5850", f"{SUBSCRIPTIONS}/d1/3303/0/5700"
    assert (await application.send("GET", light)).status == 404
    assert (await application.send("GET", f"{SUBSCRIPTIONS}/d1")).status == 404
    for path in (light, temperature, light):
        assert (await application.send("PUT", path)).status == 200
    found = await application.send("GET", light)
    assert (found.status, found.body) == (200, b"")
    listed = await application.send("GET", f"{SUBSCRIPTIONS}/d1", headers={"Accept": "text/uri-list"})
    assert listed.headers["content-type"].startswith("text/uri-list")
    assert sorted(listed.body.decode().split("\n")) == ["/3303/0/5700", "/3311/0/5850"]
    assert (await application.send("DELETE", light)).status == 204
    assert (await application.send("DELETE", light)).status == 204
    assert (await application.send("GET", light)).status == 404
    assert (await application.send("DELETE", f"{SUBSCRIPTIONS}/d1")).status == 204
    assert (await application.send("GET", temperature)).status == 404
    assert (await application.send("DELETE", f"{SUBSCRIPTIONS}/d1")).status == 204


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


@pytest.mark.parametrize(("method", "path"), API)
async def test_without_a_valid_key_everything_is_401(daemon: Daemon, method: str, path: str) -> None:
    for headers in ({}, {"Authorization": "Bearer ak_unknown"}, {"Authorization": "Basic YTpi"}):
        reply = await daemon.anyone.send(method, path, headers=headers)
        expect_error(reply, 401, "invalid_auth")


async def test_a_key_in_the_url_is_not_taken(daemon: Daemon, application: User) -> None:
    assert application.key is not None
    await application.send("PUT", WEBSOCKET)
    for name in ("key", "access_token", "token", "authorization"):
        reply = await daemon.anyone.send("GET", f"{WEBSOCKET}?{name}={application.key.key}")
        expect_error(reply, 401, "invalid_auth")


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "bEaReR"])
async def test_the_scheme_may_be_written_in_any_case(daemon: Daemon, application: User, scheme: str) -> None:
    assert application.key is not None
    headers = {"Authorization": f"{scheme} {application.key.key}"}
    assert (await daemon.anyone.send("GET", SUBSCRIPTIONS, headers=headers)).status == 200


async def test_keys_of_other_roles_are_403(daemon: Daemon, application: User) -> None:
    gateway, admin = await daemon.user("gateway"), await daemon.user("admin")
    for user in (gateway, admin):
        expect_error(await user.send("GET", SUBSCRIPTIONS), 403, "forbidden")
    for user in (application, admin):
        expect_error(await user.send("POST", "/gateway/v1/events", {}), 403, "forbidden")


async def test_an_unknown_path_is_404_and_another_method_405_with_allow(application: User) -> None:
    expect_error(await application.send("GET", "/v2/nothing"), 404, "not_found")
    expect_error(await application.send("GET", "/"), 404, "not_found")
    reply = await application.send("PATCH", CALLBACK)
    expect_error(reply, 405, "method_not_allowed")
    assert {"GET", "PUT", "DELETE"} <= {method.strip() for method in reply.headers["allow"].split(",")}
    reply = await application.send("GET", "/gateway/v1/events")
    expect_error(reply, 405, "method_not_allowed")
    assert reply.headers["allow"] == "POST"


async def test_health_and_readiness_are_open(daemon: Daemon) -> None:
    for path in ("/healthz", "/readyz", "/metrics"):
        reply = await daemon.anyone.send("GET", path)
        assert reply.status == 200
        assert reply.headers["x-request-id"]


async def test_every_answer_has_another_request_id(application: User) -> None:
    ids = {(await application.send("GET", SUBSCRIPTIONS)).headers["x-request-id"] for _ in range(5)}
    assert len(ids) == 5


async def test_status_pages_move_to_the_internal_address(tmp_path: Path) -> None:
    config = '[server]\ninternal_listen = "127.0.0.1:0"\n'
    with open_daemon(tmp_path, config=config) as daemon, log_shown(daemon):
        for path in ("/healthz", "/readyz", "/metrics"):
            assert (await daemon.anyone.send("GET", path)).status == 404
