"""Evaluate a model on labelled clips: accuracy, cost, and the curve between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from adafocus.bundle.exit_rule import ExitCriterion, ExitRule, probabilities
from adafocus.training.data.augment import serving_batch
from adafocus.training.data.clips import ClipSet
from adafocus.training.data.crops import Crops
from adafocus.training.data.frame_store import Pixels
from adafocus.training.evaluate.average_precision import AVERAGES, mean_average_precision
from adafocus.training.evaluate.calibrate import CurvePoint, Temperature, exit_curve, measure
from adafocus.training.evaluate.metrics import (
    Indices,
    Logits,
    Truth,
    accuracy,
    answers,
    calibration_error,
    confusion,
    exit_steps,
    f1_per_class,
    macro_f1,
    negative_log_likelihood,
    one_label,
    top_k_accuracy,
)
from adafocus.training.evaluate.operating_points import Calibration
from adafocus.training.optimise.objective import Model

BATCH = 16
"""Clips that are evaluated at a time."""


@dataclass(frozen=True)
class PointReport:
    """An operating point on these clips.

    ``mean_average_precision`` is over the classes that occur; None where clips have one class each.
    """

    name: str
    accuracy: float
    macro_f1: float
    gflops: float
    flops_share: float
    exit_shares: tuple[float, ...]
    mean_average_precision: float | None = None


@dataclass(frozen=True)
class Report:
    """An evaluation. Accuracies are shares of clips; GFLOPs are means per video, one multiply-add counting one.

    Mean average precision is given by the name of each average (see `training.evaluate.average_precision`).
    ``curve_map`` is the one along the curve, averaged as scikit-learn does, for clips that may have several classes.
    Tables of classes then count a clip as the answered class if it is one of its own, else as its first.
    """

    clips: int
    labels: tuple[str, ...]
    accuracy: float
    top5: float
    macro_f1: float
    multi_label: bool
    mean_average_precision: Mapping[str, float]
    per_class: Mapping[str, Mapping[str, float]]
    step_accuracy: tuple[float, ...]
    confusion: tuple[tuple[int, ...], ...]
    nll: float
    calibration_error: float
    gflops_full: float
    points: tuple[PointReport, ...] = ()
    curve: tuple[CurvePoint, ...] = ()
    curve_map: tuple[float, ...] = ()
    broken: tuple[str, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self)


@torch.no_grad()
def step_logits(model: Model, pixels: Sequence[Pixels]) -> Logits:
    """Return the step logits of one batch of clips as served: float32 [N, T, C]; a clip model has one step."""
    was_training = model.training
    model.eval()
    device = next(model.parameters()).device
    logits = model.answer(serving_batch(pixels).to(device)).float().cpu().numpy()
    model.train(was_training)
    return logits.astype(np.float32, copy=False)


def predict(model: Model, crops: Crops, batch_size: int = BATCH) -> Logits:
    """Return the step logits of every clip as served: float32 [N, T, C]."""
    starts = range(0, len(crops.pixels), batch_size)
    batches = ([kept[np.arange(len(kept))] for kept in crops.pixels[start : start + batch_size]] for start in starts)
    return np.concatenate([step_logits(model, batch) for batch in batches])


def labels_of(data: ClipSet) -> Indices:
    """Return the class index of every clip, the first one where it has several: int64 [N]."""
    return np.array([clip.label for clip in data.clips], dtype=np.int64)


def truth_of(data: ClipSet) -> Truth:
    """Return the true classes of every clip: int64 [N], or bool [N, C] where clips may have several."""
    if not data.multi_label:
        return labels_of(data)
    return multi_hot([clip.all_labels for clip in data.clips], len(data.labels))


def multi_hot(labels: Sequence[Sequence[int]], classes: int) -> npt.NDArray[np.bool_]:
    """Return rows of class indices as bool [N, classes]."""
    table = np.zeros((len(labels), classes), dtype=np.bool_)
    for row, own in zip(table, labels, strict=True):
        row[list(own)] = True
    return table


def point_report(
    name: str,
    logits: Logits,
    labels: Truth,
    thresholds: Sequence[float | None],
    gflops_per_step: float,
    criterion: ExitCriterion,
    temperature: Temperature,
) -> PointReport:
    """Apply an operating point to the logits of clips."""
    steps = exit_steps(logits, thresholds, criterion, temperature)
    found = measure(logits, labels, thresholds, criterion, temperature, ratio=0.0)
    given = answers(logits, steps)
    return PointReport(
        name=name,
        accuracy=found.accuracy,
        macro_f1=macro_f1(given, one_label(given, labels), logits.shape[2]),
        gflops=found.flops_share * logits.shape[1] * gflops_per_step,
        flops_share=found.flops_share,
        exit_shares=found.exit_shares,
        mean_average_precision=found.mean_average_precision,
    )


def evaluate(
    logits: Logits,
    labels: Truth,
    names: Sequence[str],
    gflops_per_step: float,
    calibration: Calibration | None = None,
    broken: Sequence[str] = (),
    criterion: ExitCriterion = "max_softmax",
) -> Report:
    """Return every metric of step logits [N, T, C] and labels [N], or [N, C] where a clip may have several.

    The curve's thresholds are solved on these clips, so it is optimistic; the points of ``calibration`` were solved on
    others, with their own criterion.
    """
    criterion = calibration.criterion if calibration else criterion
    rule = calibration.exit_rule if calibration else ExitRule(criterion, (1.0,) * logits.shape[1])
    temperature, last_temperature = np.array(rule.temperatures, dtype=np.float32), rule.temperatures[-1]
    predicted = logits.argmax(axis=2)
    last = predicted[:, -1]
    several = labels.ndim == 2
    targets = labels.astype(np.bool_) if several else multi_hot([(int(label),) for label in labels], len(names))
    table = confusion(last, one_label(last, labels), len(names))
    curve = exit_curve(logits, labels, criterion, temperature)
    return Report(
        clips=len(labels),
        labels=tuple(names),
        accuracy=accuracy(last, labels),
        top5=top_k_accuracy(logits[:, -1], labels, 5),
        macro_f1=macro_f1(last, one_label(last, labels), len(names)),
        multi_label=several,
        mean_average_precision={
            average: mean_average_precision(probabilities(logits[:, -1], 1.0), targets, average) for average in AVERAGES
        },
        per_class=_per_class(table, names),
        step_accuracy=tuple(accuracy(predicted[:, step], labels) for step in range(logits.shape[1])),
        confusion=tuple(tuple(int(cell) for cell in row) for row in table),
        nll=negative_log_likelihood(logits[:, -1:], labels, last_temperature),
        calibration_error=calibration_error(logits, labels, last_temperature),
        gflops_full=logits.shape[1] * gflops_per_step,
        points=tuple(
            point_report(point.name, logits, labels, point.thresholds, gflops_per_step, criterion, temperature)
            for point in (calibration.points if calibration else ())
        ),
        curve=curve,
        curve_map=tuple(_map_at(logits, targets, point, criterion, temperature) for point in curve) if several else (),
        broken=tuple(broken),
    )


def _map_at(
    logits: Logits,
    targets: npt.NDArray[np.bool_],
    point: CurvePoint,
    criterion: ExitCriterion,
    temperature: Temperature,
) -> float:
    """Return the mean average precision of the scores of the steps at which the clips leave."""
    left = logits[np.arange(len(logits)), exit_steps(logits, point.thresholds, criterion, temperature)]
    return mean_average_precision(probabilities(left, 1.0), targets)


def _per_class(table: Indices, names: Sequence[str]) -> dict[str, dict[str, float]]:
    found = {}
    for index, (name, f1) in enumerate(zip(names, f1_per_class(table), strict=True)):
        right, clips, claimed = int(table[index, index]), int(table[index].sum()), int(table[:, index].sum())
        found[name] = {
            "clips": clips,
            "recall": right / clips if clips else 0.0,
            "precision": right / claimed if claimed else 0.0,
            "f1": 0.0 if np.isnan(f1) else float(f1),
        }
    return found
