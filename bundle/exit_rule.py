"""The exit rule: turns logits into a confidence and compares the confidence with a threshold.

Pure and shared: calibration solves thresholds with these functions and the engine applies them with the same functions,
so a threshold has the same meaning in both places (arXiv 2112.14238, section 3).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

CalibrationProtocol = Literal["holdout", "paper"]
"""Clips that exit thresholds are solved on: unseen in training, or the training clips, as AdaFocusV2 published it."""

ExitCriterion = Literal["max_softmax", "max_logit", "neg_entropy"]
ExitReason = Literal["confident", "all_steps", "max_gflops", "deadline", "end_of_video"]
"""Why an answer is final: it is confident, all steps have run, or the budget, the time or the frames ran out."""

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
    powers = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True), dtype=np.float32)


def confidence(logits: Float32, criterion: ExitCriterion, temperature: float | Float32 = 1.0) -> Float32:
    """The confidence of a step: the number that is compared with its threshold. Higher is more confident.

    ``max_softmax`` follows the paper's text: the largest softmax probability. ``max_logit`` and ``neg_entropy`` follow
    the released code: the largest raw logit (the temperature does not affect it), and the sum of p log p. A probability
    that underflows contributes the limit 0, where the released code computes NaN.

    Args:
        logits: ``[..., C]`` float32.
        criterion: one of the three names above.
        temperature: divides the logits before a softmax; a number, or one for each row as in `probabilities`.

    Returns:
        ``[...]`` float32.
    """
    if criterion == "max_logit":
        return np.asarray(logits.max(axis=-1), dtype=np.float32)
    shares = probabilities(logits, temperature)
    if criterion == "max_softmax":
        return np.asarray(shares.max(axis=-1), dtype=np.float32)
    floor = np.finfo(np.float32).tiny
    return np.asarray((shares * np.log(np.maximum(shares, floor))).sum(axis=-1), dtype=np.float32)


def leaves(confidences: npt.ArrayLike, thresholds: npt.ArrayLike) -> Bool:
    """Return True for each row that may exit: its confidence is at or above its threshold, and is not NaN.

    A threshold of ``inf`` never lets a row exit, and ``-inf`` always does (the last step).
    """
    sure = np.asarray(confidences, dtype=np.float32)
    wanted = np.asarray(thresholds, dtype=np.float32)
    return np.asarray(np.where(np.isneginf(wanted), True, sure >= wanted), dtype=np.bool_)


@dataclass(frozen=True)
class ExitRule:
    """The computation of a model's confidence at each of its steps.

    Attributes:
        criterion: what the confidence is.
        temperatures: one per step; all the same where a model has a single temperature.
    """

    criterion: ExitCriterion
    temperatures: tuple[float, ...]

    def confidence(self, logits: Float32, step: int | Int64) -> Float32:
        """`confidence` at the temperature of a step.

        Args:
            logits: ``[..., C]`` float32.
            step: of all rows, or of each row (broadcast to ``[...]``), from 0.

        Returns:
            ``[...]`` float32.
        """
        return confidence(logits, self.criterion, self._temperature(step))

    def probabilities(self, logits: Float32, step: int | Int64) -> Float32:
        """`probabilities` at the temperature of a step: ``[..., C]`` float32."""
        return probabilities(logits, self._temperature(step))

    def of_all_steps(self, logits: Float32) -> Float32:
        """Confidences of all steps: ``[..., T, C]`` logits, ``[..., T]`` float32."""
        return self.confidence(logits, np.arange(len(self.temperatures)))

    def _temperature(self, step: int | Int64) -> Float32:
        return np.asarray(np.asarray(self.temperatures, dtype=np.float32)[step])
