"""Repairs the times of pictures: clocks that restart or leap, equal times, missing times. Pure.

Believable times stay as they are. What counts as a restart or a leap follows what FFmpeg's command line does with
containers whose clock may be replaced midway: a step back of more than 0.1 s, or forward by more than 10 s.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

UNKNOWN_TIME = -(2**63)
"""Stands for a time that a packet does not have: the least int64."""

LEAST_LEAP_S = 10.0
"""A step forward of the clock is a pause up to here, however regular the pictures are otherwise."""
_LEAST_RESTART_S = 0.1
# Presentation times step back within a group of pictures; only a longer step tells another clock.
_LEAST_RESTART_BY_PTS_S = 1.0
_LEAST_RESTART_BY_PTS_STEPS = 16
# A video of few pictures a minute has long steps and no leap.
_LEAST_LEAP_STEPS = 20
# Times farther from 0 are not computed with: differences of them would not fit 64 bits.
_FARTHEST = 2**60
# With more clocks than this, the times tell nothing.
_MOST_CLOCKS = 1000


@dataclass(frozen=True)
class Clock:
    """Seconds per unit of a stream's times, and whether its container permits leaps of the clock."""

    time_base: Fraction
    may_leap: bool

    def ticks(self, seconds: float) -> int:
        """Converts seconds to units of the time base."""
        return int(seconds / self._unit_seconds)

    @cached_property
    def _unit_seconds(self) -> float:
        return float(self.time_base)


@dataclass(frozen=True)
class OneClock:
    """Times of pictures on one clock.

    Attributes:
        times: in decode order, units of the time base.
        broken: they were on several clocks.
        at_starts: each further clock began with a picture that decoding can start with: the order across the break is
            certain.
    """

    times: NDArray[np.int64]
    broken: bool = False
    at_starts: bool = True


def is_known(times: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tells which times are there, and small enough to be computed with."""
    return (times > -_FARTHEST) & (times < _FARTHEST)


def without_strays(pts: NDArray[np.int64], dts: NDArray[np.int64], clock: Clock) -> NDArray[np.int64]:
    """Marks times as unknown that lie farther from the decoding time than a clock's leap.

    Where one clock follows another, a demuxer may give a picture the time of the next one.
    """
    if not clock.may_leap:
        return pts
    known = is_known(pts) & is_known(dts)
    stray = known & (np.abs(np.where(known, pts - dts, 0)) > clock.ticks(LEAST_LEAP_S))
    return np.where(stray, UNKNOWN_TIME, pts)


def continuous(pts: NDArray[np.int64], dts: NDArray[np.int64], starts: NDArray[np.bool_], clock: Clock) -> OneClock:
    """Puts the presentation times of a stream on one clock.

    Args:
        pts: of each picture in decode order, or ``UNKNOWN_TIME``.
        dts: likewise.
        starts: whether decoding can start with the picture.
        clock: of the stream.

    Returns:
        The same times, shifted from each restart or leap of the clock on so that they follow those before. Missing
        times are filled in from their neighbours. All are unknown if none is known, or if the clocks are too many.
    """
    known = is_known(pts)
    complete = bool(known.all())
    if complete and not clock.may_leap and is_known(dts).all() and (dts[1:] >= dts[:-1]).all():
        return OneClock(pts)  # as in most files: nothing steps back, so there is nothing to repair
    if not known.any():
        return OneClock(np.full_like(pts, UNKNOWN_TIME))
    by_dts = bool(is_known(dts[known]).all())
    stamps = (dts if by_dts else pts)[known]
    cuts = _cuts(stamps, starts[known], by_dts, clock)
    if len(cuts) > _MOST_CLOCKS:
        return OneClock(np.full_like(pts, UNKNOWN_TIME))
    fixed = pts.copy()
    if len(cuts):
        fixed[known] = _joined(pts[known], stamps, starts[known], cuts)
    if not complete:
        fixed = _filled(fixed, known)
    return OneClock(fixed, broken=len(cuts) > 0, at_starts=bool(starts[known][cuts].all()))


def _cuts(stamps: NDArray[np.int64], starts: NDArray[np.bool_], by_dts: bool, clock: Clock) -> NDArray[np.int64]:
    """Pictures with which another clock begins."""
    steps = np.diff(stamps)
    step = median_step(steps)
    back = clock.ticks(_LEAST_RESTART_S)
    if not by_dts:
        back = max(clock.ticks(_LEAST_RESTART_BY_PTS_S), _LEAST_RESTART_BY_PTS_STEPS * step)
    restarts = steps < -back
    if by_dts:
        # A shorter step back is a stray time, unless it begins a part of its own, in which time goes on as usual.
        following = np.append(steps[1:], step)
        restarts |= starts[1:] & (steps <= -step) & (following > 0) & (following <= 2 * step)
    leaps = steps > max(clock.ticks(LEAST_LEAP_S), _LEAST_LEAP_STEPS * step)
    # Where the clock has been seen to step back, a leap is no pause either.
    return np.flatnonzero(restarts | leaps if clock.may_leap or restarts.any() else restarts) + 1


def _joined(
    pts: NDArray[np.int64], stamps: NDArray[np.int64], starts: NDArray[np.bool_], cuts: NDArray[np.int64]
) -> NDArray[np.int64]:
    """The pieces between the cuts, one after the other."""
    fixed = pts.copy()
    step = median_step(np.concatenate([np.diff(np.sort(piece)) for piece in np.split(pts, cuts)]))
    pace = median_step(np.diff(stamps))
    latest, stamp = int(pts[: cuts[0]].max()), int(stamps[cuts[0] - 1])
    for begin, end in zip(cuts, [*cuts[1:], len(pts)], strict=True):
        piece = pts[begin:end]
        # No picture of a piece that decoding can start with is shown before one of the pieces before.
        due, found = (latest + step, piece.min()) if starts[begin] else (stamp + pace, stamps[begin])
        shift = due - int(found)
        if abs(shift) > _FARTHEST or abs(int(piece.max()) + shift) > _FARTHEST:
            return pts
        fixed[begin:end] = piece + shift
        latest = max(latest, int(fixed[begin:end].max()))
        stamp = int(stamps[end - 1]) + shift
    return fixed


def median_step(steps: NDArray[np.int64]) -> int:
    """The median of the steps that are greater than 0; at least 1."""
    steps = np.sort(steps[steps > 0])
    count = len(steps)  # `np.median` takes four times as long
    return max((int(steps[(count - 1) // 2]) + int(steps[count // 2])) // 2, 1) if count else 1


def _filled(times: NDArray[np.int64], known: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Missing times, interpolated in decode order; beyond the last known one, at the same pace."""
    places = np.flatnonzero(known)
    everywhere = np.arange(len(times))
    pace = (int(times[known].max()) - int(times[known].min())) / max(int(places[-1] - places[0]), 1)
    base = int(times[places[0]])
    filled = np.interp(everywhere, places, (times[known] - base).astype(np.float64))
    tail, head = everywhere > places[-1], everywhere < places[0]
    filled[tail] = (int(times[known].max()) - base) + pace * (everywhere[tail] - places[-1])
    filled[head] = (int(times[known].min()) - base) - pace * (places[0] - everywhere[head])
    return np.where(known, times, base + np.rint(filled).astype(np.int64))


def display_times(times: NDArray[np.int64]) -> NDArray[np.float64] | None:
    """The times at which the frames are shown, in presentation order.

    Args:
        times: on one clock, in any order.

    Returns:
        The times in ascending order. Frames with equal times follow each other in equal steps up to the next time, no
        longer than a typical step. ``None`` if no time is known, or several frames have one and the same.
    """
    ordered = np.sort(times)
    if ordered[0] == UNKNOWN_TIME or (len(ordered) > 1 and ordered[0] == ordered[-1]):
        return None
    ticks = ordered.astype(np.float64)
    if (np.diff(ordered) > 0).all():
        return ticks
    distinct, counts = np.unique(ordered, return_counts=True)
    step = float(median_step(np.diff(ordered)))
    gaps = np.append(np.diff(distinct).astype(np.float64), np.inf)
    begins = np.cumsum(counts) - counts
    pace = np.minimum(gaps / counts, step)
    within = np.arange(len(ordered)) - np.repeat(begins, counts)
    return np.asarray(ticks + within * np.repeat(pace, counts), dtype=np.float64)
