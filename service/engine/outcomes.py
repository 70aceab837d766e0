"""From what the core reports of a video's end to the engine's answer, or to the problem that its caller has."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import overload

import numpy as np

from adafocus.bundle.exit_rule import ExitRule
from adafocus.bundle.manifest import Manifest
from adafocus.service.engine.messages import FOCUS, GLANCE, Ended, Failure, StepTable
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
    after_glance = ended.steps.after_glance
    thresholds = request.glance_thresholds if after_glance else request.thresholds
    used = delivered[:count] if manifest.sampling.focus_frames is None else delivered
    if after_glance and manifest.sampling.focus_frames is not None:
        used = delivered[: manifest.sampling.frames]
    return Outcome(
        reason=reason,
        steps=Steps(ended.steps, delivered[:count], manifest.exit_rule),
        threshold=thresholds[count - 1],
        glance_flops=ended.started * manifest.flops.glance,
        focus_flops=(ended.started - after_glance) * manifest.flops.focus,
        frames_used=len({index for index, _ in used}),
        queue_seconds=ended.queue_seconds,
        glance_seconds=float(ended.steps.seconds[:, GLANCE].sum()),
        focus_seconds=float(ended.steps.seconds[:, FOCUS].sum()),
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


class Steps(Sequence[Step]):
    """The steps of a table, each made when it is first asked for: most answers need only the last one.

    Args:
        table: of N steps.
        frames: that they looked at, at least N.
        rule: computes the confidences that the table does not have; the table then begins with the first step.
    """

    def __init__(self, table: StepTable, frames: Sequence[DeliveredFrame], rule: ExitRule) -> None:
        self._table = table
        self._frames = frames
        self._rule = rule
        self._made: dict[int, Step] = {}

    def __len__(self) -> int:
        return len(self._table.confidences)

    @overload
    def __getitem__(self, which: int) -> Step: ...
    @overload
    def __getitem__(self, which: slice) -> tuple[Step, ...]: ...
    def __getitem__(self, which: int | slice) -> Step | tuple[Step, ...]:
        if isinstance(which, slice):
            return tuple(self._step(index) for index in range(*which.indices(len(self))))
        return self._step(range(len(self))[which])

    def _step(self, index: int) -> Step:
        step = self._made.get(index)
        if step is None:
            step = self._made[index] = self._make(index)
        return step

    def _make(self, index: int) -> Step:
        table, (frame_index, time_s) = self._table, self._frames[index]
        y, x = table.patch_centres[index].tolist()
        confidence, seconds = float(table.confidences[index]), table.seconds[index].tolist()
        if math.isnan(confidence):
            confidence = float(self._rule.confidence(table.logits[index : index + 1], np.array([index]))[0])
        step = Step(frame_index, time_s, (y, x), table.logits[index], confidence, *seconds)
        return step._replace(component="glance") if table.after_glance and index == len(self) - 1 else step
