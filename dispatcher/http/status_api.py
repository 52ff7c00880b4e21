"""``/metrics``, ``/healthz`` and ``/readyz``: open to whoever can reach them."""

from __future__ import annotations

from dispatcher.errors import DispatcherError
from dispatcher.http.caller import ApiRoute, Caller, api_route
from dispatcher.http.message import Request, Response, text_response
from dispatcher.runtime.hub import Hub


class StatusApi:
    """What monitoring asks."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def routes(self) -> list[ApiRoute]:
        """This API's rows of the route table."""
        return [
            api_route("GET", "/metrics", None, self.metrics),
            api_route("GET", "/healthz", None, self.healthz),
            api_route("GET", "/readyz", None, self.readyz),
        ]

    async def metrics(self, request: Request, caller: Caller) -> Response:
        """Prometheus text, or OpenMetrics when the scraper asks for it."""
        body, content_type = self._hub.parts.metrics.render(request.headers.get("accept") or "")
        return Response(200, body, content_type)

    async def healthz(self, request: Request, caller: Caller) -> Response:
        """The program runs and answers."""
        return text_response("ok\n")

    async def readyz(self, request: Request, caller: Caller) -> Response:
        """The program takes work: journal writable, registry open, not stopping."""
        if self._hub.is_stopping:
            return text_response("stopping\n", 503)
        try:
            self._hub.parts.queue.check_accepting()
        except DispatcherError as error:
            return text_response(f"{error.message}\n", 503)
        return text_response("ready\n")
