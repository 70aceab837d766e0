"""`adafocus calibrate`: solve temperature and exit thresholds on held-out clips."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from adafocus.bundle.exit_rule import ExitCriterion
from adafocus.bundle.guarantee import Risk
from adafocus.cli.certification import Tested, certified, in_words, uncertified
from adafocus.cli.videos import print_left_out

if TYPE_CHECKING:
    from adafocus.training.data.clips import ClipSet
    from adafocus.training.data.crops import Broken
    from adafocus.training.evaluate.calibrate import CurvePoint
    from adafocus.training.evaluate.inference import Judged, Trained
    from adafocus.training.evaluate.operating_points import Calibration

CRITERIA = ("max_softmax", "max_logit", "neg_entropy")
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
    default="max_softmax",
    type=click.Choice(CRITERIA),
    show_default=True,
    help="Confidence that the exit compares with its threshold.",
)
@click.option(
    "--paper-protocol",
    is_flag=True,
    help="Solve thresholds on the clips that the model was trained on, without a temperature, as published. "
    "Accuracies are then optimistic; the file and the bundle are labelled.",
)
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
    criterion: ExitCriterion,
    paper_protocol: bool,
    cache: Path | None,
    as_json: bool,
) -> int:
    """Solve the temperature and the exit thresholds on the clips that training held out. Nothing is trained."""
    import numpy as np

    from adafocus.training.errors import TrainingError
    from adafocus.training.evaluate.calibrate import exit_curve
    from adafocus.training.evaluate.certified_points import Promises

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
            material = _training_clips(checkpoints[0], config, data, split, cache)
        else:
            material = _unseen_clips(checkpoints, config, data, split, cache)
        judged, cost = material.judged, material.gflops_per_step
        trained = material.trained
        if guarantees and unlabelled is None and trained is not None and not trained.learned_from:
            raise click.UsageError(
                "--guarantee needs clips that the checkpoint was not trained on, and it does not say which those are; "
                "test on videos of your own with --unlabelled"
            )
        if trained is not None and (unlabelled is not None or trained.learned_from):
            tested = Tested(trained, checkpoints[0], judged, criterion, promises)
            found = certified(tested, unlabelled, cache, material.notes, budgets)
        else:
            found = uncertified(judged, cost, criterion, material.notes, budgets, paper_protocol=paper_protocol)
    except TrainingError as error:
        raise click.ClickException(str(error)) from error
    found.save(out)
    if curve is not None:
        sweep = exit_curve(judged.logits, judged.labels, criterion, np.array(found.exit_rule.temperatures, np.float32))
        _write_sweep(curve, sweep, judged.logits.shape[1] * cost)
    click.echo(out.read_text(encoding="utf-8") if as_json else table(found))
    return 0


class _Material(NamedTuple):
    """Judged clips to calibrate on, the cost of one step, and which clips they are in words.

    ``trained`` is the model that judged them, if that is one model and was not trained on them.
    """

    judged: Judged
    gflops_per_step: float
    notes: str
    trained: Trained | None = None


def _unseen_clips(
    checkpoints: Sequence[Path], config: str | None, data: Path, split: str | None, cache: Path | None
) -> _Material:
    """Clips that the models were not trained on: those that training held out, or a split."""
    from adafocus.training.data.manifests import list_clips
    from adafocus.training.evaluate.inference import judge_held_aside, judge_unseen, load_trained

    if config is None:
        models, learned = [load_trained(path) for path in checkpoints], ""
        clips = list_clips(data, split, models[0].recipe.lists)
    else:
        model, clips, learned = _released(checkpoints[0], config, data, split)
        models = [model]
    print_left_out(clips.left_out)
    if split is None:
        judged = judge_held_aside(models, clips, cache, _skipped)
    else:
        judged = judge_unseen(models[0], clips, cache, _skipped)
    fit = f"cross-fit over {len(models)} folds" if len(models) > 1 else "one model"
    source = f"of split {split}" if split else "held out from training"
    notes = f"{len(judged.labels)} clips {source}, {fit}{learned}"
    return _Material(judged, models[0].gflops_per_step, notes, models[0] if len(models) == 1 else None)


def _training_clips(
    checkpoint: Path, config: str | None, data: Path, split: str | None, cache: Path | None
) -> _Material:
    """Clips that the model was trained on, for the published protocol."""
    from adafocus.training.data.manifests import list_clips, published_training
    from adafocus.training.errors import CalibrationError
    from adafocus.training.evaluate.inference import judge_training, load_released, load_trained
    from adafocus.training.recipe_files import load_recipe

    if config is None:
        trained = load_trained(checkpoint)
        clips = list_clips(data, split, trained.recipe.lists)
    else:
        recipe = load_recipe(config)
        found = list_clips(data, split, recipe.lists) if split else published_training(data, recipe.lists)
        if found is None:
            raise CalibrationError(
                f"{data} has no training list; --paper-protocol needs one, or --split with the name of the split that "
                "the released checkpoint was trained on"
            )
        clips = found
        trained = load_released(checkpoint, recipe, clips.labels, frozenset(clip.identity for clip in clips.clips))
    print_left_out(clips.left_out)
    judged = judge_training(trained, clips, cache, _skipped)
    notes = f"{len(judged.labels)} clips that the model was trained on, as published"
    return _Material(judged, trained.gflops_per_step, notes)


def _released(checkpoint: Path, config: str, data: Path, split: str | None) -> tuple[Trained, ClipSet, str]:
    """Load a checkpoint of the released code and the clips to calibrate on, and say whether it was trained on them."""
    from adafocus.training.data.manifests import list_clips, published_training
    from adafocus.training.evaluate.inference import load_released
    from adafocus.training.recipe_files import load_recipe

    recipe = load_recipe(config)
    clips = list_clips(data, split, recipe.lists)
    training = published_training(data, recipe.lists)
    if training is None:
        learned, known = frozenset[str](), "its training clips are not known, so these clips may be among them"
    else:
        learned = frozenset(clip.identity for clip in training.clips)
        known = f"assumed to be trained on the training list of {recipe.lists}, which has none of them"
    return load_released(checkpoint, recipe, clips.labels, learned), clips, f"; {known}"


def _skipped(clip: Broken) -> None:
    click.echo(f"skipped {clip.path}: {clip.reason}", err=True)


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
