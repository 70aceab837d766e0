"""`adafocus train`: labelled videos in, checkpoints out."""

from __future__ import annotations

import os
from pathlib import Path

import click

from cli.main import INTERRUPTED

PRECISIONS = ("fp32", "bf16", "fp16", "auto")


@click.command("train", epilog="Example: adafocus train --data clips --config tank_state --out runs/first")
@click.option(
    "--data",
    required=True,
    type=click.Path(path_type=Path),
    help="A folder per class, a manifest.json or .csv, or lists.",
)
@click.option("--config", required=True, metavar="NAME|FILE", help="A recipe: one that comes along, or a .toml file.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Run folder; an unfinished run continues.")
@click.option("--split", metavar="NAME", help="Split to learn from; default: 'train' where a manifest names splits.")
@click.option("--seed", type=click.IntRange(min=0), help="Instead of the recipe's.")
@click.option(
    "--held-aside", type=click.FloatRange(0, 0.5), help="Share of the clips kept out; instead of the recipe's."
)
@click.option("--fold", type=click.IntRange(min=0), help="Which of the parts is kept out; instead of the recipe's.")
@click.option(
    "--watch-split",
    metavar="NAME",
    help="Judge this split after each epoch to keep best.pt; '': what is held aside. Instead of the recipe's.",
)
@click.option("--cache", type=click.Path(path_type=Path), help="Keep decoded crops in this folder; default: memory.")
@click.option("--threads", type=click.IntRange(min=0), help="Threads of torch; 0: its own choice.")
@click.option("--epochs", type=click.IntRange(min=1), help="Instead of the recipe's.")
@click.option("--batch-size", type=click.IntRange(min=2), help="Over all processes; instead of the recipe's.")
@click.option("--precision", type=click.Choice(PRECISIONS), help="Of the networks; instead of the recipe's.")
@click.option("--device", metavar="NAME", help="cpu, cuda or cuda:N; default: a GPU if there is one.")
@click.option("--glance-weights", type=click.Path(path_type=Path), help="Start the glance from ImageNet weights.")
@click.option("--focus-weights", type=click.Path(path_type=Path), help="Start the focus from ImageNet weights.")
def command(
    data: Path,
    config: str,
    out: Path,
    split: str | None,
    seed: int | None,
    held_aside: float | None,
    fold: int | None,
    watch_split: str | None,
    cache: Path | None,
    threads: int | None,
    epochs: int | None,
    batch_size: int | None,
    precision: str | None,
    device: str | None,
    glance_weights: Path | None,
    focus_weights: Path | None,
) -> int:
    """Train a model end to end in one stage.

    A clip that cannot be decoded is reported and skipped. The same command again continues a run that was stopped.
    Several GPUs: `torchrun --nproc-per-node N -m cli.main train ...`.
    """
    from training.data.manifests import default_split, list_clips
    from training.errors import TrainingError
    from training.evaluate.monitor import watched_clips
    from training.optimise.initial_weights import InitialWeights
    from training.recipe import load_recipe
    from training.run.signals import Interrupted
    from training.run.train import train

    try:
        recipe = load_recipe(config).with_options(
            seed=seed,
            held_aside=held_aside,
            fold=fold,
            watch_split=watch_split,
            threads=threads,
            epochs=epochs,
            batch_size=batch_size,
            precision=precision,
        )
        initial = InitialWeights(glance_weights, focus_weights)
        clips = list_clips(data, split or default_split(data, recipe.lists), recipe.lists)
        watched = watched_clips(data, recipe)
        outcome = train(
            clips, recipe, out, cache, lambda line: click.echo(line, err=True), initial, device, watched=watched
        )
    except TrainingError as error:
        raise click.ClickException(str(error)) from error
    except Interrupted as stop:
        click.echo(f"adafocus: {stop}", err=True)
        return INTERRUPTED
    if os.environ.get("RANK", "0") == "0":  # of several processes, one speaks
        click.echo(outcome.checkpoint)
    return 0
