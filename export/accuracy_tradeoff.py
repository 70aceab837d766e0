"""Measures the accuracy that a reduced precision loses on labelled clips, and solves its exit thresholds anew.

Thresholds are numbers of one model's confidence. For another precision each is moved so that as many clips leave at
each step as with fp32; a threshold that already does so is kept. This needs no labels, so training clips can be used,
too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from adafocus.bundle.exit_rule import should_exit
from adafocus.bundle.manifest import Manifest, OperatingPoint, Precision, Reduced

Float32 = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Bound:
    """The most that a precision may lose, after all steps.

    Attributes:
        agreement: share of the clips that must get fp32's answer.
        accuracy_lost: share of right answers that may be lost.
    """

    agreement: float = 0.99
    accuracy_lost: float = 0.005

    def holds(self, reduced: Reduced) -> bool:
        """Return True if a precision is within the bound."""
        lost = reduced.accuracy_fp32 - reduced.accuracy
        return reduced.agreement >= self.agreement and lost <= self.accuracy_lost + 1e-9


@dataclass(frozen=True)
class ClipLogits:
    """Step logits [N, T, C] of fp32 graphs for clips with labels [N], and which clips they are."""

    logits: Float32
    labels: Indices
    data: str


def compare(
    manifest: Manifest, precision: Precision, fp32: ClipLogits, logits: Float32, kept: Sequence[str] = ()
) -> Reduced:
    """Compare a precision's step logits [N, T, C] with those of fp32, and solve its thresholds.

    Args:
        manifest: with fp32's operating points.
        precision: the one that is compared.
        fp32: the fp32 logits of the same clips.
        logits: of the precision.
        kept: layers that stayed in fp32.
    """
    sure, sure_fp32 = (manifest.exit_rule.of_all_steps(one) for one in (logits, fp32.logits))
    points, shifts = [], {}
    for point in manifest.operating_points:
        row = manifest.threshold_row(point.name)
        thresholds = follow(sure_fp32, sure, row)
        before, after = exit_steps(sure_fp32, row), exit_steps(sure, (*thresholds[:-1], -np.inf))
        shifts[point.name] = round(float(after.mean() - before.mean()), 4)
        cost = point.expected_gflops * float((after + 1).mean() / (before + 1).mean())
        points.append(_point(point, thresholds, cost))
    answers, answers_fp32 = logits[:, -1].argmax(axis=1), fp32.logits[:, -1].argmax(axis=1)
    return Reduced(
        precision=precision,
        data=fp32.data,
        clips=len(logits),
        accuracy=float((answers == fp32.labels).mean()),
        accuracy_fp32=float((answers_fp32 == fp32.labels).mean()),
        agreement=float((answers == answers_fp32).mean()),
        exit_step_shift=shifts,
        operating_points=tuple(points),
        kept=tuple(kept),
    )


def follow(wanted: Float32, found: Float32, row: Sequence[float]) -> tuple[float, ...]:
    """Thresholds that let as many clips leave at each step by one confidence as a row does by another.

    Args:
        wanted: float32 [N, T], confidences that the row was solved for.
        found: float32 [N, T], of the same clips in another precision.
        row: T thresholds; ``inf`` where no clip leaves.

    Returns:
        T thresholds, each as near to the row's as can be.
    """
    staying, staying_too = np.ones(len(wanted), dtype=bool), np.ones(len(found), dtype=bool)
    thresholds = []
    for step, threshold in enumerate(row):
        out = staying & should_exit(wanted[:, step], threshold)
        moved = threshold if np.isinf(threshold) else _nearest(found[staying_too, step], int(out.sum()), threshold)
        staying &= ~out
        staying_too &= ~should_exit(found[:, step], moved)
        thresholds.append(float(moved))
    return tuple(thresholds)


def exit_steps(sure: Float32, row: Sequence[float]) -> Indices:
    """The step, from 0, at which each clip leaves: confidences [N, T] and T thresholds, the last ``-inf``."""
    return np.asarray(should_exit(sure, np.asarray(row, dtype=np.float32)[None, :]).argmax(axis=1), dtype=np.int64)


def _nearest(sure: Float32, count: int, threshold: float) -> float:
    """The threshold nearest to the given one at which ``count`` of these confidences exit, apart from ties."""
    falling = np.sort(sure)[::-1]
    lowest = np.nextafter(falling[count], np.float32(np.inf)) if count < len(falling) else -np.inf
    highest = falling[count - 1] if 0 < count <= len(falling) else np.inf
    return float(min(max(threshold, float(lowest)), max(float(highest), float(lowest))))


def _point(point: OperatingPoint, thresholds: Sequence[float], gflops: float) -> OperatingPoint:
    solved = tuple(None if np.isinf(value) else value for value in thresholds)
    # What was certified is another model with other thresholds, and exits after the glance were solved for fp32 only.
    gone = dict.fromkeys(("glance_thresholds", "expected_accuracy", "guarantee"))
    return point.model_copy(update={"thresholds": solved, "expected_gflops": gflops, **gone})
