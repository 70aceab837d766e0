"""What a trained model is worth on labelled clips, and what it costs: the numbers of PRODUCT's ``evaluate``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch

from bundle.exit_rule import ExitCriterion
from model.adafocus import AdaFocus
from training.augment import serving_batch
from training.calibrate import CurvePoint, exit_curve, measure
from training.crops import Crops
from training.metrics import (
    Indices,
    Logits,
    accuracy,
    answers,
    calibration_error,
    confusion,
    exit_steps,
    f1_per_class,
    macro_f1,
    negative_log_likelihood,
)
from training.points import Calibration


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
    """An evaluation. Accuracies are shares of clips; GFLOPs are means per video, one multiply-add counting one."""

    clips: int
    labels: tuple[str, ...]
    accuracy: float
    macro_f1: float
    per_class: Mapping[str, Mapping[str, float]]
    step_accuracy: tuple[float, ...]
    confusion: tuple[tuple[int, ...], ...]
    nll: float
    calibration_error: float
    gflops_full: float
    points: tuple[PointReport, ...] = ()
    curve: tuple[CurvePoint, ...] = ()
    broken: tuple[str, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return asdict(self)


@torch.no_grad()
def predict(model: AdaFocus, crops: Crops, batch_size: int = 16) -> Logits:
    """Step logits of every clip as served: float32 [N, T, C]."""
    was_training = model.training
    model.eval()
    rows = []
    for start in range(0, len(crops.pixels), batch_size):
        frames = serving_batch(crops.pixels[start : start + batch_size])
        rows.append(model(frames).step_logits.float().cpu().numpy())
    model.train(was_training)
    return np.concatenate(rows).astype(np.float32)


def labels_of(crops: Crops) -> Indices:
    """The class index of every clip: int64 [N]."""
    return np.array([clip.label for clip in crops.data.clips], dtype=np.int64)


def point_report(
    name: str,
    logits: Logits,
    labels: Indices,
    thresholds: Sequence[float | None],
    gflops_per_step: float,
    criterion: ExitCriterion,
    temperature: float,
) -> PointReport:
    """What an operating point does to clips whose logits are known."""
    steps = exit_steps(logits, thresholds, criterion, temperature)
    found = measure(logits, labels, thresholds, criterion, temperature, ratio=0.0)
    return PointReport(
        name=name,
        accuracy=found.accuracy,
        macro_f1=macro_f1(answers(logits, steps), labels, logits.shape[2]),
        gflops=found.flops_share * logits.shape[1] * gflops_per_step,
        flops_share=found.flops_share,
        exit_shares=found.exit_shares,
    )


def evaluate(
    logits: Logits,
    labels: Indices,
    names: Sequence[str],
    gflops_per_step: float,
    calibration: Calibration | None = None,
    broken: Sequence[str] = (),
) -> Report:
    """Every number from step logits [N, T, C] and labels [N].

    The curve's thresholds are solved on these very clips, so it shows what is possible; the points of ``calibration``
    were solved elsewhere and show what is.
    """
    criterion: ExitCriterion = calibration.criterion if calibration else "max_softmax"
    temperature = calibration.temperature if calibration else 1.0
    predicted = logits.argmax(axis=2)
    table = confusion(predicted[:, -1], labels, len(names))
    return Report(
        clips=len(labels),
        labels=tuple(names),
        accuracy=accuracy(predicted[:, -1], labels),
        macro_f1=macro_f1(predicted[:, -1], labels, len(names)),
        per_class=_per_class(table, names),
        step_accuracy=tuple(accuracy(predicted[:, step], labels) for step in range(logits.shape[1])),
        confusion=tuple(tuple(int(cell) for cell in row) for row in table),
        nll=negative_log_likelihood(logits[:, -1:], labels, temperature),
        calibration_error=calibration_error(logits, labels, temperature),
        gflops_full=logits.shape[1] * gflops_per_step,
        points=tuple(
            point_report(point.name, logits, labels, point.thresholds, gflops_per_step, criterion, temperature)
            for point in (calibration.points if calibration else ())
        ),
        curve=exit_curve(logits, labels, criterion, temperature),
        broken=tuple(broken),
    )


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
