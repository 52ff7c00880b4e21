"""``/openapi.json``: the route table as OpenAPI 3.1.  Pure.

A row says what is its own (``operation``); what all rows have in common is merged in
here: refusals, the key, and the headers of every answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from dispatcher.errors import DispatcherError
from dispatcher.http.caller import ApiRoute
from dispatcher.http.message import JSON
from dispatcher.http.operation import (
    REQUEST_ID,
    Answer,
    Content,
    Delivery,
    Header,
    Operation,
    Parameter,
    common_refusals,
)
from dispatcher.http.schemas import Schemas
from dispatcher.model import Role
from dispatcher.wire.http_errors import ErrorResponse, error_response

TITLE = "dispatcher"
_INTRODUCTION = (
    "Device events, delivered to applications by callback, WebSocket or long poll: in order, at least once. "
    "Every refusal is an `ErrorResponse`; every answer has an `X-Request-Id`. A path that is known answers "
    "another method with 405 and `Allow`, and HEAD as GET without the body; an unknown path answers 404."
)
_KEYS = {
    Role.APPLICATION: "An application's key: receives, subscribes, asks devices.",
    Role.GATEWAY: "A gateway's key: posts events.",
    Role.ADMIN: "An operator's key.",
}
_REQUEST_ID = {"X-Request-Id": {"$ref": "#/components/headers/X-Request-Id"}}
_RETRY_AFTER = {"Retry-After": {"$ref": "#/components/headers/Retry-After"}}
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9]+")
_RETRY_STATUSES = {429, 503, 507}


def describe_routes(routes: Sequence[ApiRoute], version: str) -> dict[str, Any]:
    """The document.  Raises ``ValueError`` for a row whose parameters are not those of its path."""
    schemas = Schemas(_models(routes))
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        _check_parameters(route)
        path = route.pattern.replace("...}", "}")
        paths.setdefault(path, {})[route.method.lower()] = _operation(route, schemas)
    return {
        "openapi": "3.1.0",
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "info": {"title": TITLE, "version": version, "description": _INTRODUCTION},
        "paths": paths,
        "components": {
            "schemas": schemas.components,
            "securitySchemes": {
                role.value: {"type": "http", "scheme": "bearer", "description": meaning}
                for role, meaning in _KEYS.items()
            },
            "headers": {
                "X-Request-Id": {
                    "description": "Names the request in the log.",
                    "required": True,
                    "schema": {"type": "string", "pattern": "^[0-9a-f]{6,32}$"},
                    "example": REQUEST_ID,
                },
                "Retry-After": {
                    "description": "Seconds after which trying again is right.",
                    "schema": {"type": "integer", "minimum": 0},
                    "example": 1,
                },
            },
        },
    }


def statuses_of(route: ApiRoute) -> dict[int, set[str]]:
    """What a row may answer: statuses, each with the media types of its body; none: no body."""
    found: dict[int, set[str]] = {}
    for answer in route.operation.answers:
        media_types = found.setdefault(answer.status, set())
        if answer.content is not None:
            media_types.add(answer.content.media_type)
    for refusal in _refusals(route):
        found.setdefault(refusal.status, set()).add(JSON)
    return found


def roles_of(route: ApiRoute) -> tuple[Role, ...]:
    """Whose keys a row takes; empty: it is open to everyone."""
    return (route.scope,) if route.scope is not None else route.operation.roles


def _models(routes: Iterable[ApiRoute]) -> Iterator[Any]:
    yield ErrorResponse
    for route in routes:
        operation = route.operation
        yield from (parameter.model for parameter in operation.parameters)
        yield from (content.model for content in operation.request)
        yield from _answer_models(operation.answers)
        if operation.delivery is not None:
            yield operation.delivery.request.model


def _answer_models(answers: Iterable[Answer]) -> Iterator[Any]:
    for answer in answers:
        yield from (header.model for header in answer.headers)
        if answer.content is not None:
            yield answer.content.model


def _check_parameters(route: ApiRoute) -> None:
    in_path = {
        segment.strip("{}").removesuffix("...")
        for segment in route.pattern.split("/")
        if segment.startswith("{")
    }
    described = {item.name for item in route.operation.parameters if item.place == "path"}
    if in_path != described:
        odd = ", ".join(sorted(in_path ^ described))
        raise ValueError(f"{route.method} {route.pattern}: {odd} is described or in the path, not both")


def _operation(route: ApiRoute, schemas: Schemas) -> dict[str, Any]:
    operation = route.operation
    found: dict[str, Any] = {
        "operationId": _NOT_IN_NAMES.sub("_", f"{route.method.lower()}{route.pattern}").strip("_"),
        "summary": operation.summary,
        "tags": [route.pattern.split("/")[1]],
        "security": [{role.value: []} for role in roles_of(route)],
        "responses": _responses(route, schemas),
    }
    if operation.parameters:
        found["parameters"] = [_parameter(item, schemas) for item in operation.parameters]
    if operation.request:
        found["requestBody"] = _request(operation, schemas)
    if operation.is_deprecated:
        found["deprecated"] = True
    if operation.delivery is not None:
        found["callbacks"] = _callbacks(operation.delivery, schemas)
    return found


def _parameter(parameter: Parameter, schemas: Schemas) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "in": parameter.place,
        "required": parameter.is_required,
        "description": parameter.meaning,
        "schema": schemas.of(parameter.model),
        "example": parameter.example,
    }


def _request(operation: Operation, schemas: Schemas) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for item in operation.request:
        content |= _content(item, schemas)
    return {"required": not operation.is_request_optional, "content": content}


def _content(content: Content, schemas: Schemas) -> dict[str, Any]:
    return {content.media_type: {"schema": schemas.of(content.model), "example": content.example}}


def _responses(route: ApiRoute, schemas: Schemas) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    for answer in route.operation.answers:
        responses[str(answer.status)] = _answer(answer, schemas)
    by_status: dict[int, list[DispatcherError]] = {}
    for refusal in _refusals(route):
        by_status.setdefault(refusal.status, []).append(refusal)
    for status, refusals in by_status.items():
        response = responses.setdefault(str(status), {"headers": _REQUEST_ID})
        _add_refusals(response, status, refusals, schemas)
    return dict(sorted(responses.items()))


def _refusals(route: ApiRoute) -> tuple[DispatcherError, ...]:
    return (*route.operation.refusals, *common_refusals(route.operation, roles_of(route)))


def _answer(answer: Answer, schemas: Schemas) -> dict[str, Any]:
    headers = {header.name: _header(header, schemas) for header in answer.headers}
    response: dict[str, Any] = {"description": answer.meaning, "headers": _REQUEST_ID | headers}
    if answer.content is not None:
        response["content"] = _content(answer.content, schemas)
    return response


def _header(header: Header, schemas: Schemas) -> dict[str, Any]:
    return {
        "description": header.meaning,
        "schema": schemas.of(header.model),
        "example": header.example,
    }


def _add_refusals(
    response: dict[str, Any], status: int, refusals: list[DispatcherError], schemas: Schemas
) -> None:
    """Add an ``ErrorResponse`` to what a status may mean already."""
    before = [response["description"]] if "description" in response else []
    response["description"] = "; ".join(dict.fromkeys([*before, *map(_meaning, refusals)]))
    response.setdefault("content", {})[JSON] = {
        "schema": schemas.of(ErrorResponse),
        "examples": {
            f"{refusal.code}_{number}": {"value": msgspec.to_builtins(error_response(refusal, REQUEST_ID))}
            for number, refusal in enumerate(refusals, 1)
        },
    }
    if status in _RETRY_STATUSES:
        response["headers"] = response["headers"] | _RETRY_AFTER


def _meaning(refusal: DispatcherError) -> str:
    """The message, and what the fields add to it."""
    added = [field.message for field in refusal.fields if field.message not in refusal.message]
    return ": ".join([refusal.message, *added])


def _callbacks(delivery: Delivery, schemas: Schemas) -> dict[str, Any]:
    responses = {status: {"description": meaning} for status, meaning in delivery.answers}
    operation = {
        "summary": delivery.summary,
        "requestBody": {"required": True, "content": _content(delivery.request, schemas)},
        "responses": responses,
    }
    return {delivery.name: {delivery.url: {delivery.method.lower(): operation}}}
