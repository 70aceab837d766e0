"""The exits of a model in their order, what leaving at each costs, and which of them a row of thresholds may use.

A model without exits after the glance has an exit after each step. One with them has two for each step: after the
glance, and after the focus. Calibration treats both alike, as K exits in a row.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from adafocus.training.evaluate.metrics import Logits
from adafocus.training.evaluate.operating_points import Calibration, Point

Bool = npt.NDArray[np.bool_]
Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ExitLayout:
    """K exits.

    Attributes:
        costs: float64 [K], the share of full compute that leaving there has cost; rising, the last is 1.
        families: bool [K] each: the exits that a row of thresholds uses. Calibration tries every family.
    """

    costs: Float64
    families: tuple[Bool, ...]

    @classmethod
    def of_steps(cls, steps: int) -> ExitLayout:
        """An exit after each of T equal steps."""
        return cls(np.arange(1, steps + 1) / steps, (np.ones(steps, dtype=np.bool_),))

    @classmethod
    def with_glances(cls, steps: int, glance_share: float) -> ExitLayout:
        """An exit after the glance and one after the focus of each of T steps.

        Tried are: no exit after a glance, one after the first glance, and one after every glance. The later ones see a
        single frame where the focus beside them has seen several, so they may cost more answers than they save.

        Args:
            steps: T.
            glance_share: of a step's cost.
        """
        after_focus = np.arange(1, steps + 1, dtype=np.float64)
        costs = np.stack([after_focus - 1 + glance_share, after_focus], axis=1).ravel() / steps
        focus = np.arange(2 * steps) % 2 == 1
        first = focus.copy()
        first[0] = True
        return cls(costs, (focus, first, np.ones(2 * steps, dtype=np.bool_)))


def interleaved(glance_logits: Logits, step_logits: Logits) -> Logits:
    """Return the logits of all exits, two a step: [N, T, C] and [N, T, C] -> [N, 2·T, C]."""
    clips, steps, classes = step_logits.shape
    return np.stack([glance_logits, step_logits], axis=2).reshape(clips, 2 * steps, classes)


def split_by_component(found: Calibration) -> Calibration:
    """Return a calibration of 2·T interleaved exits as one of T steps, with exits after the glance beside it."""
    heat = found.exit_rule.temperatures
    return replace(
        found,
        points=tuple(_by_step(point) for point in found.points),
        temperatures=heat[1::2],
        glance_temperatures=heat[::2],
    )


def _by_step(point: Point) -> Point:
    glance = point.thresholds[::2]
    pairs = zip(point.exit_shares[::2], point.exit_shares[1::2], strict=True)
    return replace(
        point,
        thresholds=point.thresholds[1::2],
        glance_thresholds=None if all(value is None for value in glance) else glance,
        exit_shares=tuple(first + second for first, second in pairs),
    )
