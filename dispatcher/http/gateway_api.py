"""``/gateway/v1/connect``: the socket of a gateway that also executes commands."""

from __future__ import annotations

import trio

from dispatcher.core.access import answer_subprotocol
from dispatcher.http.caller import ApiRoute, Caller, account_of, api_route, authenticate, key_of
from dispatcher.http.gateway_session import PATH, GatewaySession
from dispatcher.http.ingest_api import Intake
from dispatcher.http.message import Request, Upgrade
from dispatcher.model import Role
from dispatcher.runtime.hub import Hub
from dispatcher.wire import ws_handshake


class GatewayApi:
    """The gateway's socket."""

    def __init__(self, hub: Hub, intake: Intake) -> None:
        self._hub = hub
        self._intake = intake

    def routes(self) -> list[ApiRoute]:
        """This API's rows of the route table."""
        return [api_route("GET", PATH, None, self.connect)]

    async def connect(self, request: Request, caller: Caller) -> Upgrade:
        """Events up, answers and device requests down."""
        handshake = ws_handshake.check_upgrade(request.headers)
        found = authenticate(self._hub.parts, request, Role.GATEWAY, handshake.subprotocols)
        key, account = key_of(found), account_of(found)
        self._hub.parts.gateways.check_room(account)
        headers = [("Sec-WebSocket-Accept", handshake.accept)]
        answer = answer_subprotocol(handshake.subprotocols)
        if answer is not None:
            headers.append(("Sec-WebSocket-Protocol", answer))
        session = GatewaySession(self._hub, self._intake, key, account, request.request_id)

        async def run(stream: trio.abc.Stream, leftover: bytes) -> None:
            await self._hub.parts.gateways.serve(key, account, stream, leftover, session.run)

        return Upgrade(run, tuple(headers))
