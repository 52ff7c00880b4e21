"""``/v2/endpoints``: what a device registered, and the older way to reach its resources."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

from dispatcher import limits
from dispatcher.errors import (
    BadRequest,
    Conflict,
    DeviceGone,
    DeviceNotConnected,
    DeviceRequestRefused,
    NotFound,
    RefusalReason,
    TooManyRequests,
)
from dispatcher.http.caller import ApiRoute, Caller, account_of, api_route, application_of
from dispatcher.http.message import JSON, Request, Response, no_content
from dispatcher.http.operation import (
    ANY_MEDIA_TYPE,
    DEVICE_ID,
    RESOURCE_PATH,
    Answer,
    Content,
    Header,
    Operation,
    Parameter,
    done,
    json_content,
)
from dispatcher.model import Role, WantedRequest
from dispatcher.runtime.hub import Hub
from dispatcher.wire import device_api
from dispatcher.wire.device_api import AsyncIdAnswer, ResourceAnswer

_BYTES = "application/octet-stream"
_MEDIA_TYPE = re.compile(r"[\w.+-]+/[\w.+-]+(?:; ?[\w-]+=[\w.+-]+)*", re.ASCII)


class EndpointsApi:
    """What a device registered, and the older calls on its resources."""

    def __init__(self, hub: Hub) -> None:
        self._devices = hub.parts.devices
        self._requests = hub.parts.device_requests
        self._values = hub.parts.values
        self._new_async_id = hub.parts.new_async_id

    def routes(self) -> list[ApiRoute]:
        """This API's rows of the route table."""
        device = "/v2/endpoints/{device-id}"
        resource = "/v2/endpoints/{device-id}/{resource-path...}"
        return [
            api_route("GET", device, Role.APPLICATION, self.get_device, _GET_DEVICE),
            api_route("GET", resource, Role.APPLICATION, self.get_resource, _GET_RESOURCE),
            api_route("PUT", resource, Role.APPLICATION, self.change_resource, _PUT_RESOURCE),
            api_route("POST", resource, Role.APPLICATION, self.change_resource, _POST_RESOURCE),
            api_route("DELETE", resource, Role.APPLICATION, self.change_resource, _DELETE_RESOURCE),
        ]

    async def get_device(self, request: Request, caller: Caller) -> Response:
        """The resources of a registered device, or 404."""
        device = await self._devices.find(account_of(caller).id, request.params["device-id"])
        if device is None or device.is_gone:
            raise NotFound("No such device is registered")
        return Response(200, device_api.render_resources(device.resources), JSON)

    async def get_resource(self, request: Request, caller: Caller) -> Response:
        """A value that may still be read: 200; else the device is asked: 202; or nobody is: 205."""
        query = request.query_params()
        if _flag(query, "noResp"):
            raise Conflict("noResp: a value that nobody gets cannot be read")
        ep, path = request.params["device-id"], "/" + request.params["resource-path"]
        found = self._values.read(account_of(caller).id, ep, path)
        if found is not None:
            value, seconds = found
            content_type = value.ct if _MEDIA_TYPE.fullmatch(value.ct) else _BYTES
            return Response(200, value.payload, content_type, (("Cache-Control", f"max-age={seconds}"),))
        if _flag(query, "cacheOnly"):
            await self._check_known(account_of(caller).id, ep)
            return Response(205)
        accept = request.headers.get("accept")
        wanted = WantedRequest(
            async_id=self._new_async_id(), method="GET", uri=path, accept=None if accept == "*/*" else accept
        )
        return await self._ask(request, caller, wanted)

    async def change_resource(self, request: Request, caller: Caller) -> Response:
        """PUT, POST or DELETE at the device: 202, or 204 when nobody wants to know what it says."""
        body = await request.body(limits.DEVICE_REQUEST_PAYLOAD_BYTES_MAX)
        wanted = WantedRequest(
            async_id=self._new_async_id(),
            method=request.method,
            uri="/" + request.params["resource-path"],
            content_type=request.headers.get("content-type") if body else None,
            payload=body or None,
            is_silent=_flag(request.query_params(), "noResp"),
        )
        return await self._ask(request, caller, wanted)

    async def _ask(self, request: Request, caller: Caller, wanted: WantedRequest) -> Response:
        try:
            await self._requests.accept(application_of(caller), request.params["device-id"], wanted)
        except DeviceRequestRefused as refused:
            raise as_of_old(refused) from None
        if wanted.is_silent:
            return no_content()
        return Response(202, device_api.render_async_id(wanted.async_id), JSON)

    async def _check_known(self, account_id: int, ep: str) -> None:
        device = await self._devices.find(account_id, ep)
        if device is None:
            raise NotFound("No such device is registered")
        if device.is_gone:
            raise DeviceGone("This device is not registered any more")


def _flag(query: Mapping[str, str], name: str) -> bool:
    text = query.get(name, "false").lower()
    if text not in ("true", "false"):
        raise BadRequest(f"{name} must be true or false")
    return text == "true"


def as_of_old(refused: DeviceRequestRefused) -> Exception:
    """The refusal in the statuses of these calls, which are older than the words."""
    match refused.reason:
        case RefusalReason.QUEUE_IS_FULL:
            return TooManyRequests(refused.explanation)
        case RefusalReason.DEVICE_NOT_CONNECTED:
            return DeviceNotConnected(refused.explanation)
        case RefusalReason.DEVICE_NOT_FOUND if refused.is_gone:
            return DeviceGone("This device is not registered any more")
        case RefusalReason.DEVICE_NOT_FOUND | RefusalReason.URI_PATH_DOES_NOT_EXISTS:
            return NotFound(refused.explanation)
        case _:
            return BadRequest(refused.explanation)


# --- what the documents say of the rows ---------------------------------------------------

_Flag = Literal["true", "false"]
ASYNC_ID_EXAMPLE = {"async-response-id": "3f1b9c40d7e2a8560b44f29e6c1d7a35"}
DEVICE_LEFT = DeviceGone("This device is not registered any more")
_UNKNOWN = NotFound("No such device is registered")
_NO_RESPONSE = Parameter(
    name="noResp",
    place="query",
    model=_Flag,
    meaning="Do not tell what the device says.",
    example="false",
)
_ASKED = Answer(
    202,
    "the device is asked; its answer comes as an async response of this id",
    json_content(AsyncIdAnswer, ASYNC_ID_EXAMPLE),
)
_NOT_ASKED = (
    BadRequest("noResp must be true or false"),
    _UNKNOWN,
    DEVICE_LEFT,
    TooManyRequests("too many requests wait for this device"),
    DeviceNotConnected("the device's gateway has no socket open"),
)

_GET_DEVICE = Operation(
    summary="The resources that a device registered",
    parameters=(DEVICE_ID,),
    answers=(
        Answer(
            200,
            "its resources",
            json_content(
                list[ResourceAnswer],
                [{"uri": "/3303/0/5700", "obs": True, "rt": "temp", "type": "text/plain"}],
            ),
        ),
    ),
    refusals=(_UNKNOWN,),
)
_GET_RESOURCE = Operation(
    summary="A resource's value, from memory or from the device; POST /v2/device-requests is the newer way",
    is_deprecated=True,
    parameters=(
        DEVICE_ID,
        RESOURCE_PATH,
        Parameter(
            name="cacheOnly",
            place="query",
            model=_Flag,
            meaning="Do not ask the device.",
            example="true",
        ),
        _NO_RESPONSE,
    ),
    answers=(
        Answer(
            200,
            "the value, in the media type that the device gave it",
            Content(ANY_MEDIA_TYPE, bytes, "MjEuNQ=="),
            (Header("Cache-Control", str, "For how long the value holds.", "max-age=42"),),
        ),
        _ASKED,
        Answer(205, "no value is known, and the device was not to be asked"),
    ),
    refusals=(*_NOT_ASKED, Conflict("noResp: a value that nobody gets cannot be read")),
)


def _change(summary: str) -> Operation:
    return Operation(
        summary=f"{summary} at the device; POST /v2/device-requests is the newer way",
        is_deprecated=True,
        parameters=(DEVICE_ID, RESOURCE_PATH, _NO_RESPONSE),
        request=(Content(ANY_MEDIA_TYPE, bytes, "MjEuNQ=="),),
        is_request_optional=True,
        answers=(_ASKED, done("the device is asked; nobody is told what it says")),
        refusals=_NOT_ASKED,
    )


_PUT_RESOURCE = _change("Write a resource")
_POST_RESOURCE = _change("Execute a resource")
_DELETE_RESOURCE = _change("Delete a resource")
