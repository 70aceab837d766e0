"""Writes CSV files from the results of `benchmarks.evidence.study`.

    python -m benchmarks.evidence.results runs/evidence/tank_state runs/evidence/hatching

``evidence`` has a row for each training, ``evidence-curve`` one for each point of the accuracy-compute curves,
``evidence-calibration`` one for each way to solve thresholds. `benchmarks.evidence.report` makes tables of them. A
study can be repeated in part: rows of trainings that are missing in its folder are copied from the newest CSV.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from adafocus.bundle.exit_rule import confidence
from adafocus.training.evaluate.calibrate import calibrate, fit_temperature
from adafocus.training.evaluate.exit_curve import exit_quota, measure, solve_thresholds
from adafocus.training.evaluate.metrics import accuracy, answers, calibration_error, exit_steps, macro_f1
from adafocus.training.evaluate.operating_points import Calibration
from benchmarks.machine import Row, with_earlier, write_results

MEGA, GIGA = 1e6, 1e9
SWEEP = tuple(round(0.05 * step, 2) for step in range(1, 79))
"""Ratios of exit shares from step to step."""

Judged = dict[str, npt.NDArray[np.float32]]


def main() -> None:
    """Write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path, help="one per data set, named after it")
    folders = parser.parse_args().folders
    runs = [(folder.name, path) for folder in folders for path in sorted(folder.glob("*/judged.npz"))]
    learned = [(data, path) for data, path in runs if path.parent.name.startswith("learned-")]
    sets = {folder.name for folder in folders}
    write("evidence", sets, [training_row(*run) for run in runs])
    write("evidence-curve", sets, [row for run in learned for row in curve_rows(*run)])
    write("evidence-calibration", sets, [row for run in learned for row in calibration_rows(*run)])


def write(benchmark: str, sets: Collection[str], rows: list[Row]) -> None:
    """Write a CSV, with the rows of the earlier one for other trainings on these sets."""
    merged = with_earlier(benchmark, rows, ("data", "arm", "seed"))
    print(write_results(benchmark, "studies", [row for row in merged if row["data"] in sets]))


def training_row(data: str, path: Path) -> Row:
    """The results of one training on unseen clips."""
    arm, seed = path.parent.name.rsplit("-", 1)
    judged, told = _read(path), json.loads((path.parent / "told.json").read_text(encoding="utf-8"))
    logits, labels = judged["val_logits"], judged["val_labels"].astype(np.int64)
    predicted = logits.argmax(axis=2)
    right = [accuracy(step, labels) for step in predicted.T]
    points = _calibration(judged, told)
    row: dict[str, object] = {
        "data": data,
        "arm": arm,
        "seed": seed,
        "clips": len(labels),
        "steps": told["steps"],
        "mflops_per_video": round(told["flops_per_step"] * told["steps"] / MEGA, 3),
        "epochs": told["epochs"],
        "cpu_s": round(told["cpu_s"], 1),
        "accuracy": round(right[-1], 4),
        "macro_f1": round(macro_f1(predicted[:, -1], labels, logits.shape[2]), 4),
        "accuracy_first_step": round(right[0], 4),
        "accuracy_mean_step": round(float(np.mean(right)), 4),
        "patch_spread": round(float(judged["val_centres"].reshape(-1, 2).std(axis=0).mean()), 4),
    }
    for point in points.points:
        found = measure(logits, labels, point.thresholds, points.criterion, points.temperature, ratio=0.0)
        row[f"{point.name}_accuracy"] = round(found.accuracy, 4)
        row[f"{point.name}_share"] = round(found.flops_share, 4)
    return row


def curve_rows(data: str, path: Path) -> Iterator[Row]:
    """Accuracy against the share of full compute: exit by confidence, after a fixed number of frames, at random."""
    judged, seed = _read(path), path.parent.name.rsplit("-", 1)[1]
    aside, logits, labels = judged["aside_logits"], judged["val_logits"], judged["val_labels"].astype(np.int64)
    steps = logits.shape[1]
    temperature = fit_temperature(aside, judged["aside_labels"].astype(np.int64))
    right = np.array([accuracy(step, labels) for step in logits.argmax(axis=2).T])
    for step in range(steps):
        yield _curve_row(data, seed, "fixed", (step + 1) / steps, right[step])
    sure = confidence(aside, "max_softmax", temperature)
    for ratio in SWEEP:
        thresholds = solve_thresholds(sure, exit_quota(ratio, steps))
        found = measure(logits, labels, thresholds, "max_softmax", temperature, ratio)
        yield _curve_row(data, seed, "confidence", found.flops_share, found.accuracy)
        yield _curve_row(data, seed, "chance", found.flops_share, float(np.dot(found.exit_shares, right)))


def _curve_row(data: str, seed: str, kind: str, share: float, found: float) -> Row:
    return {"data": data, "seed": seed, "exit": kind, "share_of_full": round(share, 4), "accuracy": round(found, 4)}


def calibration_rows(data: str, path: Path) -> Iterator[Row]:
    """The point ``balanced`` solved in three ways: its expected values, and its values on unseen clips."""
    judged, told = _read(path), json.loads((path.parent / "told.json").read_text(encoding="utf-8"))
    seed = path.parent.name.rsplit("-", 1)[1]
    logits, labels = judged["val_logits"], judged["val_labels"].astype(np.int64)
    fitted = _calibration(judged, told)
    for way, temperature in (("as learned", 1.0), ("temperature fitted", fitted.temperature)):
        points = _calibration(judged, told, temperature)
        point = next(one for one in points.points if one.name == "balanced")
        found = measure(logits, labels, point.thresholds, points.criterion, temperature, ratio=0.0)
        steps = exit_steps(logits, point.thresholds, points.criterion, temperature)
        given = answers(logits, steps)
        yield {
            "data": data,
            "seed": seed,
            "thresholds": way,
            "temperature": round(temperature, 3),
            "first_threshold": _shown(point.thresholds[0]),
            "second_threshold": _shown(point.thresholds[1]),
            "calibration_error": round(calibration_error(logits, labels, temperature), 4),
            "promised_share": round(point.expected_gflops / (told["flops_per_step"] * told["steps"] / GIGA), 4),
            "promised_accuracy": round(point.expected_accuracy, 4),
            "share": round(found.flops_share, 4),
            "accuracy": round(float((given == labels).mean()), 4),
            "macro_f1": round(macro_f1(given, labels, logits.shape[2]), 4),
        }


def _shown(threshold: float | None) -> object:
    return "" if threshold is None else round(threshold, 4)


def _calibration(judged: Judged, told: dict[str, float], temperature: float | None = None) -> Calibration:
    """Points solved on the held-out clips, at a given temperature instead of the fitted one."""
    labels = judged["aside_labels"].astype(np.int64)
    return calibrate(judged["aside_logits"], labels, told["flops_per_step"] / GIGA, temperature=temperature)


def _read(path: Path) -> Judged:
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


if __name__ == "__main__":
    main()
