"""`adafocus calibrate`: solve temperature and exit thresholds on held-out clips."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bundle.exit_rule import ExitCriterion
from bundle.guarantee import Risk
from cli.certification import in_words
from cli.videos import print_left_out

if TYPE_CHECKING:
    from training.data.clips import ClipSet
    from training.data.crops import Broken
    from training.evaluate.calibrate import CurvePoint
    from training.evaluate.inference import Trained
    from training.evaluate.operating_points import Calibration

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
    cache: Path | None,
    as_json: bool,
) -> int:
    """Solve the temperature and the exit thresholds on the clips that training held out. Nothing is trained."""
    import numpy as np

    from cli.certification import Tested, certified
    from training.data.manifests import list_clips
    from training.errors import TrainingError
    from training.evaluate.calibrate import calibrate, exit_curve
    from training.evaluate.certified_points import Promises
    from training.evaluate.inference import judge_held_aside, judge_unseen, load_trained

    if split is not None and len(checkpoints) > 1:
        raise click.UsageError(
            "--split needs exactly one --checkpoint; folds are evaluated on the clips that each of them held out"
        )
    if len(checkpoints) > 1 and (guarantees or unlabelled):
        raise click.UsageError(
            "--guarantee and --unlabelled need exactly one --checkpoint, as a guarantee belongs to one model"
        )
    if unlabelled is not None and risk != "answer_changed":
        raise click.UsageError(f"--unlabelled cannot test the risk {risk}, which needs labels")
    if config is not None and split is None:
        raise click.UsageError(
            "--config needs --split, because a released checkpoint does not say which clips were held out"
        )
    try:
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
        cost = models[0].gflops_per_step
        unseen = unlabelled is not None or bool(models[0].learned_from)
        if guarantees and not unseen:
            raise click.UsageError(
                "--guarantee needs clips that the checkpoint was not trained on, and it does not say which those are; "
                "test on videos of your own with --unlabelled"
            )
        if len(models) > 1 or not unseen:  # folds: each clip was judged by another model than the exported one
            found = calibrate(judged.logits, judged.labels, cost, criterion, notes=notes, budgets=budgets)
        else:
            tested = Tested(models[0], checkpoints[0], judged, criterion, Promises(guarantees, confidence, risk))
            found = certified(tested, unlabelled, cache, notes, budgets)
    except TrainingError as error:
        raise click.ClickException(str(error)) from error
    found.save(out)
    if curve is not None:
        sweep = exit_curve(judged.logits, judged.labels, criterion, np.array(found.exit_rule.temperatures, np.float32))
        _write_sweep(curve, sweep, judged.logits.shape[1] * cost)
    click.echo(out.read_text(encoding="utf-8") if as_json else table(found))
    return 0


def _released(checkpoint: Path, config: str, data: Path, split: str | None) -> tuple[Trained, ClipSet, str]:
    """Load a checkpoint of the released code and the clips to calibrate on, and say whether it was trained on them."""
    from training.data.manifests import list_clips, published_training
    from training.evaluate.inference import load_released
    from training.recipe import load_recipe

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
    """Write a row per budget: ratio of exit shares, cost, accuracy, and the threshold of each step."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        steps = range(1, len(sweep[0].thresholds) + 1)
        fixed = ("ratio", "gflops", "flops_share", "accuracy", "answers_changed")
        writer.writerow([*fixed, *(f"threshold_{step}" for step in steps), *(f"exits_{step}" for step in steps)])
        for point in sweep:
            cost = (point.ratio, point.flops_share * gflops_full, point.flops_share, point.accuracy)
            writer.writerow([*cost, point.answers_changed, *point.thresholds, *point.exit_shares])


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
