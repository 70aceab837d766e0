"""What a checkpoint remembers of its training: all that evaluation, calibration and export need beside the weights."""

from __future__ import annotations

from training.data.splits import Parts
from training.evaluate.monitor import ASIDE, WATCHED
from training.recipe import Recipe
from training.run.folder import Progress


def metadata(recipe: Recipe, parts: Parts, progress: Progress, frame_size: int) -> dict[str, object]:
    """Plain values to keep in a checkpoint.

    Args:
        recipe: of the training.
        parts: its clips.
        progress: with the row of the epoch at the end of its history.
        frame_size: side of the model's frames, pixels.
    """
    row = progress.history[-1]
    data = parts.learn.data
    held = parts.aside.data.clips if parts.aside else ()
    source = data.source
    return {
        "labels": list(data.labels),
        "geometry": {"resize": recipe.data.resize, "crop": frame_size},
        "sampling": {"first_frame": recipe.data.first_frame},
        "provenance": {
            "data": source.get("name", "unnamed"),
            "data_source": source.get("source"),
            "data_licence": source.get("licence"),
            "recipe": recipe.name,
            "seed": recipe.seed,
            "metrics": {key: value for key, value in row.items() if key.startswith((ASIDE, WATCHED))},
            "notes": f"{len(data.clips)} clips learned from, {len(held)} held aside",
        },
        "recipe": recipe.to_dict(),
        "precision": progress.precision,
        "epoch": int(row["epoch"]),
        "learned_from": [clip.identity for clip in data.clips],
        "held_aside": [clip.identity for clip in held],
    }
