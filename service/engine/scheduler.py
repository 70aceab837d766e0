"""Which videos run next: pure functions over arrays, tested without a clock, a device or a server."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

PATIENCE_SECONDS = 10.0
"""A video without a deadline counts as due this long after it arrived. So an urgent one passes it, but a stream of
urgent ones cannot hold it back for ever: sooner or later it is the earliest."""

BACKGROUND_PATIENCE_SECONDS = 0.5
"""A step in the background that has been ready for so long is as good as any other."""

NEARLY_FULL = 0.75
"""Share of the rows of a batch from which on it need not be full."""

ENDING = 0.75
"""Share of its expected time after which a batch counts as about to end: the rest is for preparing the next."""

MAX_BATCHES_IN_FLIGHT = 2
"""Batches that the device may hold: the one that runs, and the next, prepared while it runs."""


def due_time(arrived: float, deadline: float) -> float:
    """When a video counts as due: its deadline, or `PATIENCE_SECONDS` after it arrived if that is sooner.

    Args:
        arrived: seconds on the clock of the deadlines.
        deadline: seconds; ``inf`` for none.
    """
    return min(deadline, arrived + PATIENCE_SECONDS)


def most_urgent(due: Float64, arrived: Float64, places: int) -> Int64:
    """Indices of the most urgent candidates, as many as there are places, the most urgent first.

    The earliest due comes first, then the one that arrived first; ties keep their order.

    Args:
        due: ``[N]``, from `due_time`.
        arrived: ``[N]``.
        places: at most so many are taken; none if it is not positive.
    """
    return np.lexsort((arrived, due))[: max(0, places)]


def of_the_foreground(
    background: Bool, ready_since: Float64, now: float, *, others_in_flight: bool, shares: bool
) -> Int64:
    """Indices of the candidates that may run now, if some of them are in the background.

    A processor takes nearly as long for two rows as for one after the other. So a row in the background does not share
    a batch with one of the foreground, and while videos of the foreground are in flight it runs alone: whatever becomes
    ready waits for one row at most. A device that takes as long for many rows as for one lets all of them run.

    Args:
        background: ``[N]``, whether each is in the background.
        ready_since: ``[N]``, seconds; one that has waited for `BACKGROUND_PATIENCE_SECONDS` counts as foreground.
        now: seconds.
        others_in_flight: whether there are videos of the foreground, ready or not.
        shares: whether rows of a batch share its time, as on a GPU.
    """
    behind = background & (ready_since > now - BACKGROUND_PATIENCE_SECONDS)
    if shares or not behind.any():
        return np.arange(len(background))
    if behind.all():
        return np.arange(len(background)) if not others_in_flight else np.argmin(ready_since, keepdims=True)
    return np.flatnonzero(~behind)


def rows_to_run(*, ready: int, max_batch: int, in_flight: int, ending: bool) -> int:
    """How many rows the next batch takes now; 0 to wait.

    A device that is idle runs whatever is ready. While it runs a batch, a full one is prepared at once. One that is
    nearly full is prepared only when the running one is about to end: until then it may become full, and after that the
    device would stand still. Any smaller batch would shut out the videos that become ready before the device is free.

    Args:
        ready: videos that could run now.
        max_batch: rows of a batch at most.
        in_flight: batches that the device holds.
        ending: the batch that runs is about to end.
    """
    if in_flight == 0:
        return min(ready, max_batch)
    if in_flight < MAX_BATCHES_IN_FLIGHT and ready >= (nearly_full(max_batch) if ending else max_batch):
        return min(ready, max_batch)
    return 0


def rows_short(*, ready: int, max_batch: int, in_flight: int) -> int:
    """How many further videos have to become ready before `rows_to_run` may say otherwise; 0 while the device is idle.

    From nearly enough for a batch on, whoever asks looks again anyway when the running one is about to end.

    Args:
        ready: as for `rows_to_run`, which has just said to wait.
        max_batch: as there.
        in_flight: as there, and less than `MAX_BATCHES_IN_FLIGHT`.
    """
    if in_flight == 0:
        return 0
    nearly = min(nearly_full(max_batch), max_batch)
    return (nearly if ready < nearly else max_batch) - ready


def nearly_full(max_batch: int) -> int:
    """Rows from which on a batch costs little more than a full one; a single row is never that."""
    return max(2, math.ceil(NEARLY_FULL * max_batch))


def steps_together(*, alone: bool, available: int) -> int:
    """How many steps of a video run in one batch: several only if no other video waits.

    With others in the batch a step costs as little without looking ahead, and those that come meanwhile wait for one
    step only.
    """
    return max(1, available) if alone else 1
