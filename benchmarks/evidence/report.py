"""Writes the tables and pictures of docs/evidence.md from the newest CSV of each kind.

python -m benchmarks.evidence.report
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure

from benchmarks.evidence import hatching
from benchmarks.evidence.arms import ONE_STAGE, STAGES
from benchmarks.evidence.cross_validation import NORMAL_95
from benchmarks.evidence.jitter_tables import frame_sets_table, jitter_table
from benchmarks.evidence.recipe_tables import (
    column,
    cross_validation_table,
    leave_one_out_table,
    places_table,
    shipped_table,
    spread,
    sweep_table,
)
from benchmarks.evidence.sky_tables import (
    certified_table,
    claim_table,
    classes_table,
    folds_table,
    pooling_table,
    rates_table,
    subsets_table,
)
from benchmarks.machine import newest_results

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = ROOT / "docs" / "evidence.md"
PICTURES = ROOT / "docs" / "pictures"

SETS = ("tank_state", "hatching")
LOOKS = ("learned", "centre", "random", "shrunk", "none", "full")
REMEDIES = ("learned", "no-supervision", "no-diversity", "no-stability", "staged")
WORDS = {
    "learned": "the policy's patch (the method)",
    "centre": "the frame's middle",
    "random": "a patch anywhere",
    "shrunk": "the whole frame, shrunk to the patch's size",
    "none": "no focus: the glance alone, on a larger frame",
    "full": "no glance: the focus network on the full frame, fewer frames",
    "no-supervision": "without auxiliary supervision",
    "no-diversity": "without random patches beside the policy's",
    "no-stability": "without stopping the policy's gradient",
    "staged": "in four stages instead of one",
}
SHARES = (0.3, 0.4, 0.5, 0.6, 0.8)
"""Of full compute: where the curves are read off for the table."""


def main() -> None:
    """Write the page's tables and its pictures."""
    text = PAGE.read_text(encoding="utf-8")
    for name, content in tables().items():
        pattern = re.compile(rf"(<!-- table:{name} -->\n).*?(<!-- /table:{name} -->)", re.DOTALL)
        text = pattern.sub(lambda found, content=content: f"{found[1]}{content}\n{found[2]}", text)
    PAGE.write_text(text, encoding="utf-8")
    draw_set().savefig(PICTURES / "evidence-hatching-set.png", dpi=96)
    for data in SETS:
        draw_curve(data).savefig(PICTURES / f"evidence-{data.replace('_', '-')}.png", dpi=110)


def tables() -> dict[str, str]:
    """Every table of the page, by its marker."""
    rows = newest_results("evidence")
    studies = dict.fromkeys(row["data"] for row in rows)
    return {
        **{f"looks:{data}": looks_table(rows, data) for data in studies},
        **{f"remedies:{data}": remedies_table(rows, data) for data in studies},
        **{f"curve:{data}": curve_table(data) for data in SETS},
        "stages": stages_table(rows),
        "calibration": calibration_table(),
        "seeds": seeds_table(rows),
        "shipped": shipped_table(),
        "cross_validation": cross_validation_table(),
        "sweep": sweep_table(),
        "leave_one_out": leave_one_out_table(),
        "places": places_table(),
        "sky_claim": claim_table(),
        "sky_subsets": subsets_table(),
        "sky_folds": folds_table(),
        "sky_classes": classes_table(),
        "sky_rates": rates_table(),
        "sky_pooling": pooling_table(),
        "sky_certified": certified_table(),
        "frame_sets": frame_sets_table(),
        "jitter": jitter_table(),
    }


def _of(rows: Sequence[dict[str, str]], data: str, arm: str) -> list[dict[str, str]]:
    return [row for row in rows if row["data"] == data and row["arm"] == arm]


def interval(rows: Sequence[dict[str, str]]) -> str:
    """The 95 % interval of the accuracy, by the drawing of seeds and by that of the clips that are judged.

    All seeds are judged on the same clips, so more seeds do not make the second part smaller.
    """
    values = [float(row["accuracy"]) for row in rows]
    mean, clips = float(np.mean(values)), int(rows[0]["clips"])
    of_seeds = np.var(values, ddof=1) / len(values) if len(values) > 1 else 0.0
    half = NORMAL_95 * float(np.sqrt(of_seeds + mean * (1.0 - mean) / clips))
    return f"{max(0.0, mean - half):.2f} to {min(1.0, mean + half):.2f}"


def looks_table(rows: Sequence[dict[str, str]], data: str) -> str:
    """(a) What the focus sees."""
    lines = [
        "| the focus sees | frames | MFLOPs a video | accuracy | 95 %, seeds and clips | macro-F1 "
        "| after the first frame | seeds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines.extend(
        f"| {WORDS[arm]} | {own[0]['steps']} | {float(own[0]['mflops_per_video']):.1f} "
        f"| {column(own, 'accuracy')} | {interval(own)} | {column(own, 'macro_f1')} "
        f"| {column(own, 'accuracy_first_step')} | {len(own)} |"
        for arm in LOOKS
        if (own := _of(rows, data, arm))
    )
    return "\n".join(lines)


def remedies_table(rows: Sequence[dict[str, str]], data: str) -> str:
    """(b) The effect of each remedy, and of one stage instead of several."""
    lines = [
        "| trained | accuracy | 95 %, seeds and clips | macro-F1 | mean over the steps | how far patches spread "
        "| processor s | seeds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for arm in REMEDIES:
        if own := _of(rows, data, arm):
            seconds = spread([float(row["cpu_s"]) for row in own], 0)
            lines.append(
                f"| {WORDS[arm] if arm != 'learned' else 'all at once, all three remedies (the method)'} "
                f"| {column(own, 'accuracy')} | {interval(own)} | {column(own, 'macro_f1')} "
                f"| {column(own, 'accuracy_mean_step')} "
                f"| {column(own, 'patch_spread')} | {seconds} | {len(own)} |"
            )
    return "\n".join(lines)


def seeds_table(rows: Sequence[dict[str, str]]) -> str:
    """The operating points of the method by seed."""
    lines = ["| data | seed | `full` | `accurate` | `balanced` | `fast` |", "|---|---|---|---|---|---|"]
    for row in rows:
        if row["arm"] == "learned":
            cells = [f"{float(row['accuracy']):.3f}"] + [
                f"{float(row[f'{point}_accuracy']):.3f} at {float(row[f'{point}_share']):.0%}"
                for point in ("accurate", "balanced", "fast")
            ]
            lines.append(f"| {row['data']} | {row['seed']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def stages_table(rows: Sequence[dict[str, str]]) -> str:
    """(b) Wall time: seconds of an epoch and number of epochs."""
    measured = {row["what"].removeprefix("epoch "): row for row in newest_results("training-time")}
    epochs = int(next(row["epochs"] for row in rows if row["data"] == "tank_state" and row["arm"] == "learned"))
    lines = ["| | seconds an epoch | epochs | seconds |", "|---|---|---|---|"]
    totals = {}
    for name, phases in (("one stage", ONE_STAGE), ("four stages", STAGES)):
        totals[name] = 0.0
        for phase in phases:
            own, seconds = round(epochs * phase.share), float(measured[phase.name]["train_s"])
            totals[name] += own * seconds
            lines.append(f"| {name}: {phase.name} | {seconds:.2f} | {own} | {own * seconds:.0f} |")
    share = totals["one stage"] / totals["four stages"]
    lines.append(f"| one stage takes {share:.0%} of the four | | | {' : '.join(f'{t:.0f}' for t in totals.values())} |")
    return "\n".join(lines)


def _curves(data: str) -> dict[str, dict[str, npt.NDArray[np.float64]]]:
    """By kind of exit, by seed: points [N, 2], share and accuracy, by share."""
    found: dict[str, dict[str, list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))
    for row in newest_results("evidence-curve"):
        if row["data"] == data:
            found[row["exit"]][row["seed"]].append((float(row["share_of_full"]), float(row["accuracy"])))
    return {kind: {seed: np.array(sorted(points)) for seed, points in seeds.items()} for kind, seeds in found.items()}


def _at(points: npt.NDArray[np.float64], share: float) -> float:
    """Accuracy at a share of full compute, between the neighbouring points of the curve."""
    return float(np.interp(share, points[:, 0], points[:, 1]))


def curve_table(data: str) -> str:
    """(c) Exit by confidence, compared with the same compute for every clip and with random exits."""
    curves = _curves(data)
    lines = [
        "| share of full compute | leaving when sure | a fixed number of frames | leaving by chance |",
        "|---|---|---|---|",
    ]
    for share in SHARES:
        cells = [
            spread([_at(points, share) for points in curves[kind].values()])
            for kind in ("confidence", "fixed", "chance")
        ]
        lines.append(f"| {share:.0%} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def calibration_table() -> str:
    """(d) The effect of the temperature on thresholds, and the expected and actual values of ``balanced``."""
    rows = newest_results("evidence-calibration")
    lines = [
        "| data | thresholds on confidences | temperature | first · second threshold | calibration error "
        "| share promised · found | accuracy promised · found |",
        "|---|---|---|---|---|---|---|",
    ]
    for data in SETS:
        for way in dict.fromkeys(row["thresholds"] for row in rows):
            own = [row for row in rows if row["data"] == data and row["thresholds"] == way]

            def mean(name: str, own: list[dict[str, str]] = own) -> str:
                values = [float(row[name]) for row in own if row[name]]
                return spread(values) if values else "never"

            lines.append(
                f"| {data} | {way} | {mean('temperature')} | {mean('first_threshold')} · {mean('second_threshold')} "
                f"| {mean('calibration_error')} | {mean('promised_share')} · {mean('share')} "
                f"| {mean('promised_accuracy')} · {mean('accuracy')} |"
            )
    return "\n".join(lines)


def draw_curve(data: str) -> Figure:
    """The three curves, each seed thin, their mean thick."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    grid = np.linspace(0.0, 1.0, 101)
    names = {"confidence": "leaving when sure", "fixed": "a fixed number of frames", "chance": "leaving by chance"}
    for (kind, seeds), colour in zip(_curves(data).items(), ("tab:orange", "tab:blue", "tab:gray"), strict=True):
        for points in seeds.values():
            axes.plot(points[:, 0], points[:, 1], color=colour, alpha=0.25, linewidth=0.8)
        low = max(points[0, 0] for points in seeds.values())
        high = min(points[-1, 0] for points in seeds.values())
        inside = grid[(grid >= low) & (grid <= high)]
        mean = [np.mean([_at(points, share) for points in seeds.values()]) for share in inside]
        axes.plot(inside, mean, color=colour, linewidth=2, label=names[kind])
    axes.set_xlabel("share of full compute")
    axes.set_ylabel("accuracy on unseen clips")
    axes.set_title(data)
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def draw_set() -> Figure:
    """Draw frames of two clips of the synthetic set, whole and as the glance sees them."""
    shown, small = range(0, hatching.FRAMES, hatching.FRAMES // 4), 24
    figure = Figure(figsize=(8, 8), layout="constrained")
    axes = figure.subplots(4, len(shown))
    for clip in range(2):
        pictures = list(hatching.pictures(clip, np.random.default_rng(clip)))
        for place, index in enumerate(shown):
            frame = torch.from_numpy(pictures[index]).permute(2, 0, 1)[None].float()
            glance = F.interpolate(frame, size=(small, small), mode="bilinear", align_corners=True)
            axes[2 * clip, place].imshow(pictures[index])
            axes[2 * clip + 1, place].imshow(glance[0].permute(1, 2, 0).byte().numpy())
            axes[2 * clip, place].set_title(f"clip {clip + 1}, frame {index}", fontsize=9)
    for one in axes.flat:
        one.set_axis_off()
    return figure


if __name__ == "__main__":
    main()
