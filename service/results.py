"""What an outcome of the engine means to a caller, and to the metrics: the same numbers for both."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from bundle.manifest import Manifest
from service.engine.request import Outcome
from service.engine.runners.base import Runner
from service.progress import GIGA, trace_entry
from service.schemas.classify import (
    Classification,
    ComputeAnswer,
    ExitAnswer,
    ModelAnswer,
    Parameters,
    Prediction,
    TimingAnswer,
    VideoAnswer,
)
from service.telemetry.metrics import Answered
from video.probe import VideoInfo


@dataclass(frozen=True, slots=True)
class Seconds:
    """Wall time of each stage of one request; decode overlaps with upload, glance and focus."""

    total: float
    upload: float
    queue: float
    decode: float
    glance: float
    focus: float


@dataclass(frozen=True, slots=True)
class Decoded:
    """What decoding found and did."""

    info: VideoInfo
    frames: int


def to_metrics(manifest: Manifest, ask: Parameters, outcome: Outcome, seconds: Seconds, decoded: Decoded) -> Answered:
    """The numbers of an answer for the metrics."""
    return Answered(
        stage_seconds={
            "upload": seconds.upload,
            "queue": seconds.queue,
            "decode": seconds.decode,
            "glance": seconds.glance,
            "focus": seconds.focus,
        },
        glance_flops=outcome.glance_flops,
        focus_flops=outcome.focus_flops,
        flops_full=manifest.flops_full,
        step=len(outcome.steps),
        reason=outcome.reason,
        frames_decoded=decoded.frames,
        frames_used=outcome.frames_used,
        processing_seconds=max(0.0, seconds.total - seconds.upload),
        exit_shares=manifest.point(ask.exit).exit_shares,
    )


def to_response(
    manifest: Manifest,
    runner: Runner,
    ask: Parameters,
    request_id: str,
    outcome: Outcome,
    seconds: Seconds,
    decoded: Decoded,
) -> Classification:
    """The answer of ``POST /classify`` (PRODUCT section 3)."""
    info = decoded.info
    last = outcome.last
    return Classification(
        id=request_id,
        model=ModelAnswer(
            name=manifest.name, version=manifest.version, precision=runner.precision, backend=runner.backend
        ),
        predictions=_predictions(manifest, outcome, ask.top_k),
        exit=ExitAnswer(
            point=ask.exit,
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
        timing_ms=TimingAnswer(
            total=_ms(seconds.total),
            upload=_ms(seconds.upload),
            queue=_ms(seconds.queue),
            decode=_ms(seconds.decode),
            glance=_ms(seconds.glance),
            focus=_ms(seconds.focus),
        ),
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
        if ask.trace
        else None,
    )


def _predictions(manifest: Manifest, outcome: Outcome, top_k: int) -> list[Prediction]:
    scores = manifest.exit_rule.probabilities(outcome.steps[-1].logits, len(outcome.steps) - 1)
    best = np.argsort(-scores, kind="stable")[:top_k]
    return [Prediction(label=manifest.labels[i], index=int(i), score=float(scores[i])) for i in best]


def _ms(seconds: float) -> float:
    return round(seconds * 1e3, 3)
