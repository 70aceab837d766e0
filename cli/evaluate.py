"""`adafocus evaluate`: accuracy and compute of a checkpoint on labelled clips."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from adafocus.bundle.exit_rule import ExitCriterion
from adafocus.cli.calibrate import CRITERIA
from adafocus.cli.options import snap_option
from adafocus.cli.videos import print_left_out
from adafocus.video.sampler import Snap

if TYPE_CHECKING:
    from adafocus.training.data.clips import ClipSet
    from adafocus.training.evaluate.inference import Trained
    from adafocus.training.evaluate.report import EvaluationReport


@click.command("evaluate", epilog="Example: adafocus evaluate --checkpoint runs/first/last.pt --data clips --split val")
@click.option("--checkpoint", required=True, type=click.Path(path_type=Path), help="Checkpoint of `train`.")
@click.option(
    "--data",
    required=True,
    type=click.Path(path_type=Path),
    help="Labelled clips: a folder per class, a manifest.json or .csv, or the lists of a published data set.",
)
@click.option("--config", metavar="NAME|FILE", help="Recipe; required for a checkpoint of the authors' released code.")
@click.option("--split", metavar="NAME", help="Evaluate only this split; default: all clips.")
@click.option(
    "--calibration",
    type=click.Path(path_type=Path),
    help="Calibration file of `calibrate`; its operating points are evaluated, too.",
)
@click.option(
    "--criterion",
    type=click.Choice(CRITERIA),
    help="Confidence of the exit, if there is no --calibration; default: that which suits the loss.",
)
@snap_option("that of the calibration, or of the checkpoint")
@click.option("--out", type=click.Path(path_type=Path), help="Write the report as JSON.")
@click.option(
    "--plots",
    type=click.Path(path_type=Path),
    help="Write plots of the curve, the steps and the confusion matrix to this folder.",
)
@click.option("--cache", type=click.Path(path_type=Path), help="Keep decoded crops in this folder; default: in memory.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def command(
    checkpoint: Path,
    data: Path,
    config: str | None,
    split: str | None,
    calibration: Path | None,
    criterion: ExitCriterion | None,
    snap: Snap | None,
    out: Path | None,
    plots: Path | None,
    cache: Path | None,
    as_json: bool,
) -> int:
    """Measure accuracy and compute of a checkpoint on labelled clips, decoded and cropped as in the service."""
    from adafocus.training.data.manifests import list_clips
    from adafocus.training.errors import TrainingError
    from adafocus.training.evaluate.inference import load_released, load_trained, predict_clips
    from adafocus.training.evaluate.operating_points import load_calibration
    from adafocus.training.evaluate.report import Glances, evaluate
    from adafocus.training.recipe_files import load_recipe

    if criterion and calibration:
        raise click.UsageError(
            "--criterion and --calibration exclude each other, because a calibration has its own criterion"
        )
    try:
        if config is None:
            trained = load_trained(checkpoint)
            clips = list_clips(data, split, trained.recipe.lists)
        else:
            recipe = load_recipe(config)
            clips = list_clips(data, split, recipe.lists)
            trained = load_released(checkpoint, recipe, clips.labels)
        print_left_out(clips.left_out)
        points = load_calibration(calibration) if calibration else None
        predictions = predict_clips(
            trained.sampled_with(snap or (points.snap if points else None)),
            clips,
            cache,
            lambda clip: click.echo(f"skipped {clip.path}: {clip.reason}", err=True),
        )
        _warn_of_learned(trained, predictions.clips)
        broken = [str(clip.path) for clip in predictions.broken]
        report = evaluate(
            predictions.logits,
            predictions.labels,
            trained.labels,
            trained.gflops_per_step,
            points,
            broken,
            criterion or ("label_margin" if trained.recipe.optimiser.loss == "sigmoid" else "max_softmax"),
            Glances(predictions.glance_logits, trained.glance_share),
        )
    except TrainingError as error:
        raise click.ClickException(str(error)) from error
    if plots is not None:
        from adafocus.training.evaluate.plots import save_plots  # matplotlib is needed only for --plots

        save_plots(report, plots)
    text = json.dumps(report.to_dict(), indent=1)
    if out is not None:
        out.write_text(text + "\n", encoding="utf-8")
    click.echo(text if as_json else table(report))
    return 0


def _warn_of_learned(trained: Trained, clips: ClipSet) -> None:
    """Warn on standard error about clips that the model was trained on, or that share a group with one."""
    learned = [clip for clip in clips.clips if trained.has_learned_from(clip)]
    if learned:
        click.echo(
            f"warning: {len(learned)} of {len(clips.clips)} clips, or others of their group, were learned from, first "
            f"{learned[0].path}: what follows is too good",
            err=True,
        )


def table(report: EvaluationReport) -> str:
    """Format the report as text."""
    skipped = f", {len(report.broken)} skipped as broken" if report.broken else ""
    lines = [
        f"{report.clips} clips{skipped}: accuracy {report.accuracy:.4f}, top-5 {report.top5:.4f}, "
        f"macro-F1 {report.macro_f1:.4f}, {report.gflops_full:.4g} GFLOPs, "
        f"calibration error {report.calibration_error:.3f}",
        "mean average precision: "
        + ", ".join(f"{value:.4f} ({name})" for name, value in report.mean_average_precision.items()),
        "accuracy per step: " + " ".join(f"{value:.3f}" for value in report.step_accuracy),
        f"{'class':<20} {'clips':>5} {'recall':>7} {'precision':>9} {'F1':>7}",
    ]
    for name, row in report.per_class.items():
        lines.append(f"{name:<20} {row['clips']:>5} {row['recall']:>7.3f} {row['precision']:>9.3f} {row['f1']:>7.3f}")
    lines.extend(_points(report))
    lines.append("accuracy against compute (thresholds solved on these clips):")
    reached = -1.0
    for budget in report.curve:
        if budget.accuracy > reached:
            reached = budget.accuracy
            lines.append(f"  {budget.flops_share:>6.1%} of full: {budget.accuracy:.4f}")
    return "\n".join(lines)


def _points(report: EvaluationReport) -> Iterator[str]:
    several = f" {'mAP':>8}" if report.multi_label else ""
    if report.points:
        head = f"{'point':<10} {'accuracy':>8}{several} {'macro-F1':>8} {'GFLOPs':>9} {'of full':>8}"
        yield f"{head}  exit shares per step"
    for point in report.points:
        shares = " ".join(f"{share:.2f}" for share in point.exit_shares)
        precision = "" if point.mean_average_precision is None else f" {point.mean_average_precision:>8.4f}"
        yield (
            f"{point.name:<10} {point.accuracy:>8.4f}{precision} {point.macro_f1:>8.4f} {point.gflops:>9.4g} "
            f"{point.flops_share:>8.1%}  {shares}"
        )
