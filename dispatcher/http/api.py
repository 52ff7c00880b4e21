"""The whole HTTP side of a dispatcher: its route table, and who may call what."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from dispatcher import limits
from dispatcher.http.admin_channels_api import AdminChannelsApi
from dispatcher.http.admin_identities_api import AdminIdentitiesApi
from dispatcher.http.admin_parked_api import AdminParkedApi
from dispatcher.http.caller import NOBODY, ApiRoute, admit, key_of
from dispatcher.http.channels_api import ChannelsApi
from dispatcher.http.console_api import ConsoleApi
from dispatcher.http.device_requests_api import DeviceRequestsApi
from dispatcher.http.documents_api import DocumentsApi
from dispatcher.http.endpoints_api import EndpointsApi
from dispatcher.http.fleet_api import FleetApi
from dispatcher.http.gateway_api import GatewayApi
from dispatcher.http.ingest_api import IngestApi, Intake
from dispatcher.http.ingest_gate import IngestGate
from dispatcher.http.message import Handle, Reply, Request
from dispatcher.http.pull_api import PullApi
from dispatcher.http.route_table import RouteTable
from dispatcher.http.status_api import StatusApi
from dispatcher.http.subscriptions_api import SubscriptionsApi
from dispatcher.model import Role
from dispatcher.runtime.hub import Hub


class Api(Protocol):
    """A group of paths."""

    def routes(self) -> list[ApiRoute]: ...


def public_api(hub: Hub, *, with_internal: bool) -> Handle:
    """The handler of the port that applications and gateways use.

    ``with_internal``: also what else is served by ``internal_api``.
    """
    intake = Intake(hub)
    apis: list[Api] = [
        ChannelsApi(hub),
        PullApi(hub),
        SubscriptionsApi(hub),
        EndpointsApi(hub),
        DeviceRequestsApi(hub),
        IngestApi(hub, intake),
        GatewayApi(hub, intake),
    ]
    if with_internal:
        apis += _internal_apis(hub)
    return _handler(hub, apis, intake.gate)


def internal_api(hub: Hub) -> Handle:
    """The handler of ``server.internal_listen``: for monitoring and for the operator."""
    return _handler(hub, _internal_apis(hub), IngestGate())


def _internal_apis(hub: Hub) -> list[Api]:
    return [
        StatusApi(hub),
        AdminChannelsApi(hub),
        AdminParkedApi(hub),
        AdminIdentitiesApi(hub),
        FleetApi(hub),
        ConsoleApi(),
    ]


def _handler(hub: Hub, apis: Sequence[Api], gate: IngestGate) -> Handle:
    """Serves some groups of paths, and the documents that describe them."""
    routes = [route for api in apis for route in api.routes()]
    table = RouteTable([*routes, *DocumentsApi(routes).routes()])

    async def handle(request: Request) -> Reply:
        match = table.match(request.method, request.path)
        request.params = match.params
        role = match.route.scope
        caller = NOBODY if role is None else admit(hub.parts, request, role)
        if role is Role.APPLICATION and request.has_body:
            with gate.passing(key_of(caller), request, limits.DEVICE_REQUEST_BODY_BYTES_MAX):
                return await match.route.handler(request, caller)
        return await match.route.handler(request, caller)

    return handle
