"""What a gateway says on its socket, and what it is answered.

Messages are published in the order in which they came, each as soon as it is there; a
few wait for their durability at a time, so that one sync serves them all.  The answers
go out in the same order:

    connection ─▶ take ─▶ publish ─▶ durable ─┐
                    └────▶ window (in order) ──┴─▶ answer
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from hashlib import sha256

import msgspec
import trio

from dispatcher import limits
from dispatcher.core.idempotency import KeyScope, key_scope
from dispatcher.deliver.gateway_connection import GatewayConnection
from dispatcher.deliver.sink import SinkClosed
from dispatcher.deliver.websocket_connection import CloseReason
from dispatcher.errors import DispatcherError
from dispatcher.http.ingest_api import Intake
from dispatcher.model import AccessKey, Account
from dispatcher.runtime.gateways import GatewaySocket
from dispatcher.runtime.hub import Hub
from dispatcher.runtime.publishing import Receipt
from dispatcher.wire.gateway_api import Accepted, encode_accepted
from dispatcher.wire.gateway_messages import render_answer
from dispatcher.wire.ingest import MESSAGE_ID, BodyForm, Parsed

PATH = "/gateway/v1/connect"
_MESSAGE_ID = MESSAGE_ID.encode()


Work = Callable[[KeyScope | None], Awaitable[bytes]]


class _Slot(msgspec.Struct):
    """One message's place in the row of answers."""

    done: trio.Event
    accepted: int = 0
    error: DispatcherError | None = None


class GatewaySession:
    """One socket's conversation."""

    def __init__(self, hub: Hub, intake: Intake, key: AccessKey, account: Account, request_id: str) -> None:
        self._parts = hub.parts
        self._intake = intake
        self._key = key
        self._account = account
        self._request_id = request_id
        self._accepted = 0  # events, durable, on this socket
        self._put, self._slots = trio.open_memory_channel[_Slot](limits.GATEWAY_WINDOW_MESSAGES)

    async def run(self, socket: GatewaySocket, messages: trio.Nursery) -> CloseReason:
        """Converse until the connection ends.

        What was published then is stored, answered or not; a gateway that sends it again
        with the same ``message-id`` gets the answer.  So what is on its way goes on in
        ``messages``, though nobody hears of it any more.
        """

        async def take(message: bytes) -> None:
            slot = _Slot(trio.Event())
            await self._put.send(slot)  # waits while the window is full
            await messages.start(self._carry_out, socket, message, slot)

        async with trio.open_nursery() as answers:
            answers.start_soon(self._answer, socket.connection)
            reason = await socket.connection.run(take)
            answers.cancel_scope.cancel()
        return reason

    async def _carry_out(
        self, socket: GatewaySocket, message: bytes, slot: _Slot, *, task_status: trio.TaskStatus[None]
    ) -> None:
        """Publish one message, let the next one in, and see this one durable."""
        is_published = False

        def published() -> None:
            nonlocal is_published
            is_published = True
            task_status.started()

        async def work(scope: KeyScope | None) -> bytes:
            account = self._parts.directory.accounts[self._account.id]  # its tier may be another by now
            await self._parts.budgets.pace_message(account)
            # First the socket: publishing may free requests of these devices, which go there.
            version = self._parts.router.presubscriptions_version(self._account.id)
            news = self._parts.gateways.heard(socket, parsed.device_changes, version)
            receipt = self._parts.publisher.to_subscribers(self._account.id, parsed, self._key.id, scope)
            self._parts.budgets.take_message(account, parsed.events)
            published()
            await receipt.durable()
            for ep in news:
                await self._parts.subscriptions.hint(socket, ep)
            return encode_accepted(receipt)

        try:
            with self._intake.gate.counted(self._key, len(message)):
                receipt = await self._take(message)
                if receipt is not None:
                    published()
                    await receipt.durable()
                    slot.accepted = receipt.accepted
                else:
                    parsed = await self._intake.parse(message, BodyForm.SOCKET)
                    answer = await self._once(parsed, message, work)
                    slot.accepted = msgspec.json.decode(answer, type=Accepted).accepted
        except DispatcherError as error:
            slot.error = error
        slot.done.set()
        if not is_published:
            task_status.started()

    async def _take(self, message: bytes) -> Receipt | None:
        """Publish what needs no more than to be stored; None: nothing was done."""
        if len(message) > limits.INGEST_INLINE_BYTES_MAX or _MESSAGE_ID in message:
            return None  # one with an id may have been answered before, and then waits for nothing
        account = self._parts.directory.accounts[self._account.id]
        await self._parts.budgets.pace_message(account)
        receipt = self._parts.publisher.take_for_subscribers(account.id, message, is_lines=False)
        if receipt is not None:
            self._parts.budgets.take_message(account, receipt.accepted)
        return receipt

    async def _once(self, parsed: Parsed, message: bytes, work: Work) -> bytes:
        if parsed.message_id is None:
            return await work(None)
        scope = key_scope(self._account.id, self._key.id, PATH, parsed.message_id)
        answer, _ = await self._intake.replays.once(scope, sha256(message).digest(), work)
        return answer

    async def _answer(self, connection: GatewayConnection) -> None:
        async for slot in self._slots:
            await slot.done.wait()
            self._accepted += slot.accepted
            try:
                await connection.send(render_answer(self._accepted, slot.error, self._request_id))
            except SinkClosed:
                return
