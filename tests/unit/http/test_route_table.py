from __future__ import annotations

import pytest

from dispatcher.errors import BadRequest, MethodNotAllowed, NotFound
from dispatcher.http.route_table import Route, RouteTable


def table(*lines: str) -> RouteTable[str, None]:
    """Routes from "METHOD /pattern" lines; a route's name is its line."""
    return RouteTable([Route(*line.split(" "), "scope", None, line) for line in lines])


TABLE = table(
    "GET /",
    "GET /v2/notification/callback",
    "PUT /v2/notification/callback",
    "POST /gateway/v1/events",
    "POST /gateway/v1/applications/{application}/events",
    "GET /v2/subscriptions",
    "GET /v2/subscriptions/{device-id}",
    "DELETE /v2/subscriptions/{device-id}",
    "PUT /v2/subscriptions/{device-id}/{resource-path...}",
    "GET /v2/subscriptions/{device-id}/special",
    "GET /a/{x}/c",
    "GET /a/b/d",
)


@pytest.mark.parametrize(
    ("method", "path", "name", "params"),
    [
        ("GET", "/", "GET /", {}),
        ("GET", "/v2/notification/callback", "GET /v2/notification/callback", {}),
        ("PUT", "/v2/notification/callback", "PUT /v2/notification/callback", {}),
        ("HEAD", "/v2/notification/callback", "GET /v2/notification/callback", {}),
        ("GET", "/v2/notific%61tion/callback", "GET /v2/notification/callback", {}),
        ("GET", "/v2/subscriptions/dev-1", "GET /v2/subscriptions/{device-id}", {"device-id": "dev-1"}),
        ("GET", "/v2/subscriptions/a%2Fb", "GET /v2/subscriptions/{device-id}", {"device-id": "a/b"}),
        ("GET", "/v2/subscriptions/%C3%A9+", "GET /v2/subscriptions/{device-id}", {"device-id": "é+"}),
        ("GET", "/v2/subscriptions/..", "GET /v2/subscriptions/{device-id}", {"device-id": ".."}),
        (
            "PUT",
            "/v2/subscriptions/dev/3303/0/5700",
            "PUT /v2/subscriptions/{device-id}/{resource-path...}",
            {"device-id": "dev", "resource-path": "3303/0/5700"},
        ),
        (
            "PUT",
            "/v2/subscriptions/dev/a%20b//c",
            "PUT /v2/subscriptions/{device-id}/{resource-path...}",
            {"device-id": "dev", "resource-path": "a b//c"},
        ),
        (
            "GET",
            "/v2/subscriptions/dev/special",
            "GET /v2/subscriptions/{device-id}/special",
            {"device-id": "dev"},
        ),
        ("GET", "/a/b/c", "GET /a/{x}/c", {"x": "b"}),
        ("GET", "/a/b/d", "GET /a/b/d", {}),
    ],
)
def test_path_leads_to_its_route(method: str, path: str, name: str, params: dict[str, str]) -> None:
    match = TABLE.match(method, path)
    assert match.route.name == name
    assert match.params == params
    assert match.route.scope == "scope"


@pytest.mark.parametrize(
    "path",
    [
        "",
        "*",
        "//",
        "/v2",
        "/v2/notification/callback/",
        "/v2/notification//callback",
        "/v2//notification/callback",
        "/V2/notification/callback",
        "/v2/x/../notification/callback",
        "/v2/notification%2Fcallback",
        "/v2/subscriptions/",
        "/v2/subscriptions/dev/",
        "/v2/subscriptions//3303",
        "/v2/subscriptions/dev//3303",
        "v2/subscriptions",
        "/gateway/v1/applications//events",
        "/a/b/e",
    ],
)
def test_path_that_is_not_in_the_table_is_not_found(path: str) -> None:
    with pytest.raises(NotFound):
        TABLE.match("GET", path)


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("DELETE", "/v2/notification/callback", ("GET", "HEAD", "PUT")),
        ("OPTIONS", "/gateway/v1/events", ("POST",)),
        ("HEAD", "/gateway/v1/events", ("POST",)),
        ("get", "/v2/notification/callback", ("GET", "HEAD", "PUT")),
        ("POST", "/v2/subscriptions/dev", ("DELETE", "GET", "HEAD")),
        ("GET", "/v2/subscriptions/dev/3303/0", ("PUT",)),
    ],
)
def test_other_method_is_told_which_are_allowed(method: str, path: str, allow: tuple[str, ...]) -> None:
    with pytest.raises(MethodNotAllowed) as caught:
        TABLE.match(method, path)
    assert caught.value.allow == allow


@pytest.mark.parametrize("escape", ["%", "%4", "%zz", "%C3", "%ff", "%ED%A0%80", "%C0%AF", "%u0041"])
def test_escape_that_does_not_decode_is_a_bad_request(escape: str) -> None:
    with pytest.raises(BadRequest):
        TABLE.match("GET", f"/v2/subscriptions/{escape}")


@pytest.mark.parametrize(
    "lines",
    [
        ["GET /a", "GET /a"],
        ["GET /{a}", "GET /{b}"],
        ["GET /x/{a...}", "GET /x/{b...}"],
        ["GET a"],
        ["GET /{a...}/b"],
        ["GET /a{b}"],
    ],
)
def test_table_refuses_patterns_it_could_not_serve(lines: list[str]) -> None:
    with pytest.raises(ValueError, match=r"a|b"):
        table(*lines)


def test_parameters_may_have_another_name_for_another_method() -> None:
    routes = table("GET /{a}", "PUT /{b}")
    assert routes.match("GET", "/1").params == {"a": "1"}
    assert routes.match("PUT", "/1").params == {"b": "1"}
