"""What the service counts, said in domain words. The names are `service.telemetry.definitions`'s.

Every series exists from the start with the value 0, so that a rate or an alert never meets a gap.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, disable_created_metrics
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics

from bundle.exit_rule import ExitReason
from service.decode.pool_settings import RestartReason
from service.errors import Outcome
from service.telemetry.definitions import (
    CALIBRATED,
    CATALOGUE,
    PROCESS_NAMESPACE,
    ROUTES,
    Component,
    Metric,
    Stage,
)

__all__ = ["CATALOGUE", "Answered", "Metrics"]


@dataclass(frozen=True)
class Answered:
    """The numbers of one answered request: seconds per stage, multiply-adds, frames, and where it left.

    ``processing_seconds`` go from the end of the upload to the answer. ``exit_shares`` are what the calibration of the
    operating point says of every step; None if it says nothing.
    """

    stage_seconds: Mapping[Stage, float]
    glance_flops: int
    focus_flops: int
    flops_full: int
    step: int
    reason: ExitReason
    frames_decoded: int
    frames_used: int
    processing_seconds: float
    exit_shares: Sequence[float] | None


class Metrics:
    """The catalogue's series in a registry of their own.

    Implements the engine's observer.

    Args:
        steps: of the bundle: the buckets of ``adafocus_exit_step``.
    """

    def __init__(self, steps: int) -> None:
        # Process-wide in the client library, and idempotent: a _created series beside every counter helps nobody.
        disable_created_metrics()  # type: ignore[no-untyped-call]  # prometheus_client has no types here
        self._registry = CollectorRegistry(auto_describe=True)
        self._steps = steps
        self._counters: dict[tuple[str, ...], Counter] = {}
        self._gauges: dict[tuple[str, ...], Gauge] = {}
        self._histograms: dict[tuple[str, ...], Histogram] = {}
        ProcessCollector(namespace=PROCESS_NAMESPACE, registry=self._registry)
        for metric in CATALOGUE:
            if not metric.name.startswith(f"{PROCESS_NAMESPACE}_process_"):
                self._register(metric)

    def request_finished(
        self, outcome: Outcome, seconds: float, *, uploaded_bytes: int = 0, exemplar: Mapping[str, str] | None = None
    ) -> None:
        """Count a request when it has ended, however it ended.

        Args:
            outcome: how.
            seconds: from its first byte.
            uploaded_bytes: of its body, as far as it was read.
            exemplar: what leads from the measurement to this request, as its id: OpenMetrics shows it.
        """
        self._counters["adafocus_requests_total", outcome].inc()
        self._counters[("adafocus_upload_bytes_total",)].inc(uploaded_bytes)
        self._histograms[("adafocus_request_duration_seconds",)].observe(seconds, dict(exemplar) if exemplar else None)

    def http_answered(self, route: str | None, status: int, seconds: float) -> None:
        """Count an HTTP request of any route: its template, or None if it has none; status 0 if nobody got one."""
        known = route if route in ROUTES else "other"
        self._counters["adafocus_http_requests_total", known, f"{(status or 499) // 100}xx"].inc()
        self._histograms["adafocus_http_request_duration_seconds", known].observe(seconds)

    def problem_answered(self, code: str) -> None:
        """Count an error answer by its code."""
        self._counters["adafocus_rejections_total", code].inc()

    def video_answered(self, numbers: Answered) -> None:
        """Count what a successful answer cost."""
        for stage, seconds in numbers.stage_seconds.items():
            self._histograms["adafocus_stage_duration_seconds", stage].observe(seconds)
        self._histograms[("adafocus_processing_duration_seconds",)].observe(numbers.processing_seconds)
        self._histograms[("adafocus_request_flops",)].observe(numbers.glance_flops + numbers.focus_flops)
        self._counters["adafocus_flops_total", "glance"].inc(numbers.glance_flops)
        self._counters["adafocus_flops_total", "focus"].inc(numbers.focus_flops)
        self._counters[("adafocus_flops_full_total",)].inc(numbers.flops_full)
        self._histograms["adafocus_exit_step", numbers.reason].observe(numbers.step)
        self._counters[("adafocus_frames_decoded_total",)].inc(numbers.frames_decoded)
        self._counters[("adafocus_frames_used_total",)].inc(numbers.frames_used)
        if numbers.reason in CALIBRATED:
            # Where the calibration says nothing, what happened is what was to be expected: no drift is made up.
            observed = [float(step == numbers.step) for step in range(1, self._steps + 1)]
            for step, share in enumerate(accumulate(numbers.exit_shares or observed), start=1):
                self._counters["adafocus_exits_expected_total", str(step)].inc(share)

    def batch_ran(self, component: Component, rows: int, seconds: float) -> None:
        """A batch of that many real rows ran."""
        self._histograms["adafocus_batch_size", component].observe(rows)
        self._counters["adafocus_device_seconds_total", component].inc(seconds)

    def ready(self, yes: bool) -> None:
        """Whether new work should be sent here."""
        self._gauges[("adafocus_ready",)].set(yes)

    def queue_limit(self, count: int) -> None:
        """Videos that may wait for a slot."""
        self._gauges[("adafocus_queue_limit",)].set(count)

    def slots(self, count: int) -> None:
        """Videos that can run at once."""
        self._gauges[("adafocus_slots",)].set(count)

    def slots_active(self, count: int) -> None:
        """Videos that hold a slot now."""
        self._gauges[("adafocus_slots_active",)].set(count)

    def queue_depth(self, count: int) -> None:
        """Videos that wait for a slot now."""
        self._gauges[("adafocus_queue_depth",)].set(count)

    def decode_workers(self, count: int) -> None:
        """Decode workers alive now."""
        self._gauges[("adafocus_decode_workers",)].set(count)

    def decode_worker_restarted(self, reason: RestartReason) -> None:
        """A decode worker was replaced."""
        self._counters["adafocus_decode_worker_restarts_total", reason].inc()

    def model_loaded(self, name: str, version: str, backend: str, precision: str) -> None:
        """Say which model answers."""
        self._model_info.labels(name, version, backend, precision).set(1)

    def render(self, accept: str) -> tuple[bytes, str]:
        """The exposition and its media type: OpenMetrics if the ``Accept`` header names it, else Prometheus text."""
        if "application/openmetrics-text" in accept:
            text: bytes = openmetrics.generate_latest(self._registry)  # type: ignore[no-untyped-call]
            return text, openmetrics.CONTENT_TYPE_LATEST
        return generate_latest(self._registry), CONTENT_TYPE_PLAIN_0_0_4

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
