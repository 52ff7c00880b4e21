"""The forbidden side: what must not get in, and how it is named."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from support.both_scans import encode_events, parse

from dispatcher import limits, model
from dispatcher.errors import BadRequest, ValidationError
from dispatcher.wire.ingest import BodyForm, encode_event

NOTE = {"ep": "a", "path": "/1", "ct": "", "payload": "", "max-age": 0}
R = {"path": "/1"}


def refuse(text: bytes, form: BodyForm = BodyForm.JSON) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        parse(text, form)
    return caught.value


def refuse_event(array: str, event: Any) -> tuple[str, str]:
    error = refuse(json.dumps({array: [event]}).encode())
    assert isinstance(error, ValidationError)
    (field,) = error.fields
    return field.name, field.message


@pytest.mark.parametrize(
    ("member", "value", "message"),
    [
        ("ep", None, "must not be null"),
        ("ep", "", "must not be empty"),
        ("ep", 5, "a string is expected, not a number"),
        ("ep", "x" * 65, "is longer than 64 characters"),
        ("ep", "a\u0000", "holds a control character"),
        ("ep", "a\n", "holds a control character"),
        ("ep", "a\u007f", "holds a control character"),
        ("ep", "a\u0085", "holds a control character"),
        ("path", "1", "must start with a slash"),
        ("path", "", "must not be empty"),
        ("path", "/" + "x" * 255, "is longer than 255 characters"),
        ("path", "/\u001f", "holds a control character"),
        ("path", ["/1"], "a string is expected, not an array"),
        ("ct", "x" * 256, "is longer than 255 characters"),
        ("ct", 0, "a string is expected, not a number"),
        ("original-ep", "", "must not be empty"),
        ("original-ep", "a\u0007", "holds a control character"),
        ("original-ep", "x" * 65, "is longer than 64 characters"),
        ("max-age", -1, f"must be from 0 to {2**53}"),
        ("max-age", 1.0, "an integer is expected, not a number with a fraction or exponent"),
        ("max-age", True, "an integer is expected, not a boolean"),
        ("max-age", "", "as a string it must be 1 to 16 decimal digits"),
        ("max-age", "-1", "as a string it must be 1 to 16 decimal digits"),
        ("max-age", "\u0661", "as a string it must be 1 to 16 decimal digits"),
        ("max-age", "1" * 17, "as a string it must be 1 to 16 decimal digits"),
        ("max-age", "9007199254740993", f"must be from 0 to {2**53}"),
        ("payload", 5, "a base64 string is expected, not a number"),
    ],
)
def test_a_wrong_member_of_a_notification_is_named(member: str, value: Any, message: str) -> None:
    assert refuse_event("notifications", {**NOTE, member: value}) == (f"notifications[0].{member}", message)


@pytest.mark.parametrize(
    "payload",
    [
        *["QQ", "QQ=", "Q===", "====", "QQ==\n", " QQ==", "Q Q==", "-_=="],
        *["QQ==QQ==", "QQ==A", "Q=Q=", "\u00e9Q==", "%%%%"],
    ],
)
def test_a_payload_that_is_not_strict_base64_is_refused(payload: str) -> None:
    name, message = refuse_event("notifications", {**NOTE, "payload": payload})
    assert name == "notifications[0].payload"
    assert message == "is not base64 (RFC 4648, section 4, with padding)"


def test_a_payload_one_byte_too_long_is_refused() -> None:
    payload = base64.b64encode(b"x" * (limits.PAYLOAD_BYTES_MAX + 1)).decode()
    for event in ({**NOTE, "payload": payload}, {"ep": "a", "path": "/1", "payload": payload}):
        assert refuse_event("notifications", event) == (
            "notifications[0].payload",
            f"is longer than {limits.PAYLOAD_BYTES_MAX} bytes decoded",
        )


@pytest.mark.parametrize("member", ["ep", "path"])
def test_a_missing_member_is_named(member: str) -> None:
    event = {key: value for key, value in NOTE.items() if key != member}
    assert refuse_event("notifications", event) == (f"notifications[0].{member}", "is missing")


@pytest.mark.parametrize("event", [5, "a", None, [], True])
def test_an_event_that_is_no_object_is_named(event: Any) -> None:
    name, message = refuse_event("notifications", event)
    assert name == "notifications[0]"
    assert message.startswith("an object is expected, not ")


@pytest.mark.parametrize(
    ("array", "event", "name"),
    [
        ("registrations", {}, "registrations[0].ep"),
        ("registrations", "a", "registrations[0]"),
        ("registrations", {"ep": "a", "ept": 5}, "registrations[0].ept"),
        ("registrations", {"ep": "a", "ept": ""}, "registrations[0].ept"),
        ("registrations", {"ep": "a", "q": "true"}, "registrations[0].q"),
        ("reg-updates", {"ep": "a", "resources": {}}, "reg-updates[0].resources"),
        ("reg-updates", {"ep": "a", "resources": ["/1"]}, "reg-updates[0].resources[0]"),
        ("reg-updates", {"ep": "a", "resources": [{"path": "/1"}, {}]}, "reg-updates[0].resources[1].path"),
        ("reg-updates", {"ep": "a", "resources": [{"path": "1"}]}, "reg-updates[0].resources[0].path"),
        ("reg-updates", {"ep": "a", "resources": [{**R, "obs": 1}]}, "reg-updates[0].resources[0].obs"),
        ("reg-updates", {"ep": "a", "resources": [{**R, "rt": "x" * 256}]}, "reg-updates[0].resources[0].rt"),
        ("registrations", {"ep": "a", "resources": [{"path": "/1"}] * 1001}, "registrations[0].resources"),
        ("de-registrations", "", "de-registrations[0].ep"),
        ("de-registrations", {}, "de-registrations[0].ep"),
        ("registrations-expired", 5, "registrations-expired[0]"),
        ("registrations-expired", {"ep": "a", "original-ep": 1}, "registrations-expired[0].original-ep"),
        ("async-responses", "a", "async-responses[0]"),
        ("async-responses", {"status": 200}, "async-responses[0].id"),
        ("async-responses", {"id": "", "status": 200}, "async-responses[0].id"),
        ("async-responses", {"id": "x" * 65, "status": 200}, "async-responses[0].id"),
        ("async-responses", {"id": "a"}, "async-responses[0].status"),
        ("async-responses", {"id": "a", "status": 99}, "async-responses[0].status"),
        ("async-responses", {"id": "a", "status": 600}, "async-responses[0].status"),
        ("async-responses", {"id": "a", "status": "200"}, "async-responses[0].status"),
        ("async-responses", {"id": "a", "status": True}, "async-responses[0].status"),
        ("async-responses", {"id": "a", "status": 200, "payload": "Q"}, "async-responses[0].payload"),
        ("async-responses", {"id": "a", "status": 200, "error": "x" * 256}, "async-responses[0].error"),
        ("async-responses", {"id": "a", "status": 200, "max-age": -1}, "async-responses[0].max-age"),
    ],
)
def test_a_wrong_life_cycle_event_or_response_is_named(array: str, event: Any, name: str) -> None:
    assert refuse_event(array, event)[0] == name


def test_a_record_that_would_be_too_large_is_refused() -> None:
    resources = [{"path": "/1", "rt": "é" * 255, "if": "é" * 255, "ct": "é" * 255}] * 1000
    name, message = refuse_event("registrations", {"ep": "a", "resources": resources})
    assert name == "registrations[0]"
    assert str(limits.RECORD_BYTES_MAX) in message


def test_an_unknown_array_is_refused_and_the_nearest_name_given() -> None:
    (field,) = refuse(b'{"notification":[]}').fields
    assert field.name == "notification"
    assert "did you mean 'notifications'?" in field.message
    (field,) = refuse(b'{"deregistrations":["a"]}').fields
    assert "did you mean 'de-registrations'?" in field.message


@pytest.mark.parametrize("form", [BodyForm.JSON, BodyForm.NDJSON])
def test_a_message_id_is_refused_outside_of_a_socket(form: BodyForm) -> None:
    (field,) = refuse(b'{"message-id":"m","notifications":[]}', form).fields
    assert "Idempotency-Key" in field.message


@pytest.mark.parametrize("message_id", [5, "", "x" * 256, "é" * 128, None])
def test_a_message_id_out_of_its_limits_is_refused(message_id: Any) -> None:
    text = json.dumps({"message-id": message_id, "notifications": [NOTE]}, ensure_ascii=False).encode()
    (field,) = refuse(text, BodyForm.SOCKET).fields
    assert field.name == "message-id"


@pytest.mark.parametrize("value", [{}, "a", 5, False])
def test_an_array_that_is_none_is_refused(value: Any) -> None:
    (field,) = refuse(json.dumps({"notifications": value}).encode()).fields
    assert field.name == "notifications"


@pytest.mark.parametrize(
    "text",
    [
        b'{"notifications":[{"ep":"a","ep":"b","path":"/1"}]}',
        b'{"notifications":[{"ep":"a","\\u0065p":"b","path":"/1"}]}',
        b'{"notifications":[{"ep":"a","path":"/1","x":{"y":1,"y":1}}]}',
        b'{"notifications":[],"notifications":[]}',
        # What one event lacks must not make up for what another has twice.
        b'{"notifications":[{"ep":"a","path":"/1","ct":"","payload":""},'
        b'{"ep":"a","path":"/1","ct":"","payload":"","max-age":0,"max-age":0}]}',
    ],
)
def test_a_key_that_stands_twice_is_refused(text: bytes) -> None:
    (field,) = refuse(text).fields
    assert field.message == "this key stands twice in one object"


@pytest.mark.parametrize("body", [b"", b" \n\t "])
@pytest.mark.parametrize("form", list(BodyForm))
def test_an_empty_body_is_refused(body: bytes, form: BodyForm) -> None:
    assert "empty" in refuse(body, form).message


@pytest.mark.parametrize("text", [b"[]", b'"a"', b"5", b"null", b"{}{}", b'{"notifications":[', b"nonsense"])
def test_what_is_no_message_is_refused_as_a_whole(text: bytes) -> None:
    error = refuse(text)
    assert error.code == "bad_request"
    assert [field.name for field in error.fields] == ["body"]


def test_too_many_events_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "EVENTS_PER_REQUEST_MAX", 10)
    assert parse(json.dumps({"notifications": [NOTE] * 10}).encode(), BodyForm.JSON).events == 10
    for message in ({"notifications": [NOTE] * 11}, {"de-registrations": ["a"] * 11}):
        assert "more than 10 events" in refuse(json.dumps(message).encode()).message
        assert "more than 10 events" in refuse(json.dumps(message).encode(), BodyForm.NDJSON).message
    assert "over 10 lines" in refuse(b"\n" * 11, BodyForm.NDJSON).message


@pytest.mark.parametrize(
    ("bad", "name"),
    [
        ({"notifications": [NOTE, {**NOTE, "payload": "?"}]}, "notifications[1].payload"),
        ({"notifications": [{**NOTE, "path": "no-slash"}]}, "notifications[0].path"),
        ({"notifications": [{"ep": "a\\", "path": "/1", "max-age": -1}]}, "notifications[0].max-age"),
        ({"registrations": [{"ept": "t"}]}, "registrations[0].ep"),
        ({"nothing": []}, "nothing"),
    ],
)
def test_a_bad_event_in_line_7000_names_line_and_field(bad: Any, name: str) -> None:
    good = json.dumps({"notifications": [NOTE]})
    text = "\n".join([*[good] * 6999, json.dumps(bad), *[good] * 500]).encode()
    error = refuse(text, BodyForm.NDJSON)
    assert isinstance(error, ValidationError)
    assert [(field.line, field.name) for field in error.fields] == [(7000, name)]
    assert error.message.startswith(f"line 7000: {name}: ")


@pytest.mark.parametrize("bad", ["{", "[]", "{} {}", '{"notifications":[],}', '{"x":NaN}', "\ufeff{}"])
def test_a_line_that_is_no_message_is_named_and_blank_lines_are_counted(bad: str) -> None:
    text = "\n".join(["{}", "", "{}", bad, "{}"]).encode()
    (field,) = refuse(text, BodyForm.NDJSON).fields
    assert field.line == 4


def test_a_message_over_two_lines_is_no_ndjson() -> None:
    (field,) = refuse(b'{"notifications":\n[]}\n', BodyForm.NDJSON).fields
    assert field.line == 1


def test_two_messages_in_a_line_do_not_make_up_for_one_over_two_lines() -> None:
    text = b'{"notifications":[]}{"notifications":[]}\n{"notifications":\n[]}\n'
    (field,) = refuse(text, BodyForm.NDJSON).fields
    assert field.line == 1


def test_no_error_repeats_a_payload() -> None:
    error = refuse(json.dumps({"notifications": [{**NOTE, "payload": "SECRET-SECRET"}]}).encode())
    assert "SECRET" not in error.message + str(error.fields)


def test_a_bad_event_made_by_a_program_is_named() -> None:
    events = [model.Notification("a", "/1"), model.Notification("", "/1")]
    with pytest.raises(ValidationError) as caught:
        encode_events(events)
    assert [field.name for field in caught.value.fields] == ["events[1].ep"]


@pytest.mark.parametrize(
    "event",
    [
        model.Notification("a\ud800", "/1"),
        model.Notification("a", "/1", "text"),  # type: ignore[arg-type]
        model.Notification("a", "/1", max_age=-1),
        model.Notification("a", "/1", ct=None),  # type: ignore[arg-type]
        model.Notification("a", "1"),
        model.Registration(ep="a", resources=(model.Resource(path="x"),)),
        model.Registration(ep="a", q="yes"),  # type: ignore[arg-type]
        model.Deregistration("a\x9f"),
        model.RegistrationExpired(""),
        model.AsyncResponse(id="a", status=0),
        "text",
    ],
)
def test_a_typed_event_is_under_the_rules_of_posted_ones(event: Any) -> None:
    with pytest.raises(ValidationError):
        encode_event(event)


def test_bytes_of_a_program_are_a_message_and_errors_say_which() -> None:
    with pytest.raises(ValidationError) as caught:
        encode_events([b"{}", b'{"notifications":[{"ep":"a"}]}'])
    assert [field.name for field in caught.value.fields] == ["events[1].notifications[0].path"]
    with pytest.raises(BadRequest):
        encode_event(b"")
    note = json.dumps({"notifications": [NOTE]}).encode()
    odd = b'{"de-registrations":["b"]}'
    for wrong in (b'{"notifications":[{"ep":"a"}]}', b'{"x":[]}', b'{"x":\n[]}', b" ", b"{}\n{}", b"{} {}"):
        with pytest.raises(BadRequest) as refused:
            encode_events([note, odd, note, model.Deregistration("c"), note, odd, wrong, note])
        assert refused.value.fields[0].name.startswith(("events[6]", "body"))
