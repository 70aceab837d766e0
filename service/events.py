"""Merges the labels of consecutive windows into events, with hysteresis and a least length. Pure.

An event begins with a window whose best label reaches the threshold. It goes on while its label keeps a part of that
(`HOLD_SHARE`) and no other label reaches the threshold. Events of one label with a short interruption between them are
one event, and an event that stays too short is none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

HOLD_SHARE = 0.7
"""An event lasts as long as the score of its label is at least this share of the threshold that it began with."""


@dataclass(frozen=True, slots=True)
class ScoredWindow:
    """A window with the score of every label, 0 to 1; times in seconds from the start of the video."""

    start_s: float
    end_s: float
    scores: Sequence[float]


@dataclass(frozen=True, slots=True)
class Event:
    """A stretch of a video with one label.

    Attributes:
        start_s: seconds from the start of the video.
        end_s: likewise.
        index: of the label.
        score: mean score of the label in its windows.
        windows: number of windows that it consists of.
    """

    start_s: float
    end_s: float
    index: int
    score: float
    windows: int


@dataclass(slots=True)
class _Run:
    """Consecutive windows with one label."""

    index: int
    start_s: float
    end_s: float
    total: float
    windows: int

    @property
    def seconds(self) -> float:
        return self.end_s - self.start_s

    def event(self) -> Event:
        return Event(self.start_s, self.end_s, self.index, self.total / self.windows, self.windows)


class EventMerger:
    """Takes windows in order of time and returns events as soon as they are certain. Holds at most two of them.

    Where windows overlap, an event ends, and the next one begins, in the middle of the overlap.

    Args:
        threshold: least score with which an event begins, greater than 0.
        least_seconds: shorter events are left out; interruptions up to this are bridged.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(self, threshold: float = 0.5, least_seconds: float = 0.0) -> None:
        if not 0 < threshold <= 1:
            raise ValueError(f"threshold must be greater than 0 and at most 1, got {threshold}")
        if not least_seconds >= 0:
            raise ValueError(f"least_seconds must be at least 0, got {least_seconds}")
        self._threshold = threshold
        self._least_seconds = least_seconds
        self._waiting: _Run | None = None  # has ended, and may be continued
        self._present: _Run | None = None
        self._end_s = 0.0

    def add(self, window: ScoredWindow) -> list[Event]:
        """Take the next window; returns the events that are certain now."""
        best = max(range(len(window.scores)), key=window.scores.__getitem__)
        begins = window.scores[best] >= self._threshold
        boundary = max(window.start_s, (window.start_s + self._end_s) / 2)
        self._end_s = window.end_s
        present = self._present
        if present is not None:
            holds = window.scores[present.index] >= HOLD_SHARE * self._threshold
            if holds and (best == present.index or not begins):
                present.end_s = window.end_s
                present.total += window.scores[present.index]
                present.windows += 1
                return self._settle(window.start_s)
            present.end_s = min(present.end_s, boundary)
        certain = self._close()
        if begins:
            self._present = _Run(best, boundary, window.end_s, window.scores[best], 1)
        return certain + self._settle(window.start_s)

    @property
    def present(self) -> Event | None:
        """The event that goes on now, if it is long enough to be one; its end is not known yet."""
        present, waiting = self._present, self._waiting
        if present is None:
            return None
        if waiting is not None and waiting.index == present.index and self._is_bridged(waiting, present.start_s):
            windows, total = waiting.windows + present.windows, waiting.total + present.total
            return Event(waiting.start_s, present.end_s, present.index, total / windows, windows)
        return present.event() if present.seconds >= self._least_seconds else None

    def finish(self) -> list[Event]:
        """The remaining events, at the end of the video."""
        certain = self._close()
        waiting, self._waiting = self._waiting, None
        return certain + ([waiting.event()] if waiting is not None else [])

    def _close(self) -> list[Event]:
        """End the present run: it continues the one that waits, waits itself, or is left out."""
        run, self._present = self._present, None
        waiting = self._waiting
        if run is None:
            return []
        if waiting is not None and waiting.index == run.index and self._is_bridged(waiting, run.start_s):
            waiting.end_s = run.end_s
            waiting.total += run.total
            waiting.windows += run.windows
            return []
        if run.seconds < self._least_seconds:
            return []
        self._waiting = run
        return [waiting.event()] if waiting is not None else []

    def _settle(self, now_s: float) -> list[Event]:
        """Return the run that waits, if nothing can continue it any more."""
        waiting, present = self._waiting, self._present
        if waiting is None or (present is not None and present.index == waiting.index):
            return []
        if self._is_bridged(waiting, now_s):
            return []
        self._waiting = None
        return [waiting.event()]

    def _is_bridged(self, waiting: _Run, start_s: float) -> bool:
        return start_s - waiting.end_s <= self._least_seconds


def events_of(windows: Iterable[ScoredWindow], threshold: float = 0.5, least_seconds: float = 0.0) -> list[Event]:
    """The events of windows in order of time.

    Raises:
        ValueError: as `EventMerger`.
    """
    merger = EventMerger(threshold, least_seconds)
    return [event for window in windows for event in merger.add(window)] + merger.finish()
