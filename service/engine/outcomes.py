"""From what the core reports of a video's end to the engine's answer, or to the problem that its caller has."""

from __future__ import annotations

from collections.abc import Sequence

from adafocus.bundle.manifest import Manifest
from adafocus.service.engine.messages import Ended, Failure, StepTable
from adafocus.service.engine.request import EngineRequest, Outcome, Step
from adafocus.service.engine.runners.base import RunnerError
from adafocus.service.errors import DeadlinePassed, Internal, Problem, Undecodable

DeliveredFrame = tuple[int, float | None]
"""Index and time of a frame that was handed over."""


def outcome_of(
    manifest: Manifest, request: EngineRequest, delivered: Sequence[DeliveredFrame], ended: Ended
) -> Outcome:
    """The answer of a video that ended with at least one step.

    Args:
        manifest: of the model.
        request: what was asked.
        delivered: its frames in the order in which they were handed over.
        ended: what the core reported.

    Raises:
        ValueError: it ended without an answer.
    """
    reason = ended.reason
    if isinstance(reason, Failure):
        raise ValueError(f"a video that ended with {reason.value} has no outcome")
    count = len(ended.steps.confidences)
    steps = steps_of(ended.steps, delivered[:count])
    used = delivered[:count] if manifest.sampling.focus_frames is None else delivered
    return Outcome(
        reason=reason,
        steps=steps,
        threshold=request.thresholds[count - 1],
        glance_flops=ended.started * manifest.flops.glance,
        focus_flops=ended.started * manifest.flops.focus,
        frames_used=len({index for index, _ in used}),
        queue_seconds=ended.queue_seconds,
        glance_seconds=sum(step.glance_seconds for step in steps),
        focus_seconds=sum(step.focus_seconds for step in steps),
    )


def problem_of(ended: Ended) -> Problem:
    """The problem of a video that ended without an answer."""
    match ended.reason:
        case Failure.NO_FRAME:
            return Undecodable("no frame of the video could be decoded")
        case Failure.DEADLINE:
            return DeadlinePassed()
    error = Internal()
    error.__cause__ = RunnerError(ended.fault)
    return error


def steps_of(table: StepTable, frames: Sequence[DeliveredFrame]) -> tuple[Step, ...]:
    """The steps of a table, each with the frame that it looked at."""
    return tuple(
        Step(index, time_s, (y, x), logits, confidence, *seconds)
        for (index, time_s), (y, x), logits, confidence, seconds in zip(
            frames,
            table.patch_centres.tolist(),
            table.logits,
            table.confidences.tolist(),
            table.seconds.tolist(),
            strict=True,
        )
    )
