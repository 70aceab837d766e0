"""Turns the outcome of the engine into the response and into the metrics, from the same numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from adafocus.bundle.exit_rule import ExitRule
from adafocus.bundle.manifest import Manifest, Precision
from adafocus.service.engine.request import Outcome
from adafocus.service.engine.runners.base import Float32
from adafocus.service.engine.stage_times import StageTimes
from adafocus.service.engine.transport import RunnerInfo
from adafocus.service.progress import GIGA, trace_entry
from adafocus.service.schemas.answer import unchecked
from adafocus.service.schemas.classify import (
    Classification,
    ComputeAnswer,
    ExitAnswer,
    ModelAnswer,
    Prediction,
    TimingAnswer,
    VideoAnswer,
)
from adafocus.service.schemas.parameters import Parameters
from adafocus.service.telemetry.metrics import Answered
from adafocus.video.probe import VideoInfo

_new_classification = unchecked(Classification)
_new_prediction = unchecked(Prediction)
_new_exit = unchecked(ExitAnswer)
_new_compute = unchecked(ComputeAnswer)
_new_timing = unchecked(TimingAnswer)
_new_video = unchecked(VideoAnswer)


@dataclass(frozen=True, slots=True)
class Decoded:
    """The decoder's description of the video, and what it cost.

    Attributes:
        info: the video.
        frames: number of frames that were decoded.
        cpu_seconds: processor time of that.
        bytes_fetched: of a video that was given by URL.
        size: of that video, bytes.
    """

    info: VideoInfo
    frames: int
    cpu_seconds: float
    bytes_fetched: int | None = None
    size: int | None = None


def to_metrics(
    manifest: Manifest, parameters: Parameters, outcome: Outcome, times: StageTimes, decoded: Decoded
) -> Answered:
    """The numbers of an answer for the metrics."""
    return Answered(
        times=times,
        glance_flops=outcome.glance_flops,
        focus_flops=outcome.focus_flops,
        flops_full=manifest.flops_full,
        step=len(outcome.steps),
        reason=outcome.reason,
        component=outcome.last.component,
        frames_decoded=decoded.frames,
        decode_cpu_seconds=decoded.cpu_seconds,
        frames_used=outcome.frames_used,
        degraded=parameters.degraded_from is not None,
        exit_shares=manifest.point(parameters.exit).exit_shares,
        model=manifest.name,
    )


def to_response(
    manifest: Manifest,
    runner: RunnerInfo,
    parameters: Parameters,
    request_id: str,
    outcome: Outcome,
    times: StageTimes,
    decoded: Decoded,
) -> Classification:
    """The response of ``POST /classify``."""
    info = decoded.info
    last = outcome.last
    return _new_classification(
        id=request_id,
        model=_model(manifest.name, manifest.version, runner.precision, runner.backend),
        predictions=_predictions(manifest, outcome, parameters.top_k),
        exit=_new_exit(
            point=parameters.exit,
            degraded_from=parameters.degraded_from,
            reason=outcome.reason,
            step=len(outcome.steps),
            steps=manifest.steps,
            component=last.component,
            confidence=last.confidence,
            threshold=outcome.threshold if math.isfinite(outcome.threshold) else None,
        ),
        compute=_new_compute(
            gflops=(outcome.glance_flops + outcome.focus_flops) / GIGA,
            gflops_full=manifest.flops_full / GIGA,
            glance_gflops=outcome.glance_flops / GIGA,
            focus_gflops=outcome.focus_flops / GIGA,
            frames_used=outcome.frames_used,
            frames_decoded=decoded.frames,
            decode_cpu_ms=round(decoded.cpu_seconds * 1e3, 3),
            bytes_fetched=decoded.bytes_fetched,
        ),
        timing_ms=_new_timing(**times.milliseconds()),
        video=_new_video(
            container=info.container,
            codec=info.codec,
            width=info.width,
            height=info.height,
            fps=info.fps,
            duration_s=info.duration_s,
            frames=info.frames,
            bytes=decoded.size,
        ),
        trace=[trace_entry(manifest, number, step, info) for number, step in enumerate(outcome.steps, start=1)]
        if parameters.trace
        else None,
    )


def present_labels(manifest: Manifest, outcome: Outcome) -> frozenset[int]:
    """Return the answer as the indices of the labels that the video has: one, where videos have one label."""
    found = _rule_of(manifest, outcome).present(outcome.last.logits, len(outcome.steps) - 1)
    return frozenset(np.flatnonzero(found).tolist())


def _rule_of(manifest: Manifest, outcome: Outcome) -> ExitRule:
    """Return the exit rule of the part of the step that the answer came after."""
    return manifest.glance_exit_rule if outcome.last.component == "glance" else manifest.exit_rule


@lru_cache(maxsize=16)
def _model(name: str, version: str, precision: Precision, backend: str) -> ModelAnswer:
    return ModelAnswer(name=name, version=version, precision=precision, backend=backend)


def scores_of(manifest: Manifest, outcome: Outcome) -> Float32:
    """Return the calibrated probability of every class, ``[classes]``."""
    return _rule_of(manifest, outcome).probabilities(outcome.last.logits, len(outcome.steps) - 1)


def predictions_of(manifest: Manifest, scores: Float32, top_k: int) -> list[Prediction]:
    """Return the ``top_k`` best classes, best first."""
    best = (-scores).argsort(kind="stable")[:top_k].tolist()
    shown, labels = scores.tolist(), manifest.labels
    return [_new_prediction(label=labels[index], index=index, score=shown[index]) for index in best]


def _predictions(manifest: Manifest, outcome: Outcome, top_k: int) -> list[Prediction]:
    scores = scores_of(manifest, outcome)
    if manifest.task == "single_label":
        return predictions_of(manifest, scores, top_k)
    present = _rule_of(manifest, outcome).present(outcome.last.logits, len(outcome.steps) - 1)
    shown, labels = scores.tolist(), manifest.labels
    best = np.lexsort((-scores, ~present))[:top_k].tolist()  # those that are present come first
    return [
        _new_prediction(label=labels[index], index=index, score=shown[index], present=bool(present[index]))
        for index in best
    ]
