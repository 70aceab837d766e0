"""The clips of a training, decoded: those that are trained on, the holdout, and a validation split."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from adafocus.training.data.class_counts import counts_in_words, warnings
from adafocus.training.data.clips import ClipSet
from adafocus.training.data.crop_plan import serving_plan, training_plan
from adafocus.training.data.crops import Broken, Crops, decode_all
from adafocus.training.data.groups import units_of
from adafocus.training.data.storage import Sets, Storage
from adafocus.training.evaluate.monitor import HOLDOUT, VALIDATION
from adafocus.training.recipe import Recipe


@dataclass(frozen=True)
class Splits:
    """The clips that can be decoded.

    Attributes:
        train: clips that are trained on.
        holdout: clips of the same split that are kept out of it; None if there are none.
        validation: clips of another split, which are evaluated instead of the holdout; None if the recipe names none.
    """

    train: Crops
    holdout: Crops | None
    validation: Crops | None

    @property
    def evaluated(self) -> Crops | None:
        """The clips that are evaluated after each epoch."""
        return self.validation or self.holdout

    @property
    def column_prefix(self) -> str:
        """The prefix of the log's columns with their metrics."""
        return VALIDATION if self.validation else HOLDOUT

    @property
    def broken(self) -> tuple[Broken, ...]:
        """The clips that cannot be decoded."""
        decoded = (self.train, self.holdout, self.validation)
        return tuple(broken for crops in decoded if crops for broken in crops.broken)


def decode_splits(
    sets: Sets, recipe: Recipe, storage: Storage, say: Callable[[str], None], check: Callable[[], None]
) -> Splits:
    """Decode the clips of a training.

    Args:
        sets: the clips as they are listed.
        recipe: says which of their frames are decoded, and how large.
        storage: which frames are kept, and where.
        say: called with a line for each broken clip, a summary, and warnings.
        check: called after each clip; may raise to stop.

    Raises:
        DataError: no clip of one of the splits can be decoded.
    """
    start = time.perf_counter()

    def report(broken: Broken) -> None:
        say(f"skipped {broken.path}: {broken.reason}")

    def as_served(data: ClipSet) -> Crops:
        return decode_all(data, serving_plan(recipe), storage.cache, report, check, keep=storage.evaluation)

    train = decode_all(sets.train, training_plan(recipe), storage.cache, report, check, keep=storage.training)
    holdout = as_served(sets.holdout) if sets.holdout.clips else None
    splits = Splits(train, holdout, as_served(sets.validation) if sets.validation else None)
    if holdout is not None:
        splits = _with_every_class(splits, holdout, recipe, storage, say)
    _summarise(splits, recipe, time.perf_counter() - start, say)
    return splits


def _with_every_class(
    splits: Splits, holdout: Crops, recipe: Recipe, storage: Storage, say: Callable[[str], None]
) -> Splits:
    """Move a unit from the holdout to training for each class whose training clips are all broken."""
    trained = splits.train.data.counts()
    missing = {clip.label: clip for clip in reversed(holdout.data.clips) if not trained[clip.label]}
    if not missing:
        return splits
    units = units_of(holdout.data.clips)
    wanted = {unit for clip, unit in zip(holdout.data.clips, units, strict=True) if missing.get(clip.label) is clip}
    back = [clip for clip, unit in zip(holdout.data.clips, units, strict=True) if unit in wanted]
    moved = decode_all(holdout.data.only(back), training_plan(recipe), storage.cache, keep=storage.training)
    for clip in moved.data.clips:
        say(f"training on {clip.path}, which was held out: its class has no other training clip that can be decoded")
    kept = holdout.without({clip.identity for clip in moved.data.clips})
    return replace(splits, train=splits.train.and_those(moved), holdout=kept if kept.data.clips else None)


def _summarise(splits: Splits, recipe: Recipe, seconds: float, say: Callable[[str], None]) -> None:
    train = splits.train.data
    holdout, validation = (crops.data if crops else None for crops in (splits.holdout, splits.validation))
    say(
        f"decoded {len(train.clips)} training clips ({counts_in_words(train)}) and "
        f"{len(holdout.clips) if holdout else 0} holdout clips in {seconds:.1f} s; "
        f"skipped {len(splits.broken)} that cannot be decoded"
    )
    if validation:
        say(f"{len(validation.clips)} clips of split {recipe.validation_split} are evaluated after each epoch")
    for line in warnings(train, holdout, validation):
        say(line)
