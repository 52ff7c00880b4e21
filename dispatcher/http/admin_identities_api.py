"""``/admin/v1``: accounts, applications, keys and tiers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Annotated, TypeVar

from msgspec import Meta

from dispatcher import limits
from dispatcher.config import channel_limits
from dispatcher.core.access import check_name
from dispatcher.core.paging import page
from dispatcher.errors import BadRequest, FieldError, NotFound, TooManyRequests, ValidationError
from dispatcher.http.admin_parameters import (
    ACCOUNT,
    LIMITS_EXAMPLE,
    PAGING,
    PREFIX,
    WRONG_PARAMETER,
    page_size,
    place_after,
    tell,
)
from dispatcher.http.caller import ApiRoute, Caller, api_route
from dispatcher.http.channels_api import require_json
from dispatcher.http.message import Request, Response, json_response, no_content
from dispatcher.http.operation import Answer, Operation, Parameter, done, json_content
from dispatcher.model import AccessKey, Account, Application, Role
from dispatcher.runtime.hub import Hub
from dispatcher.wire.admin_api import (
    AccountBody,
    AccountPage,
    AccountRow,
    ApplicationBody,
    ApplicationPage,
    ApplicationRow,
    KeyBody,
    KeyPage,
    KeyRow,
    NewKey,
    TierRow,
    Tiers,
)
from dispatcher.wire.json_body import parse_body

T = TypeVar("T")


class AdminIdentitiesApi:
    """Who there is, and their keys."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._directory = hub.parts.directory

    def routes(self) -> list[ApiRoute]:
        """This API's rows of the route table."""
        accounts, applications, keys = f"{PREFIX}/accounts", f"{PREFIX}/applications", f"{PREFIX}/keys"
        return [
            api_route("GET", accounts, Role.ADMIN, self.list_accounts, _LIST_ACCOUNTS),
            api_route("POST", accounts, Role.ADMIN, self.create_account, _CREATE_ACCOUNT),
            api_route("GET", applications, Role.ADMIN, self.list_applications, _LIST_APPLICATIONS),
            api_route("POST", applications, Role.ADMIN, self.create_application, _CREATE_APPLICATION),
            api_route("GET", keys, Role.ADMIN, self.list_keys, _LIST_KEYS),
            api_route("POST", keys, Role.ADMIN, self.create_key, _CREATE_KEY),
            api_route("DELETE", f"{keys}/{{key}}", Role.ADMIN, self.revoke_key, _REVOKE_KEY),
            api_route("GET", f"{PREFIX}/tiers", Role.ADMIN, self.list_tiers, _LIST_TIERS),
        ]

    async def list_accounts(self, request: Request, caller: Caller) -> Response:
        """Accounts, in the order of their making."""
        query = request.query_params()
        placed = [((one.id, 0), one) for one in self._directory.accounts.values()]
        found, next_ = page(placed, place_after(query), page_size(query))
        applications = Counter(one.account_id for one in self._directory.applications.values())
        channels = Counter(one.row.account_id for one in self._directory.channels())
        rows = [
            AccountRow(
                name=one.name, tier=one.tier, applications=applications[one.id], channels=channels[one.id]
            )
            for one in found
        ]
        return json_response(AccountPage(accounts=rows, next=next_))

    async def create_account(self, request: Request, caller: Caller) -> Response:
        """Make an account; one that is there stays as it is."""
        body = await self._body(request, AccountBody)
        account = await self._hub.ensure_account(body.name, body.tier)
        tell(caller, "create account", account=account.name)
        applications = [one for one in self._directory.applications.values() if one.account_id == account.id]
        channels = [one for one in applications if self._directory.channel_of(one.id) is not None]
        row = AccountRow(
            name=account.name, tier=account.tier, applications=len(applications), channels=len(channels)
        )
        return json_response(row)

    async def list_applications(self, request: Request, caller: Caller) -> Response:
        """Applications, in the order of their making, with their channels."""
        query = request.query_params()
        account = self._account_asked_for(query)
        placed = [
            ((one.id, 0), one)
            for one in self._directory.applications.values()
            if account is None or one.account_id == account.id
        ]
        found, next_ = page(placed, place_after(query), page_size(query))
        rows = [self._application_row(one) for one in found]
        return json_response(ApplicationPage(applications=rows, next=next_))

    async def create_application(self, request: Request, caller: Caller) -> Response:
        """Make an application; one that is there stays as it is."""
        body = await self._body(request, ApplicationBody)
        application = await self._hub.ensure_application(self._account(body.account), body.name)
        tell(caller, "create application", account=body.account, application=application.name)
        return json_response(self._application_row(application))

    async def list_keys(self, request: Request, caller: Caller) -> Response:
        """Keys that are not revoked; never their text."""
        query = request.query_params()
        account = self._account_asked_for(query)
        every = self._directory.keys.keys()
        placed = [
            ((_rank_of(key), number), key)
            for number, key in enumerate(every)
            if account is None or key.account_id == account.id
        ]
        found, next_ = page(placed, place_after(query), page_size(query))
        return json_response(KeyPage(keys=[self._key_row(key) for key in found], next=next_))

    async def create_key(self, request: Request, caller: Caller) -> Response:
        """Make a key, and show it this once."""
        body = await self._body(request, KeyBody)
        account, application = await self._owners(body)
        now_unix_ms = self._hub.parts.wall_unix_ms()
        made = await self._hub.create_key(
            body.role,
            account=account,
            application=application,
            expires_unix_ms=(
                None if body.expires_in_s is None else now_unix_ms + max(1, int(body.expires_in_s * 1000))
            ),
        )
        tell(caller, "create key", created=made.id, role=made.role)
        new = NewKey(
            id=made.id,
            role=made.role,
            account=None if account is None else account.name,
            application=None if application is None else application.name,
            expires_unix_ms=made.expires_unix_ms,
            key=made.key,
        )
        answer = json_response(new, 201)
        return Response(answer.status, answer.body, answer.content_type, (("Cache-Control", "no-store"),))

    async def revoke_key(self, request: Request, caller: Caller) -> Response:
        """Revoke a key: it stops at once, and its sockets and streams end."""
        key_id = request.params["key"]
        if not await self._hub.revoke_key(key_id):
            raise NotFound(_NO_KEY)
        tell(caller, "revoke key", revoked=key_id)
        return no_content()

    async def list_tiers(self, request: Request, caller: Caller) -> Response:
        """The tiers of the settings."""
        tiers = self._hub.settings.tiers
        rows = [
            TierRow(name=name, applications_max=tier.applications_max, limits=channel_limits(tier))
            for name, tier in sorted(tiers.items())
        ]
        return json_response(Tiers(tiers=rows))

    async def _owners(self, body: KeyBody) -> tuple[Account | None, Application | None]:
        """For whom a key is to be; its application is made when it is not there."""
        given = {"account": body.account, "application": body.application}
        for name in given:
            if (given[name] is not None) is not (name in _OWNERS[body.role]):
                message = "is missing" if given[name] is None else f"is not for a key of role {body.role}"
                raise ValidationError(f"{name}: {message}", fields=(FieldError(name=name, message=message),))
        if body.account is None:
            return None, None
        account = self._account(body.account)
        if body.application is None:
            return account, None
        return account, await self._hub.ensure_application(account, body.application)

    async def _body(self, request: Request, type_: type[T]) -> T:
        require_json(request)
        return parse_body(await request.body(limits.API_BODY_BYTES_MAX), type_)

    def _account_asked_for(self, query: Mapping[str, str]) -> Account | None:
        return self._account(query["account"]) if "account" in query else None

    def _account(self, name: str) -> Account:
        for account in self._directory.accounts.values():
            if account.name == name:
                return account
        check_name("account", name)
        raise NotFound(_NO_ACCOUNT)

    def _application_row(self, application: Application) -> ApplicationRow:
        channel = self._directory.channel_of(application.id)
        return ApplicationRow(
            name=application.name,
            account=self._directory.accounts[application.account_id].name,
            channel=None if channel is None else channel.row.id,
        )

    def _key_row(self, key: AccessKey) -> KeyRow:
        directory = self._directory
        return KeyRow(
            id=key.id,
            role=key.role,
            account=None if key.account_id is None else directory.accounts[key.account_id].name,
            application=(
                None if key.application_id is None else directory.applications[key.application_id].name
            ),
            expires_unix_ms=key.expires_unix_ms,
        )


def _rank_of(key: AccessKey) -> int:
    """Keys in the order of their ids, which stands still while others are made and revoked."""
    return int.from_bytes(key.id.removeprefix("k_").encode()[:7].ljust(7))


_OWNERS: dict[Role, tuple[str, ...]] = {
    Role.ADMIN: (),
    Role.GATEWAY: ("account",),
    Role.APPLICATION: ("account", "application"),
}
_NO_ACCOUNT = "there is no such account; POST /admin/v1/accounts makes one"
_NO_KEY = "there is no such key, or it is revoked already"


# --- what the documents say of the rows ---------------------------------------------------

_ACCOUNT_EXAMPLE = {"name": "acme", "tier": "commercial", "applications": 2, "channels": 1}
_APPLICATION_EXAMPLE = {"name": "greenhouse", "account": "acme", "channel": 17}
_KEY_EXAMPLE = {
    "id": "k_0190aa11bb22",
    "role": "application",
    "account": "acme",
    "application": "greenhouse",
    "expires_unix_ms": None,
}
_NEW_KEY_EXAMPLE = _KEY_EXAMPLE | {"key": "ak_1bmV2ZXItYS1yZWFsLWtleQ"}
_TIER_EXAMPLE = {"name": "commercial", "applications_max": 25, "limits": LIMITS_EXAMPLE}

_LIST_ACCOUNTS = Operation(
    summary="The accounts, page by page",
    parameters=PAGING,
    answers=(
        Answer(200, "a page", json_content(AccountPage, {"accounts": [_ACCOUNT_EXAMPLE], "next": None})),
    ),
    refusals=(WRONG_PARAMETER,),
)
_CREATE_ACCOUNT = Operation(
    summary="Make an account; one of this name that is there stays as it is",
    request=(json_content(AccountBody, {"name": "acme", "tier": "commercial"}),),
    answers=(Answer(200, "the account", json_content(AccountRow, _ACCOUNT_EXAMPLE)),),
    refusals=(BadRequest("there is no tier 'gold'; the settings have commercial, free"),),
)
_LIST_APPLICATIONS = Operation(
    summary="The applications of all accounts or one, page by page",
    parameters=(ACCOUNT, *PAGING),
    answers=(
        Answer(
            200,
            "a page",
            json_content(ApplicationPage, {"applications": [_APPLICATION_EXAMPLE], "next": "2.0"}),
        ),
    ),
    refusals=(WRONG_PARAMETER, NotFound(_NO_ACCOUNT)),
)
_CREATE_APPLICATION = Operation(
    summary="Make an application; one of this name that is there stays as it is",
    request=(json_content(ApplicationBody, {"account": "acme", "name": "greenhouse"}),),
    answers=(Answer(200, "the application", json_content(ApplicationRow, _APPLICATION_EXAMPLE)),),
    refusals=(
        NotFound(_NO_ACCOUNT),
        TooManyRequests("account 'acme' has 25 applications, as many as it may"),
    ),
)
_LIST_KEYS = Operation(
    summary="The keys that are not revoked, page by page; never their text",
    parameters=(ACCOUNT, *PAGING),
    answers=(Answer(200, "a page", json_content(KeyPage, {"keys": [_KEY_EXAMPLE], "next": None})),),
    refusals=(WRONG_PARAMETER, NotFound(_NO_ACCOUNT)),
)
_CREATE_KEY = Operation(
    summary="Make a key, and see it this once; its application is made when it is not there",
    request=(json_content(KeyBody, {"role": "application", "account": "acme", "application": "greenhouse"}),),
    answers=(Answer(201, "the key, whose text is not kept", json_content(NewKey, _NEW_KEY_EXAMPLE)),),
    refusals=(
        NotFound(_NO_ACCOUNT),
        TooManyRequests("account 'acme' has 25 applications, as many as it may"),
    ),
)
_REVOKE_KEY = Operation(
    summary="Revoke a key: it stops at once, and its sockets and streams end",
    parameters=(
        Parameter(
            name="key",
            place="path",
            model=Annotated[str, Meta(min_length=1)],
            meaning="The key's id, as the list shows it; never the key.",
            example="k_0190aa11bb22",
            is_required=True,
        ),
    ),
    answers=(done("the key is revoked"),),
    refusals=(NotFound(_NO_KEY),),
)
_LIST_TIERS = Operation(
    summary="The tiers of the settings, with what they mean for channels registered from now on",
    answers=(Answer(200, "the tiers", json_content(Tiers, {"tiers": [_TIER_EXAMPLE]})),),
)
