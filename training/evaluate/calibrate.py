"""Solve the conditional exit on held-out clips: temperature, thresholds, operating points.

Nothing is trained here. The input are the logits ``[N, T, C]`` of clips that the model was not trained on. The service
applies the results with the same `bundle.exit_rule` that solves them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from adafocus.bundle.exit_rule import CalibrationProtocol, ExitCriterion, confidence, probabilities
from adafocus.training.errors import CalibrationError
from adafocus.training.evaluate.average_precision import mean_average_precision
from adafocus.training.evaluate.metrics import (
    Indices,
    Logits,
    Truth,
    accuracy,
    answers,
    exit_steps,
    negative_log_likelihood,
)
from adafocus.training.evaluate.operating_points import Calibration, Point, Thresholds

Confidences = npt.NDArray[np.float32]
Temperature = float | npt.NDArray[np.float32]
"""One for all steps, or float32 [T] with one per step."""

RATIOS = tuple(round(0.02 * step, 2) for step in range(5, 45)) + tuple(round(0.1 * step, 1) for step in range(9, 40))
"""The values of q that are tried: from step to step, exit shares fall (q < 1) or rise (q > 1) by this factor."""

TEMPERATURES = np.geomspace(0.2, 5.0, 161)


@dataclass(frozen=True)
class PointRule:
    """A rule that chooses an operating point from the curve of the calibration clips.

    Budgets are compared by accuracy or, where clips may have several classes, by mean average precision. The rule picks
    the cheapest budget that costs at most ``flops_share`` of full compute, loses at most ``accuracy_lost`` of the full
    model's score and changes at most the share ``answers_changed`` of its answers; then the cheapest such one that
    costs at least ``headroom`` times as much, if there is one: of many budgets tried on few clips the cheapest that
    passes has been lucky, and does worse on others. If none passes, it picks the best one within ``flops_share``; with
    none within it, the cheapest.
    """

    name: str
    flops_share: float
    accuracy_lost: float
    answers_changed: float
    headroom: float = 1.0


POINT_RULES = (
    PointRule("accurate", 1.0, accuracy_lost=0.0, answers_changed=0.0, headroom=1.2),
    PointRule("balanced", 0.4, accuracy_lost=0.005, answers_changed=1.0, headroom=1.2),
    PointRule("fast", 0.25, accuracy_lost=0.02, answers_changed=1.0),
)
"""``accurate`` answers as the full model does; ``balanced`` may err elsewhere; ``fast`` may err a little more often."""

DEFAULT_POINTS = ("balanced", "accurate")
"""The first of these whose rule is kept is the default; else ``full``."""


@dataclass(frozen=True)
class CurvePoint:
    """One budget of the sweep as measured: ``flops_share`` of full compute, accuracy, and where clips left.

    ``answers_changed`` is the share of clips that get another answer than from the full model.
    ``mean_average_precision`` is over the classes that occur, of what each clip is given where it leaves; None where
    clips have one class each.
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


def fit_temperature(logits: Logits, labels: Truth) -> float:
    """Return the temperature of least negative log-likelihood over all clips and steps, to about two per cent."""
    losses = [negative_log_likelihood(logits, labels, float(value)) for value in TEMPERATURES]
    return float(np.round(TEMPERATURES[int(np.argmin(losses))], 4))


def measure(
    logits: Logits,
    labels: Truth,
    thresholds: Thresholds,
    criterion: ExitCriterion,
    temperature: Temperature,
    ratio: float,
) -> CurvePoint:
    """Apply thresholds to clips. Leaving at step t costs t of T equal steps."""
    steps = exit_steps(logits, thresholds, criterion, temperature)
    total = logits.shape[1]
    shares = np.bincount(steps, minlength=total) / len(steps)
    given = answers(logits, steps)
    return CurvePoint(
        ratio=ratio,
        thresholds=tuple(thresholds),
        flops_share=float((steps + 1).mean() / total),
        accuracy=accuracy(given, labels),
        answers_changed=float(np.mean(given != logits[:, -1].argmax(axis=1))),
        exit_shares=tuple(float(share) for share in shares),
        mean_average_precision=_map_at(logits, labels, steps) if labels.ndim == 2 else None,
    )


def _map_at(logits: Logits, truth: Truth, steps: Indices) -> float:
    """Mean average precision, over the classes that occur, of what clips are given that leave at these steps."""
    left = logits[np.arange(len(logits)), steps]
    return mean_average_precision(probabilities(left), truth.astype(np.bool_), "present")


def exit_curve(
    logits: Logits, labels: Truth, criterion: ExitCriterion, temperature: Temperature, ratios: Sequence[float] = RATIOS
) -> tuple[CurvePoint, ...]:
    """Return the sweep of budgets, cheapest first, solved and measured on the same clips."""
    sure = confidence(logits, criterion, temperature)
    steps = logits.shape[1]
    curve = [
        measure(logits, labels, solve_thresholds(sure, exit_quota(ratio, steps)), criterion, temperature, ratio)
        for ratio in ratios
    ]
    return tuple(sorted(curve, key=_cheapest_first))


def is_met(rule: PointRule, point: CurvePoint, full_score: float) -> bool:
    """Whether a budget meets the rule."""
    return (
        point.flops_share <= rule.flops_share
        and point.score >= full_score - rule.accuracy_lost - 1e-9
        and point.answers_changed <= rule.answers_changed
    )


def choose(curve: Sequence[CurvePoint], rule: PointRule, full_score: float) -> CurvePoint:
    """Return the budget that a rule picks from a curve, which has at least one."""
    good = [point for point in curve if is_met(rule, point, full_score)]
    if good:
        cheapest = min(good, key=_cheapest_first)
        safer = [point for point in good if point.flops_share >= rule.headroom * cheapest.flops_share]
        return min(safer, key=_cheapest_first, default=cheapest)
    return best_within(curve, rule.flops_share)


def best_within(curve: Sequence[CurvePoint], flops_share: float) -> CurvePoint:
    """Return the best budget that costs at most this share of full compute; the cheapest if none does."""
    affordable = [point for point in curve if point.flops_share <= flops_share]
    if not affordable:
        return min(curve, key=_cheapest_first)
    return max(affordable, key=lambda point: (point.score, -point.flops_share))


def _cheapest_first(point: CurvePoint) -> tuple[float, float]:
    return point.flops_share, -point.score


def budget_name(share: float) -> str:
    """Return the name of the operating point for a share of full compute: ``at-30`` for 0.3."""
    return f"at-{100 * share:g}"


def calibrate(
    logits: Logits,
    labels: Truth,
    gflops_per_step: float,
    criterion: ExitCriterion = "max_softmax",
    rules: Sequence[PointRule] = POINT_RULES,
    notes: str = "",
    budgets: Sequence[float] = (),
    temperature: float | None = None,
    protocol: CalibrationProtocol = "holdout",
    temperatures: tuple[float, ...] | None = None,
    certified: Mapping[str, Thresholds] | None = None,
) -> Calibration:
    """Temperature and operating points from the logits of clips.

    Args:
        logits: float32 [N, T, C] of clips that the model was not trained on, unless ``protocol`` says so.
        labels: int64 [N], or bool [N, C] where a clip may have several.
        gflops_per_step: cost of one served step.
        criterion: what the service will compare with the thresholds.
        rules: the points besides ``full``, dearest first. The default is ``balanced`` or, if no budget keeps its
            rule, ``accurate``; ``full`` if none keeps that either.
        notes: which clips these were; travels into the bundle.
        budgets: shares of full compute; each adds a point (``at-30`` for 0.3), the best one within it.
        temperature: None fits it.
        protocol: which clips these are; a label that travels into the bundle.
        temperatures: one per step, used instead of ``temperature``.
        certified: thresholds by the name of their point, instead of what a rule would choose; names that no rule has
            add points. See `training.evaluate.certified_points`.

    Raises:
        CalibrationError: nothing to solve from.
    """
    temperature = fit_temperature(logits, labels) if temperature is None else temperature
    heat = temperature if temperatures is None else np.array(temperatures, dtype=np.float32)
    steps, missed = logits.shape[1], list[str]()
    full = measure(logits, labels, (None,) * steps, criterion, heat, ratio=0.0)
    curve = exit_curve(logits, labels, criterion, heat)
    tested = {name: measure(logits, labels, row, criterion, heat, 0.0) for name, row in (certified or {}).items()}
    chosen = [("full", full)]
    if steps > 1:  # a clip model takes all its frames in one step and has nowhere to leave
        budgets_and_none = (*curve, full)  # never leaving is a choice, too
        dear_enough = _not_below(budgets_and_none, tested)
        chosen += [(rule.name, tested.get(rule.name) or choose(dear_enough, rule, full.score)) for rule in rules]
        missed = [
            name
            for rule, (name, point) in zip(rules, chosen[1:], strict=True)
            if name not in tested and not is_met(rule, point, full.score)
        ]
        if missed:
            notes = f"{notes}; no budget keeps the rule of {', '.join(missed)}: the best within its price was taken"
        chosen += [(name, point) for name, point in tested.items() if name not in dict(chosen)]
        chosen += [(budget_name(share), best_within(budgets_and_none, share)) for share in budgets]
    if labels.ndim == 2:
        found = ", ".join(f"{name} {point.score:.4f}" for name, point in chosen)
        notes = f"{notes}; chosen by mean average precision: {found}"
    points = tuple(
        Point(
            name=name,
            thresholds=point.thresholds,
            expected_gflops=point.flops_share * steps * gflops_per_step,
            expected_accuracy=point.accuracy,
            exit_shares=point.exit_shares,
        )
        for name, point in chosen
    )
    if len({point.name for point in points}) < len(points):
        raise CalibrationError(f"two operating points have the same name: {', '.join(point.name for point in points)}")
    kept = {point.name for point in points} - set(missed)
    default = next((name for name in DEFAULT_POINTS if name in kept), "full")
    return Calibration(temperature, criterion, points, default, len(logits), notes, protocol, temperatures)


def _not_below(curve: Sequence[CurvePoint], tested: Mapping[str, CurvePoint]) -> list[CurvePoint]:
    """Return the budgets that cost no less than any tested row; never empty, because never leaving is among them.

    Where a looser promise was kept and a stricter one could not be tested, the stricter point must not be the cheaper.
    """
    floor = max((point.flops_share for point in tested.values()), default=0.0)
    return [point for point in curve if point.flops_share >= floor]
