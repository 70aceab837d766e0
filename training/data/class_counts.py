"""Counts of clips per class in words, and warnings about classes with too few clips."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from adafocus.training.data.clips import ClipSet

MOST_NAMED = 20
"""More classes than this are counted rather than listed."""


def counts_in_words(data: ClipSet) -> str:
    """Return ``bridge_up 35, no_action 32``; for many classes, how many there are and how large they are."""
    counts = data.counts()
    if len(counts) > MOST_NAMED:
        return f"{len(counts)} classes of {min(counts)} to {max(counts)}"
    return ", ".join(f"{name} {count}" for name, count in zip(data.labels, counts, strict=True))


def warnings(train: ClipSet, holdout: ClipSet | None, validation: ClipSet | None = None) -> Iterator[str]:
    """Yield a line for each kind of class with too few clips, and for validation clips that are trained on, too."""
    has = dict(zip(train.labels, train.counts(), strict=True))
    yield from _classes([name for name, count in has.items() if not count], "no training clip")
    yield from _classes([name for name, count in has.items() if count == 1], "a single training clip")
    if holdout is not None:
        missing = [name for name, count in zip(holdout.labels, holdout.counts(), strict=True) if not count]
        yield from _classes(missing, "no holdout clip to evaluate")
    if validation is not None:
        known = {clip.identity for clip in train.clips}
        both = [clip.path for clip in validation.clips if clip.identity in known]
        yield from _clips(both, validation, "are training clips, too")
        groups = {clip.group for clip in train.clips if clip.group}
        related = [clip.path for clip in validation.clips if clip.group in groups and clip.identity not in known]
        yield from _clips(related, validation, "share a group with training clips")


def _classes(names: Sequence[str], what: str) -> Iterator[str]:
    if names:
        shown = ", ".join(repr(name) for name in names[:MOST_NAMED])
        more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
        yield f"warning: {len(names)} {'class has' if len(names) == 1 else 'classes have'} {what}: {shown}{more}"


def _clips(paths: Sequence[Path], validation: ClipSet, what: str) -> Iterator[str]:
    if paths:
        yield f"warning: {len(paths)} of {len(validation.clips)} validation clips {what}, first {paths[0]}"
