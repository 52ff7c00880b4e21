"""``/metrics``, ``/healthz`` and ``/readyz``: open to whoever can reach them."""

from __future__ import annotations

from dispatcher.errors import DispatcherError
from dispatcher.http.caller import ApiRoute, Caller, api_route
from dispatcher.http.message import Request, Response, text_response
from dispatcher.http.operation import Answer, Content, Operation, text_content
from dispatcher.runtime.hub import Hub


class StatusApi:
    """What monitoring asks."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def routes(self) -> list[ApiRoute]:
        """This API's rows of the route table."""
        return [
            api_route("GET", "/metrics", None, self.metrics, _METRICS),
            api_route("GET", "/healthz", None, self.healthz, _HEALTHZ),
            api_route("GET", "/readyz", None, self.readyz, _READYZ),
        ]

    async def metrics(self, request: Request, caller: Caller) -> Response:
        """Prometheus text, or OpenMetrics when the scraper asks for it."""
        body, content_type = await self._hub.parts.scrape.page(request.headers.get("accept") or "")
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


# --- what the documents say of the rows ---------------------------------------------------

_SCRAPE = "# TYPE dispatcher_queue_records gauge\ndispatcher_queue_records 12.0\n"
_METRICS = Operation(
    summary="What is counted and measured, as Prometheus text or OpenMetrics",
    answers=(
        Answer(200, "the text, in the format that `Accept` asks for", Content("text/plain", str, _SCRAPE)),
    ),
)
_HEALTHZ = Operation(
    summary="Whether the program runs", answers=(Answer(200, "it does", text_content("ok\n")),)
)
_READYZ = Operation(
    summary="Whether the program takes work",
    answers=(
        Answer(200, "it does", text_content("ready\n")),
        Answer(503, "it does not; the text says why", text_content("stopping\n")),
    ),
)
