"""The accuracy-compute curve of a model on clips: exit thresholds solved for a sweep of budgets, and each measured.

The thresholds are solved from the logits ``[N, T, C]`` of the clips as the released code does it (arXiv 2112.14238,
section 3), and applied with the same `bundle.exit_rule` that the service applies them with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from adafocus.bundle.exit_rule import ExitCriterion, confidence, probabilities
from adafocus.training.errors import CalibrationError
from adafocus.training.evaluate.average_precision import mean_average_precision
from adafocus.training.evaluate.exit_layout import ExitLayout
from adafocus.training.evaluate.metrics import Indices, Logits, Truth, accuracy, answers, exit_steps, label_sets
from adafocus.training.evaluate.operating_points import Thresholds

Confidences = npt.NDArray[np.float32]
Temperature = float | npt.NDArray[np.float32]
"""One for all steps, or float32 [T] with one per step."""

RATIOS = tuple(round(0.02 * step, 2) for step in range(5, 45)) + tuple(round(0.1 * step, 1) for step in range(9, 40))
"""The values of q that are tried: from step to step, exit shares fall (q < 1) or rise (q > 1) by this factor."""


@dataclass(frozen=True)
class CurvePoint:
    """One budget of the sweep as measured: ``flops_share`` of full compute, accuracy, and where clips left.

    ``answers_changed`` is the share of clips that get another answer than from the full model.
    ``mean_average_precision`` is over the classes that occur, of the scores of each clip at its exit; None where clips
    have one class each.
    """

    ratio: float
    thresholds: tuple[float | None, ...]
    flops_share: float
    accuracy: float
    answers_changed: float
    exit_shares: tuple[float, ...]
    mean_average_precision: float | None = None

    @property
    def score(self) -> float:
        """The number that budgets are compared by: mean average precision for several classes a clip, else accuracy."""
        return self.accuracy if self.mean_average_precision is None else self.mean_average_precision


def exit_quota_of(ratio: float, used: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    """Return `exit_quota` over the exits that are used: float32 [K], 0 at the others, sums to one."""
    quota = np.zeros(len(used), dtype=np.float32)
    quota[used] = exit_quota(ratio, int(used.sum()))
    return quota


def exit_quota(ratio: float, steps: int) -> npt.NDArray[np.float32]:
    """Return the share of clips to leave at each step, proportional to ``ratio**t``: float32 [steps], sums to one.

    Computed in float32 as the released code does it: the solver floors multiples of these numbers.

    Raises:
        CalibrationError: ``ratio`` is not above 0.
    """
    if not ratio > 0:
        raise CalibrationError(f"the ratio of exit shares must be above 0, got {ratio}")
    exponents = np.arange(1, steps + 1, dtype=np.float32)
    shares = np.exp(np.log(np.float32(ratio)) * exponents)
    for _ in range(2):  # the released code normalises twice, which moves the last bit
        shares = shares / shares.sum(dtype=np.float32)
    return np.asarray(shares, dtype=np.float32)


def solve_thresholds(confidences: Confidences, quota: npt.NDArray[np.float32]) -> tuple[float | None, ...]:
    """Return the confidence at each step at which the wanted number of the remaining clips leaves.

    Args:
        confidences: float32 [N, T], higher is surer.
        quota: float32 [T] from `exit_quota`.

    Returns:
        T thresholds; None where a step's share rounds down to no clip, and at the last step, which always answers.

    Raises:
        CalibrationError: the shapes disagree, there is no clip, or a confidence is NaN.
    """
    clips, steps = _checked(confidences, quota)
    remaining = np.ones(clips, dtype=bool)
    thresholds: list[float | None] = []
    for step in range(steps - 1):
        wanted = int(np.floor(np.float32(clips) * quota[step]))
        waiting = np.sort(confidences[remaining, step])[::-1]
        if wanted == 0 or wanted > len(waiting):
            thresholds.append(None)
            continue
        threshold = waiting[wanted - 1]
        thresholds.append(float(threshold))
        remaining &= ~(confidences[:, step] >= threshold)
    return (*thresholds, None)


def _checked(confidences: Confidences, quota: npt.NDArray[np.float32]) -> tuple[int, int]:
    if confidences.ndim != 2 or confidences.shape[0] == 0 or confidences.shape[1:] != quota.shape:
        raise CalibrationError(
            f"confidences must be [clips, {len(quota)} steps] with at least one clip, got {list(confidences.shape)}"
        )
    if np.isnan(confidences).any():
        raise CalibrationError("a confidence is not a number: the logits overflowed")
    return confidences.shape[0], confidences.shape[1]


def measure(
    logits: Logits,
    labels: Truth,
    thresholds: Thresholds,
    criterion: ExitCriterion,
    temperature: Temperature,
    ratio: float,
    layout: ExitLayout | None = None,
) -> CurvePoint:
    """Apply thresholds to clips. Without a layout, leaving at step t costs t of T equal steps."""
    steps = exit_steps(logits, thresholds, criterion, temperature)
    total = logits.shape[1]
    costs = (layout or ExitLayout.of_steps(total)).costs
    shares = np.bincount(steps, minlength=total) / len(steps)
    given = answers(logits, steps)
    sets = logits.argmax(axis=2) if criterion != "label_margin" else label_sets(logits)
    return CurvePoint(
        ratio=ratio,
        thresholds=tuple(thresholds),
        flops_share=float(costs[steps].mean()),
        accuracy=accuracy(given, labels),
        answers_changed=float(np.mean(sets[np.arange(len(sets)), steps] != sets[:, -1])),
        exit_shares=tuple(float(share) for share in shares),
        mean_average_precision=_map_at(logits, labels, steps, criterion) if labels.ndim == 2 else None,
    )


def _map_at(logits: Logits, truth: Truth, steps: Indices, criterion: ExitCriterion) -> float:
    """Mean average precision, over the classes that occur, of the scores of clips that exit at these steps."""
    left = logits[np.arange(len(logits)), steps]
    scores = left if criterion == "label_margin" else probabilities(left)
    return mean_average_precision(scores, truth.astype(np.bool_), "present")


def exit_curve(
    logits: Logits,
    labels: Truth,
    criterion: ExitCriterion,
    temperature: Temperature,
    ratios: Sequence[float] = RATIOS,
    layout: ExitLayout | None = None,
) -> tuple[CurvePoint, ...]:
    """Return the sweep of budgets, cheapest first, solved and measured on the same clips."""
    sure = confidence(logits, criterion, temperature)
    layout = layout or ExitLayout.of_steps(logits.shape[1])
    curve = [
        measure(logits, labels, solve_thresholds(sure, quota), criterion, temperature, ratio, layout)
        for used in layout.families
        for ratio, quota in ((ratio, exit_quota_of(ratio, used)) for ratio in ratios)
    ]
    return tuple(sorted(curve, key=cheapest_first))


def cheapest_first(point: CurvePoint) -> tuple[float, float]:
    """Return the key that sorts budgets by cost, and equally dear ones by score."""
    return point.flops_share, -point.score
