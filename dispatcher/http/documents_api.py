"""``/openapi.json`` and ``/asyncapi.json``: what is served, read off the rows that serve it."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import msgspec

from dispatcher.http.asyncapi import describe_sockets
from dispatcher.http.caller import ApiRoute, Caller, api_route
from dispatcher.http.message import JSON, Request, Response
from dispatcher.http.openapi import describe_routes
from dispatcher.http.operation import Answer, Header, Operation, Parameter, json_content

VERSION = "2.0"
"""The API's edition, that of the paths under ``/v2``; not the program's."""


class DocumentsApi:
    """Both documents, made once.  They show the rows given and their own."""

    def __init__(self, routes: Sequence[ApiRoute]) -> None:
        every = [*routes, *self.routes()]
        self._openapi = _Document(describe_routes(every, VERSION))
        self._asyncapi = _Document(describe_sockets(every, VERSION))

    def routes(self) -> list[ApiRoute]:
        """This API's rows of the route table."""
        return [
            api_route("GET", "/openapi.json", None, self.get_openapi, _document("OpenAPI", "3.1.0")),
            api_route("GET", "/asyncapi.json", None, self.get_asyncapi, _document("AsyncAPI", "3.0.0")),
        ]

    async def get_openapi(self, request: Request, caller: Caller) -> Response:
        """The HTTP paths."""
        return self._openapi.answer(request)

    async def get_asyncapi(self, request: Request, caller: Caller) -> Response:
        """The WebSockets."""
        return self._asyncapi.answer(request)


class _Document:
    def __init__(self, content: dict[str, Any]) -> None:
        self._body = msgspec.json.encode(content)
        self._etag = f'"{sha256(self._body).hexdigest()[:16]}"'

    def answer(self, request: Request) -> Response:
        known = (request.headers.get("if-none-match") or "").split(",")
        headers = (("ETag", self._etag), ("Cache-Control", "no-cache"))
        if self._etag in (tag.strip().removeprefix("W/") for tag in known):
            return Response(304, headers=headers)
        return Response(200, self._body, JSON, headers)


def _document(kind: str, version: str) -> Operation:
    example = {kind.lower(): version, "info": {"title": "dispatcher", "version": VERSION}}
    return Operation(
        summary=f"This API as {kind} {version}",
        parameters=(
            Parameter(
                name="If-None-Match",
                place="header",
                model=str,
                meaning="The `ETag` of the document that is known already.",
                example='"5f0c1d2e3a4b5968"',
            ),
        ),
        answers=(
            Answer(
                200,
                "the document",
                json_content(dict[str, Any], example),
                (Header("ETag", str, "Names this edition of the document.", '"5f0c1d2e3a4b5968"'),),
            ),
            Answer(304, "the document is the one that is known already"),
        ),
    )
