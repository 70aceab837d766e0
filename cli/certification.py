"""Certification for `adafocus calibrate`: its options, and the printed form of a guarantee."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from adafocus.bundle.exit_rule import ExitCriterion
from adafocus.bundle.guarantee import Guarantee
from adafocus.cli.videos import find_videos

if TYPE_CHECKING:
    from adafocus.training.data.crops import Broken
    from adafocus.training.evaluate.certified_points import Clips, Promises
    from adafocus.training.evaluate.exit_layout import ExitLayout
    from adafocus.training.evaluate.inference import ClipPredictions, Trained
    from adafocus.training.evaluate.metrics import Logits
    from adafocus.training.evaluate.multi_label import MissedLabels
    from adafocus.training.evaluate.operating_points import Calibration

WORDS = {"answer_changed": "change the answer", "right_answer_lost": "lose a right answer"}


@dataclass(frozen=True)
class Tested:
    """A model with its checkpoint, labelled clips that it was not trained on, and what to certify."""

    trained: Trained
    checkpoint: Path
    predictions: ClipPredictions
    criterion: ExitCriterion
    promises: Promises
    glance_exit: bool = False
    missed: MissedLabels | None = None

    @property
    def layout(self) -> ExitLayout | None:
        """The exits, if some are after a glance."""
        from adafocus.training.evaluate.exit_layout import ExitLayout

        steps = self.predictions.logits.shape[1]
        return ExitLayout.with_glances(steps, self.trained.glance_share) if self.glance_exit else None


def all_exits(predictions: ClipPredictions, layout: ExitLayout | None) -> Logits:
    """The logits of all exits, in their order."""
    from adafocus.training.evaluate.exit_layout import interleaved

    return predictions.logits if layout is None else interleaved(predictions.glance_logits, predictions.logits)


def cost_of_exit(gflops_per_step: float, layout: ExitLayout | None) -> float:
    """The cost of full compute divided by the number of exits."""
    return gflops_per_step if layout is None else gflops_per_step / 2


def certified(
    tested: Tested, unlabelled: Path | None, cache: Path | None, notes: str, budgets: Sequence[float]
) -> Calibration:
    """Calibrate with guarantees, and print to standard error what was asked for and cannot be promised."""
    from adafocus.training.data.clips import digest
    from adafocus.training.data.groups import units_of
    from adafocus.training.evaluate.certified_points import Clips, calibrate_certified
    from adafocus.training.evaluate.exit_layout import split_by_component

    predictions, layout = tested.predictions, tested.layout
    found = calibrate_certified(
        Clips(all_exits(predictions, layout), units_of(predictions.clips.clips)),
        predictions.labels,
        cost_of_exit(tested.trained.gflops_per_step, layout),
        tested.criterion,
        tested.promises,
        _unlabelled(tested.trained, unlabelled, cache, layout) if unlabelled else None,
        notes=notes,
        budgets=budgets,
        layout=layout,
        missed=tested.missed,
    )
    for warning in found.warnings:
        click.echo(f"Warning: {warning}", err=True)
    by_step = found.calibration if layout is None else split_by_component(found.calibration)
    return replace(by_step, checkpoint=digest(tested.checkpoint))


@dataclass(frozen=True)
class Uncertified:
    """How to calibrate without guarantees."""

    criterion: ExitCriterion
    paper_protocol: bool
    layout: ExitLayout | None = None
    missed: MissedLabels | None = None


def uncertified(
    predictions: ClipPredictions, gflops_per_step: float, how: Uncertified, notes: str, budgets: Sequence[float]
) -> Calibration:
    """Calibrate without guarantees: on folds, on training clips, or on clips that may have been trained on."""
    from adafocus.training.evaluate.calibrate import calibrate
    from adafocus.training.evaluate.exit_layout import split_by_component
    from adafocus.training.evaluate.multi_label import fit_labels

    layout, logits, labels = how.layout, all_exits(predictions, how.layout), None
    if how.criterion == "label_margin":
        labels = fit_labels(logits, predictions.labels, how.missed)
        logits = labels.decisions(logits)
    found = calibrate(
        logits,
        predictions.labels,
        cost_of_exit(gflops_per_step, layout),
        how.criterion,
        notes=notes,
        budgets=budgets,
        temperature=1.0 if how.paper_protocol or labels else None,
        protocol="paper" if how.paper_protocol else "holdout",
        layout=layout,
    )
    if labels is not None:
        heat = labels.temperatures
        found = replace(found, temperature=heat[-1], temperatures=heat, label_thresholds=labels.thresholds)
    return found if layout is None else split_by_component(found)


def _unlabelled(trained: Trained, folder: Path, cache: Path | None, layout: ExitLayout | None) -> Clips:
    """Run the model on the videos of a folder."""
    from adafocus.training.data.clips import Clip, ClipSet, digest
    from adafocus.training.data.groups import units_of
    from adafocus.training.evaluate.certified_points import Clips
    from adafocus.training.evaluate.inference import predict_unseen

    files = find_videos([folder]).files
    no_label = 0  # a clip needs one; it is not read
    clips = ClipSet(trained.labels, tuple(Clip(file, no_label, digest(file)) for file in files), {"name": folder.name})
    predictions = predict_unseen(trained, clips, cache, _skipped)
    return Clips(all_exits(predictions, layout), units_of(predictions.clips.clips))


def _skipped(clip: Broken) -> None:
    click.echo(f"skipped {clip.path}: {clip.reason}", err=True)


def in_words(guarantee: Guarantee) -> str:
    """A guarantee as one line."""
    return (
        f"at most {100 * guarantee.epsilon:g} % of videos {WORDS[guarantee.risk]}, with {guarantee.confidence:.4g} "
        f"confidence ({guarantee.failures} of {guarantee.clips} tested clips did)"
    )
