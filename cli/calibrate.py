"""`adafocus calibrate`: solve temperature and exit thresholds on held-out clips."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from adafocus.bundle.exit_rule import ExitCriterion
from adafocus.bundle.guarantee import Risk
from adafocus.cli.calibration_clips import training_clips, unseen_clips
from adafocus.cli.certification import Tested, Uncertified, certified, in_words, uncertified
from adafocus.cli.options import snap_option
from adafocus.video.sampler import Snap

if TYPE_CHECKING:
    from adafocus.training.evaluate.exit_curve import CurvePoint
    from adafocus.training.evaluate.operating_points import Calibration

CRITERIA = ("max_softmax", "max_logit", "neg_entropy", "label_margin")
RISKS = ("answer_changed", "right_answer_lost")


@click.command(
    "calibrate", epilog="Example: adafocus calibrate --checkpoint runs/first/last.pt --data clips --out c.json"
)
@click.option(
    "--checkpoint",
    "checkpoints",
    required=True,
    multiple=True,
    type=click.Path(path_type=Path),
    help="Checkpoint of `train`; repeat it for the folds of one recipe, each evaluated on its own held-out clips.",
)
@click.option("--config", metavar="NAME|FILE", help="Recipe; required for a checkpoint of the authors' released code.")
@click.option(
    "--data", required=True, type=click.Path(path_type=Path), help="Folder of the clips that the model was trained on."
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Calibration file to write.")
@click.option(
    "--split", metavar="NAME", help="Calibrate on all clips of this split; default: the clips that training held out."
)
@click.option(
    "--budget",
    "budgets",
    multiple=True,
    type=click.FloatRange(0, 1, min_open=True),
    help="Add an operating point within this share of full compute (at-30 for 0.3); can be repeated.",
)
@click.option(
    "--guarantee",
    "guarantees",
    multiple=True,
    metavar="EPS",
    type=click.FloatRange(0, 0.5, min_open=True, max_open=True),
    help="Certify that at most this share of videos gets another answer than from full; adds a point (certified-2 for "
    "0.02), the default. Can be repeated.",
)
@click.option(
    "--confidence",
    default=0.95,
    show_default=True,
    type=click.FloatRange(0.5, 1, min_open=True, max_open=True),
    help="Confidence of what is certified.",
)
@click.option(
    "--risk",
    default="answer_changed",
    show_default=True,
    type=click.Choice(RISKS),
    help="What counts as a failure: another answer than full's, or a wrong one where full's is right.",
)
@click.option(
    "--unlabelled",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder of videos without labels, such as recorded production; what is certified is tested on them alone.",
)
@click.option("--curve", type=click.Path(path_type=Path), help="Write the sweep over all budgets as CSV.")
@click.option(
    "--criterion",
    type=click.Choice(CRITERIA),
    help="Confidence that the exit compares with its threshold; label_margin is for videos of several labels. Default: "
    "label_margin for a model trained with the loss sigmoid, else max_softmax.",
)
@click.option(
    "--missed-labels",
    metavar="EPS",
    type=click.FloatRange(0, 0.5, min_open=True, max_open=True),
    help="With label_margin: choose the threshold of each label so that at most this share of the videos that have it "
    "is missed. Default: the threshold of the best F1.",
)
@click.option(
    "--paper-protocol",
    is_flag=True,
    help="Solve thresholds on the clips that the model was trained on, without a temperature, as published. "
    "Accuracies are then optimistic; the file and the bundle are labelled.",
)
@click.option(
    "--glance-exit",
    is_flag=True,
    help="Let operating points exit after the glance of a step, before its focus, where that pays.",
)
@snap_option("that of the checkpoint")
@click.option("--cache", type=click.Path(path_type=Path), help="Keep decoded crops in this folder; default: in memory.")
@click.option("--json", "as_json", is_flag=True, help="Print the calibration as JSON instead of a table.")
def command(
    checkpoints: tuple[Path, ...],
    config: str | None,
    data: Path,
    out: Path,
    split: str | None,
    budgets: tuple[float, ...],
    guarantees: tuple[float, ...],
    confidence: float,
    risk: Risk,
    unlabelled: Path | None,
    curve: Path | None,
    criterion: ExitCriterion | None,
    missed_labels: float | None,
    paper_protocol: bool,
    glance_exit: bool,
    snap: Snap | None,
    cache: Path | None,
    as_json: bool,
) -> int:
    """Solve the temperature and the exit thresholds on the clips that training held out. Nothing is trained."""
    import numpy as np

    from adafocus.training.errors import TrainingError
    from adafocus.training.evaluate.certified_points import Promises
    from adafocus.training.evaluate.exit_curve import exit_curve
    from adafocus.training.evaluate.exit_layout import ExitLayout
    from adafocus.training.evaluate.multi_label import LabelRule, MissedLabels

    promises = Promises(guarantees, confidence, risk)

    if len(checkpoints) > 1 and (split is not None or paper_protocol):
        option = "--paper-protocol" if paper_protocol else "--split"
        raise click.UsageError(
            f"{option} needs exactly one --checkpoint; folds are evaluated on the clips that each of them held out"
        )
    if (guarantees or unlabelled) and (len(checkpoints) > 1 or paper_protocol):
        raise click.UsageError(
            "--guarantee and --unlabelled need exactly one --checkpoint and clips that it was not trained on"
        )
    if unlabelled is not None and risk != "answer_changed":
        raise click.UsageError(f"--unlabelled cannot test the risk {risk}, which needs labels")
    if config is not None and split is None and not paper_protocol:
        raise click.UsageError(
            "--config needs --split, because a released checkpoint does not say which clips were held out"
        )
    try:
        if paper_protocol:
            material = training_clips(checkpoints[0], config, data, split, snap, cache)
        else:
            material = unseen_clips(checkpoints, config, data, split, snap, cache)
        predictions, cost = material.predictions, material.gflops_per_step
        trained = material.trained
        criterion = criterion or material.criterion
        missed = None if missed_labels is None else MissedLabels(missed_labels, confidence)
        if missed is not None and criterion != "label_margin":
            raise click.UsageError(f"--missed-labels needs the criterion label_margin, got {criterion}")
        if guarantees and unlabelled is None and trained is not None and not trained.learned_from:
            raise click.UsageError(
                "--guarantee needs clips that the checkpoint was not trained on, and it does not say which those are; "
                "test on videos of your own with --unlabelled"
            )
        if trained is not None and (unlabelled is not None or trained.learned_from):
            tested = Tested(trained, checkpoints[0], predictions, criterion, promises, glance_exit, missed)
            found = certified(tested, unlabelled, cache, material.notes, budgets)
        else:
            steps, share = predictions.logits.shape[1], material.glance_share
            layout = ExitLayout.with_glances(steps, share) if glance_exit else None
            how = Uncertified(criterion, paper_protocol, layout, missed)
            found = uncertified(predictions, cost, how, material.notes, budgets)
    except TrainingError as error:
        raise click.ClickException(str(error)) from error
    found = replace(found, snap=material.snap)
    found.save(out)
    if curve is not None:
        heat = np.array(found.exit_rule.temperatures, np.float32)
        logits = predictions.logits
        if found.label_thresholds is not None:
            logits, heat = (
                LabelRule(found.exit_rule.temperatures, found.label_thresholds).decisions(logits),
                np.ones_like(heat),
            )
        sweep = exit_curve(logits, predictions.labels, criterion, heat)
        _write_sweep(curve, sweep, predictions.logits.shape[1] * cost)
    click.echo(out.read_text(encoding="utf-8") if as_json else table(found))
    return 0


def _write_sweep(path: Path, sweep: Sequence[CurvePoint], gflops_full: float) -> None:
    """Write a row per budget: ratio of exit shares, cost, accuracy, and the threshold of each step.

    Where clips may have several classes, mean average precision follows accuracy, in the column ``map``.
    """
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        steps = range(1, len(sweep[0].thresholds) + 1)
        several = sweep[0].mean_average_precision is not None
        fixed = ("ratio", "gflops", "flops_share", "accuracy", *(["map"] if several else []), "answers_changed")
        writer.writerow([*fixed, *(f"threshold_{step}" for step in steps), *(f"exits_{step}" for step in steps)])
        for point in sweep:
            cost = (point.ratio, point.flops_share * gflops_full, point.flops_share, point.accuracy)
            precision = [point.mean_average_precision] if several else []
            writer.writerow([*cost, *precision, point.answers_changed, *point.thresholds, *point.exit_shares])


def table(found: Calibration) -> str:
    """Format the operating points as text."""
    full = next(point.expected_gflops for point in found.points if point.name == "full")
    lines = [f"temperature {found.temperature:g}, {found.criterion}, {found.notes}"]
    lines.append(f"{'point':<10} {'accuracy':>8} {'GFLOPs':>9} {'of full':>8}  exit shares per step")
    for point in found.points:
        shares = " ".join(f"{share:.2f}" for share in point.exit_shares)
        share = point.expected_gflops / full
        lines.append(
            f"{point.name:<10} {point.expected_accuracy:>8.4f} {point.expected_gflops:>9.4g} {share:>8.1%}  {shares}"
        )
    lines += [f"{point.name:<10} {in_words(point.guarantee)}" for point in found.points if point.guarantee]
    return "\n".join([*lines, f"default {found.default}"])
