"""Keeping clips of one source together when clips are split.

Clips cut from one recording, or taken by one camera, resemble each other so much that a model which has learned from
some of them is not tested by the rest. A *unit* is the smallest set of clips that a split may not divide: clips of one
`Clip.group`, and byte-identical clips. Where a duplicate occurs in two groups, both groups are one unit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from adafocus.training.data.clips import Clip


def units_of(clips: Iterable[Clip]) -> list[str]:
    """Return the name of each clip's unit. Names do not depend on the order of the clips."""
    clips = list(clips)
    parent: dict[tuple[str, str], tuple[str, str]] = {}

    def root(node: tuple[str, str]) -> tuple[str, str]:
        parent.setdefault(node, node)
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for clip in clips:
        own = root(("clip", clip.identity))
        if clip.group:
            other = root(("group", clip.group))
            first, second = sorted((own, other))
            parent[second] = first
    names: dict[tuple[str, str], str] = {}
    for clip in clips:  # a unit is named after the smallest identity in it
        node = root(("clip", clip.identity))
        names[node] = min(names.get(node, clip.identity), clip.identity)
    return [names[root(("clip", clip.identity))] for clip in clips]


def has_groups(clips: Iterable[Clip]) -> bool:
    """Return True if any clip names its group."""
    return any(clip.group for clip in clips)


def assign_parts(units: Sequence[str], labels: Sequence[int], parts: int, seed: int) -> dict[str, int]:
    """Distribute units over parts so that every class is spread as evenly as its units permit.

    Units are placed greedily, the largest first, each where it leaves the classes' shares most alike.

    Args:
        units: unit of each clip.
        labels: class index of each clip.
        parts: number of parts.
        seed: decides between units of equal size.

    Returns:
        Part 0..parts-1 of each unit.
    """
    names = sorted(set(units))
    row = {name: index for index, name in enumerate(names)}
    counts = np.zeros((len(names), max(labels) + 1))
    np.add.at(counts, ([row[unit] for unit in units], list(labels)), 1)
    shares = counts / np.maximum(counts.sum(axis=0), 1)  # of each class, so that rare classes weigh as much
    sizes = counts.sum(axis=1)
    shuffled = np.random.default_rng(seed).permutation(len(names))
    part: dict[str, int] = {}
    filled, taken = np.zeros((parts, counts.shape[1])), np.zeros(parts)
    for index in sorted(shuffled, key=lambda index: -sizes[index]):
        chosen = min(range(parts), key=lambda one: _cost(filled, taken, shares[index], one))
        filled[chosen] += shares[index]
        taken[chosen] += sizes[index]
        part[names[index]] = chosen
    return part


def _cost(
    filled: npt.NDArray[np.float64], taken: npt.NDArray[np.float64], share: npt.NDArray[np.float64], part: int
) -> tuple[float, float]:
    """Unevenness if a unit went to a part; between equal ones the part with fewer clips is cheaper.

    Of a sum of squares only the change counts: (f + s)² - f² = 2·f·s + s².
    """
    return round(float(filled[part] @ share), 12), float(taken[part])
