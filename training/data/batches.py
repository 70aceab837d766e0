"""Draw the clips of each batch, and their labels."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from adafocus.training.data.clips import Clip

Batch = npt.NDArray[np.int64]


def batches_in_epoch(clips: int, size: int, fewest: int = 0) -> int:
    """Return the number of batches that `batches` makes of ``clips`` clips."""
    size = min(size, clips)
    return max(clips // size, math.ceil(fewest / size))


def batches(
    labels: npt.NDArray[np.int64], size: int, balance: float, random: np.random.Generator, fewest: int = 0
) -> list[Batch]:
    """Return the clip indices of every batch of an epoch.

    Without balance, every clip is drawn once, or several times until ``fewest`` are drawn; the remainder that fills no
    batch is dropped.

    Args:
        labels: class index of each clip, int64 [N].
        size: clips in a batch.
        balance: clips are drawn with a probability proportional to ``count**-balance`` of their class; 0 draws each
            equally often.
        random: decides the order.
        fewest: an epoch draws at least so many clips.
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
    """Return one process's share of a batch; all shares have the same size, and the remainder is dropped."""
    return batch[: len(batch) // world * world][rank::world]


def drawn_labels(clips: Sequence[Clip], random: np.random.Generator) -> list[int]:
    """Return a class of each clip; of a clip with several, a random one, as the released code does."""
    return [int(random.choice(clip.all_labels)) if clip.also else clip.label for clip in clips]
