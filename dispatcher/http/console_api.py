"""``/console``: the operator's page, as files of the package.

One page, scripts and a stylesheet, all from here: its policy lets the browser load nothing
else and call nobody but this server.  Addresses in it are relative, so that a proxy may put
a path before them.  The files hold nothing secret and are open to anyone who can reach them;
what the page shows it asks of the admin API, with a key that the operator types in.
"""

from __future__ import annotations

from hashlib import sha256
from importlib.resources import files
from typing import Annotated

from msgspec import Meta

from dispatcher.errors import NotFound
from dispatcher.http.caller import ApiRoute, Caller, api_route
from dispatcher.http.message import Request, Response
from dispatcher.http.operation import ANY_MEDIA_TYPE, Answer, Content, Operation, Parameter

_PAGE = "index.html"
_MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
_HEADERS = (
    ("Content-Security-Policy", _POLICY),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cache-Control", "no-cache"),
)


class _File:
    def __init__(self, body: bytes, media_type: str) -> None:
        self._body = body
        self._media_type = media_type
        self._etag = f'"{sha256(body).hexdigest()[:16]}"'

    def answer(self, request: Request) -> Response:
        headers = (*_HEADERS, ("ETag", self._etag))
        if request.headers.get("if-none-match") == self._etag:
            return Response(304, headers=headers)
        return Response(200, self._body, self._media_type, headers)


class ConsoleApi:
    """The page and its files, read once."""

    def __init__(self) -> None:
        self._files = {
            file.name: _File(file.read_bytes(), _MEDIA_TYPES[suffix])
            for file in files("dispatcher.http").joinpath("console").iterdir()
            if (suffix := "." + file.name.rpartition(".")[2]) in _MEDIA_TYPES
        }

    def routes(self) -> list[ApiRoute]:
        """This API's rows of the route table."""
        return [
            api_route("GET", "/console", None, self.get_page, _GET_PAGE),
            api_route("GET", "/console/{file}", None, self.get_file, _GET_FILE),
        ]

    async def get_page(self, request: Request, caller: Caller) -> Response:
        """The page."""
        return self._files[_PAGE].answer(request)

    async def get_file(self, request: Request, caller: Caller) -> Response:
        """One of the files that the page loads."""
        found = self._files.get(request.params["file"])
        if found is None:
            raise NotFound(_NO_FILE)
        return found.answer(request)


_NO_FILE = "the console has no such file"


# --- what the documents say of the rows ---------------------------------------------------

_KNOWN = Answer(304, "the file is the one that is known already")
_GET_PAGE = Operation(
    summary="The operator's page; it asks for an admin key and calls the admin API with it",
    answers=(Answer(200, "the page", Content("text/html", str, "<!doctype html>")), _KNOWN),
)
_GET_FILE = Operation(
    summary="A file that the operator's page loads",
    parameters=(
        Parameter(
            name="file",
            place="path",
            model=Annotated[str, Meta(min_length=1)],
            meaning="Its name.",
            example="main.js",
            is_required=True,
        ),
    ),
    answers=(Answer(200, "the file", Content(ANY_MEDIA_TYPE, str, 'import "./api.js";')), _KNOWN),
    refusals=(NotFound(_NO_FILE),),
)
