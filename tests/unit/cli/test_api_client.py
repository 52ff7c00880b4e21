from __future__ import annotations

import json

import pytest
import trio
from support.receiver import CLOSE, RESET, Receiver, Then, When, answer, open_receiver, raw

from dispatcher import limits
from dispatcher.cli.api_client import ApiClient
from dispatcher.cli.server_address import ServerAddress
from dispatcher.errors import FieldError, RequestRefused, ServerUnreachable
from dispatcher.model import Role

KEY = "ak_1notarealkey"


def client(receiver: Receiver, role: Role | None = None) -> ApiClient:
    return ApiClient(ServerAddress(is_tls=False, host="127.0.0.1", port=receiver.port), KEY, role=role)


def refused(status: int, message: str, **more: object) -> bytes:
    return json.dumps(
        {"object": "error", "code": status, "type": "x", "message": message, "request_id": "r", **more}
    ).encode()


async def test_requests_go_over_one_connection_with_the_key_in_each() -> None:
    async with open_receiver(answer(200, b"one"), answer(204)) as receiver, client(receiver) as api:
        first = await api.request("GET", "/a")
        second = await api.request("PUT", "/b", b"{}", headers=(("X-More", "yes"),))
    assert (first.status, first.body, second.status) == (200, b"one", 204)
    assert receiver.connections == 1
    get, put = receiver.requests
    assert (get.line, put.line) == (b"GET /a HTTP/1.1", b"PUT /b HTTP/1.1")
    assert get.values("authorization") == put.values("authorization") == [b"Bearer " + KEY.encode()]
    assert (get.values("content-length"), put.values("content-length")) == ([], [b"2"])
    assert (put.values("content-type"), put.values("x-more")) == ([b"application/json"], [b"yes"])


async def test_a_put_without_a_body_says_that_it_has_none() -> None:
    async with open_receiver(answer(201)) as receiver, client(receiver) as api:
        await api.request("PUT", "/a")
    assert receiver.requests[0].values("content-length") == [b"0"]


async def test_a_connection_that_the_server_closed_meanwhile_is_opened_again() -> None:
    async with open_receiver(answer(200, then=Then.CLOSE), answer(200)) as receiver, client(receiver) as api:
        await api.request("GET", "/a")
        assert isinstance(api._stream, trio.SocketStream)
        with trio.fail_after(5):
            await trio.lowlevel.wait_readable(api._stream.socket)
        assert (await api.request("GET", "/b")).status == 200
    assert receiver.connections == 2


async def test_an_answer_that_comes_before_the_body_was_read_counts() -> None:
    early = answer(413, b"too large", when=When.AFTER_HEAD, then=Then.CLOSE)
    async with open_receiver(early) as receiver, client(receiver) as api:
        found = await api.request("POST", "/a", b"x" * 100_000)
    assert (found.status, found.body) == (413, b"too large")


@pytest.mark.parametrize(
    "end", [CLOSE, RESET, raw(b"HTTP/1.1 200 OK\r\nContent-Le"), raw(b"SSH-2.0-x\r\n\r\n")]
)
async def test_no_whole_answer_is_unreachable(end: object) -> None:
    async with open_receiver(end) as receiver, client(receiver) as api:  # type: ignore[arg-type]
        with pytest.raises(ServerUnreachable, match="did not answer"):
            await api.request("GET", "/a")
        assert (await api.request("GET", "/a")).status == 200  # on a new connection


async def test_an_endless_answer_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CLIENT_ANSWER_BYTES_MAX", 1000)
    async with open_receiver(answer(200, b"x" * 1001)) as receiver, client(receiver) as api:
        with pytest.raises(ServerUnreachable, match="over 1000 bytes"):
            await api.request("GET", "/a")


async def test_a_server_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CLIENT_REQUEST_S", 0.05)
    silent = raw(b"", then=Then.HANG)
    async with open_receiver(silent) as receiver, client(receiver) as api:
        with pytest.raises(ServerUnreachable, match=r"no answer within 0\.05 s"):
            await api.request("GET", "/a")


async def test_an_expected_status_is_returned_and_another_one_refused_in_words() -> None:
    body = refused(400, "bad", fields=[{"name": "url", "message": "is missing"}])
    async with open_receiver(answer(404), answer(400, body)) as receiver, client(receiver) as api:
        assert (await api.ask("GET", "/a", expect=(200, 404))).status == 404
        with pytest.raises(RequestRefused, match="PUT /a was answered 400: bad") as error:
            await api.ask("PUT", "/a", expect=(204,))
    assert error.value.status == 400
    assert error.value.fields == (FieldError(name="url", message="is missing"),)


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_key_is_answered_with_how_to_get_one_and_never_shown(status: int) -> None:
    no_key = answer(status, refused(status, "Invalid access token."))
    advice = r"gateway key with --key or DISPATCHER_KEY.*--role gateway"
    async with open_receiver(no_key) as receiver, client(receiver, Role.GATEWAY) as api:
        with pytest.raises(RequestRefused, match=advice) as error:
            await api.ask("POST", "/a", expect=(202,))
    assert KEY not in str(error.value)
    assert KEY not in repr(api)


async def test_an_error_that_is_not_from_a_dispatcher_is_said_to_be_so() -> None:
    async with open_receiver(answer(502, b"<html>proxy</html>")) as receiver, client(receiver) as api:
        with pytest.raises(RequestRefused, match=r"502: is a dispatcher there\?"):
            await api.ask("GET", "/a", expect=(200,))
