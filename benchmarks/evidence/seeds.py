"""Evaluates the shipped recipe with several seeds, at every operating point, on a split not used for anything else.

python -m benchmarks.evidence.seeds DATA --calibration runs/calibration.json runs/final0/last.pt runs/final1/last.pt …
"""

from __future__ import annotations

import argparse
from pathlib import Path

from adafocus.training.data.manifests import list_clips
from adafocus.training.evaluate.inference import load_trained, predict_unseen
from adafocus.training.evaluate.operating_points import load_calibration
from adafocus.training.evaluate.report import evaluate
from benchmarks.machine import write_results


def main() -> None:
    """Evaluate each checkpoint and write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("checkpoints", type=Path, nargs="+")
    parser.add_argument("--calibration", type=Path, required=True)
    parser.add_argument("--split", default="val")
    options = parser.parse_args()
    data, calibration = list_clips(options.data, options.split), load_calibration(options.calibration)
    rows = []
    for checkpoint in options.checkpoints:
        trained = load_trained(checkpoint)
        predictions = predict_unseen(trained, data)
        report = evaluate(predictions.logits, predictions.labels, data.labels, trained.gflops_per_step, calibration)
        rows += [
            {
                "data": data.source.get("name", "clips"),
                "seed": trained.recipe.seed,
                "point": point.name,
                "clips": report.clips,
                "right": round(point.accuracy * report.clips),
                "accuracy": round(point.accuracy, 4),
                "macro_f1": round(point.macro_f1, 4),
                "share_of_full": round(point.flops_share, 4),
                "calibration_error": round(report.calibration_error, 4),
            }
            for point in report.points
        ]
    print(write_results("evidence-seeds", "studies", rows))


if __name__ == "__main__":
    main()
