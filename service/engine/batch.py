"""One batch: its inputs in memory that is used again, how it is run, and what a failing row costs."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from adafocus.service.engine.messages import Run
from adafocus.service.engine.runners.base import BatchOutputs, Float32, Int64, Runner, RunnerError, UInt8
from adafocus.service.engine.scheduler import Float64

NOT_A_NUMBER = "the model gave a logit that is not a number"


@dataclass(frozen=True, slots=True)
class Batch:
    """Inputs of a batch, rows first. For a clip model the two frame arrays differ and are ``[B, N, H, W, 3]``.

    Rows are a step of a video each, with as many states; or consecutive steps of one video, with the states before the
    first of them. Behind ``rows`` real ones lie zeros, up to a size that the runner has planned.

    Attributes:
        rows: real rows; the arrays may be longer.
    """

    rows: int
    glance_frames: UInt8
    focus_frames: UInt8
    policy_state: Float32
    pooled_state: Float32
    step: Int64

    @property
    def of_one_video(self) -> bool:
        """Whether the rows are several steps of one video."""
        return len(self.policy_state) < self.rows

    def part(self, rows: slice) -> Batch:
        """Some of the real rows, without padding."""
        frames = self.glance_frames[rows]
        return Batch(
            len(frames),
            frames,
            frames if self.focus_frames is self.glance_frames else self.focus_frames[rows],
            self.policy_state[rows],
            self.pooled_state[rows],
            self.step[rows],
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
    """Glance, then focus, with the time of each.

    Raises:
        RunnerError: a graph failed.
    """
    start = time.perf_counter()
    glance = runner.glance(batch.glance_frames, batch.policy_state)
    between = time.perf_counter()
    focus = runner.focus(batch.focus_frames, glance.patch_centre, glance.feature, batch.pooled_state, batch.step)
    return BatchOutputs(
        glance.patch_centre,
        focus.logits,
        glance.policy_state,
        focus.pooled_state,
        between - start,
        time.perf_counter() - between,
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
        return _in_halves(runner, batch, error)


def _whole(batch: Batch, outputs: BatchOutputs) -> BatchResult:
    rows = batch.rows
    cut = outputs if len(outputs.logits) == rows else outputs.first(rows)
    bad = np.logical_not(np.isfinite(cut.logits).all(axis=1))
    share = rows if batch.of_one_video else 1
    seconds = np.array([(outputs.glance_seconds / share, outputs.focus_seconds / share)])
    fault = RunnerError(NOT_A_NUMBER) if bad.any() else None
    return BatchResult(cut, bad, seconds, (Run(rows, outputs.glance_seconds, outputs.focus_seconds),), fault)


def _in_halves(runner: Runner, batch: Batch, error: RunnerError) -> BatchResult:
    if batch.rows == 1 or batch.of_one_video:
        return _nothing(batch, error)
    middle = batch.rows // 2
    halves = [batch.part(rows) for rows in (slice(0, middle), slice(middle, batch.rows))]
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
