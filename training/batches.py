"""Which clips come together in a step, and with which label."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from training.data import Clip

Batch = npt.NDArray[np.int64]


def batches(labels: npt.NDArray[np.int64], size: int, balance: float, random: np.random.Generator) -> list[Batch]:
    """Clip indices of every batch of an epoch, which is as long as the data; the remainder waits for the next one.

    Without balance every clip comes at most once. With it clips are drawn with a chance that grows with the rarity of
    their class, ``count**-balance``.
    """
    size = min(size, len(labels))
    number = len(labels) // size
    if balance:
        chance = np.bincount(labels)[labels].astype(np.float64) ** -balance
        drawn = random.choice(len(labels), size=number * size, p=chance / chance.sum())
    else:
        drawn = random.permutation(len(labels))[: number * size]
    return [np.asarray(part, dtype=np.int64) for part in np.split(drawn, number)]


def own_part(batch: Batch, rank: int, world: int) -> Batch:
    """What one of several processes takes of a batch: every one the same number, the remainder left out."""
    return batch[: len(batch) // world * world][rank::world]


def drawn_labels(clips: Sequence[Clip], random: np.random.Generator) -> list[int]:
    """A class of each clip; of a clip that has several, another one each time, as the released code does."""
    return [int(random.choice(clip.all_labels)) if clip.also else clip.label for clip in clips]
