"""Mean average precision, averaged in three ways, which differ if a class has no clip.

``sklearn`` counts such a class as 0, as scikit-learn's macro average does; ``present`` leaves it out; ``authors`` is
the released AdaFocusV2 code's, which numbers the classes that occur anew, so that everything after an absent class is
scored against the wrong one. Where every class occurs the three agree, up to ties.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

Average = Literal["sklearn", "present", "authors"]
AVERAGES: tuple[Average, ...] = get_args(Average)

Scores = npt.NDArray[np.float32]
Targets = npt.NDArray[np.bool_]


def average_precisions(scores: Scores, targets: Targets) -> npt.NDArray[np.float64]:
    """Return the average precision of each class [C] from scores and targets [N, C]; 0 for a class without a clip.

    Clips of equal score are taken together, as scikit-learn does.
    """
    return np.array([_of_class(scores[:, c], targets[:, c], ties=True) for c in range(targets.shape[1])])


def authors_average_precisions(scores: Scores, targets: Targets) -> npt.NDArray[np.float64]:
    """Return what the released code computes: classes that occur move up to the places of those that do not."""
    occurring = targets[:, targets.any(axis=0)]
    moved = np.pad(occurring, ((0, 0), (0, targets.shape[1] - occurring.shape[1])))
    return np.array([_of_class(scores[:, c], moved[:, c], ties=False) for c in range(targets.shape[1])])


def mean_average_precision(scores: Scores, targets: Targets, average: Average = "sklearn") -> float:
    """Return the mean over the classes, 0..1; the module describes the choices of ``average``."""
    if average == "authors":
        return float(authors_average_precisions(scores, targets).mean())
    per_class = average_precisions(scores, targets)
    if average == "present":
        per_class = per_class[targets.any(axis=0)]
    return float(per_class.mean()) if len(per_class) else 0.0


def _of_class(scores: Scores, targets: Targets, *, ties: bool) -> float:
    """Return the mean over the positives of the precision at their rank."""
    positives = int(targets.sum())
    if not positives:
        return 0.0
    order = np.argsort(-scores, kind="stable")
    found = np.cumsum(targets[order])
    ranks = np.arange(1, len(scores) + 1)
    if ties:
        last = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
        found, ranks = found[last], ranks[last]
    gained = np.diff(found, prepend=0)
    return float((gained * found / ranks).sum() / positives)
