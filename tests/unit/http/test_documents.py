"""What ``/openapi.json`` and ``/asyncapi.json`` say, and that it holds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from support.api_in_process import open_house

from dispatcher.errors import CloseCode, NotFound
from dispatcher.http.api import public_api
from dispatcher.http.caller import ApiRoute, Caller, api_route
from dispatcher.http.message import Request, Response, no_content
from dispatcher.http.openapi import describe_routes
from dispatcher.http.operation import DEVICE_ID, Operation, done

Document = dict[str, Any]


async def read(path: str) -> Document:
    """A document as anyone gets it."""
    async with open_house() as house:
        handle = public_api(house.hub, with_internal=True)
        answer = await handle(Request(method="GET", path=path))
        assert isinstance(answer, Response)
        assert answer.status == 200
        return json.loads(answer.body)  # type: ignore[no-any-return]


@pytest.fixture
async def openapi() -> Document:
    return await read("/openapi.json")


@pytest.fixture
async def asyncapi() -> Document:
    return await read("/asyncapi.json")


def operations(document: Document) -> Iterator[tuple[str, Document]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield f"{method.upper()} {path}", operation


def contents(document: Document) -> Iterator[tuple[str, str, Document]]:
    """Everything with a schema and an example: where it is, its media type, and itself."""
    for name, operation in operations(document):
        for parameter in operation.get("parameters", ()):
            yield f"{name} {parameter['name']}", "", parameter
        bodies = [("request", operation.get("requestBody", {})), *operation["responses"].items()]
        for callback in operation.get("callbacks", {}).values():
            bodies += [("callback", call["put"]["requestBody"]) for call in callback.values()]
        for place, body in bodies:
            for header, value in body.get("headers", {}).items():
                if "schema" in value:
                    yield f"{name} {place} {header}", "", value
            for media_type, content in body.get("content", {}).items():
                yield f"{name} {place}", media_type, content


def examples_of(content: Document) -> list[Any]:
    given = [example["value"] for example in content.get("examples", {}).values()]
    return [*given, content["example"]] if "example" in content else given


def validator(schema: Document, document: Document) -> Draft202012Validator:
    return Draft202012Validator({**schema, "components": document["components"]})


async def test_openapi_is_valid_by_a_public_validator(openapi: Document) -> None:
    OpenAPIV31SpecValidator(openapi).validate()


async def test_every_example_is_one_by_its_schema(openapi: Document) -> None:
    seen = 0
    for place, _, content in contents(openapi):
        examples = examples_of(content)
        assert examples, f"{place} has no example"
        for example in examples:
            seen += 1
            errors = [error.message for error in validator(content["schema"], openapi).iter_errors(example)]
            assert not errors, f"{place}: {errors}"
    assert seen > 200


async def test_every_operation_and_answer_is_described(openapi: Document) -> None:
    for name, operation in operations(openapi):
        assert operation["summary"].strip(), name
        for status, response in operation["responses"].items():
            assert response["description"].strip(), f"{name} {status}"
            assert "X-Request-Id" in response["headers"]
        assert {"400", "408", "431"} <= set(operation["responses"]), name
        has_key = {"401", "403", "503"} <= set(operation["responses"])
        assert has_key is bool(operation["security"]) or name == "GET /readyz"


async def test_every_refusal_is_an_error_response(openapi: Document) -> None:
    for name, operation in operations(openapi):
        for status, response in operation["responses"].items():
            for media_type, content in response.get("content", {}).items():
                if int(status) >= 400 and media_type == "application/json":
                    assert content["schema"] == {"$ref": "#/components/schemas/ErrorResponse"}, name
                    assert {example["code"] for example in examples_of(content)} == {int(status)}, name


async def test_every_path_that_serves_is_in_the_document(openapi: Document) -> None:
    paths = set(openapi["paths"])
    assert {
        "/v2/notification/callback",
        "/v2/subscriptions/{device-id}/{resource-path}",
        "/gateway/v1/applications/{application}/events",
        "/metrics",
        "/openapi.json",
        "/asyncapi.json",
    } <= paths


async def test_every_conversation_has_examples_and_close_codes(asyncapi: Document) -> None:
    assert set(asyncapi["channels"]) == {"notifications", "gateway"}
    for name, message in asyncapi["components"]["messages"].items():
        assert message["examples"], name
        for example in message["examples"]:
            errors = list(validator(message["payload"], asyncapi).iter_errors(example["payload"]))
            assert not errors, f"{name}: {errors}"
    every = {str(int(code)) for code in CloseCode}
    found = {name: set(channel["x-close-codes"]) for name, channel in asyncapi["channels"].items()}
    assert found["notifications"] | found["gateway"] == every
    assert str(int(CloseCode.NORMAL)) not in found["gateway"]


async def test_a_document_that_is_known_is_not_sent_again() -> None:
    async with open_house() as house:
        first = await house.app.send("GET", "/openapi.json")
        etag = dict(first.headers)["ETag"]
        again = await house.app.send("GET", "/openapi.json", if_none_match=f'"other", W/{etag}')
        assert (again.status, again.body) == (304, b"")
        other = await house.app.send("GET", "/openapi.json", if_none_match='"other"')
        assert other.status == 200


async def test_an_answer_that_its_row_does_not_name_is_told_by_the_harness() -> None:
    async with open_house() as house:
        house.documented.check("GET", "/v2/notification/channel", 404, "application/json")
        with pytest.raises(AssertionError, match="418"):
            house.documented.check("GET", "/v2/notification/channel", 418, "application/json")
        with pytest.raises(AssertionError, match="text/html"):
            house.documented.check("GET", "/v2/notification/channel", 404, "text/html")


async def handler(request: Request, caller: Caller) -> Response:
    return no_content()


@pytest.mark.parametrize(
    ("pattern", "parameters"), [("/a/{device-id}", ()), ("/a", (DEVICE_ID,)), ("/a/{other}", (DEVICE_ID,))]
)
def test_a_row_whose_parameters_are_not_those_of_its_path_is_refused(pattern: str, parameters: Any) -> None:
    operation = Operation(summary="A", answers=(done("done"),), parameters=parameters)
    with pytest.raises(ValueError, match="device-id"):
        describe_routes([api_route("GET", pattern, None, handler, operation)], "1")


def test_refusals_of_one_status_stand_together() -> None:
    operation = Operation(
        summary="A", answers=(done("done"),), refusals=(NotFound("there is no A"), NotFound("there is no B"))
    )
    routes: list[ApiRoute] = [api_route("GET", "/a", None, handler, operation)]
    answer = describe_routes(routes, "1")["paths"]["/a"]["get"]["responses"]["404"]
    assert answer["description"] == "there is no A; there is no B"
    messages = [
        example["value"]["message"] for example in answer["content"]["application/json"]["examples"].values()
    ]
    assert messages == ["there is no A", "there is no B"]
