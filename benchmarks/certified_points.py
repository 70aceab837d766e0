"""What certified operating points cost and keep, beside points chosen by rules of thumb, on made populations.

Each calibration draws clips from a population of known logits; its points are then judged on other clips of the same
population. A point breaks its promise if more of those change their answer than its epsilon. The points chosen by rules
promise nothing; for them the share of changed answers stands alone.

Run ``python -m benchmarks.certified_points [--calibrations 20]``.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator

import numpy as np

from adafocus.training.evaluate.calibrate import calibrate
from adafocus.training.evaluate.certified_points import EPSILONS, Clips, Promises, calibrate_certified
from adafocus.training.evaluate.certify import Exits
from adafocus.training.evaluate.operating_points import Calibration
from benchmarks.machine import write_results
from tests.training.evaluate.populations import POPULATIONS, Population

SIZES = (64, 320, 2000)
UNSEEN = 10_000
RARELY_MISLED = Population(hard=0.25, misled=0.001, noise=0.4)
"""One video in a thousand looks like another class until late; a rule of no changed answer then needs full compute."""


def judged(calibration: Calibration, exits: Exits) -> dict[str, tuple[float, float]]:
    """Share of full compute and share of changed answers by point, on unseen clips."""
    failures, rows = exits.failures("answer_changed"), np.arange(len(exits.answers))
    found = {}
    for point in calibration.points:
        steps = exits.steps(point.thresholds)
        found[point.name] = float((steps + 1).mean() / exits.answers.shape[1]), float(failures[rows, steps].mean())
    return found


def measure(name: str, population: Population, clips: int, calibrations: int) -> Iterator[dict[str, object]]:
    """Rows of the table: one per way of choosing and point."""
    logits, _ = population.draw(UNSEEN, np.random.default_rng(10_000))
    found: dict[tuple[str, str], list[tuple[float, float, bool]]] = {}
    for seed in range(calibrations):
        own, labels = population.draw(clips, np.random.default_rng(seed))
        units = [str(index) for index in range(clips)]
        ways = {
            "rules": calibrate(own, labels, 1.0),
            "certified": calibrate_certified(Clips(own, units), labels, 1.0, promises=Promises()).calibration,
        }
        for way, calibration in ways.items():
            promised = {point.name for point in calibration.points if point.guarantee}
            for point, (cost, risk) in judged(calibration, Exits.of(logits, calibration.exit_rule)).items():
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
    calibrations = parser.parse_args().calibrations
    populations = {**POPULATIONS, "rarely_misled": RARELY_MISLED}
    rows = [
        row
        for name, population in populations.items()
        for clips in SIZES
        for row in measure(name, population, clips, calibrations)
    ]
    print(write_results("certified-points", "simulated", rows))


if __name__ == "__main__":
    main()
