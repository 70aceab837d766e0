"""Certifies operating points of the method on ``sky`` from answers to clips of sessions that were not learned from.

    python -m benchmarks.evidence.sky_certify DATA MAPS RUNS [--write]

The logits of all folds are put together, so every clip is judged by networks that did not see its session. Half of
the sessions fit the thresholds and the rest tests them. What passes is a promise about networks trained like these, on
videos like these; it is not one about the shipped weights, which have seen every session.
"""

from __future__ import annotations

from pathlib import Path

from adafocus.bundle.guarantee import Risk
from adafocus.training.evaluate.certified_points import Clips, Promises, calibrate_certified
from benchmarks.evidence.sky_claim import gflops_per_step, read_arm
from benchmarks.evidence.sky_study import Study, study_options
from benchmarks.machine import write_results

RISKS: tuple[Risk, ...] = ("answer_changed", "right_answer_lost")


def certified_rows(study: Study, runs: Path) -> list[dict[str, object]]:
    """Return a row for each risk and operating point."""
    arm = read_arm(study, runs, "method")
    if arm is None:
        raise SystemExit(f"{runs} holds no run of the method; run python -m benchmarks.evidence.sky_folds first")
    own = arm.judged
    logits, truth = arm.steps[min(arm.steps)][own], study.labels[own]
    units = [unit for unit, judged in zip(study.units, own, strict=True) if judged]
    cost = gflops_per_step(study)["method"]
    rows: list[dict[str, object]] = []
    for risk in RISKS:
        found = calibrate_certified(Clips(logits, units), truth, cost, promises=Promises(risk=risk))
        for line in found.warnings:
            print(line)
        for point in found.calibration.points:
            promise = point.guarantee
            rows.append({
                "risk": risk, "point": point.name, "gflops": round(point.expected_gflops, 4),
                "share_of_full": round(point.expected_gflops / (cost * logits.shape[1]), 4),
                "accuracy": round(point.expected_accuracy, 4),
                "epsilon": promise.epsilon if promise else "", "confidence": promise.confidence if promise else "",
                "tested": promise.clips if promise else "", "failures": promise.failures if promise else "",
            })  # fmt: skip
    return rows


def main() -> None:
    """Print the rows, and write them with ``--write``."""
    given = study_options(__doc__, "data", "maps", "runs").parse_args()
    rows = certified_rows(Study.open(given.data, given.maps), given.runs)
    for row in rows:
        print(*row.values(), sep="  ")
    if given.write:
        print(write_results("evidence-sky-certified", "five-folds", rows))


if __name__ == "__main__":
    main()
