"""Metadata of a checkpoint: what evaluation, calibration and export need besides the weights."""

from __future__ import annotations

from collections.abc import Sequence

from adafocus.training.data.splits import Splits
from adafocus.training.evaluate.monitor import HOLDOUT, VALIDATION
from adafocus.training.recipe import Recipe
from adafocus.training.run.folder import Progress


def metadata(
    recipe: Recipe, splits: Splits, progress: Progress, frame_size: int, started_from: Sequence[str] = ()
) -> dict[str, object]:
    """Plain values to keep in a checkpoint.

    Args:
        recipe: of the training.
        splits: its clips.
        progress: with the row of the epoch at the end of its history.
        frame_size: side of the model's frames, pixels.
        started_from: where its weights came from before the first step, in words.
    """
    row = progress.history[-1]
    data = splits.train.data
    held = splits.holdout.data.clips if splits.holdout else ()
    source = data.source
    return {
        "labels": list(data.labels),
        "geometry": {"resize": recipe.data.resize, "crop": frame_size, "fit": recipe.data.fit},
        "sampling": {"first_frame": recipe.data.first_frame, "snap": recipe.data.snap},
        "provenance": {
            "data": source.get("name", "unnamed"),
            "data_source": source.get("source"),
            "data_licence": source.get("licence"),
            "recipe": recipe.name,
            "seed": recipe.seed,
            "metrics": {key: value for key, value in row.items() if key.startswith((HOLDOUT, VALIDATION))},
            "notes": "; ".join([f"{len(data.clips)} clips trained on, {len(held)} held out", *started_from]),
        },
        "recipe": recipe.to_dict(),
        "precision": progress.precision,
        "epoch": int(row["epoch"]),
        "learned_from": [clip.identity for clip in data.clips],
        "learned_groups": sorted({clip.group for clip in data.clips if clip.group}),
        "held_aside": [clip.identity for clip in held],
    }
