"""Which handler a method and a path lead to.  Pure: no I/O, no authentication.

The table is data (``Route``), so that what serves can also be printed.  A path is
split at its slashes *before* it is decoded: ``%2F`` never makes or hides a segment.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, TypeVar

import msgspec

from dispatcher.errors import MethodNotAllowed, NotFound
from dispatcher.http.percent import percent_decode

Scope = TypeVar("Scope")
Handler = TypeVar("Handler")


class Route(msgspec.Struct, Generic[Scope, Handler], frozen=True):
    """One line of the table.

    ``pattern`` is literal text but for parameters, each a whole segment:
    ``{name}`` takes one segment, ``{name...}`` the rest of the path; neither starts
    with an empty segment.  ``scope`` and ``handler`` are the caller's; the table
    only hands them back.
    """

    method: str
    pattern: str
    scope: Scope
    handler: Handler
    name: str


class Match(msgspec.Struct, Generic[Scope, Handler], frozen=True):
    """The route of a request, and its path's parameters, decoded."""

    route: Route[Scope, Handler]
    params: dict[str, str]


class _Node(Generic[Scope, Handler]):
    """The patterns that begin alike.  ``tail`` are those whose ``{name...}`` stands here."""

    def __init__(self) -> None:
        self.literals: dict[str, _Node[Scope, Handler]] = {}
        self.parameter: _Node[Scope, Handler] | None = None
        self.tail: dict[str, Route[Scope, Handler]] = {}
        self.routes: dict[str, Route[Scope, Handler]] = {}


class RouteTable(Generic[Scope, Handler]):
    """All routes of a server; refuses two that would compete.

    Patterns that take the same paths may name their parameters differently.  At
    each segment a literal wins over a parameter, and that over a tail.
    """

    def __init__(self, routes: Iterable[Route[Scope, Handler]]) -> None:
        self.routes = tuple(routes)
        self._root: _Node[Scope, Handler] = _Node()
        self._static: dict[str, dict[str, Route[Scope, Handler]]] = {}
        for route in self.routes:
            self._add(route)

    def match(self, method: str, raw_path: str) -> Match[Scope, Handler]:
        """Find the route of a request; ``raw_path`` is percent-encoded and without query.

        HEAD is answered by the route of GET.  Raises ``NotFound``,
        ``MethodNotAllowed``, and ``BadRequest`` for escapes that do not decode.
        """
        static = self._static.get(raw_path)
        if static is not None:
            return Match(_choose(static, method), {})
        segments = [percent_decode(segment) for segment in raw_path.split("/")[1:]]
        found = self._find(self._root, segments, 0) if raw_path.startswith("/") else None
        if found is None:
            raise NotFound("there is nothing at this path")
        route = _choose(found, method)
        return Match(route, _params(route.pattern, segments))

    def _add(self, route: Route[Scope, Handler]) -> None:
        segments = _segments(route.pattern)
        node = self._root
        for index, segment in enumerate(segments):
            if segment.endswith("...}"):
                if index != len(segments) - 1:
                    raise ValueError(f"{route.pattern}: a tail parameter must come last")
                _put(node.tail, route)
                return
            if segment.startswith("{"):
                node.parameter = node.parameter or _Node()
                node = node.parameter
            else:
                node = node.literals.setdefault(segment, _Node())
        _put(node.routes, route)
        if "{" not in route.pattern:
            self._static[route.pattern] = node.routes

    def _find(
        self, node: _Node[Scope, Handler], segments: list[str], index: int
    ) -> dict[str, Route[Scope, Handler]] | None:
        """The routes of a path by method.  At most two ways lead on from a node, and patterns are short."""
        if index == len(segments):
            return node.routes or None
        segment = segments[index]
        literal = node.literals.get(segment)
        found = self._find(literal, segments, index + 1) if literal is not None else None
        if found is None and node.parameter is not None and segment:
            found = self._find(node.parameter, segments, index + 1)
        if found is None and node.tail and segment:
            found = node.tail
        return found


def _segments(pattern: str) -> list[str]:
    """Check a pattern's form and cut it at its slashes."""
    if not pattern.startswith("/"):
        raise ValueError(f"{pattern}: a pattern starts with a slash")
    segments = pattern.split("/")[1:]
    for segment in segments:
        is_parameter = segment.startswith("{") and segment.endswith("}")
        if not is_parameter and ("{" in segment or "}" in segment):
            raise ValueError(f"{pattern}: a parameter is a whole segment")
    return segments


def _put(routes: dict[str, Route[Scope, Handler]], route: Route[Scope, Handler]) -> None:
    if route.method in routes:
        raise ValueError(f"{route.method} {route.pattern} is in the table twice")
    routes[route.method] = route


def _choose(routes: dict[str, Route[Scope, Handler]], method: str) -> Route[Scope, Handler]:
    route = routes.get(method)
    if route is None and method == "HEAD":
        route = routes.get("GET")
    if route is None:
        raise MethodNotAllowed(f"this path does not take {method}", allow=_allow(routes))
    return route


def _allow(routes: dict[str, Route[Scope, Handler]]) -> tuple[str, ...]:
    return tuple(sorted({*routes, "HEAD"} if "GET" in routes else routes))


def _params(pattern: str, segments: list[str]) -> dict[str, str]:
    params: dict[str, str] = {}
    for index, name in enumerate(pattern.split("/")[1:]):
        if name.endswith("...}"):
            params[name[1:-4]] = "/".join(segments[index:])
        elif name.startswith("{"):
            params[name[1:-1]] = segments[index]
    return params
