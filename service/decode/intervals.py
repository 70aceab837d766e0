"""A set of byte positions as intervals. Standard library only, because the decode worker imports it. Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right


class Intervals:
    """Half-open intervals of integers that neither touch nor overlap."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._stops: list[int] = []

    def __len__(self) -> int:
        """Number of intervals."""
        return len(self._starts)

    def add(self, start: int, stop: int) -> None:
        """Add the positions ``start``..``stop - 1``; none if ``stop`` is not greater."""
        if stop <= start:
            return
        first = bisect_left(self._stops, start)
        last = bisect_right(self._starts, stop)
        if first < last:
            start, stop = min(start, self._starts[first]), max(stop, self._stops[last - 1])
        self._starts[first:last] = [start]
        self._stops[first:last] = [stop]

    def end_of(self, position: int) -> int:
        """The end of the interval that holds a position; the position itself if none does."""
        place = bisect_right(self._starts, position) - 1
        return max(position, self._stops[place]) if place >= 0 else position

    def next_start(self, position: int) -> int | None:
        """The start of the first interval after a position; None if there is none."""
        place = bisect_right(self._starts, position)
        return self._starts[place] if place < len(self._starts) else None

    def covers(self, start: int, stop: int) -> bool:
        """Whether all of ``start``..``stop - 1`` are in the set."""
        return stop <= start or self.end_of(start) >= stop
