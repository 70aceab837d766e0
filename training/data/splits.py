"""The clips of a training by what they are there for: to learn from, held aside, watched."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from training.data.class_counts import counts_in_words, warnings
from training.data.clips import ClipSet
from training.data.crop_plan import serving_plan, training_plan
from training.data.crops import Broken, Crops, decode_all
from training.data.groups import units_of
from training.data.storage import Sets, Storage
from training.evaluate.monitor import ASIDE, WATCHED
from training.recipe import Recipe


@dataclass(frozen=True)
class Parts:
    """The clips that could be decoded; None where there were to be none."""

    learn: Crops
    aside: Crops | None
    watched: Crops | None

    @property
    def judged(self) -> Crops | None:
        """What is judged after each epoch."""
        return self.watched or self.aside

    @property
    def judged_as(self) -> str:
        """What the columns with its figures begin with."""
        return WATCHED if self.watched else ASIDE

    @property
    def broken(self) -> tuple[Broken, ...]:
        """The clips that could not be decoded."""
        decoded = (self.learn, self.aside, self.watched)
        return tuple(broken for crops in decoded if crops for broken in crops.broken)


def decode_parts(
    sets: Sets, recipe: Recipe, storage: Storage, say: Callable[[str], None], check: Callable[[], None]
) -> Parts:
    """Decode every clip of a training.

    Args:
        sets: the clips.
        recipe: says which of their frames are kept, and how large.
        storage: what is kept of them, and where.
        say: told a line for each clip that is broken, one about all, and warnings.
        check: called after each clip; may raise to stop.

    Raises:
        DataError: of one of the sets not one clip could be decoded.
    """
    start = time.perf_counter()

    def report(broken: Broken) -> None:
        say(f"skipped {broken.path}: {broken.reason}")

    def judged(data: ClipSet) -> Crops:
        return decode_all(data, serving_plan(recipe), storage.cache, report, check, keep=storage.evaluation)

    learn = decode_all(sets.learn, training_plan(recipe), storage.cache, report, check, keep=storage.training)
    aside = judged(sets.aside) if sets.aside.clips else None
    parts = Parts(learn, aside, judged(sets.watched) if sets.watched else None)
    if aside is not None:
        parts = _with_the_last_of_a_class(parts, aside, recipe, storage, say)
    _say_what_there_is(parts, recipe, time.perf_counter() - start, say)
    return parts


def _with_the_last_of_a_class(
    parts: Parts, aside: Crops, recipe: Recipe, storage: Storage, say: Callable[[str], None]
) -> Parts:
    """Of a class whose clips to learn from are all broken, take one back that was held aside, with all of its unit."""
    learned = parts.learn.data.counts()
    missing = {clip.label: clip for clip in reversed(aside.data.clips) if not learned[clip.label]}
    if not missing:
        return parts
    units = units_of(aside.data.clips)
    wanted = {unit for clip, unit in zip(aside.data.clips, units, strict=True) if missing.get(clip.label) is clip}
    back = [clip for clip, unit in zip(aside.data.clips, units, strict=True) if unit in wanted]
    taken = decode_all(aside.data.only(back), training_plan(recipe), storage.cache, keep=storage.training)
    for clip in taken.data.clips:
        say(f"{clip.path} is learned from, not held aside: no other clip of its class can be decoded")
    kept = aside.without({clip.identity for clip in taken.data.clips})
    return replace(parts, learn=parts.learn.and_those(taken), aside=kept)


def _say_what_there_is(parts: Parts, recipe: Recipe, seconds: float, say: Callable[[str], None]) -> None:
    learn = parts.learn.data
    aside, watched = (crops.data if crops else None for crops in (parts.aside, parts.watched))
    say(
        f"decoded {len(learn.clips)} clips to learn from ({counts_in_words(learn)}) and "
        f"{len(aside.clips) if aside else 0} held aside in {seconds:.1f} s; {len(parts.broken)} skipped as broken"
    )
    if watched:
        say(f"{len(watched.clips)} clips of split {recipe.watch_split} are judged after each epoch")
    for line in warnings(learn, aside, watched):
        say(line)
