"""Solve the conditional exit on held-out clips: temperature, thresholds, operating points.

Nothing is trained here. The input are the logits ``[N, T, C]`` of clips that the model was not trained on. The service
applies the results with the same `bundle.exit_rule` that solves them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from adafocus.bundle.exit_rule import CalibrationProtocol, ExitCriterion
from adafocus.training.errors import CalibrationError
from adafocus.training.evaluate.exit_curve import CurvePoint, cheapest_first, exit_curve, measure
from adafocus.training.evaluate.exit_layout import ExitLayout
from adafocus.training.evaluate.metrics import Logits, Truth, negative_log_likelihood
from adafocus.training.evaluate.operating_points import Calibration, Point, Thresholds

TEMPERATURES = np.geomspace(0.2, 5.0, 161)


@dataclass(frozen=True)
class PointRule:
    """A rule that chooses an operating point from the curve of the calibration clips.

    Budgets are compared by accuracy or, where clips may have several classes, by mean average precision. The rule picks
    the cheapest budget that costs at most ``flops_share`` of full compute, loses at most ``accuracy_lost`` of the full
    model's score and changes at most the share ``answers_changed`` of its answers; then the cheapest such one that
    costs at least ``headroom`` times as much, if there is one: of many budgets that are tried on few clips, the
    cheapest one that passes was often lucky and does worse on other clips. If none passes, it picks the best one within
    ``flops_share``; with none within it, the cheapest.
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
"""``accurate`` gives the full model's answers; ``balanced`` keeps about its accuracy; ``fast`` loses a little of it."""

DEFAULT_POINTS = ("balanced", "accurate")
"""The first of these whose rule is kept is the default; else ``full``."""


def fit_temperature(logits: Logits, labels: Truth) -> float:
    """Return the temperature of least negative log-likelihood over all clips and steps, to about two per cent."""
    losses = [negative_log_likelihood(logits, labels, float(value)) for value in TEMPERATURES]
    return float(np.round(TEMPERATURES[int(np.argmin(losses))], 4))


def is_met(rule: PointRule, point: CurvePoint, full_score: float) -> bool:
    """Return True if a budget meets the rule."""
    return (
        point.flops_share <= rule.flops_share
        and point.score >= full_score - rule.accuracy_lost - 1e-9
        and point.answers_changed <= rule.answers_changed
    )


def choose(curve: Sequence[CurvePoint], rule: PointRule, full_score: float) -> CurvePoint:
    """Return the budget that a rule picks from a curve, which has at least one."""
    good = [point for point in curve if is_met(rule, point, full_score)]
    if good:
        cheapest = min(good, key=cheapest_first)
        safer = [point for point in good if point.flops_share >= rule.headroom * cheapest.flops_share]
        return min(safer, key=cheapest_first, default=cheapest)
    return best_within(curve, rule.flops_share)


def best_within(curve: Sequence[CurvePoint], flops_share: float) -> CurvePoint:
    """Return the best budget that costs at most this share of full compute; the cheapest if none does."""
    affordable = [point for point in curve if point.flops_share <= flops_share]
    if not affordable:
        return min(curve, key=cheapest_first)
    return max(affordable, key=lambda point: (point.score, -point.flops_share))


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
    layout: ExitLayout | None = None,
) -> Calibration:
    """Solve temperature and operating points from the logits of clips.

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
        layout: of the exits, where they are not one after each of T equal steps.

    Raises:
        CalibrationError: nothing to solve from.
    """
    temperature = fit_temperature(logits, labels) if temperature is None else temperature
    divisor = temperature if temperatures is None else np.array(temperatures, dtype=np.float32)
    steps, rows = logits.shape[1], (certified or {}).items()
    tested = {name: measure(logits, labels, row, criterion, divisor, 0.0, layout) for name, row in rows}
    full = measure(logits, labels, (None,) * steps, criterion, divisor, 0.0, layout)
    chosen, missed = [("full", full)], list[str]()
    if steps > 1:  # a clip model has a single step, so it cannot exit early
        curve = exit_curve(logits, labels, criterion, divisor, layout=layout)
        budgets_and_none = (*curve, full)  # no early exit is a budget, too
        by_rule, missed = _choose_by_rules(budgets_and_none, rules, tested, full.score)
        chosen += by_rule
        chosen += [(budget_name(share), best_within(budgets_and_none, share)) for share in budgets]
    notes = _with_remarks(notes, missed, chosen if labels.ndim == 2 else [])
    points = _points(chosen, steps * gflops_per_step)
    kept = {point.name for point in points} - set(missed)
    default = next((name for name in DEFAULT_POINTS if name in kept), "full")
    return Calibration(temperature, criterion, points, default, len(logits), notes, protocol, temperatures)


def _choose_by_rules(
    budgets: Sequence[CurvePoint], rules: Sequence[PointRule], tested: Mapping[str, CurvePoint], full_score: float
) -> tuple[list[tuple[str, CurvePoint]], list[str]]:
    """Return the tested points and a point for each other rule, by name, and the rules that no budget keeps."""
    dear_enough = _not_below(budgets, tested)
    chosen = [(rule.name, tested.get(rule.name) or choose(dear_enough, rule, full_score)) for rule in rules]
    missed = [
        name
        for rule, (name, point) in zip(rules, chosen, strict=True)
        if name not in tested and not is_met(rule, point, full_score)
    ]
    return chosen + [(name, point) for name, point in tested.items() if name not in dict(chosen)], missed


def _with_remarks(notes: str, missed: Sequence[str], by_average_precision: Sequence[tuple[str, CurvePoint]]) -> str:
    """Return the notes, followed by the rules that no budget keeps and by the mean average precisions of points."""
    if missed:
        notes = f"{notes}; no budget keeps the rule of {', '.join(missed)}: the best within its price was taken"
    if by_average_precision:
        found = ", ".join(f"{name} {point.score:.4f}" for name, point in by_average_precision)
        notes = f"{notes}; chosen by mean average precision: {found}"
    return notes


def _points(chosen: Sequence[tuple[str, CurvePoint]], gflops_full: float) -> tuple[Point, ...]:
    """Return named budgets as operating points.

    Raises:
        CalibrationError: a name occurs twice.
    """
    names = [name for name, _ in chosen]
    if len(set(names)) < len(names):
        raise CalibrationError(f"two operating points have the same name: {', '.join(names)}")
    return tuple(
        Point(
            name=name,
            thresholds=point.thresholds,
            expected_gflops=point.flops_share * gflops_full,
            expected_accuracy=point.accuracy,
            exit_shares=point.exit_shares,
        )
        for name, point in chosen
    )


def _not_below(curve: Sequence[CurvePoint], tested: Mapping[str, CurvePoint]) -> list[CurvePoint]:
    """Return the budgets that cost no less than any tested row; never empty, because never leaving is among them.

    Where a looser promise was kept and a stricter one could not be tested, the stricter point must not be the cheaper.
    """
    floor = max((point.flops_share for point in tested.values()), default=0.0)
    return [point for point in curve if point.flops_share >= floor]
