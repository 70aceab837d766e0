"""What a caller asks of the engine for one video, and what the engine answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeAlias

from adafocus.bundle.exit_rule import ExitComponent, ExitReason
from adafocus.service.engine.runners.base import Component, Float32
from adafocus.service.engine.stage_times import StageTimes
from adafocus.service.frame_memory import SharedFrame
from adafocus.video.decoder import Frame

StepCallback: TypeAlias = "Callable[[Step, Frame], None]"


class FrameSource(Protocol):
    """Where a video's frames come from, pulled one by one in the model's visiting order."""

    async def next(self) -> Frame | SharedFrame | None:
        """The next frame that could be decoded, or None when there is none left.

        A `SharedFrame` stays where its decoder wrote it until the engine releases it; any other
        frame is copied once.
        """


class RewindingSource(FrameSource, Protocol):
    """A source that can deliver its frames again."""

    async def rewind(self) -> None:
        """Start again with the first frame; all frames that were handed over have been released."""


class ReadySource(FrameSource, Protocol):
    """A source that often has its next frame already: taking it then costs no change of task."""

    def next_ready(self) -> Frame | SharedFrame | None:
        """The next frame if it is there now; None if it is not there yet, or none is left: `next` tells."""


class ListenedSource(ReadySource, Protocol):
    """A source that says when it has a frame: no task has to wait for it."""

    def listen(self, changed: Callable[[], None]) -> None:
        """Have ``changed`` called whenever a frame has arrived or none will come any more, on the event loop."""

    def ask(self) -> bool:
        """Have the next frame brought, which is not there yet; False if none is left.

        Raises:
            Exception: what `next` would raise.
        """


class EngineObserver(Protocol):
    """What the engine reports as it happens; metrics implement it."""

    def batch_ran(self, component: Component, rows: int, seconds: float) -> None:
        """A batch of that many real rows ran; padding is not among them."""

    def slots_active(self, count: int) -> None:
        """Videos that hold a slot now."""

    def queue_depth(self, count: int) -> None:
        """Videos that wait for a slot now."""

    def core_lost_a_video(self) -> None:
        """A video runs again from its first frame, because the core that had it is gone."""


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """What a caller asks of the engine.

    Args:
        thresholds: one per step; ``inf`` never exits there, ``-inf`` at the last step.
        glance_thresholds: one per step, of the exits after the glance, before the focus; empty: there are none.
        max_flops: the answer is the best so far when the next step would pass it; None: no cap.
        deadline: time by which the answer is due, in seconds of ``time.monotonic``; None: none.
        continue_probability: one per step, the chance that the video goes on after it; decides whether its next frame
            is pulled while the step runs, or only once it is needed. Empty: it always goes on.
        look_ahead: several steps may run at once where it is certain that they will be needed. Not for a request that
            wants to hear of every step, or the best so far at any moment.
        on_step: called after each step with the step and its frame, on the event loop's thread; must not block.
        background: whether its steps let those of other videos go first.
    """

    thresholds: tuple[float, ...]
    glance_thresholds: tuple[float, ...] = ()
    max_flops: int | None = None
    deadline: float | None = None
    continue_probability: tuple[float, ...] = ()
    look_ahead: bool = True
    on_step: StepCallback | None = None
    background: bool = False


class Step(NamedTuple):
    """One finished step: which frame, where the patch lay (y, x in 0..1), and what the model answered after it.

    ``queue_seconds`` is the time between being ready and running; the other two are those of the batch that it ran in,
    or an equal share of them where the batch was several steps of this video. ``finished_at`` is when its batch was
    done, on the clock of the deadlines. ``component`` is what the answer came after: with ``glance`` the focus did not
    run, and the patch was not looked at.
    """

    frame_index: int
    time_s: float | None
    patch_centre: tuple[float, float]
    logits: Float32
    confidence: float
    queue_seconds: float = 0.0
    glance_seconds: float = 0.0
    focus_seconds: float = 0.0
    finished_at: float = 0.0
    component: ExitComponent = "focus"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The engine's answer.

    ``steps`` may be made when they are asked for. ``glance_flops`` and ``focus_flops`` count the multiply-adds of every
    step that was started for this video, and of no other; seconds are wall time. ``queue_seconds`` is the time spent
    ready and not running.
    """

    reason: ExitReason
    steps: Sequence[Step]
    threshold: float
    glance_flops: int
    focus_flops: int
    frames_used: int
    queue_seconds: float
    glance_seconds: float
    focus_seconds: float

    @property
    def stage_times(self) -> StageTimes:
        """The engine's share of the request's stages."""
        return StageTimes(queue=self.queue_seconds, glance=self.glance_seconds, focus=self.focus_seconds)

    @property
    def last(self) -> Step:
        """The step whose logits are the answer."""
        return self.steps[-1]
