"""What a trained model is worth on labelled clips, and what it costs: the numbers of PRODUCT's ``evaluate``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from bundle.exit_rule import ExitCriterion, ExitRule, probabilities
from training.data.augment import serving_batch
from training.data.crops import Crops
from training.evaluate.average_precision import AVERAGES, mean_average_precision
from training.evaluate.calibrate import CurvePoint, Temperature, exit_curve, measure
from training.evaluate.metrics import (
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
from training.evaluate.operating_points import Calibration
from training.optimise.objective import Model, answer


@dataclass(frozen=True)
class PointReport:
    """An operating point on these clips."""

    name: str
    accuracy: float
    macro_f1: float
    gflops: float
    flops_share: float
    exit_shares: tuple[float, ...]


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
        """Plain data, for JSON."""
        return asdict(self)


@torch.no_grad()
def predict(model: Model, crops: Crops, batch_size: int = 16) -> Logits:
    """Step logits of every clip as served: float32 [N, T, C]; a clip model has one step."""
    was_training = model.training
    model.eval()
    device = next(model.parameters()).device
    rows = []
    for start in range(0, len(crops.pixels), batch_size):
        frames = serving_batch(crops.pixels[start : start + batch_size]).to(device)
        rows.append(answer(model, frames).float().cpu().numpy())
    model.train(was_training)
    return np.concatenate(rows).astype(np.float32)


def labels_of(crops: Crops) -> Indices:
    """The class index of every clip, the first one where it has several: int64 [N]."""
    return np.array([clip.label for clip in crops.data.clips], dtype=np.int64)


def truth_of(crops: Crops) -> Truth:
    """What is true of every clip: int64 [N], or bool [N, C] where clips may have several classes."""
    if not crops.data.multi_label:
        return labels_of(crops)
    return multi_hot([clip.all_labels for clip in crops.data.clips], len(crops.data.labels))


def multi_hot(labels: Sequence[Sequence[int]], classes: int) -> npt.NDArray[np.bool_]:
    """Rows of class indices -> bool [N, classes]."""
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
    """What an operating point does to clips whose logits are known."""
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
    """Every number from step logits [N, T, C] and labels [N], or [N, C] where a clip may have several.

    The curve's thresholds are solved on these very clips, so it shows what is possible; the points of ``calibration``
    were solved elsewhere, with their own criterion, and show what is.
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
    """Mean average precision of what the clips are given where they leave."""
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
