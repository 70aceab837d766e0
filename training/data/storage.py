"""Decides which decoded frames a training keeps, and where; reports it, or refuses, before anything is decoded."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from adafocus.training.data.capacity import (
    bytes_of_batches,
    bytes_to_keep,
    free_disk,
    free_memory,
    in_words,
    require_disk,
    require_memory,
)
from adafocus.training.data.clips import Clip, ClipSet
from adafocus.training.data.crop_plan import serving_plan, training_plan
from adafocus.training.recipe import Recipe


class Sets(NamedTuple):
    """The clips of a training as they are listed; ``validation`` is None if the recipe names no such split."""

    train: ClipSet
    holdout: ClipSet
    validation: ClipSet | None

    @property
    def evaluated(self) -> tuple[Clip, ...]:
        """All clips that are not trained on."""
        return self.holdout.clips + (self.validation.clips if self.validation else ())


@dataclass(frozen=True)
class Storage:
    """The decision whether frames are kept or decoded each time they are needed.

    Attributes:
        training: of the clips that are trained on.
        evaluation: of the clips that are evaluated after each epoch.
        cache: folder in which frames are kept; None keeps them in memory.
    """

    training: bool
    evaluation: bool
    cache: Path | None


def processes_here() -> int:
    """Return how many processes of this training run on this machine, as ``torchrun`` says."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def plan_storage(
    sets: Sets,
    recipe: Recipe,
    cache: Path | None,
    say: Callable[[str], None],
    memory: Callable[[], int | None] = free_memory,
) -> Storage:
    """Decide what is kept, and report how much space it needs.

    Args:
        sets: the clips.
        recipe: ``data.candidates`` of 0 keeps no frames of the clips that are trained on.
        cache: folder for frames; None keeps them in memory.
        say: called with one line.
        memory: returns the available memory, in bytes.

    Raises:
        DataError: it does not fit; the message says what would help.
    """
    train, serve = training_plan(recipe), serving_plan(recipe)
    keeps = train.candidates > 0
    trained = bytes_to_keep(sets.train.clips, train, cache) if keeps else 0
    judged = bytes_to_keep(sets.evaluated, serve, cache)
    keeps_judged = keeps or (cache is not None and judged <= free_disk(cache))
    kept = trained + (judged if keeps_judged else 0)
    here = processes_here()
    batches = bytes_of_batches(train, max(1, recipe.optimiser.batch_size // here), serve.crop) * here
    needed = batches + (0 if cache else kept * here)
    what = f"{len(sets.train.clips)} training clips and {len(sets.evaluated)} to evaluate"
    needs = []
    if cache is not None and (keeps or keeps_judged):
        needs.append(require_disk(kept, cache, what, f"give --cache a folder with more space, or {_less(recipe)}"))
    help_ = "take a smaller optimiser.batch_size"
    if kept and cache is None:
        help_ = f"give --cache a folder with {in_words(kept)} of space, or {_less(recipe)}"
    needs.append(require_memory(needed, what, help_, memory))
    anew = "" if keeps else "; training frames are decoded anew in every epoch"
    say(f"{what} need {' and '.join(needs)}{anew}")
    return Storage(keeps, keeps_judged, cache)


def _less(recipe: Recipe) -> str:
    data = recipe.data
    smaller = f"fewer data.candidates (now {data.candidates}), a smaller data.source_size (now {data.source})"
    if data.jpeg_quality:
        smaller += f" or data.jpeg_quality (now {data.jpeg_quality})"
    else:
        smaller += " or data.jpeg_quality = 95 (now 0, raw pixels)"
    return f"keep less with {smaller}; data.candidates = 0 keeps nothing and decodes anew in every epoch"
