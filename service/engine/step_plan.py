"""What follows from a request before its first step: which steps are certain to run, and how many frames to prefetch.

Pure. The rows are computed once for each kind of request: those of one operating point share theirs.
"""

from __future__ import annotations

import math
from functools import lru_cache

from adafocus.bundle.exit_rule import ExitReason

PREFETCH_PROBABILITY = 0.5
"""The next frame is pulled while a step runs if the video goes on after it with at least this probability.

Pulled early it costs no time; pulled for a video that then exits it has been decoded in vain, and decoding is most
of what a small model's answer costs.
"""

NO_CAP = 1 << 62
"""Steps that a request without ``max_flops`` may run."""


def affordable_steps(max_flops: int | None, per_step_flops: int) -> int:
    """After how many steps the next one would pass the cap."""
    return NO_CAP if max_flops is None else max_flops // max(1, per_step_flops)


@lru_cache(maxsize=256)
def certain_steps(
    thresholds: tuple[float, ...], affordable: int, glance_thresholds: tuple[float, ...] = ()
) -> tuple[int, ...]:
    """For every step, how many steps from it on will run whatever the model answers, if it runs at all; 1 at least.

    Args:
        thresholds: of the request, one per step.
        affordable: steps that its cap pays for.
        glance_thresholds: of the exits after the glance, one per step; empty: there are none.
    """
    row = [1] * len(thresholds)
    glances = glance_thresholds or (math.inf,) * len(thresholds)
    for step in range(len(thresholds) - 2, -1, -1):
        if thresholds[step] == glances[step] == glances[step + 1] == math.inf:
            row[step] = 1 + row[step + 1]
    return tuple(max(1, min(certain, affordable - step)) for step, certain in enumerate(row))


@lru_cache(maxsize=256)
def prefetch_targets(continue_probability: tuple[float, ...], certain: tuple[int, ...]) -> tuple[int, ...]:
    """For every step, how many frames to hold that no finished step has used.

    The frame of the step at hand, the one after it where the video will probably get there, and those of all steps that
    are certain to run: they are not decoded in vain, and are handed over together.

    Args:
        continue_probability: of the request; empty: it always goes on.
        certain: from `certain_steps`, all 1 for a request that does not look ahead.
    """
    last = len(continue_probability) - 1
    row = []
    for step, sure in enumerate(certain):
        goes_on = last < 0 or continue_probability[min(step, last)] >= PREFETCH_PROBABILITY
        row.append(max(2 if goes_on else 1, sure))
    return tuple(row)


def exit_reason(*, at_end: bool, short: bool, confident: bool) -> ExitReason:
    """Why a video ends with the step that it has just finished.

    Args:
        at_end: there is no further step.
        short: that step had fewer frames than planned.
        confident: its confidence reached the threshold. If neither, the cap does not pay for another step.
    """
    if at_end:
        return "end_of_video" if short else "all_steps"
    return "confident" if confident else "max_gflops"
