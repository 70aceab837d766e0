"""Evaluate a model on labelled clips: accuracy, cost, and the curve between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from adafocus.bundle.exit_rule import ExitCriterion, ExitRule, probabilities
from adafocus.training.data.augment import serving_batch
from adafocus.training.data.clips import ClipSet
from adafocus.training.data.crops import Crops
from adafocus.training.data.frame_store import Pixels
from adafocus.training.errors import CalibrationError
from adafocus.training.evaluate.average_precision import AVERAGES, mean_average_precision
from adafocus.training.evaluate.exit_curve import CurvePoint, Temperature, exit_curve, measure
from adafocus.training.evaluate.exit_layout import ExitLayout, interleaved
from adafocus.training.evaluate.metrics import (
    Indices,
    Logits,
    Truth,
    accuracy,
    answers,
    binary_calibration_error,
    calibration_error,
    confusion,
    exit_steps,
    f1_per_class,
    macro_f1,
    negative_log_likelihood,
    one_label,
    top_k_accuracy,
)
from adafocus.training.evaluate.multi_label import LabelRule, micro_f1
from adafocus.training.evaluate.operating_points import Calibration, Point
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
class EvaluationReport:
    """An evaluation. Accuracies are shares of clips; GFLOPs are means per video, one multiply-add counting one.

    Mean average precision is given by the name of each average (see `training.evaluate.average_precision`).
    ``curve_map`` is the one along the curve, averaged as scikit-learn does, for clips that may have several classes.
    Tables of classes then count a clip as the answered class if it is one of its own, else as its first. ``label_f1``
    is over all clips and labels together; None without thresholds of labels.
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
    label_f1: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self)


class Glances(NamedTuple):
    """Logits of the glance's auxiliary head, float32 [N, T, C], and the share of a step's cost that a glance takes."""

    logits: Logits
    share: float


class ClipLogits(NamedTuple):
    """Logits after each step, and of the glance's auxiliary head at each: float32 [N, T, C]; a clip model has T = 1."""

    steps: Logits
    glances: Logits


@torch.no_grad()
def clip_logits(model: Model, pixels: Sequence[Pixels]) -> ClipLogits:
    """Return the logits of one batch of clips as served."""
    was_training = model.training
    model.eval()
    frames = serving_batch(pixels).to(next(model.parameters()).device)
    glance = model.glance_clip(frames)
    steps = model.focus_clip(frames, glance.features, glance.patch_centres).step_logits
    model.train(was_training)
    return ClipLogits(*(logits.float().cpu().numpy() for logits in (steps, glance.logits)))


def step_logits(model: Model, pixels: Sequence[Pixels]) -> Logits:
    """Return the step logits of one batch of clips as served: float32 [N, T, C]; a clip model has one step."""
    return clip_logits(model, pixels).steps


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
    layout: ExitLayout | None = None,
) -> PointReport:
    """Apply an operating point to the logits of clips at its exits, which cost what the layout says."""
    steps = exit_steps(logits, thresholds, criterion, temperature)
    found = measure(logits, labels, thresholds, criterion, temperature, 0.0, layout)
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
    glances: Glances | None = None,
) -> EvaluationReport:
    """Return every metric of step logits [N, T, C] and labels [N], or [N, C] where a clip may have several.

    The curve's thresholds are solved on these clips, so it is optimistic; the points of ``calibration`` were solved on
    others, with their own criterion. Points with exits after the glance need ``glances``.
    """
    if calibration is not None and calibration.label_thresholds is not None:
        return _evaluate_labels(logits, labels, names, gflops_per_step, calibration, broken, glances)
    criterion = calibration.criterion if calibration else criterion
    rule = calibration.exit_rule if calibration else ExitRule(criterion, (1.0,) * logits.shape[1])
    temperature, last_temperature = np.array(rule.temperatures, dtype=np.float32), rule.temperatures[-1]
    predicted = logits.argmax(axis=2)
    last = predicted[:, -1]
    several = labels.ndim == 2
    targets = labels.astype(np.bool_) if several else multi_hot([(int(label),) for label in labels], len(names))
    table = confusion(last, one_label(last, labels), len(names))
    curve = exit_curve(logits, labels, criterion, temperature)
    return EvaluationReport(
        clips=len(labels),
        labels=tuple(names),
        accuracy=accuracy(last, labels),
        top5=top_k_accuracy(logits[:, -1], labels, 5),
        macro_f1=macro_f1(last, one_label(last, labels), len(names)),
        multi_label=several,
        mean_average_precision={
            average: mean_average_precision(_scores(logits[:, -1], criterion), targets, average) for average in AVERAGES
        },
        per_class=_per_class(table, names),
        step_accuracy=tuple(accuracy(predicted[:, step], labels) for step in range(logits.shape[1])),
        confusion=tuple(tuple(int(cell) for cell in row) for row in table),
        nll=negative_log_likelihood(logits[:, -1:], labels, last_temperature),
        calibration_error=calibration_error(logits, labels, last_temperature),
        gflops_full=logits.shape[1] * gflops_per_step,
        points=()
        if calibration is None
        else tuple(
            _at_point(point, calibration, logits, labels, gflops_per_step, glances) for point in calibration.points
        ),
        curve=curve,
        curve_map=tuple(_map_at(logits, targets, point, criterion, temperature) for point in curve) if several else (),
        broken=tuple(broken),
    )


def _evaluate_labels(
    logits: Logits,
    labels: Truth,
    names: Sequence[str],
    gflops_per_step: float,
    calibration: Calibration,
    broken: Sequence[str],
    glances: Glances | None,
) -> EvaluationReport:
    """Evaluate a model of several labels: as one of one label, on the decision logits.

    Its likelihood and calibration error are those of yes and no, over all clips and labels at the last step.
    """
    bounds = calibration.label_thresholds or ()
    rule = calibration.exit_rule
    decided = LabelRule(rule.temperatures, bounds).decisions(logits)
    if glances is not None:
        heat = calibration.glance_temperatures or rule.temperatures
        glances = glances._replace(logits=LabelRule(heat, bounds).decisions(glances.logits))
    plain = replace(calibration, label_thresholds=None, temperature=1.0, temperatures=None, glance_temperatures=None)
    report = evaluate(decided, labels, names, gflops_per_step, plain, broken, glances=glances)
    sure = rule.probabilities(logits[:, -1], logits.shape[1] - 1).astype(np.float64)
    truth = multi_hot([(int(one),) for one in labels], len(names)) if labels.ndim == 1 else labels.astype(np.bool_)
    return replace(
        report,
        nll=float(-np.log(np.maximum(np.where(truth, sure, 1 - sure), 1e-12)).mean()),
        calibration_error=binary_calibration_error(sure, truth),
        label_f1=micro_f1(decided[:, -1], truth),
    )


def _at_point(
    point: Point, found: Calibration, logits: Logits, labels: Truth, gflops_per_step: float, glances: Glances | None
) -> PointReport:
    """Apply a point of a calibration, with its exits after the glance, if it has any."""
    heat = np.array(found.exit_rule.temperatures, dtype=np.float32)
    ask = (gflops_per_step, found.criterion)
    if point.glance_thresholds is None:
        return point_report(point.name, logits, labels, point.thresholds, *ask, heat)
    if glances is None:
        raise CalibrationError(f"operating point {point.name!r} exits after the glance; its logits are needed")
    layout = ExitLayout.with_glances(logits.shape[1], glances.share)
    row = tuple(value for pair in zip(point.glance_thresholds, point.thresholds, strict=True) for value in pair)
    glance_heat = heat if found.glance_temperatures is None else np.array(found.glance_temperatures, dtype=np.float32)
    both = np.stack([glance_heat, heat], axis=1).ravel()
    gflops_per_exit = gflops_per_step / 2
    at_exits = point_report(
        point.name, interleaved(glances.logits, logits), labels, row, gflops_per_exit, found.criterion, both, layout
    )
    shares = at_exits.exit_shares
    return replace(at_exits, exit_shares=tuple(a + b for a, b in zip(shares[::2], shares[1::2], strict=True)))


def _map_at(
    logits: Logits,
    targets: npt.NDArray[np.bool_],
    point: CurvePoint,
    criterion: ExitCriterion,
    temperature: Temperature,
) -> float:
    """Return the mean average precision of the scores of the steps at which the clips leave."""
    left = logits[np.arange(len(logits)), exit_steps(logits, point.thresholds, criterion, temperature)]
    return mean_average_precision(_scores(left, criterion), targets)


def _scores(logits: Logits, criterion: ExitCriterion) -> Logits:
    """What clips are ranked by in each class; decision logits are their own scores."""
    return logits if criterion == "label_margin" else probabilities(logits, 1.0)


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
