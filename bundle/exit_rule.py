"""What an exit threshold means: from logits to a confidence, and from a confidence to "enough".

Pure, and shared: calibration solves thresholds with these functions and the engine applies them with the same ones, so
a threshold cannot mean one thing when it is solved and another when it is served (PAPER section 3).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

ExitCriterion = Literal["max_softmax", "max_logit", "neg_entropy"]
ExitReason = Literal["confident", "all_steps", "max_gflops", "deadline", "end_of_video"]
"""Why a video's answer is final: it was sure enough, had run every step, or ran out of budget, time or frames."""

Float32 = npt.NDArray[np.float32]
Bool = npt.NDArray[np.bool_]


def probabilities(logits: Float32, temperature: float = 1.0) -> Float32:
    """Softmax of ``logits / temperature`` over the last axis.

    Args:
        logits: ``[..., C]`` float32.
        temperature: above 0; 1 leaves the logits as the model made them.

    Returns:
        ``[..., C]`` float32, each row sums to one.
    """
    scaled = logits / np.float32(temperature)
    powers = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True), dtype=np.float32)


def confidence(logits: Float32, criterion: ExitCriterion, temperature: float = 1.0) -> Float32:
    """How sure a step is, as the number that its threshold is compared with; higher is surer.

    ``max_softmax`` is the paper's text, the largest softmax probability. ``max_logit`` and ``neg_entropy`` are what
    the released code computes: the largest raw logit (the temperature does not touch it), and the sum of p log p, with
    the limit 0 for a probability that underflows, where the released code's product becomes NaN.

    Args:
        logits: ``[..., C]`` float32.
        criterion: one of the three names above.
        temperature: divides the logits before a softmax.

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
    """Whether each row is sure enough to stop: confidence at or above its threshold; NaN never is.

    A threshold of ``inf`` never lets a row leave, ``-inf`` always does (the last step).
    """
    sure = np.asarray(confidences, dtype=np.float32)
    wanted = np.asarray(thresholds, dtype=np.float32)
    return np.asarray(np.where(np.isneginf(wanted), True, sure >= wanted), dtype=np.bool_)
