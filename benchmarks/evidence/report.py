"""Tables, curves and docs/evidence.md from what `benchmarks.evidence.study` kept.

    python -m benchmarks.evidence.report runs/evidence/tank_state runs/evidence/glyphs     # new results
    python -m benchmarks.evidence.report                                                   # the tables again

Results go to benchmarks/results as CSV: ``evidence`` has a row for each training, ``evidence-curve`` one for each point
of the accuracy-compute curves, ``evidence-calibration`` one for each way to solve thresholds. Tables and pictures are
made from the CSV alone.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from benchmarks.machine import newest_results, write_results
from bundle.exit_rule import confidence
from training.calibrate import calibrate, exit_quota, fit_temperature, measure, solve_thresholds
from training.metrics import accuracy, answers, calibration_error, exit_steps, macro_f1
from training.points import Calibration

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = ROOT / "docs" / "evidence.md"
PICTURES = ROOT / "docs" / "pictures"
MEGA, GIGA = 1e6, 1e9

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
SHARES = (0.2, 0.3, 0.4, 0.6)
"""Of full compute: where the curves are read off for the table."""
SWEEP = tuple(round(0.05 * step, 2) for step in range(1, 79))
"""Ratios of exit shares from step to step."""

Row = dict[str, object]
Judged = dict[str, npt.NDArray[np.float32]]


def main() -> None:
    """New CSV if folders are given; then tables and pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="*", type=Path, help="one per data set, named after it")
    folders = parser.parse_args().folders
    if folders:
        runs = [(folder.name, path) for folder in folders for path in sorted(folder.glob("*/judged.npz"))]
        write_results("evidence", "studies", [row for data, path in runs for row in [training_row(data, path)]])
        learned = [(data, path) for data, path in runs if path.parent.name.startswith("learned-")]
        write_results("evidence-curve", "studies", [row for run in learned for row in curve_rows(*run)])
        write_results("evidence-calibration", "studies", [row for run in learned for row in calibration_rows(*run)])
    text = PAGE.read_text(encoding="utf-8")
    for name, content in tables().items():
        pattern = re.compile(rf"(<!-- table:{name} -->\n).*?(<!-- /table:{name} -->)", re.DOTALL)
        text = pattern.sub(lambda found, content=content: f"{found[1]}{content}\n{found[2]}", text)
    PAGE.write_text(text, encoding="utf-8")
    for data in _sets("evidence-curve"):
        draw_curve(data).savefig(PICTURES / f"evidence-{data.replace('_', '-')}.png", dpi=110)


def training_row(data: str, path: Path) -> Row:
    """What one training came to, on clips it has not seen."""
    arm, seed = path.parent.name.rsplit("-", 1)
    judged, told = _read(path), json.loads((path.parent / "told.json").read_text(encoding="utf-8"))
    logits, labels = judged["val_logits"], judged["val_labels"].astype(np.int64)
    predicted = logits.argmax(axis=2)
    right = [accuracy(step, labels) for step in predicted.T]
    points = _calibration(judged, told)
    row: Row = {
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
    """Accuracy against the share of full compute: by confidence, by a fixed number of frames, by chance."""
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
    """The point ``balanced`` solved in three ways, what it promised, and what it then did on unseen clips."""
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
    """Points solved on the clips held aside; at a given temperature instead of the fitted one."""
    labels = judged["aside_labels"].astype(np.int64)
    return calibrate(judged["aside_logits"], labels, told["flops_per_step"] / GIGA, temperature=temperature)


def _read(path: Path) -> Judged:
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


def tables() -> dict[str, str]:
    """Every table of the page, by its marker."""
    rows = newest_results("evidence")
    return {
        **{f"looks:{data}": looks_table(rows, data) for data in _sets("evidence")},
        **{f"remedies:{data}": remedies_table(rows, data) for data in _sets("evidence")},
        **{f"curve:{data}": curve_table(data) for data in _sets("evidence-curve")},
        "calibration": calibration_table(),
        "seeds": seeds_table(rows),
    }


def _sets(benchmark: str) -> list[str]:
    return list(dict.fromkeys(row["data"] for row in newest_results(benchmark)))


def _of(rows: Sequence[dict[str, str]], data: str, arm: str) -> list[dict[str, str]]:
    return [row for row in rows if row["data"] == data and row["arm"] == arm]


def spread(values: Sequence[float], digits: int = 3) -> str:
    """Mean and, of several, the sample's deviation."""
    mean = f"{np.mean(values):.{digits}f}"
    return f"{mean} ± {np.std(values, ddof=1):.{digits}f}" if len(values) > 1 else mean


def _column(rows: Sequence[dict[str, str]], name: str) -> str:
    return spread([float(row[name]) for row in rows])


def looks_table(rows: Sequence[dict[str, str]], data: str) -> str:
    """(a) What the focus sees."""
    lines = [
        "| the focus sees | frames | MFLOPs a video | accuracy | macro-F1 | after the first frame | seeds |",
        "|---|---|---|---|---|---|---|",
    ]
    lines.extend(
        f"| {WORDS[arm]} | {own[0]['steps']} | {float(own[0]['mflops_per_video']):.1f} "
        f"| {_column(own, 'accuracy')} | {_column(own, 'macro_f1')} "
        f"| {_column(own, 'accuracy_first_step')} | {len(own)} |"
        for arm in LOOKS
        if (own := _of(rows, data, arm))
    )
    return "\n".join(lines)


def remedies_table(rows: Sequence[dict[str, str]], data: str) -> str:
    """(b) What each remedy, and one stage instead of several, is worth."""
    lines = [
        "| trained | accuracy | macro-F1 | mean over the steps | how far patches spread | processor s | seeds |",
        "|---|---|---|---|---|---|---|",
    ]
    for arm in REMEDIES:
        if own := _of(rows, data, arm):
            seconds = spread([float(row["cpu_s"]) for row in own], 0)
            lines.append(
                f"| {WORDS[arm] if arm != 'learned' else 'all at once, all three remedies (the method)'} "
                f"| {_column(own, 'accuracy')} | {_column(own, 'macro_f1')} | {_column(own, 'accuracy_mean_step')} "
                f"| {_column(own, 'patch_spread')} | {seconds} | {len(own)} |"
            )
    return "\n".join(lines)


def seeds_table(rows: Sequence[dict[str, str]]) -> str:
    """The operating points of the method, seed after seed."""
    lines = ["| data | seed | `full` | `accurate` | `balanced` | `fast` |", "|---|---|---|---|---|---|"]
    for row in rows:
        if row["arm"] == "learned":
            cells = [f"{float(row['accuracy']):.3f}"] + [
                f"{float(row[f'{point}_accuracy']):.3f} at {float(row[f'{point}_share']):.0%}"
                for point in ("accurate", "balanced", "fast")
            ]
            lines.append(f"| {row['data']} | {row['seed']} | " + " | ".join(cells) + " |")
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
    """(c) Leaving when sure, against the same compute for every clip, and against leaving by chance."""
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
    """(d) What the temperature does to thresholds, and what the point ``balanced`` promised and did."""
    rows = newest_results("evidence-calibration")
    lines = [
        "| data | thresholds on confidences | temperature | first · second threshold | calibration error "
        "| share promised · found | accuracy promised · found |",
        "|---|---|---|---|---|---|---|",
    ]
    for data in dict.fromkeys(row["data"] for row in rows):
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


if __name__ == "__main__":
    main()
