"""The metrics of the service, updated by methods in domain terms. `service.telemetry.definitions` names them.

Every series exists from the start with the value 0, so that a rate or an alert never meets a gap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.openmetrics import exposition as openmetrics

from adafocus.bundle.exit_rule import ExitComponent, ExitReason
from adafocus.service.decode.pool_settings import RestartReason, RetryReason
from adafocus.service.engine.runners.base import Component
from adafocus.service.engine.stage_times import STAGES, Stage, StageTimes
from adafocus.service.errors import Outcome
from adafocus.service.telemetry.definitions import (
    CALIBRATED,
    CATALOGUE,
    PROCESS_NAMESPACE,
    ROUTES,
    STATUSES,
    VersionOutcome,
)
from adafocus.service.telemetry.series import Counts, Key, Layout, SeriesMemory

__all__ = ["CATALOGUE", "Answered", "Metrics"]

_UPLOAD_BYTES: Key = ("adafocus_upload_bytes_total",)
_REQUEST_SECONDS: Key = ("adafocus_request_duration_seconds",)
_PROCESSING_SECONDS: Key = ("adafocus_processing_duration_seconds",)
_REQUEST_FLOPS: Key = ("adafocus_request_flops",)
_GLANCE_FLOPS: Key = ("adafocus_flops_total", "glance")
_FOCUS_FLOPS: Key = ("adafocus_flops_total", "focus")
_FULL_FLOPS: Key = ("adafocus_flops_full_total",)
_FRAMES_DECODED: Key = ("adafocus_frames_decoded_total",)
_FRAMES_USED: Key = ("adafocus_frames_used_total",)
_DEGRADED: Key = ("adafocus_degraded_total",)
_DECODE_CPU_SECONDS: Key = ("adafocus_decode_cpu_seconds_total",)
_STAGE_KEYS: dict[Stage, Key] = {stage: ("adafocus_stage_duration_seconds", stage) for stage in STAGES}
_SHADOW_EVIDENCE: Key = ("adafocus_shadow_evidence",)
_LEAST_EVIDENCE = 1e-300
"""Evidence is kept above 0, which stands for none so far."""
_FIRST_EXPECTED_EXIT: Key = ("adafocus_exits_expected_total", "1")
_MODEL_INFO = next(metric for metric in CATALOGUE if metric.name == "adafocus_model_info")


class Answered(NamedTuple):
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
    component: ExitComponent
    frames_decoded: int
    frames_used: int
    decode_cpu_seconds: float
    degraded: bool
    exit_shares: Sequence[float] | None
    model: str = ""


class Metrics:
    """All metrics, in a registry of their own.

    Implements the engine's observer. All methods are called from one thread.

    Args:
        steps: of the bundle that has most: the buckets of ``adafocus_exit_step``.
        memory: where processes that are one service count together; None: this process is the service.
        row: this process's place there.
    """

    def __init__(self, steps: int, memory: SeriesMemory | None = None, row: int = 0) -> None:
        self.model_pid: Callable[[], int | None] = lambda: None
        """Tells the process that holds the model; None: this one."""
        self._registry = CollectorRegistry(auto_describe=True)
        self._counts = Counts(memory or SeriesMemory(layout_for(steps)), row)
        self._steps = steps
        self._models: dict[str, tuple[str, str, str, str]] = {}
        ProcessCollector(namespace=PROCESS_NAMESPACE, registry=self._registry, pid=lambda: _existing(self.model_pid()))
        self._registry.register(_Collector(self._collect))

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
        counts = self._counts
        counts.add(("adafocus_requests_total", outcome))
        counts.add(_UPLOAD_BYTES, uploaded_bytes)
        counts.observe(_REQUEST_SECONDS, seconds, exemplar)

    def http_answered(self, route: str | None, status: int, seconds: float) -> None:
        """Count an HTTP request by its route template, or None; status 0 if the response never started."""
        known = route if route in ROUTES else "other"
        self._counts.add(("adafocus_http_requests_total", known, STATUSES[(status or 499) // 100 - 2]))
        self._counts.observe(("adafocus_http_request_duration_seconds", known), seconds)

    def problem_answered(self, code: str) -> None:
        """Count an error response by its code."""
        self._counts.add(("adafocus_rejections_total", code))

    def video_answered(self, numbers: Answered) -> None:
        """Count the cost of an answer."""
        counts, times = self._counts, numbers.times
        flops = numbers.glance_flops + numbers.focus_flops
        counts.observe_each(
            (
                (_STAGE_KEYS["upload"], times.upload),
                (_STAGE_KEYS["queue"], times.queue),
                (_STAGE_KEYS["decode"], times.decode),
                (_STAGE_KEYS["glance"], times.glance),
                (_STAGE_KEYS["focus"], times.focus),
                (_PROCESSING_SECONDS, times.processing),
                (_REQUEST_FLOPS, flops),
                (("adafocus_exit_step", numbers.reason), numbers.step),
            )
        )
        counts.add_each(
            (
                (_GLANCE_FLOPS, numbers.glance_flops),
                (_FOCUS_FLOPS, numbers.focus_flops),
                (_FULL_FLOPS, numbers.flops_full),
                (("adafocus_exits_total", numbers.component), 1.0),
                (_FRAMES_DECODED, numbers.frames_decoded),
                (_FRAMES_USED, numbers.frames_used),
                (_DECODE_CPU_SECONDS, numbers.decode_cpu_seconds),
                (_DEGRADED, numbers.degraded),
            )
        )
        if numbers.reason in CALIBRATED:
            # Without a calibration the observed exit is the expected one, so that no drift is reported.
            shares = numbers.exit_shares or tuple(float(step == numbers.step) for step in range(1, self._steps + 1))
            counts.add_row(_FIRST_EXPECTED_EXIT, _expected_exits(tuple(shares), self._steps))
        if counts.knows_model(numbers.model):
            counts.add_each(
                (
                    (("adafocus_model_flops_total", numbers.model), flops),
                    (("adafocus_model_flops_full_total", numbers.model), numbers.flops_full),
                )
            )

    def bytes_fetched(self, count: int) -> None:
        """Count bytes that were fetched for a video that was given by URL."""
        self._counts.add(("adafocus_fetched_bytes_total",), count)

    def window_finished(self, *, failed: bool) -> None:
        """Count a window of a long video."""
        self._counts.add(("adafocus_windows_total", "failed" if failed else "ok"))

    def quality_level(self, level: int) -> None:
        """Set how many operating points cheaper than asked requests run."""
        self._counts.set(("adafocus_quality_level",), level)

    def shadow_compared(self, agrees: bool, factor: float) -> None:
        """Count a video that was classified again without an early exit.

        The evidence of all models and processes is one product. A process that takes the place of one that ended goes
        on from its part: to begin anew would forget a loss.

        Args:
            agrees: whether the early answer was the same.
            factor: multiplies the evidence that early exits change more answers than they may.
        """
        self._counts.add(("adafocus_shadow_total", "same" if agrees else "different"))
        evidence = (self._counts.own(_SHADOW_EVIDENCE) or 1.0) * factor
        self._counts.set(_SHADOW_EVIDENCE, max(_LEAST_EVIDENCE, evidence))

    def batch_ran(self, component: Component, rows: int, seconds: float) -> None:
        """Count a batch; ``rows`` does not include padding."""
        self._counts.observe(("adafocus_batch_size", component), rows)
        self._counts.add(("adafocus_device_seconds_total", component), seconds)

    def ready(self, yes: bool) -> None:
        """Set whether new requests should be sent here."""
        self._counts.set(("adafocus_ready",), yes)

    def queue_limit(self, count: int) -> None:
        """Set how many videos may wait for a slot."""
        self._counts.set(("adafocus_queue_limit",), count)

    def slots(self, count: int) -> None:
        """Set how many videos can run at once."""
        self._counts.set(("adafocus_slots",), count)

    def slots_active(self, count: int) -> None:
        """Set how many videos hold a slot."""
        self._counts.set(("adafocus_slots_active",), count)

    def queue_depth(self, count: int) -> None:
        """Set how many videos wait for a slot."""
        self._counts.set(("adafocus_queue_depth",), count)

    def decode_workers(self, count: int) -> None:
        """Set how many decode workers are alive."""
        self._counts.set(("adafocus_decode_workers",), count)

    def decode_worker_restarted(self, reason: RestartReason) -> None:
        """Count a decode worker that was replaced."""
        self._counts.add(("adafocus_decode_worker_restarts_total", reason))

    def video_retried(self, reason: RetryReason) -> None:
        """Count a video that is decoded again; its request does not notice."""
        self._counts.add(("adafocus_video_retries_total", reason))

    def core_lost_a_video(self) -> None:
        """Count a video that is decoded and run again, because the engine's process was lost."""
        self.video_retried("engine_lost")

    def model_loaded(self, name: str, version: str, backend: str, precision: str) -> None:
        """Set the labels that name a loaded model; those of its version before are gone."""
        self._models[name] = name, version, backend, precision

    def model_added(self, name: str) -> None:
        """Have series for a model."""
        self._counts.add_model(name)

    def model_version_changed(self, name: str, outcome: VersionOutcome) -> None:
        """Count a version of a model that was loaded, unloaded or refused."""
        if self._counts.knows_model(name):
            self._counts.add(("adafocus_model_versions_total", name, outcome))
        if outcome == "unloaded":
            self._models.pop(name, None)

    def model_request_finished(self, name: str, outcome: Outcome) -> None:
        """Count a classification request that ran on a model."""
        self._counts.add(("adafocus_model_requests_total", name, outcome))

    def model_compared(self, name: str, *, agrees: bool) -> None:
        """Count a video of a model that the second model classified too."""
        self._counts.add(("adafocus_model_shadow_total", name, "same" if agrees else "different"))

    def model_ready(self, name: str, yes: bool) -> None:
        """Set whether a model can answer."""
        self._counts.set(("adafocus_model_ready", name), yes)

    def include(self, collect: Callable[[], Iterator[Family]]) -> None:
        """Render further metrics with these."""
        self._registry.register(_Collector(collect))

    def render(self, accept: str) -> tuple[bytes, str]:
        """The metrics as text, and its media type: OpenMetrics if ``Accept`` names it, else Prometheus text."""
        if "application/openmetrics-text" in accept:
            text: bytes = openmetrics.generate_latest(self._registry)  # type: ignore[no-untyped-call] # ships no types
            return text, openmetrics.CONTENT_TYPE_LATEST
        return generate_latest(self._registry), CONTENT_TYPE_PLAIN_0_0_4

    def _collect(self) -> Iterator[Family]:
        yield from self._counts.collect()
        info = GaugeMetricFamily(_MODEL_INFO.name, _MODEL_INFO.help, labels=tuple(_MODEL_INFO.labels))
        for labels in self._models.values():
            info.add_metric(labels, 1.0)
        yield info


def _existing(pid: int | None) -> str:
    """The process's name in /proc; this process's if that one has just ended, so that no series is missing."""
    return "self" if pid is None or not Path(f"/proc/{pid}").exists() else str(pid)


class _Collector:
    """What the registry asks for the metrics."""

    def __init__(self, collect: Callable[[], Iterator[Family]]) -> None:
        self.collect = collect


def layout_for(steps: int, models: Sequence[str] = ()) -> Layout:
    """The places of everything that is counted here, and not measured or named by the client library."""
    counted = (metric for metric in CATALOGUE if not metric.name.startswith(f"{PROCESS_NAMESPACE}_process_"))
    return Layout((metric for metric in counted if metric is not _MODEL_INFO), steps, models)


@lru_cache(maxsize=256)
def _expected_exits(shares: tuple[float, ...], steps: int) -> npt.NDArray[np.float64]:
    """What each series counts for one answer; models have different numbers of steps, the series are for all."""
    padded = (*shares, *(0.0,) * (steps - len(shares)))[:steps]
    return np.fromiter(accumulate(padded), dtype=np.float64, count=steps)
