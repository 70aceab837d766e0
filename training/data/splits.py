"""The clips of a training by what they are there for: to learn from, held aside, watched."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from training.data.class_counts import counts_in_words, warnings
from training.data.clips import ClipSet
from training.data.crops import Broken, Crops, decode_all, serving_plan, training_plan
from training.evaluate.monitor import ASIDE, WATCHED
from training.recipe import Recipe


class Sets(NamedTuple):
    """The clips as they are listed; ``watched`` where others than those held aside are."""

    learn: ClipSet
    aside: ClipSet
    watched: ClipSet | None


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
    sets: Sets, recipe: Recipe, cache: Path | None, say: Callable[[str], None], check: Callable[[], None]
) -> Parts:
    """Decode every clip of a training.

    Args:
        sets: the clips.
        recipe: says which of their frames are kept, and how large.
        cache: folder for decoded crops; None keeps them in memory.
        say: told a line for each clip that is broken, one about all, and warnings.
        check: called after each clip; may raise to stop.

    Raises:
        DataError: of one of the sets not one clip could be decoded.
    """
    start = time.perf_counter()

    def report(broken: Broken) -> None:
        say(f"skipped {broken.path}: {broken.reason}")

    learn = decode_all(sets.learn, training_plan(recipe), cache, report, check)
    aside = decode_all(sets.aside, serving_plan(recipe), cache, report, check) if sets.aside.clips else None
    watched = decode_all(sets.watched, serving_plan(recipe), cache, report, check) if sets.watched else None
    parts = Parts(learn, aside, watched)
    if aside is not None:
        parts = _with_the_last_of_a_class(parts, aside, recipe, cache, say)
    _say_what_there_is(parts, recipe, time.perf_counter() - start, say)
    return parts


def _with_the_last_of_a_class(
    parts: Parts, aside: Crops, recipe: Recipe, cache: Path | None, say: Callable[[str], None]
) -> Parts:
    """Of a class whose clips to learn from are all broken, take one back that was held aside."""
    learned = parts.learn.data.counts()
    missing = {clip.label: clip for clip in reversed(aside.data.clips) if not learned[clip.label]}
    if not missing:
        return parts
    back = [clip for clip in aside.data.clips if missing.get(clip.label) is clip]
    taken = decode_all(aside.data.only(back), training_plan(recipe), cache)
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
