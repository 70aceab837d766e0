"""The metrics of the service, updated by methods in domain terms. `service.telemetry.definitions` names them.

Every series exists from the start with the value 0, so that a rate or an alert never meets a gap.
"""

from __future__ import annotations

from collections import Counter as Counts
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, disable_created_metrics
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics

from adafocus.bundle.exit_rule import ExitReason
from adafocus.service.decode.pool_settings import RestartReason
from adafocus.service.engine.runners.base import Component
from adafocus.service.engine.stage_times import STAGES, StageTimes
from adafocus.service.errors import Outcome
from adafocus.service.telemetry.definitions import (
    CALIBRATED,
    CATALOGUE,
    PROCESS_NAMESPACE,
    ROUTES,
    Metric,
)

__all__ = ["CATALOGUE", "Answered", "Metrics"]


@dataclass(frozen=True)
class Answered:
    """The numbers of one answered request: time per stage, multiply-adds, frames, and where it exited.

    ``exit_shares`` are the shares of videos that exit at each step by the calibration of the operating point; None if
    it has none.
    """

    times: StageTimes
    glance_flops: int
    focus_flops: int
    flops_full: int
    step: int
    reason: ExitReason
    frames_decoded: int
    frames_used: int
    exit_shares: Sequence[float] | None


class Metrics:
    """All metrics, in a registry of their own.

    Implements the engine's observer.

    Args:
        steps: of the bundle: the buckets of ``adafocus_exit_step``.
    """

    def __init__(self, steps: int) -> None:
        # Process-wide in the client library, and idempotent: the _created series beside every counter have no use here.
        disable_created_metrics()  # type: ignore[no-untyped-call]  # prometheus_client has no types here
        self._registry = CollectorRegistry(auto_describe=True)
        self._steps = steps
        self._counters: dict[tuple[str, ...], Counter] = {}
        self._gauges: dict[tuple[str, ...], Gauge] = {}
        self._histograms: dict[tuple[str, ...], Histogram] = {}
        self._expected: Counts[tuple[float, ...]] = Counts()  # answers by the exit shares of their operating point
        ProcessCollector(namespace=PROCESS_NAMESPACE, registry=self._registry)
        for metric in CATALOGUE:
            if not metric.name.startswith(f"{PROCESS_NAMESPACE}_process_"):
                self._register(metric)

    def request_finished(
        self, outcome: Outcome, seconds: float, *, uploaded_bytes: int = 0, exemplar: Mapping[str, str] | None = None
    ) -> None:
        """Count a classification request that has ended.

        Args:
            outcome: how it ended.
            seconds: since its first byte.
            uploaded_bytes: of its body that were read.
            exemplar: labels that lead from the measurement to this request, such as its id; shown in OpenMetrics.
        """
        self._counters["adafocus_requests_total", outcome].inc()
        self._counters[("adafocus_upload_bytes_total",)].inc(uploaded_bytes)
        self._histograms[("adafocus_request_duration_seconds",)].observe(seconds, dict(exemplar) if exemplar else None)

    def http_answered(self, route: str | None, status: int, seconds: float) -> None:
        """Count an HTTP request by its route template, or None; status 0 if the response never started."""
        known = route if route in ROUTES else "other"
        self._counters["adafocus_http_requests_total", known, f"{(status or 499) // 100}xx"].inc()
        self._histograms["adafocus_http_request_duration_seconds", known].observe(seconds)

    def problem_answered(self, code: str) -> None:
        """Count an error response by its code."""
        self._counters["adafocus_rejections_total", code].inc()

    def video_answered(self, numbers: Answered) -> None:
        """Count the cost of an answer."""
        for stage in STAGES:
            self._histograms["adafocus_stage_duration_seconds", stage].observe(getattr(numbers.times, stage))
        self._histograms[("adafocus_processing_duration_seconds",)].observe(numbers.times.processing)
        self._histograms[("adafocus_request_flops",)].observe(numbers.glance_flops + numbers.focus_flops)
        self._counters["adafocus_flops_total", "glance"].inc(numbers.glance_flops)
        self._counters["adafocus_flops_total", "focus"].inc(numbers.focus_flops)
        self._counters[("adafocus_flops_full_total",)].inc(numbers.flops_full)
        self._histograms["adafocus_exit_step", numbers.reason].observe(numbers.step)
        self._counters[("adafocus_frames_decoded_total",)].inc(numbers.frames_decoded)
        self._counters[("adafocus_frames_used_total",)].inc(numbers.frames_used)
        if numbers.reason in CALIBRATED:
            # Without a calibration the observed exit is the expected one, so that no drift is reported.
            shares = numbers.exit_shares or [float(step == numbers.step) for step in range(1, self._steps + 1)]
            self._expected[tuple(shares)] += 1

    def batch_ran(self, component: Component, rows: int, seconds: float) -> None:
        """Count a batch; ``rows`` does not include padding."""
        self._histograms["adafocus_batch_size", component].observe(rows)
        self._counters["adafocus_device_seconds_total", component].inc(seconds)

    def ready(self, yes: bool) -> None:
        """Set whether new requests should be sent here."""
        self._gauges[("adafocus_ready",)].set(yes)

    def queue_limit(self, count: int) -> None:
        """Set how many videos may wait for a slot."""
        self._gauges[("adafocus_queue_limit",)].set(count)

    def slots(self, count: int) -> None:
        """Set how many videos can run at once."""
        self._gauges[("adafocus_slots",)].set(count)

    def slots_active(self, count: int) -> None:
        """Set how many videos hold a slot."""
        self._gauges[("adafocus_slots_active",)].set(count)

    def queue_depth(self, count: int) -> None:
        """Set how many videos wait for a slot."""
        self._gauges[("adafocus_queue_depth",)].set(count)

    def decode_workers(self, count: int) -> None:
        """Set how many decode workers are alive."""
        self._gauges[("adafocus_decode_workers",)].set(count)

    def decode_worker_restarted(self, reason: RestartReason) -> None:
        """Count a decode worker that was replaced."""
        self._counters["adafocus_decode_worker_restarts_total", reason].inc()

    def model_loaded(self, name: str, version: str, backend: str, precision: str) -> None:
        """Set the labels that name the loaded model."""
        self._model_info.labels(name, version, backend, precision).set(1)

    def render(self, accept: str) -> tuple[bytes, str]:
        """The metrics as text, and its media type: OpenMetrics if ``Accept`` names it, else Prometheus text."""
        self._count_expected_exits()
        if "application/openmetrics-text" in accept:
            text: bytes = openmetrics.generate_latest(self._registry)  # type: ignore[no-untyped-call]
            return text, openmetrics.CONTENT_TYPE_LATEST
        return generate_latest(self._registry), CONTENT_TYPE_PLAIN_0_0_4

    def _count_expected_exits(self) -> None:
        """Add what was expected of the answers since the last time: one counter per step is too much per answer."""
        expected, self._expected = self._expected, Counts()
        for shares, answers in expected.items():
            for step, share in enumerate(accumulate(shares), start=1):
                self._counters["adafocus_exits_expected_total", str(step)].inc(share * answers)

    def _register(self, metric: Metric) -> None:
        labels = tuple(metric.labels)
        every = [(values, (metric.name, *values)) for values in metric.series(self._steps)]
        if metric.kind == "counter":
            counter = Counter(metric.name, metric.help, labels, registry=self._registry)
            self._counters |= {key: counter.labels(*values) if labels else counter for values, key in every}
        elif metric.kind == "histogram":
            buckets = metric.buckets or tuple(range(1, self._steps + 1))
            histogram = Histogram(metric.name, metric.help, labels, registry=self._registry, buckets=buckets)
            self._histograms |= {key: histogram.labels(*values) if labels else histogram for values, key in every}
        elif metric.name == "adafocus_model_info":
            self._model_info = Gauge(metric.name, metric.help, labels, registry=self._registry)
        else:
            self._gauges[(metric.name,)] = Gauge(metric.name, metric.help, registry=self._registry)
