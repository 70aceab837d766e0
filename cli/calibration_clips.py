"""The clips that `adafocus calibrate` solves on, and what a model answers for them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from adafocus.bundle.exit_rule import ExitCriterion
from adafocus.cli.videos import print_left_out
from adafocus.video.sampler import Snap

if TYPE_CHECKING:
    from adafocus.training.data.clips import ClipSet
    from adafocus.training.data.crops import Broken
    from adafocus.training.evaluate.inference import ClipPredictions, Trained
    from adafocus.training.recipe import Recipe


class CalibrationClips(NamedTuple):
    """ClipPredictions clips to calibrate on, the cost of one step, and which clips they are in words.

    ``trained`` is the model that predictions them, if that is one model and was not trained on them.
    """

    predictions: ClipPredictions
    gflops_per_step: float
    glance_share: float
    notes: str
    recipe: Recipe
    trained: Trained | None = None

    @property
    def snap(self) -> Snap:
        """How frames were sampled."""
        return self.recipe.data.snap

    @property
    def criterion(self) -> ExitCriterion:
        """The criterion that suits the loss of the training."""
        return "label_margin" if self.recipe.optimiser.loss == "sigmoid" else "max_softmax"


def unseen_clips(
    checkpoints: Sequence[Path],
    config: str | None,
    data: Path,
    split: str | None,
    snap: Snap | None,
    cache: Path | None,
) -> CalibrationClips:
    """Clips that the models were not trained on: those that training held out, or a split."""
    from adafocus.training.data.manifests import list_clips
    from adafocus.training.evaluate.inference import load_trained, predict_holdout, predict_unseen

    if config is None:
        models, learned = [load_trained(path) for path in checkpoints], ""
        clips = list_clips(data, split, models[0].recipe.lists)
    else:
        model, clips, learned = _released(checkpoints[0], config, data, split)
        models = [model]
    print_left_out(clips.left_out)
    models = [model.sampled_with(snap) for model in models]
    if split is None:
        predictions = predict_holdout(models, clips, cache, _skipped)
    else:
        predictions = predict_unseen(models[0], clips, cache, _skipped)
    fit = f"cross-fit over {len(models)} folds" if len(models) > 1 else "one model"
    source = f"of split {split}" if split else "held out from training"
    notes = f"{len(predictions.labels)} clips {source}, {fit}{learned}"
    first = models[0]
    alone = first if len(models) == 1 else None
    return CalibrationClips(predictions, first.gflops_per_step, first.glance_share, notes, first.recipe, alone)


def training_clips(
    checkpoint: Path, config: str | None, data: Path, split: str | None, snap: Snap | None, cache: Path | None
) -> CalibrationClips:
    """Clips that the model was trained on, for the published protocol."""
    from adafocus.training.data.manifests import list_clips, published_training
    from adafocus.training.errors import CalibrationError
    from adafocus.training.evaluate.inference import load_released, load_trained, predict_training_clips
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
    trained = trained.sampled_with(snap)
    predictions = predict_training_clips(trained, clips, cache, _skipped)
    notes = f"{len(predictions.labels)} clips that the model was trained on, as published"
    return CalibrationClips(predictions, trained.gflops_per_step, trained.glance_share, notes, trained.recipe)


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
