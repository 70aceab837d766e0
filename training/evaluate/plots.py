"""Plots of an evaluation: accuracy against compute, accuracy and exits per step, and the confusion matrix."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from adafocus.training.evaluate.report import EvaluationReport

MOST_NAMES = 40
"""With more classes than this, the axes of the confusion matrix have no names."""


def save_plots(report: EvaluationReport, folder: Path) -> tuple[Path, ...]:
    """Write ``curve.png``, ``steps.png`` and ``confusion.png`` into a folder, which is made if it does not exist."""
    folder.mkdir(parents=True, exist_ok=True)
    figures = {"curve": curve(report), "steps": steps(report), "confusion": confusion(report)}
    paths = []
    for name, figure in figures.items():
        paths.append(folder / f"{name}.png")
        figure.savefig(paths[-1])  # a figure made without pyplot is drawn by Agg, and needs no display
    return tuple(paths)


def curve(report: EvaluationReport) -> Figure:
    """Plot accuracy, or mean average precision, against mean GFLOPs per video."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    gflops = [point.flops_share * report.gflops_full for point in report.curve]
    score = list(report.curve_map) or [point.accuracy for point in report.curve]
    axes.plot(gflops, score, marker=".", label="thresholds solved on these clips")
    if report.points and not report.curve_map:
        for (x, y), names in _together(report).items():
            axes.annotate(", ".join(names), (x, y), xytext=(4, -10), textcoords="offset points")
        axes.scatter(
            [point.gflops for point in report.points],
            [point.accuracy for point in report.points],
            color="tab:red",
            zorder=3,
            label="operating points, solved elsewhere",
        )
    axes.set_xlabel("mean GFLOPs per video (multiply-adds)")
    axes.set_ylabel("mean average precision" if report.curve_map else "accuracy")
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def _together(report: EvaluationReport) -> dict[tuple[float, float], list[str]]:
    """Return the names of the operating points at each place of the curve; on few clips several may coincide."""
    places: dict[tuple[float, float], list[str]] = {}
    for point in report.points:
        places.setdefault((point.gflops, point.accuracy), []).append(point.name)
    return places


def steps(report: EvaluationReport) -> Figure:
    """Plot the accuracy after each step, and the steps at which clips leave at each operating point."""
    figure = Figure(figsize=(6, 5), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    numbers = np.arange(1, len(report.step_accuracy) + 1)
    above.plot(numbers, report.step_accuracy, marker="o")
    above.set_ylabel("accuracy after the step")
    above.grid(alpha=0.3)
    width = 0.8 / max(1, len(report.points))
    for place, point in enumerate(report.points):
        below.bar(numbers - 0.4 + width * (place + 0.5), point.exit_shares, width, label=point.name)
    below.set_xlabel("step")
    below.set_ylabel("share of clips leaving")
    if report.points:
        below.legend()
    return figure


def confusion(report: EvaluationReport) -> Figure:
    """Plot true classes as rows and answers as columns; the colour is the share of the row."""
    table = np.array(report.confusion, dtype=np.float64)
    side = min(12.0, 3 + 0.35 * len(table))
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.add_subplot()
    shares = table / np.maximum(1, table.sum(axis=1, keepdims=True))
    figure.colorbar(axes.imshow(shares, cmap="Blues", vmin=0, vmax=1), label="share of the true class")
    axes.set_xlabel("answer")
    axes.set_ylabel("true class")
    if len(table) <= MOST_NAMES:
        axes.set_xticks(range(len(table)), report.labels, rotation=90)
        axes.set_yticks(range(len(table)), report.labels)
        for row, column in np.argwhere(table > 0):
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, f"{table[row, column]:.0f}", ha="center", va="center", color=colour)
    return figure
