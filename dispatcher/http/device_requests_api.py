"""``/v2/device-requests``: what applications want of devices."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from dispatcher import limits
from dispatcher.errors import DeviceRequestRefused, RefusalReason
from dispatcher.http.caller import ApiRoute, Caller, api_route, application_of
from dispatcher.http.channels_api import require_json
from dispatcher.http.message import Request, Response
from dispatcher.http.operation import DEVICE_ID, Answer, Operation, Parameter, json_content
from dispatcher.model import Role
from dispatcher.runtime.hub import Hub
from dispatcher.wire import device_api


class DeviceRequestsApi:
    """Commands for devices, answered on the channel of who asked."""

    def __init__(self, hub: Hub) -> None:
        self._requests = hub.parts.device_requests

    def routes(self) -> list[ApiRoute]:
        """This API's rows of the route table."""
        path = "/v2/device-requests/{device-id}"
        return [api_route("POST", path, Role.APPLICATION, self.post_request, _POST_REQUEST)]

    async def post_request(self, request: Request, caller: Caller) -> Response:
        """Put a request into a device's line: 202; the result comes over the application's channel."""
        require_json(request)
        query = request.query_params()
        body = await request.body(limits.DEVICE_REQUEST_BODY_BYTES_MAX)
        wanted = device_api.parse_device_request(query, body)
        await self._requests.accept(application_of(caller), request.params["device-id"], wanted)
        return Response(202)


# --- what the documents say of the rows ---------------------------------------------------

_REFUSALS = (
    (RefusalReason.RESOURCE_NOT_FOUND, "`uri` is not a path"),
    (RefusalReason.DEVICE_NOT_CONNECTED, "the device's gateway has no socket open"),
    (RefusalReason.MALFORMED_JSON_CONTENT, "the body is not a request"),
    (RefusalReason.MALFORMED_ASYNC_ID, "`async-id` is missing, malformed, or that of another request"),
    (RefusalReason.QUEUE_IS_FULL, "too many requests wait for this device"),
    (RefusalReason.DEVICE_NOT_FOUND, "no device of this name is registered"),
    (RefusalReason.URI_PATH_DOES_NOT_EXISTS, "the device has registered nothing there"),
)
_POST_REQUEST = Operation(
    summary="Ask a device: what it says comes as an async response over the application's channel",
    parameters=(
        DEVICE_ID,
        Parameter(
            name="async-id",
            place="query",
            model=Annotated[str, Meta(pattern=f"^{device_api.ASYNC_ID_PATTERN}$")],
            meaning="Names the answer; the same request under the same name is taken once.",
            example="job-42",
            is_required=True,
        ),
        Parameter(
            name="retry",
            place="query",
            model=Annotated[int, Meta(ge=0, le=limits.DEVICE_REQUEST_RETRY_MAX)],
            meaning="How often to try again.",
            example=2,
        ),
        Parameter(
            name="expiry-seconds",
            place="query",
            model=Annotated[
                int, Meta(ge=limits.DEVICE_REQUEST_EXPIRY_S_MIN, le=limits.DEVICE_REQUEST_EXPIRY_S_MAX)
            ],
            meaning="For how long the request waits for the device.",
            example=7200,
        ),
    ),
    request=(json_content(device_api.DeviceRequestBody, {"method": "GET", "uri": "/3303/0/5700"}),),
    answers=(Answer(202, "the request waits for its device"),),
    refusals=tuple(DeviceRequestRefused(reason, explanation) for reason, explanation in _REFUSALS),
)
