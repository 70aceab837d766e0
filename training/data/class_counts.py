"""What the clips are, in words: how many of each class, and which classes cannot be learned or watched."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from training.data.clips import ClipSet

MOST_NAMED = 20
"""More classes than this are counted rather than listed."""


def counts_in_words(data: ClipSet) -> str:
    """``bridge_up 35, no_action 32``, or of many classes how many there are and how large."""
    counts = data.counts()
    if len(counts) > MOST_NAMED:
        return f"{len(counts)} classes of {min(counts)} to {max(counts)}"
    return ", ".join(f"{name} {count}" for name, count in zip(data.labels, counts, strict=True))


def warnings(learned: ClipSet, aside: ClipSet | None, watched: ClipSet | None = None) -> Iterator[str]:
    """One line for each kind of class that the clips do not suffice for, and one if clips watched are learned from."""
    has = dict(zip(learned.labels, learned.counts(), strict=True))
    yield from _line([name for name, count in has.items() if not count], "without a clip to learn from")
    yield from _line([name for name, count in has.items() if count == 1], "with a single clip to learn from")
    if aside is not None:
        missing = [name for name, count in zip(aside.labels, aside.counts(), strict=True) if not count]
        yield from _line(missing, "without a clip held aside to measure on")
    if watched is not None:
        known = {clip.identity for clip in learned.clips}
        both = [clip.path for clip in watched.clips if clip.identity in known]
        if both:
            of_all = f"{len(both)} of {len(watched.clips)} clips that are watched"
            yield f"warning: {of_all} are learned from, too, first {both[0]}"


def _line(names: Sequence[str], what: str) -> Iterator[str]:
    if names:
        shown = ", ".join(repr(name) for name in names[:MOST_NAMED])
        more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
        yield f"warning: {len(names)} {'class' if len(names) == 1 else 'classes'} {what}: {shown}{more}"
