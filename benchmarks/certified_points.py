"""Compares the cost and the kept promises of certified points with points chosen by rules, on simulated clips.

Each calibration draws clips from a population of known logits; its points are then measured on other clips of the same
population. A point breaks its promise if more of those change their answer than its epsilon. The points chosen by rules
promise nothing; for them the share of changed answers stands alone.

Run ``python -m benchmarks.certified_points [--calibrations 20] [--only POPULATION]``.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from adafocus.bundle.exit_rule import ExitCriterion, ExitRule
from adafocus.training.evaluate.calibrate import calibrate
from adafocus.training.evaluate.certified_points import EPSILONS, Clips, Promises, calibrate_certified
from adafocus.training.evaluate.certify import Exits
from adafocus.training.evaluate.exit_layout import ExitLayout, interleaved
from adafocus.training.evaluate.metrics import Logits, Truth
from adafocus.training.evaluate.multi_label import LabelRule, fit_labels
from adafocus.training.evaluate.operating_points import Calibration
from benchmarks.machine import Row, newest_results, write_results
from tests.training.evaluate.populations import POPULATIONS, Population

SIZES = (64, 320, 2000)
UNSEEN = 10_000
GLANCE_SHARE = 0.2
"""Share of a step's cost that a glance takes, as in the published models with MobileNetV2."""

RARELY_MISLED = Population(hard=0.25, misled=0.001, noise=0.4)
"""One video in a thousand looks like another class until late; a rule of no changed answer then needs full compute."""


@dataclass(frozen=True)
class Simulated:
    """A source of clips.

    Attributes:
        draw: returns logits of all exits, float32 [N, K, C], and labels, of so many clips.
        criterion: of the exit.
        layout: of the exits, where they are not one after each step.
    """

    draw: Callable[[int, np.random.Generator], tuple[Logits, Truth]]
    criterion: ExitCriterion = "max_softmax"
    layout: ExitLayout | None = None


def several_labels(clips: int, random: np.random.Generator) -> tuple[Logits, Truth]:
    """Clips with up to six labels; three in ten show them only later, and one in a hundred shows a wrong one before."""
    steps, shares = 8, np.linspace(0.1, 0.4, 6)
    truth = random.random((clips, len(shares))) < shares
    ready = np.where(random.random(clips) < 0.3, random.integers(1, steps, clips), 0)
    seen = np.arange(steps)[None, :] >= ready[:, None]
    signal = np.where(truth[:, None], 5.0, -5.0) * np.where(seen, 1.0, 0.15)[:, :, None]
    misled = random.random(clips) < 0.01
    until, wrong = random.integers(steps // 2, steps, clips), random.integers(0, len(shares), clips)
    for clip in np.flatnonzero(misled):
        signal[clip, : until[clip], wrong[clip]] *= -1.0
    noise = random.normal(0, 0.9, (clips, 1, len(shares))) + random.normal(0, 0.3, signal.shape)
    return (signal + noise).astype(np.float32), truth


def with_glances(clips: int, random: np.random.Generator) -> tuple[Logits, Truth]:
    """The population *easy*, with glances that see two thirds of what the focus sees, more noisily."""
    logits, labels = POPULATIONS["easy"].draw(clips, random)
    glances = 0.66 * logits + random.normal(0, 1.0, logits.shape)
    return interleaved(glances.astype(np.float32), logits), labels


def calibrate_both_ways(
    clips: Clips,
    truth: Truth,
    criterion: ExitCriterion | None = None,
    layout: ExitLayout | None = None,
    promises: Promises | None = None,
) -> dict[str, Calibration]:
    """Points by rule and certified points from the same clips.

    Args:
        clips: with their logits of all exits.
        truth: their labels.
        criterion: of the exit; None takes the usual one for one label, or for several.
        layout: of the exits, where they are not one after each step.
        promises: what to certify; None is the standard points.
    """
    several = truth.ndim == 2
    criterion = criterion or ("label_margin" if several else "max_softmax")
    logits, per_exit = clips.logits, 1.0 / clips.logits.shape[1]
    certified = calibrate_certified(clips, truth, per_exit, criterion, promises or Promises(), layout=layout)
    rule = None
    if criterion == "label_margin":
        rule = fit_labels(logits, truth)
        logits = rule.decisions(logits)
    by_rule = calibrate(logits, truth, per_exit, criterion, temperature=1.0 if rule else None, layout=layout)
    if rule is not None:
        by_rule = replace(by_rule, temperatures=rule.temperatures, label_thresholds=rule.thresholds)
    return {"rules": by_rule, "certified": certified.calibration}


class Judged(NamedTuple):
    """A point on unseen clips: its share of full compute, and the share of clips that get another answer."""

    cost: float
    changed: float


def judged(calibration: Calibration, logits: Logits, layout: ExitLayout | None = None) -> dict[str, Judged]:
    """Judge every point, by name, on the logits of unseen clips."""
    rule = calibration.exit_rule
    if rule.label_thresholds:
        logits = LabelRule(rule.temperatures, rule.label_thresholds).decisions(logits)
        rule = ExitRule(rule.criterion, (1.0,) * logits.shape[1])
    exits = Exits.of(logits, rule)
    costs = (layout or ExitLayout.of_steps(logits.shape[1])).costs
    failures, rows = exits.failures("answer_changed"), np.arange(len(exits.answers))
    found = {}
    for point in calibration.points:
        steps = exits.steps(point.thresholds)
        found[point.name] = Judged(float(costs[steps].mean()), float(failures[rows, steps].mean()))
    return found


def measure(name: str, source: Simulated, clips: int, calibrations: int) -> Iterator[dict[str, object]]:
    """Rows of the table: one per way of choosing and point."""
    logits, _ = source.draw(UNSEEN, np.random.default_rng(10_000))
    found: dict[tuple[str, str], list[tuple[float, float, bool]]] = {}
    for seed in range(calibrations):
        drawn, labels = source.draw(clips, np.random.default_rng(seed))
        own = Clips(drawn, [str(index) for index in range(clips)])
        for way, calibration in calibrate_both_ways(own, labels, source.criterion, source.layout).items():
            promised = {point.name for point in calibration.points if point.guarantee}
            for point, (cost, risk) in judged(calibration, logits, source.layout).items():
                found.setdefault((way, point), []).append((cost, risk, point in promised))
    for (way, point), results in found.items():
        if point == "full":
            continue
        epsilon = EPSILONS[point]
        broken = [risk > epsilon for _, risk, promised in results if promised]
        yield {
            "population": name,
            "clips": clips,
            "way": way,
            "point": point,
            "epsilon": epsilon,
            "calibrations": calibrations,
            "certified": len(broken),
            "share_of_full_median": round(statistics.median(cost for cost, _, _ in results), 4),
            "changed_mean": round(statistics.mean(risk for _, risk, _ in results), 5),
            "above_epsilon": sum(risk > epsilon for _, risk, _ in results),
            "promises_broken": sum(broken),
        }


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calibrations", type=int, default=20)
    parser.add_argument("--only", action="append", help="measure this population; the other rows are kept")
    options = parser.parse_args()
    calibrations = options.calibrations
    sources = {name: Simulated(population.draw) for name, population in POPULATIONS.items()}
    sources["rarely_misled"] = Simulated(RARELY_MISLED.draw)
    sources["easy_with_glances"] = Simulated(with_glances, layout=ExitLayout.with_glances(8, GLANCE_SHARE))
    sources["several_labels"] = Simulated(several_labels, "label_margin")
    chosen = options.only or list(sources)
    kept: list[Row] = [row for row in newest_results("certified-points") if row["population"] not in chosen]
    measured = (row for name in chosen for clips in SIZES for row in measure(name, sources[name], clips, calibrations))
    rows = [*kept, *measured]
    print(write_results("certified-points", "simulated", rows))


if __name__ == "__main__":
    main()
