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
    """A short training with the old and the new jitter, each judged on cameras that it has not seen."""
    rows = newest_results("evidence-jitter")
    lines = [
        "| jitter | cameras held out | accuracy by seed | mean accuracy | mean macro-F1 | mean log loss "
        "| last loss of training |",
        "|---|---|---|---|---|---|---|",
    ]
    for fold in dict.fromkeys(row["fold"] for row in rows):
        for name in dict.fromkeys(row["jitter"] for row in rows):
            own = [row for row in rows if (row["fold"], row["jitter"]) == (fold, name)]
            if own:
                each = ", ".join(f"{float(row['accuracy']):.3f}" for row in own)
                means = [np.mean([float(row[key]) for row in own]) for key in _MEANS]
                shown = " | ".join(f"{mean:.3f}" for mean in means)
                lines.append(f"| {name} | fold {fold}: {own[0]['groups']} | {each} | {shown} |")
    return "\n".join(lines)


_MEANS = ("accuracy", "macro_f1", "log_loss", "training_loss")
