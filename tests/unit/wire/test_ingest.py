"""What comes out of a body that is in order: canonical records, and what routing needs."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from support.both_scans import SCANNER, encode_events, parse

from dispatcher import limits, model
from dispatcher.model import AsyncAnswer, AsyncResponse, DeviceChange, Kind, Registration, RegistrationUpdate
from dispatcher.wire.canonical import Meta, unpack_meta
from dispatcher.wire.ingest import BodyForm, Parsed, Parsing, encode_event
from dispatcher.wire.staging import NewStaging, StrictStaging

FULL = {"ep": "node-1", "path": "/3303/0/5700", "ct": "text/plain", "payload": "MjEuNQ==", "max-age": 60}


def bodies(parsed: Parsed) -> list[bytes]:
    found, at = [], 0
    for meta in parsed.meta:
        length = unpack_meta(meta).body_bytes
        found.append(bytes(parsed.block[at : at + length]))
        at += length
    assert at == len(parsed.block)
    return found


def metas(parsed: Parsed) -> list[Meta]:
    return [unpack_meta(meta) for meta in parsed.meta]


def parse_json(message: Any) -> Parsed:
    return parse(json.dumps(message).encode(), BodyForm.JSON)


def parse_event(array: str, event: Any) -> bytes:
    return bodies(parse_json({array: [event]}))[0]


def test_a_full_notification_is_written_in_canonical_order_without_white_space() -> None:
    odd = {key: FULL[key] for key in reversed(FULL)}
    expected = b'{"ep":"node-1","path":"/3303/0/5700","ct":"text/plain","payload":"MjEuNQ==","max-age":60}'
    assert parse_event("notifications", odd) == expected


def test_missing_members_of_a_notification_get_their_defaults() -> None:
    expected = b'{"ep":"a","path":"/1","ct":"","payload":"","max-age":0}'
    assert parse_event("notifications", {"ep": "a", "path": "/1"}) == expected


def test_null_in_an_optional_member_is_the_same_as_leaving_it_out() -> None:
    event = {"ep": "a", "path": "/1", "ct": None, "payload": None, "max-age": None, "original-ep": None}
    assert parse_event("notifications", event) == b'{"ep":"a","path":"/1","ct":"","payload":"","max-age":0}'
    assert parse_json({"notifications": None}).events == 0


def test_a_max_age_in_digits_is_passed_on_as_a_number() -> None:
    assert parse_event("notifications", {**FULL, "max-age": "0060"}).endswith(b'"max-age":60}')
    largest = parse_event("notifications", {**FULL, "max-age": str(2**53)})
    assert largest.endswith(b'"max-age":9007199254740992}')


def test_members_that_are_the_dispatchers_to_give_and_unknown_ones_are_dropped() -> None:
    posted = {**FULL, "uid": "u", "timestamp": 5, "colour": {"deep": [1, {"er": "x"}]}}
    assert parse_event("notifications", posted) == parse_event("notifications", FULL)
    assert parse_event("notifications", {**FULL, "uid": "u", "timestamp": "5"}) == parse_event(
        "notifications", FULL
    )


def test_another_original_ep_is_the_tail_of_the_record() -> None:
    parsed = parse_json({"notifications": [{**FULL, "original-ep": "green"}]})
    assert bodies(parsed)[0].endswith(b'"max-age":60,"original-ep":"green"}')
    assert metas(parsed)[0].tail_bytes == len(',"original-ep":"green"')


def test_the_same_original_ep_leaves_no_tail() -> None:
    parsed = parse_json({"notifications": [{**FULL, "original-ep": "node-1"}]})
    assert bodies(parsed) == [parse_event("notifications", FULL)]
    assert metas(parsed)[0].tail_bytes == 0


@pytest.mark.parametrize("ep", ["a", "é", "日本", "😀" * 64, 'quo"te', "back\\slash", "x" * 64, "\u2028"])
@pytest.mark.parametrize("original_ep", [None, "zwölf", 'q"'])
def test_the_lengths_in_meta_are_those_of_the_bytes(ep: str, original_ep: str | None) -> None:
    event = {**FULL, "ep": ep, "original-ep": original_ep}
    for is_ascii in (True, False):
        text = json.dumps({"notifications": [event]}, ensure_ascii=is_ascii)
        parsed = parse(text.encode(), BodyForm.JSON)
        (body,), (meta,) = bodies(parsed), metas(parsed)
        assert body.startswith(b'{"ep":"')
        written_ep = body[7 : 7 + meta.ep_bytes]
        assert body[7 + meta.ep_bytes : 9 + meta.ep_bytes] == b'",'
        assert json.loads(b'"' + written_ep + b'"') == ep
        without_tail = body[: len(body) - 1 - meta.tail_bytes] + b"}"
        assert "original-ep" not in json.loads(without_tail)
        assert json.loads(body).get("original-ep") == original_ep


def test_payload_bits_that_carry_nothing_are_written_as_zero() -> None:
    assert b'"payload":"QQ=="' in parse_event("notifications", {**FULL, "payload": "QR=="})
    assert b'"payload":"QUI="' in parse_event("notifications", {**FULL, "payload": "QUJ="})


def test_the_largest_payload_is_taken() -> None:
    payload = base64.b64encode(b"x" * limits.PAYLOAD_BYTES_MAX).decode()
    assert payload.encode() in parse_event("notifications", {**FULL, "payload": payload})


@pytest.mark.parametrize("array", ["registrations", "reg-updates"])
def test_a_registration_is_written_in_canonical_order(array: str) -> None:
    resource = {"obs": True, "ct": "text/plain", "rt": "temp", "if": "sensor", "path": "/3303/0/5700", "x": 1}
    resources = [resource, {"path": "/1"}]
    event = {"resources": resources, "q": False, "ept": "thermo", "original-ep": "g", "ep": "a"}
    assert parse_event(array, event) == (
        b'{"ep":"a","ept":"thermo","q":false,"resources":[{"path":"/3303/0/5700","if":"sensor","rt":"temp",'
        b'"ct":"text/plain","obs":true},{"path":"/1"}],"original-ep":"g"}'
    )


def test_a_bare_registration_has_an_empty_list_of_resources() -> None:
    assert parse_event("registrations", {"ep": "a"}) == b'{"ep":"a","resources":[]}'


@pytest.mark.parametrize("array", ["de-registrations", "registrations-expired"])
def test_removals_come_as_string_or_object_and_are_stored_as_objects(array: str) -> None:
    parsed = parse_json({array: ["a", {"ep": "b", "original-ep": "c", "uid": "u"}]})
    assert bodies(parsed) == [b'{"ep":"a"}', b'{"ep":"b","original-ep":"c"}']
    assert [meta.tail_bytes for meta in metas(parsed)] == [0, len(',"original-ep":"c"')]


def test_an_async_response_always_has_payload_and_ct() -> None:
    assert parse_event("async-responses", {"id": "job", "status": 504, "error": "TIMEOUT"}) == (
        b'{"id":"job","status":504,"payload":"","ct":"","error":"TIMEOUT"}'
    )
    full = {"id": "job", "status": 200, "payload": "MQ==", "ct": "text/plain", "max-age": "60"}
    assert parse_event("async-responses", full) == (
        b'{"id":"job","status":200,"payload":"MQ==","ct":"text/plain","max-age":60}'
    )


def test_an_async_response_has_no_device_in_its_meta() -> None:
    parsed = parse_json({"async-responses": [{"id": "job", "status": 200}]})
    assert metas(parsed)[0].ep_bytes == 0
    assert metas(parsed)[0].kind is Kind.ASYNC_RESPONSE


def test_arrays_keep_the_order_in_which_they_stand_in_the_message() -> None:
    text = (
        b'{"de-registrations":["a"],"async-responses":[{"id":"j","status":200}],'
        b'"notifications":[{"ep":"b","path":"/1"}],"reg-updates":[{"ep":"c"}],'
        b'"registrations":[{"ep":"d","ept":"t"}],"registrations-expired":["e"]}'
    )
    parsed = parse(text, BodyForm.JSON)
    assert [meta.kind for meta in metas(parsed)] == [
        Kind.DE_REGISTRATION,
        Kind.ASYNC_RESPONSE,
        Kind.NOTIFICATION,
        Kind.REG_UPDATE,
        Kind.REGISTRATION,
        Kind.REGISTRATION_EXPIRED,
    ]
    assert parsed.eps == ["a", None, "b", "c", "d", "e"]
    assert parsed.paths == [None, None, "/1", None, None, None]
    assert parsed.device_changes == (
        DeviceChange(0, Kind.DE_REGISTRATION, "a"),
        DeviceChange(3, Kind.REG_UPDATE, "c", None, RegistrationUpdate(ep="c")),
        DeviceChange(4, Kind.REGISTRATION, "d", "t", Registration(ep="d", ept="t")),
        DeviceChange(5, Kind.REGISTRATION_EXPIRED, "e"),
    )
    assert parsed.async_answers == (AsyncAnswer(1, AsyncResponse(id="j", status=200)),)


@pytest.mark.parametrize(
    "text", [b"{}", b' {"notifications": []} ', b'{"notifications":[],"registrations":[]}', b"\n{ }\n"]
)
def test_a_message_without_events_is_taken(text: bytes) -> None:
    parsed = parse(text, BodyForm.JSON)
    assert parsed.events == 0
    assert parsed.block == b""


def test_ndjson_keeps_the_order_of_lines_whatever_they_hold() -> None:
    lines = [
        {"notifications": [{**FULL, "ep": "a"}, {**FULL, "ep": "b"}]},
        {},
        {"registrations": [{"ep": "c"}]},
        {"notifications": [{"ep": "d", "path": "/1"}]},
        {"notifications": [{**FULL, "ep": 'e"'}]},
        {"notifications": []},
        {"notifications": [{**FULL, "ep": "f"}]},
    ]
    for newline in ("\n", "\r\n", "\n\n", "\n \t\r\n"):
        for ending in ("", newline):
            text = newline.join(map(json.dumps, lines)) + ending
            assert parse(text.encode(), BodyForm.NDJSON).eps == ["a", "b", "c", "d", 'e"', "f"]


@pytest.mark.parametrize(("new_staging", "steps_min"), [(SCANNER.staging, 2), (StrictStaging, 4)])
def test_a_large_ndjson_body_is_parsed_in_steps_that_add_up_to_the_same(
    new_staging: NewStaging, steps_min: int
) -> None:
    lines = [json.dumps({"notifications": [{**FULL, "ep": f"n{index}"}]}) for index in range(12_000)]
    lines[4321] = json.dumps({"de-registrations": ["n4321"]})
    parsing = Parsing("\n".join(lines).encode(), BodyForm.NDJSON, new_staging)
    steps = 1
    while (parsed := parsing.step()) is None:
        steps += 1
    assert steps >= steps_min
    assert parsed.eps == [f"n{index}" for index in range(12_000)]
    assert [change.index for change in parsed.device_changes] == [4321]


def test_odd_lines_do_not_make_a_step_long(monkeypatch: pytest.MonkeyPatch) -> None:
    line = b'{"registrations":[{"ep":"a"}]}\n'
    monkeypatch.setattr(limits, "INGEST_STEP_ODD_BYTES", 1_000)
    for text in (line * 11, line[:-1] + b" " * 1_000 + b"\n" + line):
        parsing = Parsing(text, BodyForm.NDJSON, SCANNER.staging)
        assert parsing.step() is None
        assert parsing.step() is not None


def test_a_message_on_a_socket_may_have_an_id() -> None:
    for message in (
        {"message-id": "m-1", "notifications": [FULL]},
        {"notifications": [{"ep": "a", "path": "/1"}], "message-id": "m-1"},
        {"message-id": "m-1", "de-registrations": ["a"]},
        {"message-id": "m-1"},
    ):
        assert parse(json.dumps(message).encode(), BodyForm.SOCKET).message_id == "m-1"
    assert parse(json.dumps({"notifications": [FULL]}).encode(), BodyForm.SOCKET).message_id is None


PLAIN = [
    {"notifications": [FULL]},
    {"notifications": [FULL] * 3},
    {"notifications": [{"ep": "a", "path": "/1"}]},
    {"notifications": [{**FULL, "original-ep": "x", "uid": "u", "timestamp": 17, "max-age": "5"}]},
    {"notifications": [{**FULL, "ep": "日本"}]},
    {"notifications": [{"ep": "ü", "path": "/\u2028"}]},
]


@pytest.mark.parametrize("message", PLAIN)
@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": "), (" ,\n", "\t:")])
def test_notifications_in_any_spelling_are_taken_by_the_native_scan(
    message: Any, separators: tuple[str, str]
) -> None:
    plain = json.dumps(message, separators=separators, ensure_ascii=False)
    escaped = json.dumps(message, separators=separators).replace("/", "\\/")
    for text in (plain, escaped):
        staging = SCANNER.staging()
        assert staging.take_message(text.encode(), 10, may_be_named=False).messages == 1
        assert staging.records == len(message["notifications"])


# --- events made by a program ---------------------------------------------------------


def test_a_typed_event_is_the_same_record_as_a_posted_one() -> None:
    resource = model.Resource(path="/1", if_="i", obs=False)
    typed: list[model.Event] = [
        model.Notification("a", "/1", b"21.5", "text/plain", 60, "g"),
        model.Registration(ep="a", ept="t", q=True, resources=(resource,)),
        model.RegistrationUpdate(ep="a", original_ep="b"),
        model.Deregistration("a"),
        model.RegistrationExpired("a", "b"),
        model.AsyncResponse(id="j", status=200, payload=b"1"),
    ]
    posted_resource = {"path": "/1", "if": "i", "obs": False}
    posted = [
        {"notifications": [{**FULL, "ep": "a", "path": "/1", "original-ep": "g"}]},
        {"registrations": [{"ep": "a", "ept": "t", "q": True, "resources": [posted_resource]}]},
        {"reg-updates": [{"ep": "a", "original-ep": "b"}]},
        {"de-registrations": ["a"]},
        {"registrations-expired": [{"ep": "a", "original-ep": "b"}]},
        {"async-responses": [{"id": "j", "status": 200, "payload": "MQ=="}]},
    ]
    lines = "\n".join(map(json.dumps, posted)).encode()
    assert encode_events(typed) == parse(lines, BodyForm.NDJSON)
    assert encode_events([json.dumps(message).encode() for message in posted]) == encode_events(typed)


def test_messages_of_a_program_keep_their_order_whatever_they_hold() -> None:
    note = {"notifications": [{"ep": "a", "path": "/1"}, {"ep": "b", "path": "/1"}]}
    spread = json.dumps(note, indent=1).encode()
    events: list[model.Event | bytes] = [
        *[json.dumps(note).encode(), b"{}", b'{"de-registrations":["c"]}', b' {"notifications":[]}'],
        *[spread, model.Deregistration("d"), b'{"registrations":[{"ep":"e"}]}', json.dumps(note).encode()],
    ]
    parsed = encode_events(events)
    assert parsed.eps == ["a", "b", "c", "a", "b", "d", "e", "a", "b"]
    assert [change.index for change in parsed.device_changes] == [2, 5, 6]


def test_one_event_alone_is_a_list_of_one() -> None:
    event = model.Notification("a", "/1", b"1")
    assert encode_event(event) == encode_events([event])
