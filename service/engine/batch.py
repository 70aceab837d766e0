"""One batch: its inputs in memory that is used again, how it is run, and what a failing row costs."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

import numpy as np
import numpy.typing as npt

from adafocus.bundle.exit_rule import Bool, ExitRule, should_exit
from adafocus.service.engine.frames import gather
from adafocus.service.engine.messages import Run
from adafocus.service.engine.runners.base import (
    BatchOutputs,
    Float32,
    FramePlaces,
    GlanceOutput,
    Int64,
    Runner,
    RunnerError,
    UInt8,
)
from adafocus.service.engine.scheduler import Float64
from adafocus.service.frame_memory import FrameSegment

NOT_A_NUMBER = "the model gave a logit that is not a number"


BatchPart = Literal["whole", "glance", "focus"]
"""What a batch runs: a step, or only the glances of clips, or only the focus of clips whose glances have run."""


@dataclass(frozen=True, slots=True)
class GlanceExit:
    """The exit after the glance, before the focus.

    Attributes:
        rule: how the confidence is computed.
        thresholds: ``[B]`` of the real rows; ``inf``: the row never exits there.
    """

    rule: ExitRule
    thresholds: Float32

    def of(self, logits: Float32, step: Int64) -> Bool:
        """Which of the real rows exit, given the logits ``[B, C]`` of their glances."""
        rows = len(self.thresholds)
        return should_exit(self.rule.confidence(logits[:rows], step[:rows]), self.thresholds)


@dataclass(frozen=True, slots=True)
class Batch:
    """Inputs of a batch, rows first. For a clip model the two frame arrays differ and are ``[B, N, H, W, 3]``.

    Rows are a step of a video each, with as many states; or consecutive steps of one video, with the states before the
    first of them. Behind ``rows`` real ones lie zeros, up to a size that the runner has planned.

    Attributes:
        rows: real rows; the arrays may be longer.
        frame_places: where the frames lie, if the runner fetches them; the frame arrays are then empty memory.
        segments: that ``frame_places`` name, by number.
        glance_exit: how rows may exit before the focus; None: none may.
        part: what is run.
        known: what the glances have left, if only the focus is run.
        in_place: the frames lie where their decoder has written them, and must stay until the batch is done.
    """

    rows: int
    glance_frames: UInt8
    focus_frames: UInt8
    policy_state: Float32
    pooled_state: Float32
    step: Int64
    frame_places: FramePlaces | None = None
    segments: Mapping[int, FrameSegment] = field(default_factory=dict)
    glance_exit: GlanceExit | None = None
    part: BatchPart = "whole"
    known: GlanceOutput | None = None
    in_place: bool = False

    def with_frames(self) -> Batch:
        """The same batch with its frames in its arrays."""
        if self.frame_places is None:
            return self
        gather(self.glance_frames[: self.rows], self.segments, self.frame_places)
        return replace(self, frame_places=None)

    @property
    def of_one_video(self) -> bool:
        """Whether the rows are several steps of one video."""
        return len(self.policy_state) < self.rows

    def rows_of(self, rows: slice) -> Batch:
        """Some of the real rows, without padding."""
        frames = self.glance_frames[rows]
        return Batch(
            len(frames),
            frames,
            frames if self.focus_frames is self.glance_frames else self.focus_frames[rows],
            self.policy_state[rows],
            self.pooled_state[rows],
            self.step[rows],
            glance_exit=None
            if self.glance_exit is None
            else replace(self.glance_exit, thresholds=self.glance_exit.thresholds[rows]),
            part=self.part,
            known=None if self.known is None else self.known.rows(rows),
        )


@dataclass(frozen=True, slots=True)
class BatchResult:
    """What a batch left in each of its real rows, in the order of the rows.

    Attributes:
        outputs: ``[B, …]`` arrays; anything in the rows that failed.
        failed: ``[B]``, rows that have no result.
        seconds: ``[B, 2]``, or ``[1, 2]`` if all rows were in one execution: its glance and focus; a share of them
            where it had several steps of one video.
        runs: what ran.
        fault: why rows failed; None if none did.
    """

    outputs: BatchOutputs
    failed: npt.NDArray[np.bool_]
    seconds: Float64
    runs: tuple[Run, ...]
    fault: RunnerError | None = None


def run(runner: Runner, batch: Batch) -> BatchOutputs:
    """Glance, then focus for the rows that do not exit after the glance, with the time of each.

    Raises:
        RunnerError: a graph failed.
    """
    batch = batch.with_frames()
    if batch.part != "whole":
        return _run_part(runner, batch)
    start = time.perf_counter()
    glance = runner.glance(batch.glance_frames, batch.policy_state)
    between = time.perf_counter()
    if batch.glance_exit is not None and glance.logits is not None:
        after_glance = batch.glance_exit.of(glance.logits, batch.step)
        if after_glance.any():
            return _focus_on_others(runner, batch, glance, after_glance, between - start)
    focus = runner.focus(batch.focus_frames, glance.patch_centre, glance.feature, batch.pooled_state, batch.step)
    return BatchOutputs(
        glance.patch_centre,
        focus.logits,
        glance.policy_state,
        focus.pooled_state,
        between - start,
        time.perf_counter() - between,
    )


def _run_part(runner: Runner, batch: Batch) -> BatchOutputs:
    """Only the glances, whose feature is kept for the focus, or only the focus."""
    start, rows = time.perf_counter(), batch.rows
    if batch.known is not None:
        known = batch.known
        focus = runner.focus(batch.focus_frames, known.patch_centre, known.feature, batch.pooled_state, batch.step)
        seconds = time.perf_counter() - start
        return BatchOutputs(known.patch_centre, focus.logits, batch.policy_state, focus.pooled_state, 0.0, seconds)
    glance = runner.glance(batch.glance_frames, batch.policy_state)
    if glance.logits is None or batch.glance_exit is None:
        raise RunnerError("the glance graph gives no logits to exit by")
    after_glance = batch.glance_exit.of(glance.logits, batch.step)
    return BatchOutputs(
        glance.patch_centre[:rows],
        glance.logits[:rows],
        batch.policy_state[:rows],
        batch.pooled_state[:rows],
        time.perf_counter() - start,
        0.0,
        after_glance,
        glance.feature[:rows],
    )


def _focus_on_others(
    runner: Runner, batch: Batch, glance: GlanceOutput, after_glance: Bool, glance_seconds: float
) -> BatchOutputs:
    """Focus on the rows that have not exited; the others keep the glance's logits. Without padding."""
    rows, between = batch.rows, time.perf_counter()
    if glance.logits is None:
        raise RunnerError("the glance graph gives no logits to exit by")
    logits, pooled = glance.logits[:rows].copy(), batch.pooled_state[:rows].copy()
    others = np.flatnonzero(~after_glance)
    if len(others):
        focus = runner.focus(
            batch.focus_frames[others],
            glance.patch_centre[others],
            glance.feature[others],
            batch.pooled_state[others],
            batch.step[others],
        )
        logits[others], pooled[others] = focus.logits[: len(others)], focus.pooled_state[: len(others)]
    return BatchOutputs(
        glance.patch_centre[:rows],
        logits,
        glance.policy_state[:rows],
        pooled,
        glance_seconds,
        time.perf_counter() - between if len(others) else 0.0,
        after_glance,
    )


def finish(runner: Runner, batch: Batch, outputs: Callable[[], BatchOutputs]) -> BatchResult:
    """The result of a batch; one that fails is run again in halves, until the videos that fail stand alone.

    Args:
        runner: of the batch.
        batch: its inputs, unchanged since it was submitted.
        outputs: waits for it, or runs it; may raise `RunnerError`.
    """
    try:
        return _whole(batch, outputs())
    except RunnerError as error:
        return _in_halves(runner, batch.with_frames(), error)


def _whole(batch: Batch, outputs: BatchOutputs) -> BatchResult:
    rows = batch.rows
    cut = outputs if len(outputs.logits) == rows else outputs.first(rows)
    # One number tells as a rule that all are finite; it is not finite either if the sum of large ones overflows.
    with np.errstate(over="ignore", invalid="ignore"):
        finite = math.isfinite(np.add.reduce(cut.logits, axis=None))
    bad = np.zeros(rows, dtype=np.bool_) if finite else np.logical_not(np.isfinite(cut.logits).all(axis=1))
    share = rows if batch.of_one_video else 1
    seconds = np.array([(outputs.glance_seconds / share, outputs.focus_seconds / share)])
    glance_rows, focus_rows = rows if batch.part != "focus" else 0, rows
    if batch.part == "glance":
        focus_rows = 0
    elif cut.after_glance is not None:
        seconds = np.repeat(seconds, rows, axis=0)
        seconds[cut.after_glance, 1] = 0.0
        focus_rows -= int(cut.after_glance.sum())
    fault = RunnerError(NOT_A_NUMBER) if bad.any() else None
    return BatchResult(
        cut, bad, seconds, (Run(glance_rows, outputs.glance_seconds, outputs.focus_seconds, focus_rows),), fault
    )


def _in_halves(runner: Runner, batch: Batch, error: RunnerError) -> BatchResult:
    if batch.rows == 1 or batch.of_one_video:
        return _nothing(batch, error)
    middle = batch.rows // 2
    halves = [batch.rows_of(rows) for rows in (slice(0, middle), slice(middle, batch.rows))]
    first, second = (finish(runner, half, partial(run, runner, half)) for half in halves)
    ran = first if first.runs else second
    return BatchResult(
        BatchOutputs.concatenate(
            [part.outputs if part.runs else ran.outputs.like(len(part.failed)) for part in (first, second)]
        ),
        np.concatenate([first.failed, second.failed]),
        np.concatenate([np.broadcast_to(part.seconds, (len(part.failed), 2)) for part in (first, second)]),
        first.runs + second.runs,
        first.fault or second.fault,
    )


def _nothing(batch: Batch, error: RunnerError) -> BatchResult:
    rows = batch.rows
    nothing = np.zeros((rows, 0), dtype=np.float32)
    empty = BatchOutputs(nothing, nothing, nothing, nothing, 0.0, 0.0)
    return BatchResult(empty, np.ones(rows, dtype=np.bool_), np.zeros((rows, 2)), (), error)
