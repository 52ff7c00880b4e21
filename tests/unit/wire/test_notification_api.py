"""The JSON bodies of the ``/v2`` API: what is understood, what is refused, what is written."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dispatcher.config import TierSettings, channel_limits
from dispatcher.errors import BadRequest, ValidationError
from dispatcher.model import Channel, ChannelType, Presubscription, Serialization, Signing
from dispatcher.wire import notification_api as api


def channel(**changes: Any) -> Channel:
    given: dict[str, Any] = {
        "id": 1,
        "application_id": 1,
        "account_id": 1,
        "type": ChannelType.CALLBACK,
        "incarnation": 1,
        "limits": channel_limits(TierSettings()),
    }
    return Channel(**given | changes)


def refuse(parse: Any, body: Any) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        parse(body if isinstance(body, bytes) else json.dumps(body).encode())
    return caught.value


def serialization(config: Any) -> Serialization | None:
    return api.parse_registration(json.dumps({"serialization": config}).encode())


def test_a_webhook_with_url_alone_has_no_headers() -> None:
    assert api.parse_webhook(b'{"url":"https://e.org/x"}') == api.Webhook("https://e.org/x", {}, None)
    body = b'{"url":"u","headers":null,"serialization":null,"other":[1]}'
    assert api.parse_webhook(body) == api.Webhook("u", {}, None)


def test_a_webhook_never_shows_its_headers() -> None:
    webhook = api.parse_webhook(b'{"url":"https://e.org/token","headers":{"a":"SECRET"}}')
    assert webhook.headers == {"a": "SECRET"}
    assert "SECRET" not in repr(webhook)


def test_a_webhook_may_be_signed_and_compressed() -> None:
    body = b'{"url":"u","signing":{"secret":"whsec_SECRET"},"content_encoding":"gzip"}'
    found = api.parse_webhook(body)
    assert (found.signing_secret, found.is_gzipped) == ("whsec_SECRET", True)
    assert "SECRET" not in repr(found)
    plain = api.parse_webhook(b'{"url":"u","signing":null,"content_encoding":"identity"}')
    assert plain == api.Webhook("u")


def test_a_secret_never_comes_back() -> None:
    def shown(**changes: Any) -> Any:
        return json.loads(api.render_webhook(channel(url="u", **changes)))

    once = Signing(secret=b"SECRET" * 4)
    assert shown() == {"url": "u", "headers": {}}
    assert shown(signing=once) == {"url": "u", "headers": {}, "signing": {}}
    twice = Signing(secret=b"SECRET" * 4, older_secret=b"OLDER" * 5, older_until_unix_ms=7)
    assert shown(signing=twice, is_gzipped=True) == {
        "url": "u",
        "headers": {},
        "signing": {"older_secret_until": 7},
        "content_encoding": "gzip",
    }
    assert "SECRET" not in f"{twice} {channel(signing=twice, headers={'A': 'SECRET'})}"


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ({}, "url"),
        ({"url": "u", "signing": "whsec_x"}, "signing"),
        ({"url": "u", "signing": {}}, "signing.secret"),
        ({"url": "u", "signing": {"secret": 5}}, "signing.secret"),
        ({"url": "u", "content_encoding": "br"}, "content_encoding"),
        ({"url": "u", "content_encoding": ["gzip"]}, "content_encoding"),
        ({"url": None}, "url"),
        ({"url": 5}, "url"),
        ({"url": "u", "headers": []}, "headers"),
        ({"url": "u", "headers": {"a": 5}}, "headers[...]"),
        ({"url": "u", "serialization": "v2"}, "serialization"),
        ([], "body"),
        ("text", "body"),
    ],
)
def test_a_wrong_type_in_a_webhook_is_named(body: Any, name: str) -> None:
    error = refuse(api.parse_webhook, body)
    assert isinstance(error, ValidationError)
    assert [field.name for field in error.fields] == [name]


@pytest.mark.parametrize(
    "body", [b"", b"{", b'{"url":"a","url":"b"}', b"\xff", b'{"url":"\\ud800"}', b"{}{}"]
)
def test_what_is_no_strict_json_is_a_bad_request(body: bytes) -> None:
    assert refuse(api.parse_webhook, body).code == "bad_request"


def test_no_error_repeats_a_header() -> None:
    error = refuse(api.parse_webhook, {"url": 5, "headers": {"a": "SECRET"}})
    assert "SECRET" not in error.message


@pytest.mark.parametrize("body", [b"", b" \r\n", b"{}", b'{"serialization":null}'])
def test_a_websocket_may_be_registered_without_a_serialization(body: bytes) -> None:
    assert api.parse_registration(body) is None


def test_a_serialization_may_be_written_with_strings_as_the_examples_do() -> None:
    flags = [
        "deregistrations_as_object",
        "include_uid",
        "include_timestamp",
        "include_original_ep",
        "include_gaps",
    ]
    flags.append("mixed_kinds")
    expected = Serialization(
        max_chunk_size=100,
        deregistrations_as_object=True,
        include_uid=True,
        include_timestamp=True,
        include_original_ep=True,
        include_gaps=True,
        mixed_kinds=True,
    )
    plain = {"type": "v2", "max_chunk_size": 100, "cfg": dict.fromkeys(flags, True)}
    quoted = {"type": "v2", "max_chunk_size": "100", "cfg": dict.fromkeys(flags, "True")}
    assert serialization(plain) == serialization(quoted) == expected


def test_a_serialization_has_all_flags_off_unless_it_says_otherwise() -> None:
    assert serialization({}) == serialization({"type": "v2", "cfg": {"x": 1}, "y": 2}) == Serialization()
    assert serialization({"cfg": {"include_uid": "false", "mixed_kinds": "false"}}) == Serialization(
        mixed_kinds=False
    )


@pytest.mark.parametrize(
    ("config", "name"),
    [
        ({"max_chunk_size": 99}, "serialization.max_chunk_size"),
        ({"max_chunk_size": 20_001}, "serialization.max_chunk_size"),
        ({"max_chunk_size": "99"}, "serialization.max_chunk_size"),
        ({"max_chunk_size": ""}, "serialization.max_chunk_size"),
        ({"max_chunk_size": "1e3"}, "serialization.max_chunk_size"),
        ({"max_chunk_size": " 100"}, "serialization.max_chunk_size"),
        ({"max_chunk_size": "\u0661\u0660\u0660"}, "serialization.max_chunk_size"),
        ({"max_chunk_size": "1" * 10_000}, "serialization.max_chunk_size"),
        ({"max_chunk_size": 100.5}, "serialization.max_chunk_size"),
        ({"max_chunk_size": True}, "serialization.max_chunk_size"),
        ({"max_chunk_size": -100}, "serialization.max_chunk_size"),
        ({"cfg": {"include_uid": "yes"}}, "serialization.cfg.include_uid"),
        ({"cfg": {"include_uid": 1}}, "serialization.cfg.include_uid"),
        ({"cfg": {"mixed_kinds": ""}}, "serialization.cfg.mixed_kinds"),
        ({"cfg": []}, "serialization.cfg"),
        ({"type": "v1"}, "serialization.type"),
        ({"type": 2}, "serialization.type"),
    ],
)
def test_a_wrong_serialization_is_named(config: Any, name: str) -> None:
    for parse, body in (
        (api.parse_registration, {"serialization": config}),
        (api.parse_webhook, {"url": "u", "serialization": config}),
    ):
        error = refuse(parse, body)
        assert isinstance(error, ValidationError)
        assert [field.name for field in error.fields] == [name]


@pytest.mark.parametrize("size", [100, 20_000, "100", "20000"])
def test_the_bounds_of_the_chunk_size_are_allowed(size: Any) -> None:
    found = serialization({"max_chunk_size": size})
    assert found is not None
    assert found.max_chunk_size == int(size)


def test_presubscriptions_are_taken_as_they_are_given() -> None:
    full = b'{"endpoint-name":"node*","endpoint-type":"Light","resource-path":["3/*","/4"]}'
    entries = api.parse_presubscriptions(b"[" + full + b',{},{"resource-path":null}]')
    assert entries == (
        Presubscription(endpoint_name="node*", endpoint_type="Light", resource_paths=("3/*", "/4")),
        Presubscription(),
        Presubscription(),
    )
    assert api.render_presubscriptions(entries) == b"[" + full + b",{},{}]"


def test_no_presubscriptions_are_an_empty_array() -> None:
    assert api.parse_presubscriptions(b"[]") == ()
    assert api.render_presubscriptions(()) == b"[]"


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ({}, "body"),
        ([5], "[0]"),
        ([{}, {"endpoint-name": 5}], "[1].endpoint-name"),
        ([{"resource-path": "/3/*"}], "[0].resource-path"),
        ([{"resource-path": [5]}], "[0].resource-path[0]"),
    ],
)
def test_a_wrong_presubscription_is_refused(body: Any, name: str) -> None:
    error = refuse(api.parse_presubscriptions, body)
    assert isinstance(error, ValidationError)
    assert [field.name for field in error.fields] == [name]


def test_a_webhook_is_shown_with_its_url_as_given_and_always_with_headers() -> None:
    shown = api.render_webhook(channel(url="HTTPS://E.org/%41?x=/"))
    assert shown == b'{"url":"HTTPS://E.org/%41?x=/","headers":{}}'
    shown = api.render_webhook(channel(url="u", headers={"A": "b"}, serialization=Serialization()))
    assert json.loads(shown) == {
        "url": "u",
        "headers": {"A": "b"},
        "serialization": {
            "type": "v2",
            "cfg": {
                "deregistrations_as_object": False,
                "include_uid": False,
                "include_timestamp": False,
                "include_original_ep": False,
            },
        },
    }


def test_a_serialization_given_in_strings_is_shown_in_numbers_and_booleans() -> None:
    config = {"max_chunk_size": "100", "cfg": {"include_uid": "true", "mixed_kinds": "false"}}
    row = channel(type=ChannelType.WEB_SOCKET, serialization=serialization(config))
    shown = api.render_websocket_channel(row, is_connected=True, queue_size=3)
    assert shown == (
        b'{"status":"connected","queue_size":3,"serialization":{"type":"v2","max_chunk_size":100,'
        b'"cfg":{"deregistrations_as_object":false,"include_uid":true,"include_timestamp":false,'
        b'"include_original_ep":false,"mixed_kinds":false}}}'
    )
    assert serialization(json.loads(shown)["serialization"]) == row.serialization


def test_a_websocket_without_a_serialization_shows_none() -> None:
    shown = api.render_websocket_channel(channel(), is_connected=False, queue_size=0)
    assert shown == b'{"status":"disconnected","queue_size":0}'


@pytest.mark.parametrize("type_", [ChannelType.CALLBACK, ChannelType.WEB_SOCKET, ChannelType.LONG_POLLING])
def test_the_delivery_mechanism_is_the_wires_word(type_: ChannelType) -> None:
    assert api.render_delivery_mechanism(type_) == f'{{"delivery_mechanism":"{type_.value}"}}'.encode()


def test_a_uri_list_has_one_path_in_each_line_and_no_newline_at_its_end() -> None:
    assert api.render_uri_list(["/a", "/b/1"]) == b"/a\n/b/1"
    assert api.render_uri_list([]) == b""
