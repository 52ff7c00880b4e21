"""Traces by OpenTelemetry.  Imported only when they are asked for.

Which request an event of a batch came with is known from notes: for each channel the seqs that a
recorded request appended.  Notes and links are bounded; what finds no room is left out of the
traces, which are a sample and no books.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from dispatcher import limits
from dispatcher.errors import DispatcherError
from dispatcher.observe.log import LogEvent, log
from dispatcher.observe.tracing import Attempt

_Note = tuple[int, int, SpanContext]  # first and last seq, and the request they came with
_PROPAGATOR = TraceContextTextMapPropagator()


def export_to(endpoint: str, sample: float, now_unix_ns: Callable[[], int]) -> OtelTracing:
    """Record this share of the requests, and send it to a collector by OTLP over HTTP.

    A thread of the SDK's own sends, so that a slow collector holds nobody up; what finds no
    room in its queue is dropped.  Headers and more come from OTEL_EXPORTER_OTLP_... .
    """
    exporter = OTLPSpanExporter(endpoint=endpoint, timeout=limits.TRACE_EXPORT_S)
    processor = BatchSpanProcessor(
        _Telling(exporter),
        max_queue_size=limits.TRACE_SPANS_MAX,
        max_export_batch_size=limits.TRACE_EXPORT_SPANS,
        export_timeout_millis=limits.TRACE_EXPORT_S * 1000,
    )
    return OtelTracing(processor, sample, now_unix_ns)


class _Telling(SpanExporter):
    """Logs what the collector did not take, on the thread that sends: one line a minute, with the sum."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._unsent = 0
        self._told_s = -math.inf

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._exporter.export(spans)
        if result is not SpanExportResult.SUCCESS:
            self._unsent += len(spans)
            if time.monotonic() - self._told_s >= limits.LOSS_LOG_INTERVAL_S:
                log(logging.WARNING, LogEvent.TRACES_UNSENT, spans=self._unsent)
                self._told_s, self._unsent = time.monotonic(), 0
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)


class OtelTracing:
    """See ``tracing.Tracing``."""

    def __init__(self, processor: SpanProcessor, sample: float, now_unix_ns: Callable[[], int]) -> None:
        self._provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(sample)),
            resource=Resource.create({"service.name": os.environ.get("OTEL_SERVICE_NAME", "dispatcher")}),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("dispatcher")
        self._now_unix_ns = now_unix_ns
        self._appending: SpanContext | None = None
        self._notes: OrderedDict[int, deque[_Note]] = (
            OrderedDict()
        )  # by channel, that of the oldest note first

    def __repr__(self) -> str:
        return f"<OtelTracing of {len(self._notes)} channels>"

    @property
    def is_noting(self) -> bool:
        """Whether what is appended now belongs to a request that is recorded."""
        return self._appending is not None

    @contextmanager
    def publish(
        self, traceparent: str | None, tracestate: str | None, request_id: str
    ) -> Iterator[OtelPublish]:
        """A request begins; its span ends with the block."""
        span = self._tracer.start_span(
            "publish",
            context=_continued(traceparent, tracestate),
            kind=SpanKind.SERVER,
            attributes={"dispatcher.request_id": request_id},
            start_time=self._now_unix_ns(),
        )
        try:
            yield OtelPublish(self, span)
            span.set_attribute("http.response.status_code", 202)  # the one answer that is not raised
        except DispatcherError as refusal:  # its words may quote what was sent; its code does not
            _fail(span, refusal.code)
            span.set_attribute("http.response.status_code", refusal.status)
            raise
        except BaseException as error:
            _fail(span, type(error).__qualname__)
            raise
        finally:
            span.end(self._now_unix_ns())

    @contextmanager
    def step(self, name: str, parent: Span) -> Iterator[None]:
        """A part of a request, if it is recorded."""
        if not parent.is_recording():
            yield
            return
        span = self._tracer.start_span(
            name, context=trace.set_span_in_context(parent, Context()), start_time=self._now_unix_ns()
        )
        try:
            yield
        finally:
            span.end(self._now_unix_ns())

    @contextmanager
    def noting(self, span: Span) -> Iterator[None]:
        """What is appended meanwhile is noted, if the span is recorded."""
        self._appending = span.get_span_context() if span.is_recording() else None
        try:
            yield
        finally:
            self._appending = None

    def appended(self, channel: int, first_seq: int, last_seq: int) -> None:
        """These records came with the request that is being appended."""
        if self._appending is None:
            return
        notes = self._notes.get(channel)
        if notes is None:
            notes = self._notes[channel] = deque(maxlen=limits.TRACE_NOTES_PER_CHANNEL_MAX)
            if len(self._notes) > limits.TRACE_CHANNELS_MAX:
                self._notes.popitem(last=False)
        self._notes.move_to_end(channel)
        notes.append((first_seq, last_seq, self._appending))

    def attempted(self, attempt: Attempt) -> None:
        """A span for a batch in which something recorded is; part of the oldest such request's trace."""
        notes = self._notes.get(attempt.channel)
        if notes is None:
            return
        sources = _sources(notes, attempt)
        if sources:
            self._record(attempt, sources)
        if attempt.failure is None:
            while notes and notes[0][1] <= attempt.last_seq:
                notes.popleft()
            if not notes:
                del self._notes[attempt.channel]

    def forget(self, channel: int) -> None:
        """The channel was deleted."""
        self._notes.pop(channel, None)

    def close(self) -> None:
        """Send what is recorded, and end the thread that sends."""
        self._provider.shutdown()

    def _record(self, attempt: Attempt, sources: Sequence[SpanContext]) -> None:
        ended_ns = self._now_unix_ns()
        span = self._tracer.start_span(
            "deliver",
            context=trace.set_span_in_context(trace.NonRecordingSpan(sources[0]), Context()),
            kind=SpanKind.PRODUCER,
            links=[Link(source) for source in sources[1:]],
            attributes={
                "dispatcher.channel": attempt.channel,
                "dispatcher.channel_type": attempt.type,
                "messaging.batch.message_count": attempt.events,
                "dispatcher.batch_bytes": attempt.bytes_count,
            },
            start_time=ended_ns - int(attempt.seconds * 1e9),
        )
        if attempt.status is not None:
            span.set_attribute("http.response.status_code", attempt.status)
        if attempt.failure is not None:
            _fail(span, attempt.failure)
        span.end(ended_ns)


class OtelPublish:
    """See ``tracing.PublishTrace``."""

    def __init__(self, tracing: OtelTracing, span: Span) -> None:
        self._tracing = tracing
        self._span = span

    @contextmanager
    def appending(self, events: int, bytes_count: int) -> Iterator[None]:
        """What is appended meanwhile belongs to the request."""
        self._span.set_attribute("messaging.batch.message_count", events)
        self._span.set_attribute("http.request.body.size", bytes_count)
        with self._tracing.step("append", self._span), self._tracing.noting(self._span):
            yield

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """It is awaited that this is durable."""
        with self._tracing.step("durable", self._span):
            yield


def _continued(traceparent: str | None, tracestate: str | None) -> Context:
    """The context that a request brought; an empty one when it has none, or no valid one."""
    if traceparent is None:
        return Context()
    carrier = {"traceparent": traceparent}
    if tracestate is not None and len(tracestate) <= limits.TRACE_STATE_CHARS_MAX:
        carrier["tracestate"] = tracestate
    return _PROPAGATOR.extract(carrier, Context())


def _sources(notes: deque[_Note], attempt: Attempt) -> list[SpanContext]:
    """The recorded requests that records of a batch came with, the oldest first, each once."""
    found = {
        context.span_id: context
        for first_seq, last_seq, context in notes
        if first_seq <= attempt.last_seq and last_seq >= attempt.first_seq
    }
    return list(found.values())[: limits.TRACE_LINKS_MAX]


def _fail(span: Span, kind: str) -> None:
    span.set_attribute("error.type", kind)
    span.set_status(StatusCode.ERROR)
