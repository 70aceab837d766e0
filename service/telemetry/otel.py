"""Sends traces with OpenTelemetry. The extra `otel` installs what this module imports."""

from __future__ import annotations

import time

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from adafocus.service.telemetry.timeline import Timeline
from adafocus.service.telemetry.trace_context import TraceParent
from adafocus.service.telemetry.tracing import Attributes, RequestSpan

_NANO = 1_000_000_000


class OtelTracer:
    """Makes OpenTelemetry spans. Nothing is global, so several services can run in one process.

    OpenTelemetry's own variable ``OTEL_TRACES_SAMPLER`` sets which requests are traced; by default all, unless the
    caller's trace says otherwise.
    """

    def __init__(self, processor: SpanProcessor) -> None:
        self._provider = TracerProvider(resource=Resource.create({"service.name": "adafocus"}), shutdown_on_exit=False)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("adafocus")

    def begin(self, name: str, parent: TraceParent | None) -> RequestSpan:
        """See `service.telemetry.tracing.Tracer`."""
        context = None if parent is None else trace.set_span_in_context(NonRecordingSpan(_remote(parent)))
        span = self._tracer.start_span(name, context, kind=SpanKind.SERVER)
        return OtelRequestSpan(self._tracer, span)

    def close(self) -> None:
        """See `service.telemetry.tracing.Tracer`."""
        self._provider.shutdown()


class OtelRequestSpan:
    """The span of one request; its stages become child spans when it ends."""

    def __init__(self, tracer: trace.Tracer, span: trace.Span) -> None:
        self._tracer = tracer
        self._span = span
        self.trace_id: str | None = trace.format_trace_id(span.get_span_context().trace_id)

    def end(self, timeline: Timeline, attributes: Attributes, *, failed: bool) -> None:
        """See `service.telemetry.tracing.RequestSpan`."""
        epoch = time.time_ns() - round(timeline.clock() * _NANO)  # the clock's zero
        within = trace.set_span_in_context(self._span)
        for part in timeline.spans:
            child = self._tracer.start_span(part.stage, within, start_time=epoch + round(part.start * _NANO))
            if part.step:
                child.set_attribute("adafocus.step", part.step)
            child.end(epoch + round(part.end * _NANO))
        for name, value in attributes.items():
            self._span.set_attribute(f"adafocus.{name}", value)
        if failed:
            self._span.set_status(Status(StatusCode.ERROR))
        self._span.end()


def sending_to(endpoint: str) -> OtelTracer:
    """A tracer that sends batches over HTTP in the background. An unreachable receiver does not affect requests."""
    return OtelTracer(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))


def _remote(parent: TraceParent) -> SpanContext:
    return SpanContext(
        trace_id=int(parent.trace_id, 16),
        span_id=int(parent.parent_id, 16),
        is_remote=True,
        trace_flags=TraceFlags(int(parent.text.split("-")[3], 16) & TraceFlags.SAMPLED),
    )
