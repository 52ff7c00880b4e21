"""Handshakes as clients send them, and as they should not."""

from __future__ import annotations

import pytest

from dispatcher.errors import BadRequest, UpgradeRequired
from dispatcher.wire.ws_handshake import (
    UpgradeRequest,
    check_upgrade,
    parse_subprotocols,
)

# The key and its answer are the example of RFC 6455, section 1.3.
GOOD = {
    "host": "127.0.0.1",
    "connection": "Upgrade",
    "upgrade": "websocket",
    "sec-websocket-version": "13",
    "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
}


def without(name):
    return {key: value for key, value in GOOD.items() if key != name}


def test_the_example_of_the_rfc_is_answered_as_the_rfc_says():
    assert check_upgrade(GOOD) == UpgradeRequest(accept="s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", subprotocols=())


def test_an_origin_is_not_wanted_and_not_looked_at():
    assert check_upgrade(GOOD) == check_upgrade(GOOD | {"origin": "https://elsewhere.example"})


@pytest.mark.parametrize("connection", ["upgrade", "keep-alive, Upgrade", "Upgrade,keep-alive", " UPGRADE "])
@pytest.mark.parametrize("upgrade", ["websocket", "WebSocket", "h2c, websocket"])
def test_tokens_are_found_in_lists_and_in_any_case(connection, upgrade):
    check_upgrade(GOOD | {"connection": connection, "upgrade": upgrade})


@pytest.mark.parametrize(
    "headers",
    [
        without("connection"),
        without("upgrade"),
        {},
        GOOD | {"connection": "close"},
        GOOD | {"connection": "upgraded"},
        GOOD | {"upgrade": "h2c"},
        GOOD | {"upgrade": "websocket2"},
    ],
)
def test_a_request_that_asks_for_no_websocket_is_told_to_upgrade(headers):
    with pytest.raises(UpgradeRequired):
        check_upgrade(headers)


@pytest.mark.parametrize("version", ["8", "14", "13, 8", "", "0x0d"])
def test_another_version_is_told_to_upgrade_to_13(version):
    with pytest.raises(UpgradeRequired):
        check_upgrade(GOOD | {"sec-websocket-version": version})


@pytest.mark.parametrize("missing", ["sec-websocket-version", "sec-websocket-key"])
def test_a_missing_header_is_a_bad_request_that_names_it(missing):
    with pytest.raises(BadRequest, match=missing.title().replace("Websocket", "WebSocket")):
        check_upgrade(without(missing))


@pytest.mark.parametrize(
    "key",
    [
        "",
        "dGhlIHNhbXBsZSBub25jZQ",  # no padding
        "dGhlIHNhbXBsZSBub25j",  # 15 bytes
        "dGhlIHNhbXBsZSBub25jZWU=",  # 17 bytes
        "dGhl IHNhbXBsZSBub25jZQ==",
        "dGhlIHNhbXBsZSBub25jZQ==, dGhlIHNhbXBsZSBub25jZQ==",
        "dGhlIHNhbXBsZSBub25jZ\u00e9==",
        "????????????????????????",
    ],
)
def test_a_malformed_key_is_a_bad_request(key):
    with pytest.raises(BadRequest, match="Sec-WebSocket-Key"):
        check_upgrade(GOOD | {"sec-websocket-key": key})


@pytest.mark.parametrize(
    "value", ["wss, pelion_ak_1x", "wss,pelion_ak_1x", " wss ,\tpelion_ak_1x ", "wss,, pelion_ak_1x,"]
)
def test_subprotocols_are_split_at_commas_with_or_without_space(value):
    assert parse_subprotocols(value) == ("wss", "pelion_ak_1x")
    assert check_upgrade(GOOD | {"sec-websocket-protocol": value}).subprotocols == ("wss", "pelion_ak_1x")


def test_a_key_among_the_subprotocols_does_not_show_in_the_repr():
    request = check_upgrade(GOOD | {"sec-websocket-protocol": "wss, pelion_ak_secret"})
    assert repr(request) == "<UpgradeRequest subprotocols=2>"


def test_the_order_of_subprotocols_is_kept_and_base64_is_let_through():
    assert parse_subprotocols("pelion_ak_1x+/y==, wss") == ("pelion_ak_1x+/y==", "wss")
