"""``/gateway/v1``: where gateways post device events."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from hashlib import sha256
from typing import Annotated, NamedTuple

import trio
from msgspec import Meta

from dispatcher import limits
from dispatcher.core.idempotency import KeyScope, key_scope
from dispatcher.errors import (
    BadRequest,
    JournalBehind,
    JournalFailed,
    MemoryFull,
    NotFound,
    QueueFull,
    TooManyRequests,
    UnprocessableKey,
    UnsupportedMediaType,
)
from dispatcher.http.caller import ApiRoute, Caller, account_of, api_route, key_of
from dispatcher.http.ingest_gate import IngestGate
from dispatcher.http.message import JSON, Request, Response
from dispatcher.http.operation import Answer, Content, Header, Operation, Parameter, json_content
from dispatcher.http.replays import Replays
from dispatcher.model import Account, Role
from dispatcher.observe.tracing import PublishTrace
from dispatcher.runtime.hub import Hub
from dispatcher.runtime.publishing import Receipt
from dispatcher.wire.gateway_api import Accepted, encode_accepted
from dispatcher.wire.ingest import BodyForm, Parsed, Parsing, parse
from dispatcher.wire.message_shapes import MESSAGE_EXAMPLE, NotificationMessage
from dispatcher.wire.staging import Text

_FORMS = {JSON: BodyForm.JSON, "application/x-ndjson": BodyForm.NDJSON}
_PARSERS = trio.CapacityLimiter(limits.INGEST_PARSERS_MAX)
_REPLAYED = (("Idempotency-Replayed", "true"),)
_UNTRACED = nullcontext()


class _Target(NamedTuple):
    """Where a request's events go; see ``Publisher``."""

    take: Callable[[Text, bool, KeyScope | None], Receipt | None]  # of a text, and whether it is lines
    publish: Callable[[Parsed, KeyScope | None], Receipt]


class _Post(NamedTuple):
    """One request with events, whole."""

    body: Text
    form: BodyForm
    account: Account
    target: _Target
    trace: PublishTrace | None


class Intake:
    """What posts and messages of gateways go through alike."""

    def __init__(self, hub: Hub) -> None:
        self.gate = IngestGate()
        self.replays = Replays(hub.parts.queue.answers, hub.parts.now_unix_ms)
        self._new_staging = hub.parts.new_staging

    async def parse(self, body: Text, form: BodyForm) -> Parsed:
        """Parse in steps, so that a large body does not hold everyone else up.

        A JSON message is one step however large; a large one is parsed on a thread: the native
        scan runs beside the others, and the strict path gives way every few milliseconds.
        """
        if form is not BodyForm.NDJSON and len(body) > limits.INGEST_INLINE_BYTES_MAX:
            return await trio.to_thread.run_sync(parse, body, form, self._new_staging, limiter=_PARSERS)
        parsing = Parsing(body, form, self._new_staging)
        while (parsed := parsing.step()) is None:
            await trio.lowlevel.checkpoint()
        return parsed


class IngestApi:
    """The two posting paths of the gateway API."""

    def __init__(self, hub: Hub, intake: Intake) -> None:
        self._parts = hub.parts
        self._intake = intake

    def routes(self) -> list[ApiRoute]:
        """This API's rows of the route table."""
        return [
            api_route("POST", "/gateway/v1/events", Role.GATEWAY, self.post_events, _POST_EVENTS),
            api_route(
                "POST",
                "/gateway/v1/applications/{application}/events",
                Role.GATEWAY,
                self.post_to_application,
                _POST_TO_APPLICATION,
            ),
        ]

    async def post_events(self, request: Request, caller: Caller) -> Response:
        """Route a body's events by subscription: 202 when they are durable."""
        account = account_of(caller)
        publisher = self._parts.publisher
        target = _Target(
            lambda text, is_lines, scope: publisher.take_for_subscribers(
                account.id, text, is_lines=is_lines, scope=scope
            ),
            lambda parsed, scope: publisher.to_subscribers(account.id, parsed, key_of(caller).id, scope),
        )
        return await self._take(request, caller, target)

    async def post_to_application(self, request: Request, caller: Caller) -> Response:
        """Put a body's events straight into one application's channel."""
        application = self._parts.directory.application_named(
            account_of(caller).id, request.params["application"]
        )
        publisher = self._parts.publisher
        target = _Target(
            lambda text, is_lines, scope: publisher.take_for_application(
                application, text, is_lines=is_lines, scope=scope
            ),
            lambda parsed, scope: publisher.to_application(application, parsed, scope),
        )
        return await self._take(request, caller, target)

    async def _take(self, request: Request, caller: Caller, target: _Target) -> Response:
        tracing = self._parts.tracing
        if tracing is None:
            return await self._answer(request, caller, target, None)
        parent, state = request.headers.get("traceparent"), request.headers.get("tracestate")
        with tracing.publish(parent, state, request.request_id) as trace:
            return await self._answer(request, caller, target, trace)

    async def _answer(
        self, request: Request, caller: Caller, target: _Target, trace: PublishTrace | None
    ) -> Response:
        form = _form_of(request)
        idempotency_key = _idempotency_key(request)
        key, account = key_of(caller), account_of(caller)
        self._parts.budgets.check_events(account)
        with self._intake.gate.passing(key, request):
            body = await request.body_in_place(limits.REQUEST_BODY_BYTES_MAX)
            if idempotency_key is None:
                return Response(202, await self._store(_Post(body, form, account, target, trace)), JSON)
            answer = partial(self._store, _Post(body, form, account, target, trace))
            scope = key_scope(account.id, key.id, request.path, idempotency_key)
            found, is_replay = await self._intake.replays.once(scope, sha256(body).digest(), answer)
        return Response(202, found, JSON, _REPLAYED if is_replay else ())

    async def _store(self, post: _Post, scope: KeyScope | None = None) -> bytes:
        """Publish, and wait until that is durable; the body of the 202."""
        budgets = self._parts.budgets
        account, trace = post.account, post.trace
        receipt = None
        if trace is None and len(post.body) <= limits.INGEST_INLINE_BYTES_MAX:
            budgets.check_events(account)  # others may have published meanwhile
            receipt = post.target.take(post.body, post.form is BodyForm.NDJSON, scope)
        if receipt is None:
            receipt = await self._parse_and_publish(post, scope)
        budgets.take_events(account, receipt.accepted)
        if not receipt.is_durable:  # else the wait for the next request is when others have their turn
            with _UNTRACED if trace is None else trace.waiting():
                await receipt.durable()
        return encode_accepted(receipt)

    async def _parse_and_publish(self, post: _Post, scope: KeyScope | None) -> Receipt:
        parsed = await self._intake.parse(post.body, post.form)
        trace = post.trace
        with _UNTRACED if trace is None else trace.appending(parsed.events, len(post.body)):
            self._parts.budgets.check_events(post.account)
            return post.target.publish(parsed, scope)


def _form_of(request: Request) -> BodyForm:
    given = request.headers.get("content-type") or ""
    form = _FORMS.get(given) or _FORMS.get(given.split(";", 1)[0].strip().lower())
    if form is None:
        raise UnsupportedMediaType(f"send the body as Content-Type: {' or '.join(_FORMS)}")
    return form


def _idempotency_key(request: Request) -> str | None:
    key = request.headers.get("idempotency-key")
    if key is not None and not 0 < len(key) <= limits.IDEMPOTENCY_KEY_BYTES_MAX:
        raise BadRequest(f"Idempotency-Key: want 1 to {limits.IDEMPOTENCY_KEY_BYTES_MAX} bytes")
    return key


# --- what the documents say of the rows ---------------------------------------------------

_IDEMPOTENCY_KEY = Parameter(
    name="Idempotency-Key",
    place="header",
    model=Annotated[str, Meta(min_length=1, max_length=limits.IDEMPOTENCY_KEY_BYTES_MAX)],
    meaning="The same key and body are taken once, and answered alike for a day.",
    example="truck-7-000042",
)
_EVENTS = (
    json_content(NotificationMessage, MESSAGE_EXAMPLE),
    Content("application/x-ndjson", str, '{"notifications":[{"ep":"greenhouse-7","path":"/3303/0/5700"}]}\n'),
)
_TAKEN = Answer(
    202,
    "the events are durable",
    json_content(Accepted, {"accepted": 3, "queued": 4, "unrouted": 1, "rejected": 0, "durability": "disk"}),
    (
        Header(
            "Idempotency-Replayed", str, "`true` on the answer to a request that was taken before.", "true"
        ),
    ),
)
_NOT_TAKEN = (
    UnprocessableKey("this Idempotency-Key was used before with another body; take a new key"),
    TooManyRequests("too many requests of this gateway are in flight", retry_after_s=1),
    TooManyRequests("this account publishes faster than its tier allows; come back in 3 s", retry_after_s=3),
    JournalBehind("more is being posted than the disk takes; try again", retry_after_s=1),
    JournalFailed("the journal cannot be written; nothing is accepted until a restart"),
    MemoryFull("no memory: all that is queued is being delivered; try again later"),
)
_POST_EVENTS = Operation(
    summary="Post events of devices, all or nothing: they go to every application that subscribed",
    parameters=(_IDEMPOTENCY_KEY,),
    request=_EVENTS,
    answers=(_TAKEN,),
    refusals=_NOT_TAKEN,
)
_POST_TO_APPLICATION = Operation(
    summary="Post events, all or nothing, straight to one application, whatever it subscribed to",
    parameters=(
        Parameter(
            name="application",
            place="path",
            model=Annotated[str, Meta(min_length=1)],
            meaning="The name of an application of the key's account.",
            example="greenhouse",
            is_required=True,
        ),
        _IDEMPOTENCY_KEY,
    ),
    request=_EVENTS,
    answers=(_TAKEN,),
    refusals=(
        *_NOT_TAKEN,
        NotFound("no application 'greenhouse' in this account"),
        QueueFull("the application's channel is full"),
    ),
)
