"""Traces from a gateway's request to the deliveries of its events, and what is in none of them."""

from __future__ import annotations

import base64
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from support.api_in_process import House, house_of
from support.daemon import Daemon, log_shown, open_daemon
from support.receiver import SILENCE, Receiver, answer, open_receiver
from support.tenants import callback_tenant, key_of, small

from dispatcher import limits
from dispatcher.config import CallbackSettings, Settings, StorageSettings, TierSettings
from dispatcher.http.message import Response
from dispatcher.model import Durability, Role
from dispatcher.observe.otel import OtelTracing
from dispatcher.runtime.app import open_dispatcher
from dispatcher.runtime.world import World

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SAMPLED, UNSAMPLED = (f"00-{TRACE}-00f067aa0ba902b7-{flags}" for flags in ("01", "00"))
PAYLOAD = base64.b64encode(b"what a device said").decode()
MESSAGE = {"notifications": [{"ep": "d", "path": "/1", "payload": PAYLOAD}] * 2}


class Traced:
    """A dispatcher whose spans are kept, with an application on a callback."""

    def __init__(self, house: House, exporter: InMemorySpanExporter, receiver: Receiver) -> None:
        self.house = house
        self.receiver = receiver
        self._exporter = exporter

    async def post(self, traceparent: str = "", path: str = "/gateway/v1/events", **headers: str) -> Response:
        if traceparent:
            headers["traceparent"] = traceparent
        return await self.house.gateway.send("POST", path, MESSAGE, **headers)

    async def change(self, how: str) -> None:
        """Pause the channel, or let it go on."""
        (channel,) = self.house.hub.parts.directory.channels()
        admin = await self.house.caller(Role.ADMIN)
        assert (await admin.send("POST", f"/admin/v1/channels/{channel.row.id}/{how}")).status == 204

    def spans(self, name: str) -> list[ReadableSpan]:
        return [span for span in self._exporter.get_finished_spans() if span.name == name]

    async def delivered(self, count: int) -> list[ReadableSpan]:
        """So many spans of deliveries."""
        with trio.fail_after(5):
            while len(found := self.spans("deliver")) < count:  # noqa: ASYNC110  ends in a place with no event
                await trio.sleep(0.005)
        return found


@asynccontextmanager
async def open_traced(
    folder: Path, *script: Any, sample: float = 0.0, durability: Durability = Durability.DISK
) -> AsyncIterator[Traced]:
    settings = Settings(
        storage=StorageSettings(data=str(folder), durability=durability),
        callbacks=CallbackSettings(allow_private=True),
        tiers={"commercial": TierSettings(retry_initial_s=0.02, retry_max_s=0.02)},
    )
    exporter = InMemorySpanExporter()
    tracing = OtelTracing(SimpleSpanProcessor(exporter), sample, time.time_ns)
    async with (
        open_receiver(answer(), *script) as receiver,
        open_dispatcher(settings, world=World(tracing=tracing)) as hub,
    ):
        house = await house_of(hub)
        account = await hub.ensure_account("acme")
        house.application = await hub.ensure_application(account, "app")
        house.gateway = await house.caller(Role.GATEWAY)
        house.app = await house.caller(Role.APPLICATION)
        await hub.register_callback(house.application, receiver.url, {"X-Mine": "HEADERVALUE"})
        await hub.subscribe(house.application, "d", "/1")
        yield Traced(house, exporter, receiver)


def times(span: ReadableSpan) -> tuple[int, int]:
    assert span.start_time is not None
    assert span.end_time is not None
    return span.start_time, span.end_time


def ids(span: ReadableSpan) -> tuple[str, str | None]:
    """Trace and parent."""
    assert span.context is not None
    parent = None if span.parent is None else f"{span.parent.span_id:016x}"
    return f"{span.context.trace_id:032x}", parent


def span_id(span: ReadableSpan) -> str:
    assert span.context is not None
    return f"{span.context.span_id:016x}"


async def test_a_request_goes_on_from_its_traceparent_to_the_delivery_of_its_events(tmp_path: Path) -> None:
    async with open_traced(tmp_path) as traced:
        assert (await traced.post(SAMPLED, tracestate="vendor=1")).status == 202
        (deliver,) = await traced.delivered(1)
        (publish,), (append,), (durable,) = (traced.spans(name) for name in ("publish", "append", "durable"))
        assert ids(publish) == (TRACE, "00f067aa0ba902b7")
        for span in (append, durable, deliver):
            assert ids(span) == (TRACE, span_id(publish))
        assert times(publish)[0] <= times(append)[0] <= times(append)[1] <= times(durable)[0]
        assert times(durable)[1] <= times(publish)[1]
        assert times(deliver)[0] < times(deliver)[1]
        assert dict(publish.attributes or {}) == {
            "dispatcher.request_id": "",
            "messaging.batch.message_count": 2,
            "http.request.body.size": len(str(MESSAGE)),
            "http.response.status_code": 202,
        }
        (channel,) = traced.house.hub.parts.directory.channels()
        assert dict(deliver.attributes or {}) == {
            "dispatcher.channel": channel.row.id,
            "dispatcher.channel_type": "CALLBACK",
            "messaging.batch.message_count": 2,
            "dispatcher.batch_bytes": len(traced.receiver.requests[1].body),
            "http.response.status_code": 200,
        }
        assert "traceparent" not in traced.receiver.requests[1].head.decode().lower()


async def test_a_batch_is_one_span_linked_to_every_traced_request_in_it(tmp_path: Path) -> None:
    async with open_traced(tmp_path) as traced:
        await traced.change("pause")
        traces = [f"{number:032x}" for number in range(1, 4)]
        for trace in (*traces, TRACE):
            parent = UNSAMPLED if trace == TRACE else f"00-{trace}-00f067aa0ba902b7-01"
            assert (await traced.post(parent)).status == 202
        await traced.change("resume")
        (deliver,) = await traced.delivered(1)
        assert (deliver.attributes or {})["messaging.batch.message_count"] == 8
        assert ids(deliver)[0] == traces[0]
        assert [f"{link.context.trace_id:032x}" for link in deliver.links] == traces[1:]


async def test_links_are_bounded(tmp_path: Path) -> None:
    async with open_traced(tmp_path) as traced:
        await traced.change("pause")
        for number in range(1, limits.TRACE_LINKS_MAX + 10):
            await traced.post(f"00-{number:032x}-00f067aa0ba902b7-01")
        await traced.change("resume")
        (deliver,) = await traced.delivered(1)
        assert len(deliver.links) == limits.TRACE_LINKS_MAX - 1


async def test_each_attempt_is_a_span_and_a_failure_has_its_class(tmp_path: Path) -> None:
    async with open_traced(tmp_path, answer(503), answer(200)) as traced:
        await traced.post(SAMPLED)
        failed, taken = await traced.delivered(2)
        assert failed.status.status_code is StatusCode.ERROR
        assert (failed.attributes or {})["error.type"] == "status"
        assert (failed.attributes or {})["http.response.status_code"] == 503
        assert taken.status.status_code is StatusCode.UNSET
        await traced.post(UNSAMPLED)
        await traced.receiver.wait_requests(4)
        assert len(traced.spans("deliver")) == 2  # what was delivered is not followed any more


async def test_a_refusal_is_told_by_its_code_and_not_by_its_words(tmp_path: Path) -> None:
    async with open_traced(tmp_path) as traced:
        headers = {"traceparent": SAMPLED, "content_type": "application/json"}
        bad = b'{"notifications": [{"ep": "QUOTEDBACK", "path": "no slash"}]}'
        reply = await traced.house.gateway.send("POST", "/gateway/v1/events", body=bad, **headers)
        assert reply.status == 400
        (publish,) = traced.spans("publish")
        assert (publish.attributes or {})["http.response.status_code"] == 400
        assert publish.status.status_code is StatusCode.ERROR
        assert publish.status.description is None
        assert publish.events == ()
        assert "QUOTEDBACK" not in publish.to_json()
        assert (await traced.post(SAMPLED)).status == 202  # and the next is its own
        (deliver,) = await traced.delivered(1)
        assert ids(deliver)[1] == span_id(traced.spans("publish")[1])


@pytest.mark.parametrize("parent", ["", UNSAMPLED, "nonsense", f"00-{'0' * 32}-00f067aa0ba902b7-01"])
async def test_the_share_holds_for_requests_that_do_not_say_it_themselves(
    parent: str, tmp_path: Path
) -> None:
    async with open_traced(tmp_path) as traced:
        for _ in range(20):
            await traced.post(parent)
        await traced.receiver.wait_requests(2)
        assert traced.spans("publish") == traced.spans("deliver") == []
        assert not traced.house.hub.parts.tracing._notes  # type: ignore[union-attr]
    if parent != UNSAMPLED:
        async with open_traced(tmp_path, sample=1.0) as traced:
            await traced.post(parent)
            await traced.delivered(1)


async def test_what_is_noted_goes_with_its_channel_and_is_bounded(tmp_path: Path) -> None:
    async with open_traced(tmp_path, SILENCE) as traced:
        for _ in range(limits.TRACE_NOTES_PER_CHANNEL_MAX + 10):
            await traced.post(SAMPLED)
        tracing: Any = traced.house.hub.parts.tracing
        (notes,) = tracing._notes.values()
        assert len(notes) == limits.TRACE_NOTES_PER_CHANNEL_MAX
        await traced.house.hub.delete_channel(traced.house.application)
        assert not tracing._notes


# --- the daemon -----------------------------------------------------------------------------------


def spans_in(receiver: Receiver) -> dict[str, int]:
    """Names of the spans that a collector was sent, and how many."""
    found: dict[str, int] = {}
    for request in receiver.requests:
        for resource in ExportTraceServiceRequest.FromString(request.body).resource_spans:
            for scope in resource.scope_spans:
                for span in scope.spans:
                    found[span.name] = found.get(span.name, 0) + 1
    return found


@pytest.mark.slow
async def test_a_daemon_sends_its_traces_to_a_collector_without_keys_payloads_and_urls(
    tmp_path: Path,
) -> None:
    async with open_receiver() as collector, open_receiver() as application:
        config = f'[tracing]\nendpoint = "{collector.url}v1/traces"\nsample = 1\n'
        with open_daemon(tmp_path, "--allow-private-callbacks", config=config) as daemon, log_shown(daemon):
            tenant = await callback_tenant(daemon, application)
            for _ in range(5):
                await tenant.gateway.post_events([{**small(1), "payload": PAYLOAD}])
            await application.wait_requests(2)
            daemon.send_signal(signal.SIGTERM)
            assert await daemon.wait() == 0
        found = spans_in(collector)
        assert set(found) == {"publish", "append", "durable", "deliver"}
        assert found["publish"] == 5  # all that was recorded is sent when the daemon ends
        sent = b"".join(request.head + request.body for request in collector.requests)
        for secret in (
            PAYLOAD,
            "what a device",
            key_of(tenant.gateway),
            key_of(tenant.application),
            "X-Mine",
        ):
            assert secret.encode() not in sent
        assert application.url.encode() not in sent


@pytest.mark.slow
@pytest.mark.parametrize("is_there", [False, True])
async def test_a_collector_that_is_dead_or_says_nothing_costs_nothing_else(
    is_there: bool, tmp_path: Path
) -> None:
    async with open_receiver(otherwise=SILENCE) as collector:
        url = collector.url if is_there else "http://127.0.0.1:1/"
        config = f'[tracing]\nendpoint = "{url}v1/traces"\nsample = 1\n'
        with open_daemon(tmp_path, config=config) as daemon, log_shown(daemon):
            gateway = await daemon.user("gateway")
            for _ in range(50):
                await gateway.post_events([small(1)])
            assert (await daemon.anyone.send("GET", "/readyz")).status == 200
            if not is_there:
                await until_logged(daemon, "traces.unsent")
            stopped_s = trio.current_time()
        assert trio.current_time() - stopped_s < 10
        told = daemon.log.read_text()
        assert told.count("traces.unsent") == (0 if is_there else 1)
        assert "library.said" not in told


async def until_logged(daemon: Daemon, event: str) -> None:
    with trio.fail_after(20):
        while event not in daemon.log.read_text():  # noqa: ASYNC110  another process
            await trio.sleep(0.05)


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=60)


OPEN = """
import sys, trio
{before}
from dispatcher.cli.main import cli
from dispatcher.config import Settings, StorageSettings, TracingSettings
from dispatcher.runtime.app import open_dispatcher
async def main():
    async with open_dispatcher(Settings(storage=StorageSettings(data={data!r}), tracing={tracing})):
        print(sorted({{name.partition(".")[0] for name in sys.modules}} & {{"opentelemetry", "requests"}}))
trio.run(main)
"""


@pytest.mark.slow
def test_nothing_of_it_is_imported_when_it_is_off_and_a_missing_package_is_said(tmp_path: Path) -> None:
    off = python(OPEN.format(before="", data=str(tmp_path / "data"), tracing="TracingSettings()"))
    assert off.stdout == "[]\n", off.stderr
    missing = python(
        OPEN.format(
            before="sys.modules['opentelemetry'] = None",
            data=str(tmp_path / "data"),
            tracing="TracingSettings(endpoint='http://127.0.0.1:1/')",
        )
    )
    assert "ConfigError: tracing.endpoint is set, but" in missing.stderr
    assert "pip install 'dispatcher[otel]'" in missing.stderr
