"""`adafocus calibrate`: temperature and exit thresholds from clips that were held aside."""

from __future__ import annotations

from pathlib import Path

import click

from training.calibrate import calibrate
from training.errors import TrainingError
from training.manifests import list_clips
from training.points import Calibration
from training.trained import judge_held_aside, load_trained

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
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Where the clips of the training are.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The calibration file to write.")
@click.option("--criterion", default="max_softmax", type=click.Choice(CRITERIA), show_default=True)
@click.option("--cache", type=click.Path(path_type=Path), help="Keep decoded crops in this folder; default: memory.")
@click.option("--json", "as_json", is_flag=True, help="Print the calibration as JSON instead of a table.")
def command(
    checkpoints: tuple[Path, ...], data: Path, out: Path, criterion: str, cache: Path | None, as_json: bool
) -> int:
    """Solve the conditional exit on the clips that training held aside; nothing is trained."""
    try:
        models = [load_trained(path) for path in checkpoints]
        judged = judge_held_aside(models, list_clips(data, lists=models[0].recipe.lists), cache)
        fit = f"cross-fit over {len(models)} folds" if len(models) > 1 else "one model"
        notes = f"{len(judged.labels)} clips held aside from training, {fit}"
        found = calibrate(judged.logits, judged.labels, models[0].gflops_per_step, criterion, notes=notes)  # type: ignore[arg-type]
    except TrainingError as error:
        raise click.ClickException(str(error)) from error
    found.save(out)
    click.echo(out.read_text(encoding="utf-8") if as_json else table(found))
    return 0


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
