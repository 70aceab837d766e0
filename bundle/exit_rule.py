"""The exit rule: turns logits into a confidence and compares the confidence with a threshold.

Pure and shared: calibration solves thresholds with these functions and the engine applies them with the same functions,
so a threshold has the same meaning in both places (arXiv 2112.14238, section 3).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt

CalibrationProtocol = Literal["holdout", "paper"]
"""Clips that exit thresholds are solved on: unseen in training, or the training clips, as AdaFocusV2 published it."""

ExitCriterion = Literal["max_softmax", "max_logit", "neg_entropy", "label_margin"]
"""``label_margin`` is for videos that may have several labels, the others for those that have one."""

ExitReason = Literal["confident", "all_steps", "max_gflops", "max_decode_ms", "deadline", "end_of_video"]
"""Why an answer is final: it is confident, all steps have run, or a budget, the time or the frames ran out."""

ExitComponent = Literal["glance", "focus"]
"""The part of a step that an answer came after."""

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]


def probabilities(logits: Float32, temperature: float | Float32 = 1.0) -> Float32:
    """Softmax of ``logits / temperature`` over the last axis.

    Args:
        logits: ``[..., C]`` float32.
        temperature: above 0; 1 leaves the logits as the model made them. An array has one for each row, and is
            broadcast to ``[...]``.

    Returns:
        ``[..., C]`` float32, each row sums to one.
    """
    divisor = np.float32(temperature) if np.ndim(temperature) == 0 else np.asarray(temperature, np.float32)[..., None]
    scaled = logits / divisor
    # As the arrays' own max and sum, without the Python around them: there is one row for an answer.
    powers = np.exp(scaled - np.maximum.reduce(scaled, axis=-1, keepdims=True))
    return np.asarray(powers / np.add.reduce(powers, axis=-1, keepdims=True), dtype=np.float32)


def label_probabilities(logits: Float32, temperature: float | Float32 = 1.0) -> Float32:
    """The probability of each label by itself: the logistic function of ``logits / temperature``.

    Args:
        logits: ``[..., C]`` float32.
        temperature: as in `probabilities`.

    Returns:
        ``[..., C]`` float32, each 0 to 1.
    """
    divisor = np.float32(temperature) if np.ndim(temperature) == 0 else np.asarray(temperature, np.float32)[..., None]
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * logits / divisor)), dtype=np.float32)


def decision_logits(logits: Float32, label_thresholds: npt.ArrayLike, temperature: float | Float32 = 1.0) -> Float32:
    """How far each label is from being undecided: above 0 it is present, below 0 it is not.

    That is ``logits / temperature`` less the logit of the label's threshold.

    Args:
        logits: ``[..., C]`` float32.
        label_thresholds: ``[C]``, probabilities above 0 and below 1.
        temperature: as in `probabilities`.

    Returns:
        ``[..., C]`` float32.
    """
    divisor = np.float32(temperature) if np.ndim(temperature) == 0 else np.asarray(temperature, np.float32)[..., None]
    bound = np.asarray(label_thresholds, dtype=np.float64)
    return np.asarray(logits / divisor - np.log(bound / (1.0 - bound)).astype(np.float32), dtype=np.float32)


def confidence(logits: Float32, criterion: ExitCriterion, temperature: float | Float32 = 1.0) -> Float32:
    """The confidence of a step: the number that is compared with its threshold. Higher is more confident.

    ``max_softmax`` follows the paper's text: the largest softmax probability. ``max_logit`` and ``neg_entropy`` follow
    the released code: the largest raw logit (the temperature does not affect it), and the sum of p log p. A probability
    that underflows contributes the limit 0, where the released code computes NaN. ``label_margin`` takes the
    `decision_logits` of several labels and is 1 if all are decided and 0 if one is undecided: the least of
    ``tanh(|logit| / 2)``.

    Args:
        logits: ``[..., C]`` float32.
        criterion: one of the three names above.
        temperature: divides the logits before a softmax; a number, or one for each row as in `probabilities`.

    Returns:
        ``[...]`` float32.
    """
    if criterion == "max_logit":
        return np.asarray(logits.max(axis=-1), dtype=np.float32)
    if criterion == "label_margin":
        divisor = np.asarray(temperature, dtype=np.float32)
        return np.asarray(np.tanh(0.5 * np.abs(logits).min(axis=-1) / divisor), dtype=np.float32)
    shares = probabilities(logits, temperature)
    if criterion == "max_softmax":
        return np.asarray(shares.max(axis=-1), dtype=np.float32)
    floor = np.finfo(np.float32).tiny
    return np.asarray((shares * np.log(np.maximum(shares, floor))).sum(axis=-1), dtype=np.float32)


def should_exit(confidences: npt.ArrayLike, thresholds: npt.ArrayLike) -> Bool:
    """Return True for each row that may exit: its confidence is at or above its threshold, and is not NaN.

    A threshold of ``inf`` never lets a row exit, and ``-inf`` always does (the last step).
    """
    sure = np.asarray(confidences, dtype=np.float32)
    wanted = np.asarray(thresholds, dtype=np.float32)
    return np.asarray((sure >= wanted) | (wanted == -np.inf), dtype=np.bool_)


@dataclass(frozen=True)
class ExitRule:
    """The computation of a model's confidence at each of its steps.

    Attributes:
        criterion: what the confidence is.
        temperatures: one per step; all the same where a model has a single temperature.
        label_thresholds: of a model whose videos may have several labels, one per label; else empty.
    """

    criterion: ExitCriterion
    temperatures: tuple[float, ...]
    label_thresholds: tuple[float, ...] = ()

    def confidence(self, logits: Float32, step: int | Int64) -> Float32:
        """`confidence` at the temperature of a step.

        Args:
            logits: ``[..., C]`` float32.
            step: of all rows, or of each row (broadcast to ``[...]``), from 0.

        Returns:
            ``[...]`` float32.
        """
        if self.label_thresholds:
            return confidence(self._decisions(logits, step), self.criterion)
        return confidence(logits, self.criterion, self._temperature(step))

    def probabilities(self, logits: Float32, step: int | Int64) -> Float32:
        """Scores at the temperature of a step, ``[..., C]`` float32: `probabilities`, or `label_probabilities`."""
        heat = self._temperature(step)
        return label_probabilities(logits, heat) if self.label_thresholds else probabilities(logits, heat)

    def present(self, logits: Float32, step: int | Int64) -> Bool:
        """Which labels a video has: bool ``[..., C]``. The largest logit's, where a video has one label."""
        if self.label_thresholds:
            return np.asarray(self._decisions(logits, step) > 0)
        return np.asarray(np.arange(logits.shape[-1]) == logits.argmax(axis=-1)[..., None])

    def of_all_steps(self, logits: Float32) -> Float32:
        """Confidences of all steps: ``[..., T, C]`` logits, ``[..., T]`` float32."""
        return self.confidence(logits, np.arange(len(self.temperatures)))

    def _decisions(self, logits: Float32, step: int | Int64) -> Float32:
        return decision_logits(logits, self.label_thresholds, self._temperature(step))

    def _temperature(self, step: int | Int64) -> Float32:
        return np.asarray(self._table[step])

    @cached_property
    def _table(self) -> Float32:
        return np.asarray(self.temperatures, dtype=np.float32)
