"""The definitions of all metrics: name, type, labels, unit and meaning.

docs/metrics.md is generated from them, and a test compares both with ``/metrics``. Base units throughout: seconds,
bytes, multiply-adds (not giga), frames. Label sets are closed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Literal, get_args

from adafocus.bundle.exit_rule import ExitComponent, ExitReason
from adafocus.service.decode.pool_settings import RestartReason, RetryReason
from adafocus.service.engine.runners.base import Component
from adafocus.service.engine.stage_times import STAGES
from adafocus.service.errors import CATALOGUE as PROBLEMS
from adafocus.service.errors import OF_MODELS, MethodNotAllowed, Outcome

Kind = Literal["counter", "gauge", "histogram"]

Combined = Literal["sum", "largest", "product"]
"""How the values of a gauge from several processes become the value of the service."""

_COMBINED: Mapping[str, Combined] = {
    "adafocus_ready": "largest",
    "adafocus_queue_limit": "largest",
    "adafocus_quality_level": "largest",
    "adafocus_shadow_evidence": "product",
    "adafocus_model_ready": "largest",
}
"""Gauges whose values do not add up."""

_VERBS = ("", "/ready", "/infer")
ROUTES = (
    *("/", "/classify", "/model", "/models", "/healthz", "/readyz", "/metrics", "/docs"),
    *("/web/{name}", "/samples", "/samples/{name}", "/v2", "/v2/health/live", "/v2/health/ready"),
    *(f"/v2/models/{{name}}{version}{verb}" for version in ("", "/versions/{version}") for verb in _VERBS),
    *("/v2/repository/index", "/v2/repository/models/{name}/load", "/v2/repository/models/{name}/unload"),
    "other",
)
"""Route templates, never paths; anything else is ``other``."""

STATUSES = ("2xx", "3xx", "4xx", "5xx")

CALIBRATED: tuple[ExitReason, ...] = ("confident", "all_steps")
"""Exits that are the model's own decision, which the calibration predicts."""

VersionOutcome = Literal["loaded", "unloaded", "refused"]

_COMPONENTS = get_args(Component)
_CODES = tuple(problem.code for problem in PROBLEMS if problem not in (MethodNotAllowed, *OF_MODELS))
# Fine between 5 and 500 ms, where the answers of small models lie; a boundary at every round latency objective.
_SECONDS = (
    *(0.001, 0.0025, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075),
    *(0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0),
)
_FLOPS = tuple(base * 10.0**power for power in range(6, 12) for base in (1, 2, 5))
_ROWS = (1, 2, 4, 8, 16, 32, 64)


@dataclass(frozen=True)
class Metric:
    """One metric: its name as scraped, its help text, and the values of each label.

    ``buckets`` are the upper bounds of a histogram; empty for one bucket per step of the bundle. A label without values
    takes them from what is loaded: ``step`` has one for each step, ``model`` one for each model of the service.
    """

    name: str
    kind: Kind
    unit: str
    help: str
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    buckets: tuple[float, ...] = ()

    @property
    def combined(self) -> Combined:
        """How the values of several processes become one: they add up, one tells of all, or evidence is multiplied."""
        return _COMBINED.get(self.name, "sum")

    def series(self, steps: int, models: Sequence[str] = ()) -> Iterator[tuple[str, ...]]:
        """Label values of every series that exists from the start; none if the bundle gives them.

        Args:
            steps: of the bundle that has most.
            models: their names.
        """
        loaded = {"step": tuple(str(step) for step in range(1, steps + 1)), "model": tuple(models)}
        return product(*(known or loaded.get(name, ()) for name, known in self.labels.items()))


CATALOGUE: tuple[Metric, ...] = (
    Metric(
        "adafocus_requests_total",
        "counter",
        "requests",
        "Classification requests by outcome",
        {"outcome": get_args(Outcome)},
    ),
    Metric(
        "adafocus_request_duration_seconds",
        "histogram",
        "seconds",
        "Time from the first byte of a classification request to its response",
        buckets=_SECONDS,
    ),
    Metric(
        "adafocus_processing_duration_seconds",
        "histogram",
        "seconds",
        "Time from the end of the upload to the response, for answered requests: without the client's network",
        buckets=_SECONDS,
    ),
    Metric(
        "adafocus_stage_duration_seconds",
        "histogram",
        "seconds",
        "Time of an answered request in each stage; stages overlap",
        {"stage": STAGES},
        buckets=_SECONDS,
    ),
    Metric(
        "adafocus_request_flops",
        "histogram",
        "multiply-adds",
        "Multiply-adds of an answered request; one multiply-add counts one",
        buckets=_FLOPS,
    ),
    Metric(
        "adafocus_flops_total",
        "counter",
        "multiply-adds",
        "Multiply-adds of answered requests",
        {"component": _COMPONENTS},
    ),
    Metric(
        "adafocus_flops_full_total",
        "counter",
        "multiply-adds",
        "Multiply-adds that the same requests would have cost without an early exit",
    ),
    Metric(
        "adafocus_exit_step",
        "histogram",
        "steps",
        "Step that answered, counted from 1",
        {"reason": get_args(ExitReason)},
    ),
    Metric(
        "adafocus_exits_total",
        "counter",
        "requests",
        "Answers by what they came after: a glance whose focus did not run, or a focus",
        {"component": get_args(ExitComponent)},
    ),
    Metric(
        "adafocus_degraded_total",
        "counter",
        "requests",
        "Answers at a cheaper operating point than was asked for",
    ),
    Metric(
        "adafocus_shadow_total",
        "counter",
        "videos",
        "Videos that were classified again without an early exit, by whether the early answer was the same",
        {"answer": ("same", "different")},
    ),
    Metric(
        "adafocus_shadow_evidence",
        "gauge",
        "",
        "Evidence since the start that early exits change more answers than they may; 100 has a chance of 1 % if not",
    ),
    Metric(
        "adafocus_exits_expected_total",
        "counter",
        "requests",
        "Answers that the calibration of their operating point expects by this step; of confident and all_steps",
        {"step": ()},
    ),
    Metric("adafocus_frames_decoded_total", "counter", "frames", "Frames decoded for answered requests"),
    Metric("adafocus_frames_used_total", "counter", "frames", "Frames that the model used for answered requests"),
    Metric(
        "adafocus_windows_total",
        "counter",
        "windows",
        "Windows of long videos by outcome; each that is ok is also counted where answers are",
        {"outcome": ("ok", "failed")},
    ),
    Metric(
        "adafocus_decode_cpu_seconds_total",
        "counter",
        "seconds",
        "Processor time of the decode workers for answered requests",
    ),
    Metric(
        "adafocus_batch_size",
        "histogram",
        "rows",
        "Rows of a batch without padding: steps of as many videos, or several steps of one video",
        {"component": _COMPONENTS},
        buckets=_ROWS,
    ),
    Metric(
        "adafocus_device_seconds_total",
        "counter",
        "seconds",
        "Time in which the device ran batches",
        {"component": _COMPONENTS},
    ),
    Metric("adafocus_queue_depth", "gauge", "requests", "Requests waiting for a slot"),
    Metric(
        "adafocus_quality_level",
        "gauge",
        "operating points",
        "How many operating points cheaper than asked requests run because the service is busy",
    ),
    Metric("adafocus_queue_limit", "gauge", "requests", "Requests that may wait for a slot; more are rejected"),
    Metric("adafocus_slots_active", "gauge", "slots", "Slots in use"),
    Metric("adafocus_slots", "gauge", "slots", "Videos that can run at once"),
    Metric(
        "adafocus_rejections_total",
        "counter",
        "requests",
        "Classification requests answered with an error, by code",
        {"code": _CODES},
    ),
    Metric("adafocus_decode_workers", "gauge", "processes", "Decode workers that are alive"),
    Metric(
        "adafocus_decode_worker_restarts_total",
        "counter",
        "processes",
        "Decode workers replaced, by reason",
        {"reason": get_args(RestartReason)},
    ),
    Metric(
        "adafocus_video_retries_total",
        "counter",
        "videos",
        "Videos decoded or run again because a decode worker or the engine's process was lost; their requests go on",
        {"reason": get_args(RetryReason)},
    ),
    Metric(
        "adafocus_upload_bytes_total", "counter", "bytes", "Bytes received in the bodies of classification requests"
    ),
    Metric("adafocus_fetched_bytes_total", "counter", "bytes", "Bytes fetched for videos that were given by URL"),
    Metric(
        "adafocus_http_requests_total",
        "counter",
        "requests",
        "HTTP requests by route template and class of status; a client that disconnected counts as 4xx",
        {"route": ROUTES, "status": STATUSES},
    ),
    Metric(
        "adafocus_http_request_duration_seconds",
        "histogram",
        "seconds",
        "Time from the head of an HTTP request to the end of its response",
        {"route": ROUTES},
        buckets=(0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0),
    ),
    Metric(
        "adafocus_ready", "gauge", "", "1 if the model is loaded and warmed and the service is not draining, else 0"
    ),
    Metric(
        "adafocus_model_info",
        "gauge",
        "",
        "Always 1; the labels name each loaded model",
        {"name": (), "version": (), "backend": (), "precision": ()},
    ),
    Metric("adafocus_model_ready", "gauge", "", "1 if the model can answer, else 0", {"model": ()}),
    Metric(
        "adafocus_model_requests_total",
        "counter",
        "requests",
        "Classification requests by the model that they ran on and by outcome; not those refused before",
        {"model": (), "outcome": get_args(Outcome)},
    ),
    Metric(
        "adafocus_model_flops_total",
        "counter",
        "multiply-adds",
        "Multiply-adds of answered requests by model",
        {"model": ()},
    ),
    Metric(
        "adafocus_model_flops_full_total",
        "counter",
        "multiply-adds",
        "Multiply-adds that the same requests would have cost without an early exit, by model",
        {"model": ()},
    ),
    Metric(
        "adafocus_model_shadow_total",
        "counter",
        "videos",
        "Videos of a model that the second model (setting shadow) classified too, by whether its answer was the same",
        {"model": (), "answer": ("same", "different")},
    ),
    Metric(
        "adafocus_model_versions_total",
        "counter",
        "versions",
        "Versions of a model that were loaded, unloaded, or refused because their bundle cannot be used",
        {"model": (), "outcome": get_args(VersionOutcome)},
    ),
    Metric(
        "adafocus_process_cpu_seconds_total", "counter", "seconds", "Processor time of the process that holds the model"
    ),
    Metric(
        "adafocus_process_resident_memory_bytes",
        "gauge",
        "bytes",
        "Resident memory of the process that holds the model",
    ),
    Metric(
        "adafocus_process_virtual_memory_bytes", "gauge", "bytes", "Virtual memory of the process that holds the model"
    ),
    Metric("adafocus_process_open_fds", "gauge", "descriptors", "Open file descriptors"),
    Metric("adafocus_process_max_fds", "gauge", "descriptors", "Limit on open file descriptors"),
    Metric(
        "adafocus_process_start_time_seconds", "gauge", "seconds", "Start time of the process, since the Unix epoch"
    ),
)

PROCESS_NAMESPACE = "adafocus"
"""Prefix of the ``…_process_…`` metrics, which the client library's own collector measures."""
