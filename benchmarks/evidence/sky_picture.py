"""Draws accuracy against compute, and against time with decoding, for the arms of the study of ``sky``.

python -m benchmarks.evidence.sky_picture
"""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter, ScalarFormatter

from benchmarks.machine import newest_results

PICTURE = Path(__file__).resolve().parents[2] / "docs" / "pictures" / "evidence-sky.png"
ARMS = {
    "recipe": ("the method as the recipe trains it", "#b45309"),
    "method": ("the method, trained as the arms", "#f59e0b"),
    "box": ("patch on the true box", "#15803d"),
    "glance256": ("no patch, whole frame at 256", "#1d4ed8"),
    "tsm256": ("whole frame at 256 with temporal shift", "#0891b2"),
    "glance128": ("no patch, whole frame at 128", "#7c3aed"),
    "middle": ("patch in the middle", "#64748b"),
    "full512": ("no glance, full frame at 512", "#b91c1c"),
}
"""In the order of the legend: words and colour."""

CONSTANT = 225 / 483
"""Share of the clips that show a drone, which the answer that is always the same has right."""

Rows = list[dict[str, str]]


def draw(axes: Axes, rows: Rows, costs: dict[str, tuple[float, float]]) -> None:
    """Draw every arm: solid with exits, dotted with a fixed number of frames, and a dot for all frames.

    Args:
        axes: to draw on.
        rows: of the curves.
        costs: by arm, what a video costs besides, and what a GFLOP costs.
    """
    for arm, (words, colour) in ARMS.items():
        fixed, each = costs.get(arm, (0.0, 1.0))
        for kind, style in (("exit", "-"), ("steps", ":")):
            own = [row for row in rows if row["arm"] == arm and row["kind"] == kind]
            points = sorted((fixed + each * float(row["gflops"]), float(row["accuracy"])) for row in own)
            if kind == "exit":
                points = best_so_far(points)
            if points:
                across, up = zip(*points, strict=True)
                axes.plot(across, up, style, color=colour, linewidth=1.8, marker="." if len(points) == 1 else None)
        last = [row for row in rows if row["arm"] == arm and row["kind"] == "steps"]
        if last:
            place = fixed + each * float(last[-1]["gflops"]), float(last[-1]["accuracy"])
            axes.plot(*place, "o", color=colour, label=words)
    axes.axhline(CONSTANT, color="black", linewidth=0.8, linestyle="--")
    axes.annotate(
        "always drone", (0.99, CONSTANT), xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize=8
    )
    axes.grid(alpha=0.3, which="both")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_ylim(0.2, 0.9)


def best_so_far(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the points that are better than every cheaper one."""
    kept: list[tuple[float, float]] = []
    for point in points:
        if not kept or point[1] > kept[-1][1]:
            kept.append(point)
    return kept


def main() -> None:
    """Draw and save."""
    mpl.use("Agg")
    rows, times = newest_results("evidence-sky-claim-curve"), newest_results("evidence-sky-times")
    full = {arm: max(float(row["gflops"]) for row in rows if row["arm"] == arm and row["kind"] == "steps")
            for arm in ARMS if any(row["arm"] == arm for row in rows)}  # fmt: skip
    spent = {row["arm"]: (float(row["decode_ms"]), float(row["network_ms"])) for row in times}
    spent |= {arm: spent["method"] for arm in full if arm not in spent}
    clock = {arm: (spent[arm][0], spent[arm][1] / full[arm]) for arm in full}
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 5.2), dpi=120, sharey=True)
    draw(left, rows, {})
    draw(right, rows, clock)
    left.set(xlabel="GFLOPs per video", ylabel="accuracy on sessions never trained on")
    right.set(xlabel="processor milliseconds per video, decoding included")
    left.set_xticks([0.1, 0.3, 1, 3, 10])
    right.set_xticks([100, 200, 500, 1000])
    lines, words = right.get_legend_handles_labels()
    title = "solid: with exits; dotted: a fixed number of frames; dot: all 8 frames"
    figure.legend(lines, words, loc="lower center", ncols=3, fontsize=8, title=title, title_fontsize=8)
    figure.tight_layout(rect=(0, 0.17, 1, 1))
    figure.savefig(PICTURE)


if __name__ == "__main__":
    main()
