"""Who is asking: the key of a request, and what it acts for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import msgspec

from dispatcher.core.access import KeyRing, authorize, choose_credentials
from dispatcher.http.message import Headers, Reply, Request
from dispatcher.http.operation import Operation
from dispatcher.http.route_table import Route
from dispatcher.model import AccessKey, Account, Application, Role
from dispatcher.runtime.parts import Parts


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """An authenticated request's key, account and (for application keys) application."""

    key: AccessKey | None = None
    account: Account | None = None
    application: Application | None = None


NOBODY = Caller()
"""Who calls an open path."""

Handler = Callable[[Request, Caller], Awaitable[Reply]]


class ApiRoute(Route[Role | None, Handler], frozen=True):
    """A row of the route table, and what the generated documents say of it.

    ``scope`` None: open to anyone, unless the handler looks at the key itself.
    """

    operation: Operation


def api_route(
    method: str, pattern: str, role: Role | None, handler: Handler, operation: Operation
) -> ApiRoute:
    """A row, named after its handler."""
    return ApiRoute(method, pattern, role, handler, handler.__name__, operation)


def authenticate(parts: Parts, request: Request, role: Role, subprotocols: Sequence[str] = ()) -> Caller:
    """The caller, by the ``Authorization`` header or, for a WebSocket's handshake, by
    ``pelion_<key>`` among its subprotocols.

    Raises ``InvalidAuth`` and ``Forbidden``.
    """
    directory = parts.directory
    digest = _key_digest(directory.keys, request.headers, subprotocols)
    found = None if digest is None else directory.keys.find(digest)
    key = authorize(found, role, parts.wall_unix_ms())
    return Caller(
        key=key,
        account=None if key.account_id is None else directory.accounts[key.account_id],
        application=None if key.application_id is None else directory.applications[key.application_id],
    )


def _key_digest(keys: KeyRing, headers: Headers, subprotocols: Sequence[str]) -> bytes | None:
    """The digest of the key that is offered; None when none is.

    What is remembered is the digest and never whose it is, so that a revoked key is refused at once.
    """
    if headers.key_digest is not None:
        return headers.key_digest
    authorization = headers.get("authorization")
    text = choose_credentials(authorization, subprotocols)
    if text is None:
        return None
    digest = keys.digest(text)
    if authorization is not None:
        headers.key_digest = digest
    return digest


def admit(parts: Parts, request: Request, role: Role, subprotocols: Sequence[str] = ()) -> Caller:
    """The same, and one request less that the caller's account may make.

    Raises ``TooManyRequests``, too, when it makes them faster than its tier allows.
    """
    caller = authenticate(parts, request, role, subprotocols)
    if caller.account is not None:
        parts.budgets.take_request(caller.account)
    return caller


def key_of(caller: Caller) -> AccessKey:
    """The key of an authenticated caller."""
    assert caller.key is not None
    return caller.key


def application_of(caller: Caller) -> Application:
    """The application of an application key."""
    assert caller.application is not None
    return caller.application


def account_of(caller: Caller) -> Account:
    """The account of an application's or a gateway's key."""
    assert caller.account is not None
    return caller.account
