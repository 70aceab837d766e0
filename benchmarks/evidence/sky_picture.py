"""Draws accuracy against GFLOPs per video for the recipe ``sky``, from the newest measurement.

python -m benchmarks.evidence.sky_picture
"""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt

from benchmarks.machine import newest_results

PICTURE = Path(__file__).resolve().parents[2] / "docs" / "pictures" / "evidence-sky.png"
LINES = {"exit": ("stopping when confident", "#d97706", "o-"), "steps": ("a fixed number of steps", "#334155", "s--")}
FULL = {"middle": "patch in the middle, all steps", "box": "patch on the true box, all steps"}


def main() -> None:
    """Draw and save."""
    mpl.use("Agg")
    rows = newest_results("evidence-sky-curve")
    figure, axes = plt.subplots(figsize=(7.2, 4.2), dpi=120)
    for kind, (words, colour, style) in LINES.items():
        own = [row for row in rows if row["kind"] == kind]
        costs, accuracies = ([float(row[name]) for row in own] for name in ("gflops", "accuracy"))
        axes.plot(costs, accuracies, style, color=colour, markersize=4, label=words)
    for arm, words in FULL.items():
        (row,) = (row for row in rows if row["kind"] == arm)
        axes.plot(float(row["gflops"]), float(row["accuracy"]), "^" if arm == "box" else "v", label=words)
    axes.set(xlabel="GFLOPs per video", ylabel="accuracy on 127 clips of unseen backgrounds", ylim=(0, 1))
    axes.grid(alpha=0.3)
    axes.legend(loc="center right")
    figure.tight_layout()
    figure.savefig(PICTURE)


if __name__ == "__main__":
    main()
