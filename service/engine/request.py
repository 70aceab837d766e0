"""One video on its way through the engine: what was asked, where its row stands, and what came out.

Plain state with an enum status. Only the event loop's thread reads or writes it, so it needs no lock.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Protocol, TypeAlias

import numpy as np

from bundle.exit_rule import ExitReason
from service.engine.runners.base import Component, Float32, StateWidths
from service.engine.stage_times import StageTimes
from video.decoder import Frame

StepCallback: TypeAlias = "Callable[[Step, Frame], None]"


class FrameSource(Protocol):
    """Where a row's frames come from, pulled one by one in the model's visiting order."""

    async def next(self) -> Frame | None:
        """The next frame that could be decoded, or None when there is none left."""


class EngineObserver(Protocol):
    """What the engine reports as it happens; metrics implement it."""

    def batch_ran(self, component: Component, rows: int, seconds: float) -> None:
        """A batch of that many real rows ran; padding is not among them."""

    def slots_active(self, count: int) -> None:
        """Videos that hold a slot now."""

    def queue_depth(self, count: int) -> None:
        """Videos that wait for a slot now."""


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """What a caller asks of the engine.

    Args:
        thresholds: one per step; ``inf`` never leaves there, ``-inf`` at the last step.
        max_flops: the answer is the best so far when the next step would pass it; None: no cap.
        deadline: event-loop time by which the answer is due; None: none.
        continues: one per step, the chance that the video goes on after it; decides whether its next frame is pulled
            while the step runs, or only once it is needed. Empty: it always goes on.
        look_ahead: several steps may run at once where it is certain that they will be needed. Not for a request that
            wants to hear of every step, or the best so far at any moment.
        on_step: called after each step with the step and its frame, on the event loop's thread; must not block.
    """

    thresholds: tuple[float, ...]
    max_flops: int | None = None
    deadline: float | None = None
    continues: tuple[float, ...] = ()
    look_ahead: bool = True
    on_step: StepCallback | None = None

    def certain_steps(self, step: int, per_step_flops: int) -> int:
        """How many steps from that one on will run whatever the model says, if it runs at all; 1 at least."""
        certain = 1
        while step + certain < len(self.thresholds) and self.thresholds[step + certain - 1] == math.inf:
            certain += 1
        if self.max_flops is not None:
            certain = min(certain, self.max_flops // per_step_flops - step)
        return max(1, certain)


@dataclass(frozen=True, slots=True)
class Step:
    """One finished step: which frame, where the patch lay (y, x in 0..1), and what the model thought after it.

    ``queue_seconds`` is the time between being ready and running; the other two are those of the batch that it ran in,
    or an equal share of them where the batch was several steps of this video.
    """

    frame_index: int
    time_s: float | None
    patch_centre: tuple[float, float]
    logits: Float32
    confidence: float
    queue_seconds: float = 0.0
    glance_seconds: float = 0.0
    focus_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """The engine's answer.

    ``glance_flops`` and ``focus_flops`` count the multiply-adds of every step that was started for this video, and of
    no other; seconds are wall time. ``queue_seconds`` is the time spent ready and not running.
    """

    reason: ExitReason
    steps: tuple[Step, ...]
    threshold: float
    glance_flops: int
    focus_flops: int
    frames_used: int
    queue_seconds: float
    glance_seconds: float
    focus_seconds: float

    @property
    def last(self) -> Step:
        """The step whose logits are the answer."""
        return self.steps[-1]

    @property
    def stage_times(self) -> StageTimes:
        """The engine's share of the request's stages."""
        return StageTimes(queue=self.queue_seconds, glance=self.glance_seconds, focus=self.focus_seconds)


class Status(Enum):
    """Where a row stands: WAITING for a frame → READY → RUNNING → WAITING or READY …, and DONE at the end."""

    WAITING = auto()
    READY = auto()
    RUNNING = auto()
    DONE = auto()


@dataclass(slots=True, eq=False)
class Row:
    """The state of one video in a slot. States are zeros when it starts and never another row's.

    ``inbox`` holds decoded frames that no step has taken yet; ``drained`` says that no more will come. ``turn`` is how
    many steps run together, or ran last.
    """

    request: EngineRequest
    arrived: float
    policy_state: Float32
    pooled_state: Float32
    finished: asyncio.Future[None]
    status: Status = Status.WAITING
    inbox: deque[Frame] = field(default_factory=deque)
    drained: bool = False
    turn: int = 1
    room: asyncio.Event = field(default_factory=asyncio.Event)
    ready_since: float = 0.0
    reason: ExitReason | None = None
    steps: list[Step] = field(default_factory=list)
    glance_flops: int = 0
    focus_flops: int = 0
    frames_seen: set[int] = field(default_factory=set)
    step_queue_seconds: float = 0.0
    queue_seconds: float = 0.0
    glance_seconds: float = 0.0
    focus_seconds: float = 0.0

    @classmethod
    def start(cls, request: EngineRequest, now: float, widths: StateWidths, finished: asyncio.Future[None]) -> Row:
        """A row before its first step, both states zero."""
        return cls(
            request=request,
            arrived=now,
            policy_state=np.zeros(widths.policy, dtype=np.float32),
            pooled_state=np.zeros(widths.pooled, dtype=np.float32),
            finished=finished,
        )

    @property
    def step(self) -> int:
        """The step that comes next, from 0."""
        return len(self.steps)

    @property
    def deadline(self) -> float | None:
        """Event-loop time by which the answer is due."""
        return self.request.deadline

    def finish(self, reason: ExitReason) -> None:
        """End the row with the answer it has; a second end is ignored."""
        if self.status is not Status.DONE:
            self.reason = reason
            self.leave()
            if not self.finished.done():
                self.finished.set_result(None)

    def fail(self, error: BaseException) -> None:
        """End the row without an answer; a second end is ignored."""
        if self.status is not Status.DONE:
            self.leave()
            if not self.finished.done():
                self.finished.set_exception(error)

    def leave(self) -> None:
        """Take part in no further batch."""
        self.status = Status.DONE
        self.inbox.clear()

    def outcome(self) -> Outcome:
        """The answer of a row that ended with at least one step.

        Raises:
            ValueError: it has not.
        """
        reason = self.reason
        if reason is None or not self.steps:
            raise ValueError("a row without a finished step has no outcome")
        return Outcome(
            reason=reason,
            steps=tuple(self.steps),
            threshold=self.request.thresholds[len(self.steps) - 1],
            glance_flops=self.glance_flops,
            focus_flops=self.focus_flops,
            frames_used=len(self.frames_seen),
            queue_seconds=self.queue_seconds,
            glance_seconds=self.glance_seconds,
            focus_seconds=self.focus_seconds,
        )
