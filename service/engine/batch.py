"""One step of several videos, or several of one, as arrays; run on the device's thread: it touches copies only."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from service.engine.runners.base import Float32, Int64, Runner, RunnerError, UInt8


@dataclass(frozen=True, slots=True)
class Batch:
    """Inputs of a batch, rows first. For a clip model the two frame arrays differ and are ``[B, N, H, W, 3]``.

    Rows are a step of a video each, with as many states; or consecutive steps of one video, with the states before the
    first of them.
    """

    glance_frames: UInt8
    focus_frames: UInt8
    policy_state: Float32
    pooled_state: Float32
    step: Int64

    def __len__(self) -> int:
        return len(self.step)

    @property
    def of_one_video(self) -> bool:
        """Whether the rows are several steps of one video."""
        return len(self.policy_state) < len(self)

    def part(self, rows: slice) -> Batch:
        """Some of the rows."""
        return Batch(
            self.glance_frames[rows],
            self.focus_frames[rows],
            self.policy_state[rows],
            self.pooled_state[rows],
            self.step[rows],
        )


@dataclass(frozen=True, slots=True)
class StepResult:
    """What one step left for one row, and how long its batch took in each graph: its share where it had several."""

    patch_centre: Float32
    logits: Float32
    confidence: float
    policy_state: Float32
    pooled_state: Float32
    glance_seconds: float
    focus_seconds: float


@dataclass(frozen=True, slots=True)
class BatchRun:
    """Results in the order of the rows, an error in the place of a row that fails, and what ran how often."""

    results: tuple[StepResult | RunnerError, ...]
    runs: tuple[tuple[int, float, float], ...]
    """Per execution: real rows, seconds in the glance graph, seconds in the focus graph."""


Judge = Callable[[Float32, Int64], Float32]
"""From logits ``[B, C]`` and steps ``[B]`` to confidences ``[B]``."""


def run(runner: Runner, judge: Judge, batch: Batch) -> BatchRun:
    """Glance, then focus. A batch that fails is halved until the videos that fail stand alone."""
    try:
        return _run_once(runner, judge, batch)
    except RunnerError as error:
        if len(batch) == 1 or batch.of_one_video:
            return BatchRun((error,) * len(batch), ())
    middle = len(batch) // 2
    first = run(runner, judge, batch.part(slice(0, middle)))
    second = run(runner, judge, batch.part(slice(middle, None)))
    return BatchRun(first.results + second.results, first.runs + second.runs)


def _run_once(runner: Runner, judge: Judge, batch: Batch) -> BatchRun:
    start = time.perf_counter()
    glance = runner.glance(batch.glance_frames, batch.policy_state)
    between = time.perf_counter()
    focus = runner.focus(batch.focus_frames, glance.patch_centre, glance.feature, batch.pooled_state, batch.step)
    glance_seconds, focus_seconds = between - start, time.perf_counter() - between
    sound: npt.NDArray[np.bool_] = np.asarray(np.isfinite(focus.logits).all(axis=1))
    confidences = judge(focus.logits, batch.step)
    share = len(batch) if batch.of_one_video else 1
    results: Sequence[StepResult | RunnerError] = [
        StepResult(
            glance.patch_centre[i],
            focus.logits[i],
            float(confidences[i]),
            glance.policy_state[i],
            focus.pooled_state[i],
            glance_seconds / share,
            focus_seconds / share,
        )
        if sound[i]
        else RunnerError("the model gave a logit that is not a number")
        for i in range(len(batch))
    ]
    return BatchRun(tuple(results), ((len(batch), glance_seconds, focus_seconds),))
