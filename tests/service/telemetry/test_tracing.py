"""Traces: one for each classification, its stages within it, and nothing of the upload in it."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from adafocus.service.engine.request import Step
from adafocus.service.telemetry.otel import OtelTracer
from adafocus.service.telemetry.timeline import Span, Timeline
from adafocus.service.telemetry.trace_context import parse
from adafocus.service.telemetry.tracing import TracingError, Untraced, make_tracer
from tests.e2e.tiny import write_clip
from tests.service.server import make_settings, serving

CALLER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def step_of(queue: float, glance: float, focus: float, finished_at: float) -> Step:
    return Step(0, None, (0.5, 0.5), np.zeros(2, dtype=np.float32), 0.5, queue, glance, focus, finished_at)


def test_a_step_is_read_back_from_its_end() -> None:
    now = [10.0]
    line = Timeline(clock=lambda: now[0])
    with line.stage("decode"):
        now[0] = 11.0
    line.step(step_of(queue=0.5, glance=1.0, focus=0.25, finished_at=15.0))
    assert line.spans == [
        Span("decode", 10.0, 11.0),
        Span("focus", 14.75, 15.0, 1),
        Span("glance", 13.75, 14.75, 1),
        Span("queue", 13.25, 13.75, 1),
        Span("decode", 11.0, 13.25, 1),
    ]


def test_a_step_never_begins_before_the_last_one_ended() -> None:
    line = Timeline(clock=lambda: 0.0)
    for finished_at in (1.0, 1.5):
        line.step(step_of(queue=0.0, glance=2.0, focus=0.25, finished_at=finished_at))
    assert all(0.0 <= span.start <= span.end for span in line.spans)
    assert min(span.start for span in line.spans if span.step == 2) == 1.0


def test_a_stage_that_fails_is_noted_too() -> None:
    line = Timeline()
    with pytest.raises(ValueError, match="no slot"), line.stage("queue"):
        raise ValueError("no slot")
    assert [span.stage for span in line.spans] == ["queue"]


def test_nobody_is_told_unless_somebody_listens(tmp_path: Path) -> None:
    assert isinstance(make_tracer(make_settings(tmp_path)), Untraced)


def test_without_the_extra_the_service_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "adafocus.service.telemetry.otel")
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(TracingError, match="extra `otel`"):
        make_tracer(make_settings(tmp_path, otlp_endpoint="http://127.0.0.1:1/v1/traces"))


def test_a_span_carries_its_caller_on() -> None:
    exporter = InMemorySpanExporter()
    tracer = OtelTracer(SimpleSpanProcessor(exporter))
    parent = parse(CALLER)
    assert parent is not None
    request = tracer.begin("POST /classify", parent)
    assert request.trace_id == parent.trace_id
    request.end(Timeline(), {}, failed=True)
    (span,) = exporter.get_finished_spans()
    assert span.parent is not None and f"{span.parent.span_id:016x}" == parent.parent_id
    assert span.status.status_code is StatusCode.ERROR


def named(spans: tuple[ReadableSpan, ...], name: str) -> list[ReadableSpan]:
    return [span for span in spans if span.name == name]


async def test_one_trace_for_each_request_with_its_stages(tmp_path: Path) -> None:
    exporter = InMemorySpanExporter()
    clip = write_clip(tmp_path / "grey.mp4")
    async with serving(make_settings(tmp_path)) as running:
        running.service.tracer = OtelTracer(SimpleSpanProcessor(exporter))
        async with running.client(headers={"traceparent": CALLER}) as client:
            files = {"video": ("holiday.mp4", clip.read_bytes())}
            answer = (await client.post("/classify?exit=full", files=files)).json()
            refused = await client.post("/classify", content=b"no video")
            await client.get("/healthz")
        steps = running.service.models.of(None).manifest.steps
        metrics = running.service.metrics.render("application/openmetrics-text")[0].decode()
    spans = exporter.get_finished_spans()
    good, bad = named(spans, "POST /classify")
    assert {span.context.trace_id for span in spans if span.context} == {int(CALLER.split("-")[1], 16)}
    assert good.kind is SpanKind.SERVER and good.attributes is not None and bad.attributes is not None
    assert good.attributes["adafocus.request_id"] == answer["id"]
    assert good.attributes["adafocus.gflops"] == answer["compute"]["gflops"]
    assert bad.attributes["adafocus.code"] == refused.json()["code"]
    assert good.context is not None
    children = [span for span in spans if span.parent and span.parent.span_id == good.context.span_id]
    assert {span.name for span in children} == {"upload", "queue", "decode", "glance", "focus"}
    assert len(named(tuple(children), "focus")) == steps
    for span in children:
        assert good.start_time is not None and good.end_time is not None and span.start_time and span.end_time
        assert span.start_time <= span.end_time
    assert "holiday" not in repr([(span.name, dict(span.attributes or {})) for span in spans])
    assert f'trace_id="{CALLER.split("-")[1]}"' in metrics
