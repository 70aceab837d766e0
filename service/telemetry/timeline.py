"""Records where the time of one request goes, as spans on one clock. Tracing reads them when the request has ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

from adafocus.service.engine.request import Step
from adafocus.service.engine.stage_times import Stage


@dataclass(frozen=True, slots=True)
class Span:
    """One stage of a request with its start and end; ``step`` counts from 1, and is 0 before the first step."""

    stage: Stage
    start: float
    end: float
    step: int = 0


class Timeline:
    """The spans of one request. Stages overlap: frames are decoded while others are in the model.

    Args:
        clock: returns seconds of the clock that deadlines are on.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.spans: list[Span] = []
        self._steps = 0
        self._stepped = 0.0

    def stage(self, stage: Stage) -> AbstractContextManager[None]:
        """Record the block as a span, even if it fails. The first step starts no earlier than its end."""
        return self._recorded(stage)

    @contextmanager
    def _recorded(self, stage: Stage) -> Iterator[None]:
        start = self.clock()
        try:
            yield
        finally:
            self._stepped = self.clock()
            self.spans.append(Span(stage, start, self._stepped))

    def add(self, stage: Stage, start: float, end: float) -> None:
        """Record a span that was measured elsewhere."""
        self.spans.append(Span(stage, start, end))

    def step(self, step: Step) -> None:
        """Note a step that has just finished: its focus, its glance, its wait for the device, its wait for a frame."""
        self._steps += 1
        end = step.finished_at
        parts: tuple[tuple[Stage, float], ...] = (
            ("focus", step.focus_seconds),
            ("glance", step.glance_seconds),
            ("queue", step.queue_seconds),
        )
        before, self._stepped = self._stepped, end
        for stage, seconds in parts:
            start = max(before, end - seconds)
            self.spans.append(Span(stage, start, end, self._steps))
            end = start
        self.spans.append(Span("decode", before, end, self._steps))


class _Untimed(Timeline):
    """Records nothing, for requests that are not traced. All of them share one."""

    _nothing: AbstractContextManager[None] = nullcontext()

    def stage(self, stage: Stage) -> AbstractContextManager[None]:
        """Return a block that does nothing."""
        return self._nothing

    def add(self, stage: Stage, start: float, end: float) -> None:
        """Do nothing."""

    def step(self, step: Step) -> None:
        """Do nothing."""


UNTIMED: Timeline = _Untimed()
