"""What the service counts. `CATALOGUE` is the one list of names; the methods say in domain words what happened.

Base units throughout: seconds, multiply-adds (not giga), frames. Label sets are closed, and every series exists from
the start with the value 0, so that a rate or an alert never meets a gap.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics

from service.errors import CATALOGUE as PROBLEMS
from service.errors import MethodNotAllowed, NotFound, Outcome

Kind = Literal["counter", "gauge", "histogram"]
Stage = Literal["upload", "queue", "decode", "glance", "focus"]
Component = Literal["glance", "focus"]
Reason = Literal["confident", "all_steps", "max_gflops", "deadline", "end_of_video"]
RestartReason = Literal["crashed", "timeout", "memory", "protocol"]

STAGES: tuple[Stage, ...] = get_args(Stage)

_COMPONENTS = get_args(Component)
_CODES = tuple(problem.code for problem in PROBLEMS if problem not in (NotFound, MethodNotAllowed))
# Fine between 5 and 500 ms, where a small model's answers lie; a boundary on every round objective.
_SECONDS = (
    *(0.001, 0.0025, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075),
    *(0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0),
)
_FLOPS = tuple(base * 10.0**power for power in range(6, 12) for base in (1, 2, 5))
_ROWS = (1, 2, 4, 8, 16, 32, 64)


@dataclass(frozen=True)
class Metric:
    """One metric: its name as scraped, its help, and the values that each label can take.

    ``buckets`` are upper bounds of a histogram; empty for one bucket per step of the bundle. A label with no values
    (of ``adafocus_model_info``) takes what the loaded bundle says.
    """

    name: str
    kind: Kind
    unit: str
    help: str
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    buckets: tuple[float, ...] = ()


CATALOGUE: tuple[Metric, ...] = (
    Metric(
        "adafocus_requests_total",
        "counter",
        "requests",
        "Classifications by how they ended",
        {"outcome": get_args(Outcome)},
    ),
    Metric(
        "adafocus_request_duration_seconds",
        "histogram",
        "seconds",
        "First byte of a request to the end of its answer",
        buckets=_SECONDS,
    ),
    Metric(
        "adafocus_stage_duration_seconds",
        "histogram",
        "seconds",
        "Time that an answered request spent in each stage; stages overlap",
        {"stage": STAGES},
        buckets=_SECONDS,
    ),
    Metric(
        "adafocus_request_flops",
        "histogram",
        "multiply-adds",
        "Multiply-adds spent on an answered request, in the paper's convention",
        buckets=_FLOPS,
    ),
    Metric("adafocus_flops_total", "counter", "multiply-adds", "Multiply-adds spent", {"component": _COMPONENTS}),
    Metric(
        "adafocus_flops_full_total", "counter", "multiply-adds", "What the same requests would have cost without exit"
    ),
    Metric(
        "adafocus_exit_step", "histogram", "steps", "Step that answered, counted from 1", {"reason": get_args(Reason)}
    ),
    Metric("adafocus_frames_decoded_total", "counter", "frames", "Frames decoded for answered requests"),
    Metric("adafocus_frames_used_total", "counter", "frames", "Frames that the model saw for answered requests"),
    Metric(
        "adafocus_batch_size",
        "histogram",
        "rows",
        "Real rows of a batch, padding not among them",
        {"component": _COMPONENTS},
        buckets=_ROWS,
    ),
    Metric("adafocus_queue_depth", "gauge", "requests", "Requests that wait for a slot"),
    Metric("adafocus_slots_active", "gauge", "slots", "Slots in use"),
    Metric("adafocus_slots", "gauge", "slots", "Videos that can run at once"),
    Metric("adafocus_rejections_total", "counter", "requests", "Errors answered, by their code", {"code": _CODES}),
    Metric("adafocus_decode_workers", "gauge", "processes", "Decode workers alive"),
    Metric(
        "adafocus_decode_worker_restarts_total",
        "counter",
        "processes",
        "Decode workers replaced, by what went wrong",
        {"reason": get_args(RestartReason)},
    ),
    Metric(
        "adafocus_model_info",
        "gauge",
        "",
        "1, with the loaded model in the labels",
        {"name": (), "version": (), "backend": (), "precision": ()},
    ),
)


@dataclass(frozen=True)
class Answered:
    """The numbers of one answered request: seconds per stage, multiply-adds, frames, and where it left."""

    stage_seconds: Mapping[Stage, float]
    glance_flops: int
    focus_flops: int
    flops_full: int
    step: int
    reason: Reason
    frames_decoded: int
    frames_used: int


class Metrics:
    """The catalogue's series in a registry of their own.

    Implements the engine's observer.

    Args:
        steps: steps of the bundle: the buckets of ``adafocus_exit_step``.
    """

    def __init__(self, steps: int) -> None:
        # Process-wide in the client library, and idempotent: a _created series beside every counter helps nobody.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry(auto_describe=True)
        self._counters: dict[tuple[str, ...], Counter] = {}
        self._gauges: dict[tuple[str, ...], Gauge] = {}
        self._histograms: dict[tuple[str, ...], Histogram] = {}
        for metric in CATALOGUE:
            self._register(metric, metric.buckets or tuple(range(1, steps + 1)))

    def request_finished(self, outcome: Outcome, seconds: float) -> None:
        """Count a request when it has ended, however it ended."""
        self._counters["adafocus_requests_total", outcome].inc()
        self._histograms[("adafocus_request_duration_seconds",)].observe(seconds)

    def problem_answered(self, code: str) -> None:
        """Count an error answer by its code."""
        self._counters["adafocus_rejections_total", code].inc()

    def video_answered(self, numbers: Answered) -> None:
        """Count what a successful answer cost."""
        for stage, seconds in numbers.stage_seconds.items():
            self._histograms["adafocus_stage_duration_seconds", stage].observe(seconds)
        self._histograms[("adafocus_request_flops",)].observe(numbers.glance_flops + numbers.focus_flops)
        self._counters["adafocus_flops_total", "glance"].inc(numbers.glance_flops)
        self._counters["adafocus_flops_total", "focus"].inc(numbers.focus_flops)
        self._counters[("adafocus_flops_full_total",)].inc(numbers.flops_full)
        self._histograms["adafocus_exit_step", numbers.reason].observe(numbers.step)
        self._counters[("adafocus_frames_decoded_total",)].inc(numbers.frames_decoded)
        self._counters[("adafocus_frames_used_total",)].inc(numbers.frames_used)

    def batch_ran(self, component: Component, rows: int, seconds: float) -> None:
        """A batch of that many real rows ran."""
        self._histograms["adafocus_batch_size", component].observe(rows)

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

    def _register(self, metric: Metric, buckets: Sequence[float]) -> None:
        labels = tuple(metric.labels)
        keys = _series(metric)
        if metric.kind == "counter":
            counter = Counter(metric.name, metric.help, labels, registry=self._registry)
            self._counters |= {key: counter.labels(*key[1:]) if labels else counter for key in keys}
        elif metric.kind == "histogram":
            histogram = Histogram(metric.name, metric.help, labels, registry=self._registry, buckets=buckets)
            self._histograms |= {key: histogram.labels(*key[1:]) if labels else histogram for key in keys}
        elif metric.name == "adafocus_model_info":
            self._model_info = Gauge(metric.name, metric.help, labels, registry=self._registry)
        else:
            self._gauges[(metric.name,)] = Gauge(metric.name, metric.help, registry=self._registry)


def _series(metric: Metric) -> list[tuple[str, ...]]:
    """The keys of a metric's series, name first: one per label value. No metric but model_info has two labels."""
    values = [value for values in metric.labels.values() for value in values]
    return [(metric.name, value) for value in values] if metric.labels else [(metric.name,)]
