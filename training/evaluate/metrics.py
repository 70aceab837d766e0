"""Metrics of a classifier: pure functions of predictions and labels.

Predictions are class indices; logits are ``[N, T, C]``, one row per clip and visited step. The truth is a class index
of each clip, ``[N]``, or, where a clip may have several classes, a row of booleans, ``[N, C]``; an answer is then right
if it is one of them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from adafocus.bundle.exit_rule import ExitCriterion, confidence, probabilities, should_exit
from adafocus.training.evaluate.operating_points import Thresholds, as_row

Logits = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]
Truth = npt.NDArray[np.int64] | npt.NDArray[np.bool_]


def confusion(predicted: Indices, labels: Indices, classes: int) -> Indices:
    """Return counts ``[classes, classes]``; rows are true classes, columns predicted ones."""
    cells = np.bincount(labels * classes + predicted, minlength=classes * classes)
    return cells.reshape(classes, classes).astype(np.int64)


def hits(predicted: Indices, truth: Truth) -> npt.NDArray[np.bool_]:
    """Return True for each answer that is right: bool [N]."""
    if truth.ndim == 1:
        return np.asarray(predicted == truth)
    return np.asarray(truth[np.arange(len(truth)), predicted], dtype=np.bool_)


def one_label(predicted: Indices, truth: Truth) -> Indices:
    """Return one class per clip, for tables of classes: the answer if it is right, else the clip's first class."""
    if truth.ndim == 1:
        return truth.astype(np.int64)
    return np.where(hits(predicted, truth), predicted, truth.argmax(axis=1)).astype(np.int64)


def accuracy(predicted: Indices, truth: Truth) -> float:
    """Return the share of clips whose answer is right; 0 for no clips."""
    return float(np.mean(hits(predicted, truth))) if len(truth) else 0.0


def top_k_accuracy(scores: npt.NDArray[np.float32], truth: Truth, k: int) -> float:
    """Return the share of clips with a right class among the ``k`` highest scores; scores are [N, C]."""
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    right = [hits(best[:, place], truth) for place in range(best.shape[1])]
    return float(np.mean(np.any(right, axis=0))) if len(truth) else 0.0


def f1_per_class(table: Indices) -> npt.NDArray[np.float64]:
    """Return the F1 of each class of a confusion table; NaN for a class that is neither a label nor a prediction."""
    right = np.diag(table).astype(np.float64)
    total = (table.sum(axis=0) + table.sum(axis=1)).astype(np.float64)
    return np.asarray(np.divide(2 * right, total, out=np.full_like(right, np.nan), where=total > 0))


def macro_f1(predicted: Indices, labels: Indices, classes: int) -> float:
    """Return the mean F1 over the classes that are a label or a prediction, as scikit-learn does."""
    scores = f1_per_class(confusion(predicted, labels, classes))
    return float(np.nanmean(scores)) if len(labels) else 0.0


def exit_steps(
    logits: Logits,
    thresholds: Thresholds,
    criterion: ExitCriterion = "max_softmax",
    temperature: float | npt.NDArray[np.float32] = 1.0,
) -> Indices:
    """Return the 0-based step at which each clip leaves ``[N]``, by the rule that the service applies."""
    sure = confidence(logits, criterion, temperature)  # (N, T)
    out = should_exit(sure, as_row(thresholds)[None, :])
    out[:, -1] = True
    return np.asarray(np.argmax(out, axis=1), dtype=np.int64)


def answers(logits: Logits, steps: Indices) -> Indices:
    """Return the answer of each clip at the step at which it leaves: ``[N, T, C]``, ``[N]`` -> ``[N]``."""
    rows = np.arange(len(logits))
    return np.asarray(np.argmax(logits[rows, steps], axis=1), dtype=np.int64)


def label_sets(decisions: Logits) -> npt.NDArray[np.int64]:
    """Return a number for each set of labels: [N, K, C] decision logits -> int64 [N, K]; equal sets have equal ones."""
    clips, exits, labels = decisions.shape
    packed = np.packbits(decisions.reshape(-1, labels) > 0, axis=1)
    numbers = np.unique(packed, axis=0, return_inverse=True)[1]
    return np.asarray(numbers.reshape(clips, exits), dtype=np.int64)


def negative_log_likelihood(logits: Logits, truth: Truth, temperature: float = 1.0) -> float:
    """Return the mean NLL over all clips and steps, in nats; for several labels of a clip, their mean."""
    shares = np.log(np.maximum(probabilities(logits, temperature), 1e-12))  # (N, T, C)
    if truth.ndim == 1:
        return float(-np.take_along_axis(shares, truth.astype(np.int64)[:, None, None], axis=2).mean())
    weights = truth / np.maximum(1, truth.sum(axis=1, keepdims=True))
    return float(-(shares * weights[:, None]).sum(axis=2).mean())


def binary_calibration_error(sure: npt.NDArray[np.float64], truth: npt.NDArray[np.bool_], bins: int = 10) -> float:
    """Return the expected calibration error of probabilities of labels: [N, C] against bool [N, C], in equal bins."""
    index = np.minimum((sure * bins).astype(int), bins - 1)
    gaps = [abs(truth[index == b].mean() - sure[index == b].mean()) * np.mean(index == b) for b in np.unique(index)]
    return float(np.sum(gaps))


def calibration_error(logits: Logits, truth: Truth, temperature: float = 1.0, bins: int = 10) -> float:
    """Return the expected calibration error of the last step: confidence against accuracy in bins of equal width."""
    shares = probabilities(logits[:, -1], temperature)
    sure, right = shares.max(axis=1), hits(shares.argmax(axis=1), truth)
    index = np.minimum((sure * bins).astype(int), bins - 1)
    gaps = [abs(right[index == b].mean() - sure[index == b].mean()) * np.mean(index == b) for b in np.unique(index)]
    return float(np.sum(gaps))
