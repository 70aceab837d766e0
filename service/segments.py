"""Collects the windows of a long video: segments and events as they come, and the answer at the end."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from adafocus.bundle.exit_rule import ExitReason
from adafocus.bundle.manifest import Manifest
from adafocus.service.engine.stage_times import StageTimes
from adafocus.service.events import Event, EventMerger, ScoredWindow
from adafocus.service.results import predictions_of
from adafocus.service.schemas.classify import (
    Classification,
    ComputeAnswer,
    EventAnswer,
    ExitAnswer,
    SegmentAnswer,
    TimingAnswer,
    TraceEntry,
)
from adafocus.service.schemas.parameters import Parameters, WindowParameters

OnSegment = Callable[[SegmentAnswer], None]
OnEvent = Callable[[EventAnswer], None]


@dataclass(slots=True)
class SegmentObserver:
    """Who watches a long video: called on the event loop's thread, must not block."""

    on_segment: OnSegment = lambda _: None
    on_event: OnEvent = lambda _: None


@dataclass(frozen=True, slots=True)
class ClassifiedWindow:
    """A window that was classified: its place, its answer as if it were a video, and the score of every class."""

    start_s: float
    end_s: float
    answer: Classification
    scores: npt.NDArray[np.float32]


@dataclass(slots=True)
class Segments:
    """The windows of one video so far, in order of time.

    Args:
        manifest: of the bundle.
        parameters: of the request.
        windows: how the video is cut.
        observer: who watches.
    """

    manifest: Manifest
    parameters: Parameters
    windows: WindowParameters
    observer: SegmentObserver
    segments: list[SegmentAnswer] = field(default_factory=list)
    events: list[EventAnswer] = field(default_factory=list)
    _merger: EventMerger = field(init=False)
    _trace: list[TraceEntry] = field(default_factory=list)
    _last: ClassifiedWindow | None = None
    _scores: npt.NDArray[np.float64] | None = None
    _seconds: float = 0.0
    _times: StageTimes = field(default_factory=StageTimes)

    def __post_init__(self) -> None:
        self._merger = EventMerger(self.windows.event_threshold, self.windows.event_min_s)

    @property
    def gflops(self) -> float:
        """What the windows have cost so far, 1e9 multiply-adds."""
        return sum(segment.compute.gflops for segment in self.segments)

    @property
    def decode_cpu_ms(self) -> float:
        """Processor time of decoding so far, milliseconds."""
        return sum(segment.compute.decode_cpu_ms for segment in self.segments)

    def add(self, window: ClassifiedWindow) -> None:
        """Take the next window."""
        answer = window.answer
        segment = SegmentAnswer(
            start_s=window.start_s,
            end_s=window.end_s,
            predictions=answer.predictions,
            exit=answer.exit,
            compute=answer.compute,
        )
        self.segments.append(segment)
        self._trace += answer.trace or ()
        self._last = window
        weight = max(window.end_s - window.start_s, 1e-9)
        scores = window.scores.astype(np.float64) * weight
        self._scores = scores if self._scores is None else self._scores + scores
        self._seconds += weight
        self.observer.on_segment(segment)
        self._tell(self._merger.add(ScoredWindow(window.start_s, window.end_s, window.scores.tolist())))

    def answer(self, times: StageTimes, stopped: ExitReason | None) -> Classification:
        """The answer for the whole video.

        Args:
            times: of the request.
            stopped: why windows were left out; None if none was.

        Raises:
            ValueError: there is no window.
        """
        self._tell(self._merger.finish())
        if self._last is None or self._scores is None:
            raise ValueError("there is no answer before the first window")
        of_last = self._last.answer
        parts: dict[str, object] = {"timing_ms": TimingAnswer(**times.milliseconds())}
        if len(self.segments) > 1 or stopped is not None:
            scores = (self._scores / self._seconds).astype(np.float32)
            parts |= {
                "predictions": predictions_of(self.manifest, scores, self.parameters.top_k),
                "exit": self._exit(float(scores.max()), stopped),
                "compute": _total([segment.compute for segment in self.segments]),
            }
        if self.parameters.trace:
            parts["trace"] = self._trace
        return of_last.model_copy(update={**parts, "segments": self.segments, "events": self.events})

    def _exit(self, confidence: float, stopped: ExitReason | None) -> ExitAnswer:
        exits = [segment.exit for segment in self.segments]
        (most_frequent, _), *_ = Counter(exit_.reason for exit_ in exits).most_common(1)
        (component, _), *_ = Counter(exit_.component for exit_ in exits).most_common(1)
        return ExitAnswer(
            point=self.parameters.exit,
            reason=stopped or most_frequent,
            step=math.ceil(sum(exit_.step for exit_ in exits) / len(exits)),
            steps=self.manifest.steps,
            component=component,
            confidence=confidence,
            threshold=None,
        )

    def _tell(self, events: list[Event]) -> None:
        for event in events:
            answer = EventAnswer(
                start_s=event.start_s,
                end_s=event.end_s,
                label=self.manifest.labels[event.index],
                index=event.index,
                score=event.score,
                windows=event.windows,
            )
            self.events.append(answer)
            self.observer.on_event(answer)


def _total(costs: list[ComputeAnswer]) -> ComputeAnswer:
    names = [name for name in ComputeAnswer.model_fields if name != "bytes_fetched"]
    return ComputeAnswer(**{name: sum(getattr(cost, name) for cost in costs) for name in names})
