"""``/v2/subscriptions``: pre-subscriptions, and manual subscriptions per device and resource."""

from __future__ import annotations

from dispatcher import limits
from dispatcher.errors import BadRequest, DeviceNotConnected, DeviceRequestRefused, NotFound, TooManyRequests
from dispatcher.http.caller import ApiRoute, Caller, api_route, application_of
from dispatcher.http.channels_api import require_json
from dispatcher.http.endpoints_api import ASYNC_ID_EXAMPLE, DEVICE_LEFT, as_of_old
from dispatcher.http.message import JSON, Request, Response, no_content
from dispatcher.http.operation import DEVICE_ID, RESOURCE_PATH, Answer, Content, Operation, done, json_content
from dispatcher.model import Role
from dispatcher.runtime.hub import Hub
from dispatcher.wire import notification_api
from dispatcher.wire.device_api import AsyncIdAnswer, render_async_id
from dispatcher.wire.notification_api import PresubscriptionAnswer, PresubscriptionSet


class SubscriptionsApi:
    """What an application wants to hear of."""

    def __init__(self, hub: Hub) -> None:
        self._subscriptions = hub.parts.subscriptions
        self._router = hub.parts.router

    def routes(self) -> list[ApiRoute]:
        """This API's rows of the route table."""
        every = "/v2/subscriptions"
        device = "/v2/subscriptions/{device-id}"
        resource = "/v2/subscriptions/{device-id}/{resource-path...}"
        return [
            api_route("PUT", every, Role.APPLICATION, self.put_presubscriptions, _PUT_ALL),
            api_route("GET", every, Role.APPLICATION, self.get_presubscriptions, _GET_ALL),
            api_route("DELETE", every, Role.APPLICATION, self.delete_presubscriptions, _DELETE_ALL),
            api_route("GET", device, Role.APPLICATION, self.get_device, _GET_DEVICE),
            api_route("DELETE", device, Role.APPLICATION, self.delete_device, _DELETE_DEVICE),
            api_route("PUT", resource, Role.APPLICATION, self.put_resource, _PUT_RESOURCE),
            api_route("GET", resource, Role.APPLICATION, self.get_resource, _GET_RESOURCE),
            api_route("DELETE", resource, Role.APPLICATION, self.delete_resource, _DELETE_RESOURCE),
        ]

    async def put_presubscriptions(self, request: Request, caller: Caller) -> Response:
        """Replace the whole set: 204."""
        require_json(request)
        body = await request.body(limits.API_BODY_BYTES_MAX)
        entries = notification_api.parse_presubscriptions(body)
        await self._subscriptions.set_presubscriptions(application_of(caller), entries)
        return no_content()

    async def get_presubscriptions(self, request: Request, caller: Caller) -> Response:
        """The set, in the order in which it was put."""
        application = application_of(caller)
        entries = self._router.presubscriptions(application.account_id, application.id)
        return Response(200, notification_api.render_presubscriptions(entries), JSON)

    async def delete_presubscriptions(self, request: Request, caller: Caller) -> Response:
        """Clear the set: 204."""
        await self._subscriptions.set_presubscriptions(application_of(caller), ())
        return no_content()

    async def get_device(self, request: Request, caller: Caller) -> Response:
        """One line per subscribed resource of a device, or 404 when there is none."""
        application = application_of(caller)
        paths = self._router.subscribed_paths(
            application.account_id, application.id, request.params["device-id"]
        )
        if not paths:
            raise NotFound("No subscriptions for this device")
        return Response(200, notification_api.render_uri_list(paths), "text/uri-list")

    async def delete_device(self, request: Request, caller: Caller) -> Response:
        """Remove every manual subscription of a device: 204, also when there was none."""
        await self._subscriptions.unsubscribe(application_of(caller), request.params["device-id"])
        return no_content()

    async def put_resource(self, request: Request, caller: Caller) -> Response:
        """Subscribe to one resource: 200, or 202 when the gateway must observe it first."""
        ep, path = _resource(request)
        try:
            async_id = await self._subscriptions.subscribe(application_of(caller), ep, path)
        except DeviceRequestRefused as refused:
            raise as_of_old(refused) from None
        return Response(200) if async_id is None else Response(202, render_async_id(async_id), JSON)

    async def get_resource(self, request: Request, caller: Caller) -> Response:
        """200 when subscribed, 404 when not; no body either way."""
        application = application_of(caller)
        ep, path = _resource(request)
        paths = self._router.subscribed_paths(application.account_id, application.id, ep)
        return Response(200 if path in paths else 404)

    async def delete_resource(self, request: Request, caller: Caller) -> Response:
        """Remove one manual subscription: 204, also when there was none."""
        await self._subscriptions.unsubscribe(application_of(caller), *_resource(request))
        return no_content()


def _resource(request: Request) -> tuple[str, str]:
    """Device and path of a resource; the stored path starts with a slash."""
    ep, path = request.params["device-id"], "/" + request.params["resource-path"]
    if len(ep) > limits.EP_CHARS_MAX:
        raise BadRequest(f"a device ID has at most {limits.EP_CHARS_MAX} characters")
    if len(path) > limits.PATH_CHARS_MAX:
        raise BadRequest(f"a resource path has at most {limits.PATH_CHARS_MAX} characters")
    return ep, path


# --- what the documents say of the rows ---------------------------------------------------

_ENTRIES = [{"endpoint-name": "greenhouse-*", "resource-path": ["/3303/0/*"]}, {"endpoint-type": "thermo"}]

_PUT_ALL = Operation(
    summary="Replace the application's pre-subscriptions; an event that matches any of them comes",
    request=(json_content(PresubscriptionSet, _ENTRIES),),
    answers=(done("the set is stored"),),
)
_GET_ALL = Operation(
    summary="The application's pre-subscriptions",
    answers=(Answer(200, "the set as it was put", json_content(list[PresubscriptionAnswer], _ENTRIES)),),
)
_DELETE_ALL = Operation(
    summary="Remove all pre-subscriptions of the application", answers=(done("there are none"),)
)
_GET_DEVICE = Operation(
    summary="The resources of a device that the application has subscribed to",
    parameters=(DEVICE_ID,),
    answers=(
        Answer(
            200, "their paths, one in each line", Content("text/uri-list", str, "/3303/0/5700\n/3303/0/5701")
        ),
    ),
    refusals=(NotFound("No subscriptions for this device"),),
)
_DELETE_DEVICE = Operation(
    summary="Remove the application's subscriptions to a device's resources",
    parameters=(DEVICE_ID,),
    answers=(done("there are none"),),
)
_TOO_LONG = BadRequest(f"a resource path has at most {limits.PATH_CHARS_MAX} characters")
_PUT_RESOURCE = Operation(
    summary="Subscribe to a resource",
    parameters=(DEVICE_ID, RESOURCE_PATH),
    answers=(
        Answer(200, "subscribed"),
        Answer(
            202,
            "subscribed; what the device says to it comes as an async response of this id",
            json_content(AsyncIdAnswer, ASYNC_ID_EXAMPLE),
        ),
    ),
    refusals=(
        _TOO_LONG,
        NotFound("This device has no such resource"),
        DEVICE_LEFT,
        TooManyRequests("too many requests wait for this device"),
        DeviceNotConnected("the device's gateway has no socket open"),
    ),
)
_GET_RESOURCE = Operation(
    summary="Whether the application has subscribed to a resource",
    parameters=(DEVICE_ID, RESOURCE_PATH),
    answers=(Answer(200, "it has"), Answer(404, "it has not")),
    refusals=(_TOO_LONG,),
)
_DELETE_RESOURCE = Operation(
    summary="Remove the application's subscription to a resource",
    parameters=(DEVICE_ID, RESOURCE_PATH),
    answers=(done("there is none"),),
    refusals=(_TOO_LONG,),
)
