"""Draws accuracy against compute, and against time with decoding, for the arms of the study of ``sky``.

python -m benchmarks.evidence.sky_picture
"""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from benchmarks.machine import newest_results

PICTURE = Path(__file__).resolve().parents[2] / "docs" / "pictures" / "evidence-sky.png"
ARMS = {
    "recipe": ("the method as the recipe trains it", "#b45309"),
    "method": ("the method, trained as the arms", "#f59e0b"),
    "box": ("patch on the true box", "#15803d"),
    "glance256": ("no patch, whole frame at 256", "#1d4ed8"),
    "tsm256": ("the same with temporal shift", "#0891b2"),
    "glance128": ("no patch, whole frame at 128", "#7c3aed"),
    "middle": ("patch in the middle", "#64748b"),
    "full512": ("no glance, full frame at 512", "#b91c1c"),
}
"""In the order of the legend: words and colour."""

Rows = list[dict[str, str]]


def draw(axes: Axes, rows: Rows, costs: dict[str, tuple[float, float]]) -> None:
    """Draw every arm: solid with exits, dotted with a fixed number of frames.

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
                axes.plot(across, up, style, color=colour, label=words if kind == "exit" else None, linewidth=1.8)
        last = [row for row in rows if row["arm"] == arm and row["kind"] == "steps"]
        if last:
            axes.plot(fixed + each * float(last[-1]["gflops"]), float(last[-1]["accuracy"]), "o", color=colour)
    axes.grid(alpha=0.3)
    axes.set_ylim(0, 1)


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
    left.set_xlim(left=0)
    right.set_xlim(left=0)
    lines, words = right.get_legend_handles_labels()
    title = "solid: with exits; dotted: fixed frames"
    figure.legend(lines, words, loc="lower center", ncols=3, fontsize=8, title=title, title_fontsize=8)
    figure.tight_layout(rect=(0, 0.17, 1, 1))
    figure.savefig(PICTURE)


if __name__ == "__main__":
    main()
