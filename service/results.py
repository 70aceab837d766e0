"""Turns the outcome of the engine into the response and into the metrics, from the same numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from adafocus.bundle.manifest import Manifest
from adafocus.service.engine.request import Outcome
from adafocus.service.engine.stage_times import StageTimes
from adafocus.service.engine.transport import RunnerInfo
from adafocus.service.progress import GIGA, trace_entry
from adafocus.service.schemas.classify import (
    Classification,
    ComputeAnswer,
    ExitAnswer,
    ModelAnswer,
    Parameters,
    Prediction,
    TimingAnswer,
    VideoAnswer,
)
from adafocus.service.telemetry.metrics import Answered
from adafocus.video.probe import VideoInfo


@dataclass(frozen=True, slots=True)
class Decoded:
    """What the decoder found out about the video, and how many frames it decoded."""

    info: VideoInfo
    frames: int


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
        frames_decoded=decoded.frames,
        frames_used=outcome.frames_used,
        exit_shares=manifest.point(parameters.exit).exit_shares,
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
    return Classification(
        id=request_id,
        model=ModelAnswer(
            name=manifest.name, version=manifest.version, precision=runner.precision, backend=runner.backend
        ),
        predictions=_predictions(manifest, outcome, parameters.top_k),
        exit=ExitAnswer(
            point=parameters.exit,
            reason=outcome.reason,
            step=len(outcome.steps),
            steps=manifest.steps,
            confidence=last.confidence,
            threshold=outcome.threshold if math.isfinite(outcome.threshold) else None,
        ),
        compute=ComputeAnswer(
            gflops=(outcome.glance_flops + outcome.focus_flops) / GIGA,
            gflops_full=manifest.flops_full / GIGA,
            glance_gflops=outcome.glance_flops / GIGA,
            focus_gflops=outcome.focus_flops / GIGA,
            frames_used=outcome.frames_used,
            frames_decoded=decoded.frames,
        ),
        timing_ms=TimingAnswer(**times.milliseconds()),
        video=VideoAnswer(
            container=info.container,
            codec=info.codec,
            width=info.width,
            height=info.height,
            fps=info.fps,
            duration_s=info.duration_s,
            frames=info.frames,
        ),
        trace=[trace_entry(manifest, number, step, info) for number, step in enumerate(outcome.steps, start=1)]
        if parameters.trace
        else None,
    )


def _predictions(manifest: Manifest, outcome: Outcome, top_k: int) -> list[Prediction]:
    scores = manifest.exit_rule.probabilities(outcome.last.logits, len(outcome.steps) - 1)
    best = np.argsort(-scores, kind="stable")[:top_k]
    return [Prediction(label=manifest.labels[i], index=int(i), score=float(scores[i])) for i in best]
