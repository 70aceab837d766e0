"""What `adafocus calibrate` certifies, and how a guarantee is printed."""

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
    from adafocus.training.evaluate.inference import Judged, Trained
    from adafocus.training.evaluate.operating_points import Calibration

WORDS = {"answer_changed": "change the answer", "right_answer_lost": "lose a right answer"}


@dataclass(frozen=True)
class Tested:
    """A model with its checkpoint, labelled clips that it was not trained on, and what to certify."""

    trained: Trained
    checkpoint: Path
    judged: Judged
    criterion: ExitCriterion
    promises: Promises


def certified(
    tested: Tested, unlabelled: Path | None, cache: Path | None, notes: str, budgets: Sequence[float]
) -> Calibration:
    """Calibrate with guarantees, and print to standard error what was asked for and cannot be promised."""
    from adafocus.training.data.clips import digest
    from adafocus.training.data.groups import units_of
    from adafocus.training.evaluate.certified_points import Clips, calibrate_certified

    judged = tested.judged
    found = calibrate_certified(
        Clips(judged.logits, units_of(judged.clips.clips)),
        judged.labels,
        tested.trained.gflops_per_step,
        tested.criterion,
        tested.promises,
        _unlabelled(tested.trained, unlabelled, cache) if unlabelled else None,
        notes=notes,
        budgets=budgets,
    )
    for warning in found.warnings:
        click.echo(f"Warning: {warning}", err=True)
    return replace(found.calibration, checkpoint=digest(tested.checkpoint))


def uncertified(
    judged: Judged,
    gflops_per_step: float,
    criterion: ExitCriterion,
    notes: str,
    budgets: Sequence[float],
    *,
    paper_protocol: bool,
) -> Calibration:
    """Calibrate without guarantees: on folds, on training clips, or on clips that may have been trained on."""
    from adafocus.training.evaluate.calibrate import calibrate

    return calibrate(
        judged.logits,
        judged.labels,
        gflops_per_step,
        criterion,
        notes=notes,
        budgets=budgets,
        temperature=1.0 if paper_protocol else None,
        protocol="paper" if paper_protocol else "holdout",
    )


def _unlabelled(trained: Trained, folder: Path, cache: Path | None) -> Clips:
    """Run the model on the videos of a folder."""
    from adafocus.training.data.clips import Clip, ClipSet, digest
    from adafocus.training.data.groups import units_of
    from adafocus.training.evaluate.certified_points import Clips
    from adafocus.training.evaluate.inference import judge_unseen

    files = find_videos([folder]).files
    no_label = 0  # a clip needs one; it is not read
    clips = ClipSet(trained.labels, tuple(Clip(file, no_label, digest(file)) for file in files), {"name": folder.name})
    judged = judge_unseen(trained, clips, cache, _skipped)
    return Clips(judged.logits, units_of(judged.clips.clips))


def _skipped(clip: Broken) -> None:
    click.echo(f"skipped {clip.path}: {clip.reason}", err=True)


def in_words(guarantee: Guarantee) -> str:
    """A guarantee as one line."""
    return (
        f"at most {100 * guarantee.epsilon:g} % of videos {WORDS[guarantee.risk]}, with {guarantee.confidence:.4g} "
        f"confidence ({guarantee.failures} of {guarantee.clips} tested clips did)"
    )
