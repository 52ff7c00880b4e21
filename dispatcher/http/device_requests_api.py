"""``/v2/device-requests``: what applications want of devices."""

from __future__ import annotations

from dispatcher import limits
from dispatcher.http.caller import ApiRoute, Caller, api_route, application_of
from dispatcher.http.channels_api import require_json
from dispatcher.http.message import Request, Response
from dispatcher.model import Role
from dispatcher.runtime.hub import Hub
from dispatcher.wire import device_api


class DeviceRequestsApi:
    """Facts 1.11."""

    def __init__(self, hub: Hub) -> None:
        self._requests = hub.parts.device_requests

    def routes(self) -> list[ApiRoute]:
        """This API's rows of the route table."""
        return [api_route("POST", "/v2/device-requests/{device-id}", Role.APPLICATION, self.post_request)]

    async def post_request(self, request: Request, caller: Caller) -> Response:
        """Put a request into a device's line: 202; the result comes over the application's channel."""
        require_json(request)
        query = request.query_params()
        body = await request.body(limits.DEVICE_REQUEST_BODY_BYTES_MAX)
        wanted = device_api.parse_device_request(query, body)
        await self._requests.accept(application_of(caller), request.params["device-id"], wanted)
        return Response(202)
