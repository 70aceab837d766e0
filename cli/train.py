"""`adafocus train`: train a model on labelled videos and write checkpoints."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import click

from adafocus.cli.main import INTERRUPTED
from adafocus.cli.options import RenamedOption
from adafocus.cli.videos import print_left_out

WEIGHTS = "File of ImageNet weights to start the {} from: torchvision's or timm's, .pth or .safetensors."
PRECISIONS = ("fp32", "bf16", "fp16", "auto")


@click.command("train", epilog="Example: adafocus train --data clips --config tank_state --out runs/first")
@click.option(
    "--data",
    required=True,
    type=click.Path(path_type=Path),
    help="Labelled clips: a folder per class, a manifest.json or .csv, or the lists of a published data set.",
)
@click.option(
    "--config", required=True, metavar="NAME|FILE", help="Recipe: the name of a shipped one, or a .toml file."
)
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="Run folder; an unfinished run is continued."
)
@click.option("--split", metavar="NAME", help="Split to train on; default: train, if the data have splits.")
@click.option("--seed", type=click.IntRange(min=0), help="Random seed; overrides the recipe's.")
@click.option(
    "--holdout",
    cls=RenamedOption,
    old=["--held-aside"],
    type=click.FloatRange(0, 0.5),
    help="Share of the clips to hold out from training; overrides the recipe's.",
)
@click.option("--fold", type=click.IntRange(min=0), help="Number of the part to hold out; overrides the recipe's.")
@click.option(
    "--validation-split",
    cls=RenamedOption,
    old=["--watch-split"],
    metavar="NAME",
    help="Split to evaluate after each epoch, to keep best.pt; '': the held-out clips. Overrides the recipe's.",
)
@click.option("--cache", type=click.Path(path_type=Path), help="Keep decoded crops in this folder; default: in memory.")
@click.option("--threads", type=click.IntRange(min=0), help="Number of torch's threads; 0: torch's default.")
@click.option("--epochs", type=click.IntRange(min=1), help="Number of epochs; overrides the recipe's.")
@click.option("--batch-size", type=click.IntRange(min=2), help="Batch size over all processes; overrides the recipe's.")
@click.option("--precision", type=click.Choice(PRECISIONS), help="Precision of the networks; overrides the recipe's.")
@click.option("--device", metavar="NAME", help="cpu, cuda or cuda:N; default: a GPU, if there is one.")
@click.option("--glance-weights", type=click.Path(path_type=Path), help=WEIGHTS.format("glance"))
@click.option("--focus-weights", type=click.Path(path_type=Path), help=WEIGHTS.format("focus"))
def command(
    data: Path,
    config: str,
    out: Path,
    split: str | None,
    seed: int | None,
    holdout: float | None,
    fold: int | None,
    validation_split: str | None,
    cache: Path | None,
    threads: int | None,
    epochs: int | None,
    batch_size: int | None,
    precision: str | None,
    device: str | None,
    glance_weights: Path | None,
    focus_weights: Path | None,
) -> int:
    """Train a model end to end in one stage, or part by part if the recipe has a table `stages`.

    A clip that cannot be decoded is reported and skipped. Run the same command again to continue a run that was
    stopped. For several GPUs: `torchrun --nproc-per-node N -m adafocus train ...`.
    """
    from adafocus.training.data.manifests import default_split, list_clips
    from adafocus.training.errors import TrainingError
    from adafocus.training.evaluate.monitor import validation_clips
    from adafocus.training.optimise.initial_weights import initial_weights
    from adafocus.training.recipe_files import load_recipe
    from adafocus.training.run.signals import Interrupted
    from adafocus.training.run.train import train
    from adafocus.training.staged.train import train_in_stages

    try:
        recipe = load_recipe(config).with_options(
            seed=seed,
            holdout=holdout,
            fold=fold,
            validation_split=validation_split,
            threads=threads,
            epochs=epochs,
            batch_size=batch_size,
            precision=precision,
        )
        initial = initial_weights(recipe, glance_weights, focus_weights)
        clips = list_clips(data, split or default_split(data, recipe.lists), recipe.lists)
        watched = validation_clips(data, recipe)
        if _prints():
            print_left_out(list(dict.fromkeys(clips.left_out + (watched.left_out if watched else ()))))
        say = partial(click.echo, err=True)
        if recipe.stages.used:
            outcome = train_in_stages(clips, recipe, out, cache, say, initial, watched)
        else:
            outcome = train(clips, recipe, out, cache, say, initial, device, validation=watched)
    except TrainingError as error:
        raise click.ClickException(str(error)) from error
    except Interrupted as stop:
        click.echo(f"adafocus: {stop}", err=True)
        return INTERRUPTED
    if _prints():
        click.echo(outcome.checkpoint)
    return 0


def _prints() -> bool:
    """Return True if this process prints; of several processes, only the first one does."""
    return os.environ.get("RANK", "0") == "0"
