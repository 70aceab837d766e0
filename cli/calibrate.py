"""`adafocus calibrate`: temperature and exit thresholds from clips that were held aside."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bundle.exit_rule import ExitCriterion

if TYPE_CHECKING:
    from training.data.clips import ClipSet
    from training.data.crops import Broken
    from training.evaluate.calibrate import CurvePoint
    from training.evaluate.inference import Trained
    from training.evaluate.operating_points import Calibration

CRITERIA = ("max_softmax", "max_logit", "neg_entropy")


@click.command(
    "calibrate", epilog="Example: adafocus calibrate --checkpoint runs/first/last.pt --data clips --out c.json"
)
@click.option(
    "--checkpoint",
    "checkpoints",
    required=True,
    multiple=True,
    type=click.Path(path_type=Path),
    help="A checkpoint of `train`; several times for the folds of one recipe, each judged on its own held-aside clips.",
)
@click.option("--config", metavar="NAME|FILE", help="The recipe, if the checkpoint is one of the released code.")
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Where the clips of the training are.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The calibration file to write.")
@click.option("--split", metavar="NAME", help="Calibrate on all of this split; default: what was held aside.")
@click.option(
    "--budget",
    "budgets",
    multiple=True,
    type=click.FloatRange(0, 1, min_open=True),
    help="Add a point within this share of full compute (at-30 for 0.3); may be repeated.",
)
@click.option("--curve", type=click.Path(path_type=Path), help="Write the whole sweep of budgets as CSV.")
@click.option("--criterion", default="max_softmax", type=click.Choice(CRITERIA), show_default=True)
@click.option("--cache", type=click.Path(path_type=Path), help="Keep decoded crops in this folder; default: memory.")
@click.option("--json", "as_json", is_flag=True, help="Print the calibration as JSON instead of a table.")
def command(
    checkpoints: tuple[Path, ...],
    config: str | None,
    data: Path,
    out: Path,
    split: str | None,
    budgets: tuple[float, ...],
    curve: Path | None,
    criterion: ExitCriterion,
    cache: Path | None,
    as_json: bool,
) -> int:
    """Solve the conditional exit on the clips that training held aside; nothing is trained."""
    from training.data.manifests import list_clips
    from training.errors import TrainingError
    from training.evaluate.calibrate import calibrate, exit_curve
    from training.evaluate.inference import judge_held_aside, judge_unseen, load_trained

    if split is not None and len(checkpoints) > 1:
        raise click.UsageError("--split takes one --checkpoint; folds are judged on what each of them held aside")
    if config is not None and split is None:
        raise click.UsageError("--config needs --split: a released checkpoint does not say what was held aside")
    try:
        if config is None:
            models, learned = [load_trained(path) for path in checkpoints], ""
            clips = list_clips(data, split, models[0].recipe.lists)
        else:
            model, clips, learned = _released(checkpoints[0], config, data, split)
            models = [model]
        if split is None:
            judged = judge_held_aside(models, clips, cache, _skipped)
        else:
            judged = judge_unseen(models[0], clips, cache, _skipped)
        fit = f"cross-fit over {len(models)} folds" if len(models) > 1 else "one model"
        source = f"of split {split}" if split else "held aside from training"
        notes = f"{len(judged.labels)} clips {source}, {fit}{learned}"
        cost = models[0].gflops_per_step
        found = calibrate(judged.logits, judged.labels, cost, criterion, notes=notes, budgets=budgets)
    except TrainingError as error:
        raise click.ClickException(str(error)) from error
    found.save(out)
    if curve is not None:
        sweep = exit_curve(judged.logits, judged.labels, criterion, found.temperature)
        _write_sweep(curve, sweep, judged.logits.shape[1] * cost)
    click.echo(out.read_text(encoding="utf-8") if as_json else table(found))
    return 0


def _released(checkpoint: Path, config: str, data: Path, split: str | None) -> tuple[Trained, ClipSet, str]:
    """A checkpoint of the released code, the clips to calibrate it on, and what is known of its having seen them."""
    from training.data.manifests import list_clips, published_training
    from training.evaluate.inference import load_released
    from training.recipe import load_recipe

    recipe = load_recipe(config)
    clips = list_clips(data, split, recipe.lists)
    training = published_training(data, recipe.lists)
    if training is None:
        learned, known = frozenset[str](), "what it learned from is not known, so these clips may be among it"
    else:
        learned = frozenset(clip.identity for clip in training.clips)
        known = f"taken to have learned from the training list of {recipe.lists}, which has none of them"
    return load_released(checkpoint, recipe, clips.labels, learned), clips, f"; {known}"


def _skipped(clip: Broken) -> None:
    click.echo(f"skipped {clip.path}: {clip.reason}", err=True)


def _write_sweep(path: Path, sweep: Sequence[CurvePoint], gflops_full: float) -> None:
    """One row per budget: ratio of exit shares, cost, accuracy, and the threshold of each step."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        steps = range(1, len(sweep[0].thresholds) + 1)
        fixed = ("ratio", "gflops", "flops_share", "accuracy", "answers_changed")
        writer.writerow([*fixed, *(f"threshold_{step}" for step in steps), *(f"exits_{step}" for step in steps)])
        for point in sweep:
            cost = (point.ratio, point.flops_share * gflops_full, point.flops_share, point.accuracy)
            writer.writerow([*cost, point.answers_changed, *point.thresholds, *point.exit_shares])


def table(found: Calibration) -> str:
    """The operating points as a reader wants them."""
    full = next(point.expected_gflops for point in found.points if point.name == "full")
    lines = [f"temperature {found.temperature:g}, {found.criterion}, {found.notes}"]
    lines.append(f"{'point':<10} {'accuracy':>8} {'GFLOPs':>9} {'of full':>8}  exit shares per step")
    for point in found.points:
        shares = " ".join(f"{share:.2f}" for share in point.exit_shares)
        share = point.expected_gflops / full
        lines.append(
            f"{point.name:<10} {point.expected_accuracy:>8.4f} {point.expected_gflops:>9.4g} {share:>8.1%}  {shares}"
        )
    return "\n".join(lines)
