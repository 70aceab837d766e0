"""Calibrates models whose videos may have several labels: temperatures, and a threshold of each label.

Afterwards a label is a yes or a no, whose logit is above or below 0 (`bundle.exit_rule.decision_logits`), and the exits
are solved and certified on these logits as they are for one label: an answer is the set of labels that are present.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from adafocus.bundle.exit_rule import decision_logits
from adafocus.training.errors import CalibrationError
from adafocus.training.evaluate.certify import failures_allowed
from adafocus.training.evaluate.metrics import Logits, Truth

Bool = npt.NDArray[np.bool_]
Float64 = npt.NDArray[np.float64]

TEMPERATURES = np.geomspace(0.2, 5.0, 81)

TINY, LEAST, MOST = 1e-12, 1e-4, 1.0 - 1e-4
"""Bounds of a label's threshold; a promise about missed labels may need one below the second."""


@dataclass(frozen=True)
class MissedLabels:
    """What is promised of labels that are missed.

    Attributes:
        epsilon: most videos with a label, as a share, in which it is not found.
        confidence: of the promise, for each label by itself.
    """

    epsilon: float
    confidence: float = 0.95


@dataclass(frozen=True)
class LabelRule:
    """How logits become labels.

    Attributes:
        temperatures: one per exit.
        thresholds: one per label, probabilities.
        uncertified: numbers of the labels whose threshold was chosen by F1 although a promise was asked for, because
            too few clips have them.
    """

    temperatures: tuple[float, ...]
    thresholds: tuple[float, ...]
    uncertified: tuple[int, ...] = ()

    def decisions(self, logits: Logits) -> Logits:
        """Return the decision logits of all exits: float32 [N, K, C] of as many logits."""
        heat = np.array(self.temperatures, dtype=np.float32)
        return decision_logits(logits, self.thresholds, np.broadcast_to(heat, logits.shape[:2]))


def fit_labels(logits: Logits, truth: Truth, missed: MissedLabels | None = None) -> LabelRule:
    """Fit temperatures and thresholds of labels.

    Thresholds are fitted at the last exit: the one of the best F1, or the highest one that keeps a promise about missed
    labels. That one is a rank among the clips that have the label, so that the promise is exact.

    Args:
        logits: float32 [N, K, C] of clips that the model was not trained on.
        truth: bool [N, C].
        missed: what to promise; None promises nothing.

    Raises:
        CalibrationError: ``truth`` has one label per clip.
    """
    if truth.ndim != 2:
        raise CalibrationError("a model of several labels needs clips that may have several labels")
    heat = tuple(_temperature(logits[:, exit_], truth) for exit_ in range(logits.shape[1]))
    scores = 0.5 * (1.0 + np.tanh(logits[:, -1].astype(np.float64) / (2 * heat[-1])))
    thresholds, uncertified = [], []
    for label in range(truth.shape[1]):
        has = truth[:, label].astype(np.bool_)
        certified = None if missed is None else found_threshold(scores[has, label], missed)
        if missed is not None and certified is None:
            uncertified.append(label)
        best = best_f1_threshold(scores[:, label], has) if certified is None else certified
        thresholds.append(float(np.clip(best, LEAST if certified is None else TINY, MOST)))
    return LabelRule(heat, tuple(thresholds), tuple(uncertified))


def best_f1_threshold(scores: Float64, has: Bool) -> float:
    """Return the threshold of the best F1: in the middle of the widest gap among equals; 0.5 if no clip has the label.

    Args:
        scores: [N], probabilities of one label.
        has: [N], which clips have it.
    """
    if not has.any():
        return 0.5
    order = np.argsort(-scores, kind="stable")
    ranked, right = scores[order], np.cumsum(has[order])
    taken = np.arange(1, len(scores) + 1)
    f1 = 2 * right / (taken + has.sum())
    below = np.append(ranked[1:], 0.0)
    f1[ranked == below] = -1.0  # clips of equal score are taken together
    equals = np.flatnonzero(f1 >= f1.max() - 1e-12)
    best = equals[int(np.argmax((ranked - below)[equals]))]
    return float((ranked[best] + below[best]) / 2)


def found_threshold(scores: Float64, missed: MissedLabels) -> float | None:
    """Return the highest threshold that keeps a promise about missed labels; None if there are too few clips.

    Args:
        scores: [N], of the clips that have the label.
        missed: the promise.
    """
    allowed = failures_allowed(len(scores), missed.epsilon, missed.confidence)
    if allowed < 0:
        return None
    # Just below the score that would be the first failure too many: a label at its threshold is not present.
    return float(np.sort(scores)[allowed] * (1.0 - 1e-5))


def micro_f1(decisions: Logits, truth: Truth) -> float:
    """Return the F1 over all clips and labels together: [N, C] decision logits and bool [N, C]."""
    found = decisions > 0
    total = int(found.sum()) + int(truth.sum())
    return 2 * int((found & truth.astype(np.bool_)).sum()) / total if total else 1.0


def _temperature(logits: Logits, truth: Truth) -> float:
    """The temperature of least cross-entropy over all labels."""
    signs = np.where(truth.astype(np.bool_), 1.0, -1.0)
    losses = [np.logaddexp(0.0, -signs * logits / value).mean() for value in TEMPERATURES]
    return float(np.round(TEMPERATURES[int(np.argmin(losses))], 4))
