"""The tables of docs/evidence.md on temporal jitter."""

from __future__ import annotations

import numpy as np

from benchmarks.machine import newest_results


def frame_sets_table() -> str:
    """Distinct sets of frames, before and after."""
    lines = [
        "| recipe | frames of the clip | sets before | sets after | frames seen before | frames seen after |",
        "|---|---|---|---|---|---|",
    ]
    rows = newest_results("evidence-frame-sets")
    found = {(row["recipe"], row["clip_frames"], row["jitter"]): row for row in rows}
    for recipe, frames in dict.fromkeys((row["recipe"], row["clip_frames"]) for row in rows):
        before, after = found[recipe, frames, "before"], found[recipe, frames, "after"]
        lines.append(
            f"| {recipe} | {frames} | {before['distinct_sets']} | {after['distinct_sets']} "
            f"| {before['distinct_frames']} | {after['distinct_frames']} |"
        )
    return "\n".join(lines)


def jitter_table() -> str:
    """A short training with the old and the new jitter, judged on cameras that it has not seen and on those it has."""
    rows = newest_results("evidence-jitter")
    lines = [
        "| jitter | last loss of training | unseen cameras: accuracy by seed | log loss "
        "| seen cameras: accuracy by seed | macro-F1 | log loss |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(row["jitter"] for row in rows):
        own = [row for row in rows if row["jitter"] == name]
        cells = [
            _mean(own, "training_loss"),
            _each(own, "accuracy"),
            _mean(own, "log_loss"),
            _each(own, "known_accuracy"),
            _mean(own, "known_macro_f1"),
            _mean(own, "known_log_loss"),
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _each(rows: list[dict[str, str]], name: str) -> str:
    return ", ".join(f"{float(row[name]):.3f}" for row in rows)


def _mean(rows: list[dict[str, str]], name: str) -> str:
    return f"{np.mean([float(row[name]) for row in rows]):.3f}"
