"""Which clips come together in a step, and with which label."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from training.data.clips import Clip

Batch = npt.NDArray[np.int64]


def batches_in_epoch(clips: int, size: int, fewest: int = 0) -> int:
    """How many batches `batches` makes of so many clips."""
    size = min(size, clips)
    return max(clips // size, math.ceil(fewest / size))


def batches(
    labels: npt.NDArray[np.int64], size: int, balance: float, random: np.random.Generator, fewest: int = 0
) -> list[Batch]:
    """Clip indices of every batch of an epoch, which is as long as the data, but draws at least ``fewest`` clips.

    Without balance every clip comes equally often, but for the remainder of the last round, which waits for the next
    epoch. With it clips are drawn with a chance that grows with the rarity of
    their class, ``count**-balance``.
    """
    number = batches_in_epoch(len(labels), size, fewest)
    size = min(size, len(labels))
    if balance:
        chance = np.bincount(labels)[labels].astype(np.float64) ** -balance
        drawn = random.choice(len(labels), size=number * size, p=chance / chance.sum())
    else:
        rounds = max(1, math.ceil(number * size / len(labels)))
        drawn = np.concatenate([random.permutation(len(labels)) for _ in range(rounds)])[: number * size]
    return [np.asarray(part, dtype=np.int64) for part in np.split(drawn, number)]


def own_part(batch: Batch, rank: int, world: int) -> Batch:
    """What one of several processes takes of a batch: every one the same number, the remainder left out."""
    return batch[: len(batch) // world * world][rank::world]


def drawn_labels(clips: Sequence[Clip], random: np.random.Generator) -> list[int]:
    """A class of each clip; of a clip that has several, another one each time, as the released code does."""
    return [int(random.choice(clip.all_labels)) if clip.also else clip.label for clip in clips]
