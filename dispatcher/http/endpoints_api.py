"""``/v2/endpoints``: what a device registered."""

from __future__ import annotations

from dispatcher.errors import NotFound
from dispatcher.http.caller import ApiRoute, Caller, account_of, api_route
from dispatcher.http.message import JSON, Request, Response
from dispatcher.model import Role
from dispatcher.runtime.hub import Hub
from dispatcher.wire import device_api


class EndpointsApi:
    """Facts 1.12."""

    def __init__(self, hub: Hub) -> None:
        self._devices = hub.parts.devices

    def routes(self) -> list[ApiRoute]:
        """This API's rows of the route table."""
        device = "/v2/endpoints/{device-id}"
        return [api_route("GET", device, Role.APPLICATION, self.get_device)]

    async def get_device(self, request: Request, caller: Caller) -> Response:
        """The resources of a registered device, or 404."""
        device = await self._devices.find(account_of(caller).id, request.params["device-id"])
        if device is None or device.is_gone:
            raise NotFound("No such device is registered")
        return Response(200, device_api.render_resources(device.resources), JSON)
