"""Trains a model in stages: first the glance and its heatmap, then the focus, each from single frames and boxes.

The recipe's table ``stages`` asks for it. It takes minutes on a processor where training all parts at once takes a
night, because the layers that stay fixed run once for each view, and because nothing has to be found by trial.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from adafocus.model import build
from adafocus.model.adafocus import AdaFocus
from adafocus.model.backbones import Backbone, InvertedResidualNetwork
from adafocus.model.checkpoint import save_checkpoint
from adafocus.model.config import ModelConfig
from adafocus.model.heatmap import HeatmapPolicy
from adafocus.training.box_recipes import StageRecipe
from adafocus.training.data.boxes import clip_points, read_boxes
from adafocus.training.data.clips import ClipSet, hold_out
from adafocus.training.data.crop_plan import training_plan
from adafocus.training.data.crops import Crops
from adafocus.training.data.groups import units_of
from adafocus.training.data.pictures import picture_heights
from adafocus.training.data.splits import Splits, decode_splits
from adafocus.training.data.storage import Sets, Storage
from adafocus.training.errors import DataError, RecipeError
from adafocus.training.evaluate.monitor import figures, metric_of
from adafocus.training.optimise.initial_weights import Start, initial_weights
from adafocus.training.optimise.objective import fastest_precision
from adafocus.training.recipe import Recipe
from adafocus.training.run.checkpoint_metadata import metadata
from adafocus.training.run.folder import Progress
from adafocus.training.run.signals import stopping_politely
from adafocus.training.run.train import TrainingResult
from adafocus.training.staged.cuts import WHOLE, Cut, Seen, look_at
from adafocus.training.staged.fit import Fit, balanced_shares
from adafocus.training.staged.fixed_start import FixedStart, forget_colours
from adafocus.training.staged.stages import Empty, carry_logits, learn_to_find, learn_to_recognise
from adafocus.training.staged.views import ViewRange

FIND, RECOGNISE, EMPTY = "find", "recognise", "empty"

HEAD_FACTORS = {FIND: 4.0, RECOGNISE: 5.0}
"""Rates of the heatmap and of the focus's head over those of their backbones."""

WEIGHT_DECAYS = {FIND: 0.02, RECOGNISE: 0.05}


def find_settings(stages: StageRecipe) -> Fit:
    """Return length and rates of the stage in which glance and heatmap learn to find the thing."""
    return Fit(stages.find_steps, stages.find_lr, HEAD_FACTORS[FIND], 8, WEIGHT_DECAYS[FIND])


def recognise_settings(stages: StageRecipe) -> Fit:
    """Return length and rates of the stage in which the focus learns to recognise the thing."""
    return Fit(stages.recognise_steps, stages.recognise_lr, HEAD_FACTORS[RECOGNISE], 32, WEIGHT_DECAYS[RECOGNISE])


def cuts_of(config: ModelConfig, stages: StageRecipe) -> dict[str, Cut]:
    """Return what the glance and the focus of a model learn from."""
    share, ranges = config.patch_size / config.frame_size, ViewRange(off_centre=stages.off_centre)
    cuts = {
        FIND: Cut(config.glance_size, ranges=WHOLE, views=2),
        RECOGNISE: Cut(config.focus_size, share, True, ranges, stages.views, stages.kept_frames),
    }
    if stages.empty:
        cuts[EMPTY] = Cut(config.focus_size, share, away=True, views=3)
    return cuts


def train_in_stages(
    data: ClipSet,
    recipe: Recipe,
    out: Path,
    cache: Path | None = None,
    say: Callable[[str], None] = lambda line: None,
    initial: Start | None = None,
    validation: ClipSet | None = None,
) -> TrainingResult:
    """Train the stages of a recipe on a processor, one after the other.

    Args:
        data: the clips to train on, with boxes; a share of them is held out if the recipe says so.
        recipe: with a table ``stages``.
        out: folder for the checkpoint ``last.pt``. A run that was stopped begins again.
        cache: folder for decoded frames; None keeps them in memory.
        say: called with one line at a time about the progress.
        initial: where the weights come from before the first step; None as the recipe says.
        validation: clips to judge the result on; None takes the holdout.

    Raises:
        DataError: there are no boxes, nothing to learn from, or initial weights that do not fit.
        RecipeError: the model's networks cannot be divided.
        Interrupted: SIGTERM or SIGINT.
    """
    if data.boxes is None:
        raise DataError("stages learn from boxes, and the data have none: name a file of boxes in their manifest")
    torch.manual_seed(recipe.seed)
    if recipe.threads:
        torch.set_num_threads(recipe.threads)
    trained, holdout = hold_out(data, recipe.parts, recipe.fold) if recipe.parts else (data, data.only(()))
    model = build(recipe.model_config(len(data.labels)))
    assert isinstance(model, AdaFocus)  # noqa: S101 # the recipe's check permits no other
    initial = initial or initial_weights(recipe)
    initial.load(model)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # torch's stubs
    with stopping_politely() as stop:
        storage = Storage(training=True, evaluation=True, cache=cache)
        splits = decode_splits(Sets(trained, holdout, validation), recipe, storage, say, stop.check)
        _learn(model, recipe, splits.train, say)
    carry_logits(model)
    model.eval()
    return _keep(model, recipe, splits, out, say, initial.describe(recipe))


def _learn(model: AdaFocus, recipe: Recipe, crops: Crops, say: Callable[[str], None]) -> None:
    """Train glance, policy, focus and the focus's head in place."""
    stages, plan, data = recipe.stages, training_plan(recipe), crops.data
    assert data.boxes is not None  # noqa: S101 # checked by the caller
    glance, focus = _start(model.glance, recipe), _start(model.focus, recipe)
    if stages.grey:
        forget_colours(focus.backbone)
    wanted = cuts_of(model.config, stages)
    cuts = {name: (cut, glance if name == FIND else focus) for name, cut in wanted.items()}
    points = clip_points(data.clips, read_boxes(data.boxes), plan)
    kept = zip(crops.pixels, points, picture_heights(data.clips, plan), strict=True)
    seen = look_at(kept, plan.candidates, cuts, serving=False)
    if not seen[FIND].clips:
        raise DataError("no frame of the clips has a box; stages have nothing to learn from")
    labels, units = [clip.label for clip in data.clips], units_of(data.clips)
    random = np.random.default_rng(recipe.seed)
    policy = model.policy
    assert isinstance(policy, HeatmapPolicy)  # noqa: S101 # the recipe's check permits no other
    own = seen[FIND]
    places = torch.from_numpy(np.concatenate(own.places))
    shares = shares_of(own, labels, units)
    settings = find_settings(stages)
    loss = learn_to_find(glance, policy, np.concatenate(own.learned), places, shares, settings, random)
    say(f"glance and policy find the thing: loss {loss:.3f} after {stages.find_steps} steps")
    own = seen[RECOGNISE]
    classes: Tensor = torch.tensor(labels)[torch.tensor(own.clips)]
    shares = shares_of(own, labels, units)
    settings, empty = recognise_settings(stages), None
    if stages.empty:
        of = seen[EMPTY]
        empty = Empty(np.concatenate(of.learned), shares_of(of, labels, units), stages.empty)
    loss = learn_to_recognise(
        focus, model.focus_head, np.concatenate(own.learned), classes, shares, settings, random,
        model.config.dropout, recipe.optimiser.label_smoothing, empty,
    )  # fmt: skip
    say(f"focus recognises it: loss {loss:.3f} after {stages.recognise_steps} steps")


def shares_of(seen: Seen, labels: list[int], units: list[str]) -> npt.NDArray[np.float64]:
    """Return how often each view is drawn: its clip's share, divided among the clip's views."""
    own = sorted(set(seen.clips))
    of_clip = dict(zip(own, balanced_shares([labels[n] for n in own], [units[n] for n in own]), strict=True))
    counts = np.bincount(seen.clips)
    shares = np.array([of_clip[number] / counts[number] for number in seen.clips])
    divided: npt.NDArray[np.float64] = shares / shares.sum()
    return divided


def _start(backbone: Backbone, recipe: Recipe) -> FixedStart:
    if not isinstance(backbone, InvertedResidualNetwork):
        raise RecipeError("a ResNet cannot be trained in stages; permitted: mobilenet_v2 and efficientnet_lite0")
    try:
        return FixedStart(backbone, recipe.stages.fixed_blocks, fastest_precision(torch.device("cpu")))
    except ValueError as error:
        raise RecipeError(f"stages.fixed_blocks: {error}") from error


def _keep(
    model: AdaFocus,
    recipe: Recipe,
    splits: Splits,
    out: Path,
    say: Callable[[str], None],
    started_from: tuple[str, ...],
) -> TrainingResult:
    """Judge the model on the clips held out, and write its checkpoint."""
    row: dict[str, float] = {"epoch": 1}
    if splits.evaluated is not None:
        found = figures(model, splits.evaluated, metric_of(recipe, splits.evaluated.data))
        row |= {f"{splits.column_prefix}{name}": value for name, value in found.items()}
        say("  ".join(f"{name} {value:.4g}" for name, value in row.items()))
    progress = Progress(epoch=1, history=[row], precision="fp32")
    out.mkdir(parents=True, exist_ok=True)
    checkpoint = out / "last.pt"
    kept = metadata(recipe, splits, progress, model.config.frame_size, started_from)
    save_checkpoint(checkpoint, model, **kept)
    return TrainingResult(checkpoint, (row,), splits.broken)
