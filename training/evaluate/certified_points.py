"""Operating points with a guarantee where the clips allow one, and without where they do not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from adafocus.bundle.exit_rule import ExitCriterion, ExitRule
from adafocus.bundle.guarantee import Guarantee, Risk
from adafocus.training.errors import CalibrationError
from adafocus.training.evaluate.calibrate import calibrate, fit_temperature
from adafocus.training.evaluate.certify import (
    CertifiedRow,
    Exits,
    best_ladder,
    certify,
    clips_needed,
    smallest_epsilon,
    split_units,
)
from adafocus.training.evaluate.exit_layout import ExitLayout
from adafocus.training.evaluate.metrics import Indices, Logits, Truth
from adafocus.training.evaluate.multi_label import MissedLabels, fit_labels
from adafocus.training.evaluate.operating_points import Calibration, Point

EPSILONS: Mapping[str, float] = {"accurate": 0.01, "balanced": 0.05, "fast": 0.10}
"""What the standard points promise: the share of videos that may fail."""

FEWEST_FOR_STEPS = 50
"""With fewer clips to fit on, all steps share one temperature."""


@dataclass(frozen=True)
class Promises:
    """The options of a certification.

    Attributes:
        asked: epsilons, each of a point of its own; the first becomes the default.
        confidence: of every promise.
        risk: what a failure is.
    """

    asked: tuple[float, ...] = ()
    confidence: float = 0.95
    risk: Risk = "answer_changed"

    def epsilons(self) -> dict[str, float]:
        """Epsilon by the name of its point."""
        return {**EPSILONS, **{point_name(epsilon): epsilon for epsilon in self.asked}}


@dataclass(frozen=True)
class Clips:
    """Clips with the model's logits, with or without labels.

    Attributes:
        logits: float32 [N, T, C].
        units: names of clips that belong together (see `certify.split_units`), one per clip.
    """

    logits: Logits
    units: Sequence[str]


@dataclass(frozen=True)
class CertifiedCalibration:
    """A calibration, and in words what could not be certified although it was asked for."""

    calibration: Calibration
    warnings: tuple[str, ...] = field(default=())


def point_name(epsilon: float) -> str:
    """Name of the operating point of an epsilon: ``certified-2`` for 0.02."""
    return f"certified-{100 * epsilon:g}"


def calibrate_certified(
    labelled: Clips,
    truth: Truth,
    gflops_per_step: float,
    criterion: ExitCriterion = "max_softmax",
    promises: Promises = Promises(),
    unlabelled: Clips | None = None,
    notes: str = "",
    budgets: Sequence[float] = (),
    layout: ExitLayout | None = None,
    missed: MissedLabels | None = None,
) -> CertifiedCalibration:
    """Temperatures and operating points; those that pass the test carry a guarantee.

    Without ``unlabelled``, a part of the labelled clips fits and the rest tests. With it, all labelled clips fit and
    the unlabelled ones test, so the guarantee is about videos like those. ``accurate``, ``balanced`` and ``fast`` are
    the cheapest certified rows for `EPSILONS`; where the clips are too few for one of them, it follows its rule of
    `calibrate`, on all labelled clips, and promises nothing.

    Args:
        labelled: clips that the model has not learned from.
        truth: their labels: int64 [N], or bool [N, C] where a clip may have several.
        gflops_per_step: cost of one served step.
        criterion: what the service will compare with the thresholds.
        promises: what to certify.
        unlabelled: clips without labels, such as recorded production.
        notes: which clips these were; travels into the bundle.
        budgets: shares of full compute, as in `calibrate`; their points promise nothing.
        layout: of the exits, as in `calibrate`.
        missed: what to promise of missed labels; only with the criterion ``label_margin``, for several labels a clip.

    Raises:
        CalibrationError: nothing to solve from, or the risk needs labels that the tested clips lack.
    """
    if criterion == "label_margin":
        return _of_labels(labelled, truth, gflops_per_step, promises, unlabelled, notes, budgets, layout, missed)
    if labelled.logits.shape[1] == 1:
        found = calibrate(labelled.logits, truth, gflops_per_step, criterion, notes=notes, budgets=budgets)
        asked = "the model has one step, so it has only the point full and nothing to certify"
        return CertifiedCalibration(found, (asked,) if promises.asked else ())
    parts = _split(labelled, truth, unlabelled, promises)
    temperature = fit_temperature(labelled.logits[parts.fit], truth[parts.fit])
    temperatures = fit_temperatures(labelled.logits[parts.fit], truth[parts.fit], temperature)
    rule = ExitRule(criterion, temperatures)
    ask = _Ask(gflops_per_step, promises, notes, budgets, layout, temperature)
    return _with_rule(labelled, truth, rule, parts, unlabelled, ask)


@dataclass(frozen=True)
class _Ask:
    """What `calibrate_certified` was asked, where it does not depend on the clips."""

    gflops_per_step: float
    promises: Promises
    notes: str
    budgets: Sequence[float]
    layout: ExitLayout | None
    temperature: float


def _with_rule(
    labelled: Clips, truth: Truth, rule: ExitRule, parts: _Parts, unlabelled: Clips | None, ask: _Ask
) -> CertifiedCalibration:
    """Certify and solve the points of an exit rule that has been fitted."""
    promises, layout = ask.promises, ask.layout
    rows = _certify(Exits.of(labelled.logits[parts.fit], rule, truth[parts.fit]), parts, rule, promises, layout)
    calibration = calibrate(
        labelled.logits,
        truth,
        ask.gflops_per_step,
        rule.criterion,
        notes=f"{ask.notes}; {_described(rows, parts.available, promises, unlabelled is not None)}",
        budgets=ask.budgets,
        temperature=ask.temperature,
        temperatures=rule.temperatures,
        certified={name: row.thresholds for name, row in rows.items()},
        layout=layout,
    )
    calibration = _with_guarantees(calibration, {name: row.guarantee for name, row in rows.items()}, promises)
    if unlabelled is not None:
        calibration = _costs_from(calibration, unlabelled.logits, ask.gflops_per_step, layout)
    return CertifiedCalibration(calibration, tuple(_warnings(rows, parts.available, promises)))


def _of_labels(
    labelled: Clips,
    truth: Truth,
    gflops_per_step: float,
    promises: Promises,
    unlabelled: Clips | None,
    notes: str,
    budgets: Sequence[float],
    layout: ExitLayout | None,
    missed: MissedLabels | None,
) -> CertifiedCalibration:
    """Fit the labels on the clips that fit, then solve the exits on their decision logits."""
    fit = _split(labelled, truth, unlabelled, promises).fit
    labels = fit_labels(labelled.logits[fit], truth[fit], missed)
    decided = replace(labelled, logits=labels.decisions(labelled.logits))
    others = None if unlabelled is None else replace(unlabelled, logits=labels.decisions(unlabelled.logits))
    rule = ExitRule("label_margin", (1.0,) * labelled.logits.shape[1])
    how = "by F1" if missed is None else f"to miss at most {100 * missed.epsilon:g} % of each label"
    ask = _Ask(gflops_per_step, promises, f"{notes}; labels {how} on {len(fit)} clips", budgets, layout, 1.0)
    found = _with_rule(decided, truth, rule, _split(decided, truth, others, promises), others, ask)
    heat = labels.temperatures
    calibration = replace(
        found.calibration, temperature=heat[-1], temperatures=heat, label_thresholds=labels.thresholds
    )
    few = [f"too few clips have label {label} to promise how often it is missed" for label in labels.uncertified]
    return CertifiedCalibration(calibration, (*found.warnings, *few))


def fit_temperatures(logits: Logits, labels: Truth, shared: float) -> tuple[float, ...]:
    """A temperature of each step, by likelihood; the shared one at every step where the clips are few."""
    steps = int(logits.shape[1])
    if len(logits) < FEWEST_FOR_STEPS:
        return (shared,) * steps
    return tuple(float(fit_temperature(logits[:, [step]], labels)) for step in range(steps))


@dataclass(frozen=True)
class _Parts:
    """Return the labelled clips that fit, the clips that test with their labels, and the number that could test."""

    fit: Indices
    test: Logits
    truth: Truth | None
    available: int


def _split(labelled: Clips, truth: Truth, unlabelled: Clips | None, promises: Promises) -> _Parts:
    everything = np.arange(len(labelled.logits))
    if unlabelled is not None:
        if promises.risk != "answer_changed":
            raise CalibrationError(f"the risk {promises.risk} needs labels, so unlabelled clips cannot test it")
        fitted = set(labelled.units)
        new = [index for index, unit in enumerate(unlabelled.units) if unit not in fitted]
        places = split_units([unlabelled.units[index] for index in new], share=0.0)[1]
        tested = np.array(new, dtype=np.int64)[places]
        return _Parts(everything, unlabelled.logits[tested], None, len(tested))
    fits, tested = split_units(labelled.units)
    needed = clips_needed(max(promises.epsilons().values()), promises.confidence)
    if len(tested) < needed or not fits.any():  # nothing can be certified, so all clips may fit
        return _Parts(everything, labelled.logits[:0], None, len(tested))
    return _Parts(np.flatnonzero(fits), labelled.logits[tested], truth[tested], len(tested))


def _certify(
    fit: Exits, parts: _Parts, rule: ExitRule, promises: Promises, layout: ExitLayout | None
) -> dict[str, CertifiedRow]:
    if not len(parts.test):
        return {}
    epsilons = promises.epsilons()
    test = Exits.of(parts.test, rule, parts.truth)
    ladder = best_ladder(fit, promises.risk, tuple(epsilons.values()), layout)
    rows = {
        name: certify(ladder, test, promises.risk, epsilon, promises.confidence) for name, epsilon in epsilons.items()
    }
    return {name: row for name, row in rows.items() if row is not None}


def _with_guarantees(calibration: Calibration, guarantees: Mapping[str, Guarantee], promises: Promises) -> Calibration:
    points = tuple(replace(point, guarantee=guarantees.get(point.name)) for point in calibration.points)
    default = calibration.default
    if promises.asked:  # where a guarantee was asked for, the default point must have one
        asked = point_name(promises.asked[0])
        default = asked if asked in guarantees else "full"
    return replace(calibration, points=points, default=default)


def _costs_from(
    calibration: Calibration, logits: Logits, gflops_per_step: float, layout: ExitLayout | None
) -> Calibration:
    """The same points with cost and exit shares as on these clips."""
    exits, total = Exits.of(logits, calibration.exit_rule), logits.shape[1]
    costs = (layout or ExitLayout.of_steps(total)).costs * total * gflops_per_step

    def measured(point: Point) -> Point:
        steps = exits.steps(point.thresholds)
        shares = np.bincount(steps, minlength=total) / len(steps)
        gflops = float(costs[steps].mean())
        return replace(point, expected_gflops=gflops, exit_shares=tuple(float(share) for share in shares))

    return replace(calibration, points=tuple(measured(point) for point in calibration.points))


def _described(rows: Mapping[str, CertifiedRow], clips: int, promises: Promises, unlabelled: bool) -> str:
    if not rows:
        return "nothing is certified"
    of = "unlabelled" if unlabelled else "independent"
    return f"{', '.join(rows)} certified at {promises.confidence:.0%} on {clips} {of} clips"


def _warnings(rows: Mapping[str, CertifiedRow], clips: int, promises: Promises) -> list[str]:
    found = []
    for epsilon in promises.asked:
        row = rows.get(point_name(epsilon))
        if row is None:
            found.append(
                f"nothing is promised at {epsilon:.3g}: it takes {clips_needed(epsilon, promises.confidence)} "
                f"independent clips to test on and there are {clips}, which can certify "
                f"{smallest_epsilon(clips, promises.confidence):.3g} at best; the default point is full"
            )
        elif all(value is None for value in row.thresholds):
            found.append(
                f"no early exit was certified at {epsilon:.3g} on {clips} clips, so {point_name(epsilon)} has none"
            )
    return found
