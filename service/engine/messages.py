"""What the engine's client and its core tell each other: plain values, a few for each batch, that can be pickled."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

import numpy as np

from adafocus.bundle.exit_rule import ExitReason
from adafocus.service.engine.runners.base import Float32, Int64
from adafocus.service.engine.scheduler import Float64

FRAME_FIELDS = 5
"""Numbers that tell of one frame: slot, its rank in the video's order of arrival, segment, place, position."""


QUEUE, GLANCE, FOCUS, FINISHED = range(4)
"""Columns of the seconds of steps; the first is written when a step starts, the others when it has finished."""


class Submit(NamedTuple):
    """A video takes a slot; its frames follow.

    Attributes:
        slot: chosen by the client, which uses it again only when the core has freed it.
        thresholds: one per step.
        affordable: after how many steps the next one would pass the cap.
        certain: for every step, how many from it on are certain to run; empty: look ahead never.
        arrived: seconds.
        deadline: seconds; ``inf`` for none.
        watched: whether every step is reported as it finishes, and its frame kept until then.
        glance_thresholds: one per step, of the exits after the glance; empty: there are none.
        background: whether its steps let those of other videos go first.
    """

    slot: int
    thresholds: tuple[float, ...]
    affordable: int
    certain: tuple[int, ...]
    arrived: float
    deadline: float
    watched: bool
    glance_thresholds: tuple[float, ...] = ()
    background: bool = False


@dataclass(slots=True)
class Commands:
    """What the client wants done, in this order: videos taken in, frames, ends of videos, cancellations."""

    submitted: list[Submit] = field(default_factory=list)
    frames: array[int] = field(default_factory=lambda: array("q"))
    drained: list[int] = field(default_factory=list)
    cancelled: list[int] = field(default_factory=list)

    def frame_table(self) -> Int64:
        """``[frames, FRAME_FIELDS]``."""
        return np.frombuffer(self.frames, dtype=np.int64).reshape(-1, FRAME_FIELDS)

    def __reduce__(self) -> tuple[type[Commands], tuple[object, ...]]:
        """Pickle it without asking each field for its name."""
        return Commands, (self.submitted, self.frames, self.drained, self.cancelled)

    def __bool__(self) -> bool:
        return bool(self.submitted or self.frames or self.drained or self.cancelled)


class Failure(Enum):
    """Why a video ended without an answer."""

    NO_FRAME = "no_frame"
    DEADLINE = "deadline"
    FAULT = "fault"


@dataclass(frozen=True, slots=True)
class StepTable:
    """The finished steps of one video as arrays, N of them.

    Attributes:
        patch_centres: ``[N, 2]`` (y, x) in 0..1.
        logits: ``[N, C]``.
        confidences: ``[N]``; NaN where the exit rule has not been applied, because the step could not end the video.
        seconds: ``[N, 4]``: queue, glance, focus, and when it finished.
        after_glance: whether the last of them ended the video before its focus.
    """

    patch_centres: Float32
    logits: Float32
    confidences: Float32
    seconds: Float64
    after_glance: bool = False

    def __reduce__(self) -> tuple[Callable[..., StepTable], tuple[object, ...]]:
        """Pickle the arrays as bytes: arrays of this size take ten times as long, most of it in Python."""
        arrays = (self.patch_centres, self.logits, self.confidences, self.seconds)
        return _step_table, (*(array.tobytes() for array in arrays), self.logits.shape, self.after_glance)


def _step_table(
    patch_centres: bytes, logits: bytes, confidences: bytes, seconds: bytes, shape: tuple[int, int], after_glance: bool
) -> StepTable:
    """Return the table of these arrays, which cannot be written; ``shape`` is that of the logits."""
    return StepTable(
        np.frombuffer(patch_centres, dtype=np.float32).reshape(shape[0], 2),
        np.frombuffer(logits, dtype=np.float32).reshape(shape),
        np.frombuffer(confidences, dtype=np.float32),
        np.frombuffer(seconds, dtype=np.float64).reshape(shape[0], FINISHED + 1),
        after_glance,
    )


class Ended(NamedTuple):
    """A video that takes part in no further batch.

    Attributes:
        slot: its slot.
        reason: why its answer is final, or why there is none.
        steps: those that finished.
        started: steps that were started, finished or not.
        queue_seconds: time spent ready and not running, of all steps that were started.
        fault: what a failure was, for the log.
    """

    slot: int
    reason: ExitReason | Failure
    steps: StepTable
    started: int
    queue_seconds: float
    fault: str = ""


class Run(NamedTuple):
    """One execution of both graphs: the real rows of the glance and of the focus, and the seconds of each graph."""

    rows: int
    glance_seconds: float
    focus_seconds: float
    focus_rows: int


@dataclass(slots=True)
class Report:
    """What has happened since the last report.

    Attributes:
        runs: executions of the graphs.
        gathered: slots and, for each, how many of its frames have been read.
        glanced: slots of clips whose glances have run and were not enough.
        stepped: slots and, for each, how many of its steps have finished.
        watched: slot and steps that have finished, of the videos that are watched.
        ended: videos that have ended.
        freed: slots that may be used again.
    """

    runs: list[Run] = field(default_factory=list)
    gathered: list[tuple[list[int], list[int]]] = field(default_factory=list)
    glanced: list[int] = field(default_factory=list)
    stepped: list[tuple[list[int], list[int]]] = field(default_factory=list)
    watched: list[tuple[int, StepTable]] = field(default_factory=list)
    ended: list[Ended] = field(default_factory=list)
    freed: list[int] = field(default_factory=list)

    def __reduce__(self) -> tuple[type[Report], tuple[object, ...]]:
        """Pickle it without asking each field for its name."""
        return Report, (
            self.runs,
            self.gathered,
            self.glanced,
            self.stepped,
            self.watched,
            self.ended,
            self.freed,
        )

    def __bool__(self) -> bool:
        steps = self.gathered or self.glanced or self.stepped or self.watched
        return bool(self.runs or steps or self.ended or self.freed)
