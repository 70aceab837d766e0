"""The one list of what the service counts: every name, type, label, unit and meaning.

docs/metrics.md is generated from it, and a test holds both to what ``/metrics`` says. Base units throughout: seconds,
bytes, multiply-adds (not giga), frames. Label sets are closed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Literal, get_args

from bundle.exit_rule import ExitReason
from service.decode.pool_settings import RestartReason
from service.errors import CATALOGUE as PROBLEMS
from service.errors import MethodNotAllowed, Outcome

Kind = Literal["counter", "gauge", "histogram"]
Stage = Literal["upload", "queue", "decode", "glance", "focus"]
Component = Literal["glance", "focus"]

STAGES: tuple[Stage, ...] = get_args(Stage)

_VERBS = ("", "/ready", "/infer")
ROUTES = (
    *("/", "/classify", "/model", "/healthz", "/readyz", "/metrics", "/docs"),
    *("/web/{name}", "/samples", "/samples/{name}", "/v2", "/v2/health/live", "/v2/health/ready"),
    *(f"/v2/models/{{name}}{version}{verb}" for version in ("", "/versions/{version}") for verb in _VERBS),
    "other",
)
"""Route templates, never paths: whatever else is asked for is ``other``."""

STATUSES = ("2xx", "3xx", "4xx", "5xx")

CALIBRATED: tuple[ExitReason, ...] = ("confident", "all_steps")
"""Exits that are the model's own doing: the ones that its calibration has something to say about."""

_COMPONENTS = get_args(Component)
_CODES = tuple(problem.code for problem in PROBLEMS if problem is not MethodNotAllowed)
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
    takes what the loaded bundle says; the label ``step`` has one for each of its steps.
    """

    name: str
    kind: Kind
    unit: str
    help: str
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    buckets: tuple[float, ...] = ()

    def series(self, steps: int) -> Iterator[tuple[str, ...]]:
        """Label values of every series that is there from the start; nothing if the bundle gives them.

        Args:
            steps: of the bundle.
        """
        every_step = tuple(str(step) for step in range(1, steps + 1))
        values = [every_step if name == "step" else known for name, known in self.labels.items()]
        return product(*values)


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
        "adafocus_processing_duration_seconds",
        "histogram",
        "seconds",
        "End of the upload to the answer, of answered requests: what the service, not the client's network, took",
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
    Metric(
        "adafocus_flops_total",
        "counter",
        "multiply-adds",
        "Multiply-adds spent on answered requests",
        {"component": _COMPONENTS},
    ),
    Metric(
        "adafocus_flops_full_total", "counter", "multiply-adds", "What the same requests would have cost without exit"
    ),
    Metric(
        "adafocus_exit_step",
        "histogram",
        "steps",
        "Step that answered, counted from 1",
        {"reason": get_args(ExitReason)},
    ),
    Metric(
        "adafocus_exits_expected_total",
        "counter",
        "requests",
        "Answers that, by the calibration of their operating point, have left by this step; of confident and all_steps",
        {"step": ()},
    ),
    Metric("adafocus_frames_decoded_total", "counter", "frames", "Frames decoded for answered requests"),
    Metric("adafocus_frames_used_total", "counter", "frames", "Frames that the model saw for answered requests"),
    Metric(
        "adafocus_batch_size",
        "histogram",
        "rows",
        "Real rows of a batch, padding not among them: steps of as many videos, or of a lone one",
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
    Metric("adafocus_queue_depth", "gauge", "requests", "Requests that wait for a slot"),
    Metric("adafocus_queue_limit", "gauge", "requests", "Requests that may wait for a slot; then they are rejected"),
    Metric("adafocus_slots_active", "gauge", "slots", "Slots in use"),
    Metric("adafocus_slots", "gauge", "slots", "Videos that can run at once"),
    Metric(
        "adafocus_rejections_total",
        "counter",
        "requests",
        "Classifications answered with an error, by its code",
        {"code": _CODES},
    ),
    Metric("adafocus_decode_workers", "gauge", "processes", "Decode workers alive"),
    Metric(
        "adafocus_decode_worker_restarts_total",
        "counter",
        "processes",
        "Decode workers replaced, by what went wrong",
        {"reason": get_args(RestartReason)},
    ),
    Metric("adafocus_upload_bytes_total", "counter", "bytes", "Bytes received as bodies of classifications"),
    Metric(
        "adafocus_http_requests_total",
        "counter",
        "requests",
        "HTTP requests answered, by route template and class of status; a client that left counts as 4xx",
        {"route": ROUTES, "status": STATUSES},
    ),
    Metric(
        "adafocus_http_request_duration_seconds",
        "histogram",
        "seconds",
        "Head of an HTTP request to the end of its answer",
        {"route": ROUTES},
        buckets=(0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0),
    ),
    Metric("adafocus_ready", "gauge", "", "1 when loaded, warmed and not draining, else 0"),
    Metric(
        "adafocus_model_info",
        "gauge",
        "",
        "1, with the loaded model in the labels",
        {"name": (), "version": (), "backend": (), "precision": ()},
    ),
    Metric("adafocus_process_cpu_seconds_total", "counter", "seconds", "Processor time of the process with the model"),
    Metric("adafocus_process_resident_memory_bytes", "gauge", "bytes", "Resident memory of the process with the model"),
    Metric("adafocus_process_virtual_memory_bytes", "gauge", "bytes", "Virtual memory of the process with the model"),
    Metric("adafocus_process_open_fds", "gauge", "descriptors", "Open file descriptors"),
    Metric("adafocus_process_max_fds", "gauge", "descriptors", "File descriptors that may be open"),
    Metric("adafocus_process_start_time_seconds", "gauge", "seconds", "Start of the process, since the Unix epoch"),
)

PROCESS_NAMESPACE = "adafocus"
"""The client library's own collector measures the ``…_process_…`` metrics, under this prefix."""
