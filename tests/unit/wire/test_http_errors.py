from __future__ import annotations

import json

from dispatcher.errors import BadRequest, FieldError, ValidationError
from dispatcher.wire.http_errors import encode


def test_error_body_has_the_five_fields_of_the_api() -> None:
    assert json.loads(encode(BadRequest("Another notification channel exists"), "01f0c2")) == {
        "object": "error",
        "code": 400,
        "type": "bad_request",
        "message": "Another notification channel exists",
        "request_id": "01f0c2",
    }


def test_validation_error_names_field_and_line() -> None:
    error = ValidationError(
        "2 fields are wrong",
        fields=(
            FieldError(name="ep", message="is missing", line=7),
            FieldError(name="url", message="is no URL"),
        ),
    )
    assert json.loads(encode(error, "ab"))["fields"] == [
        {"name": "ep", "message": "is missing", "line": 7},
        {"name": "url", "message": "is no URL"},
    ]


def test_quotes_and_line_breaks_stay_inside_the_message() -> None:
    assert json.loads(encode(BadRequest('a "b"\r\n\x00'), "ab"))["message"] == 'a "b"\r\n\x00'
