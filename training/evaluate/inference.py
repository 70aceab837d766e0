"""Trained checkpoints with their record of the training, and the predictions of their models on clips."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from adafocus.model.checkpoint import load_authors, load_checkpoint
from adafocus.model.flops import step_flops
from adafocus.model.weight_files import CheckpointError
from adafocus.training.data.capacity import bytes_to_keep, require_disk
from adafocus.training.data.clips import Clip, ClipSet
from adafocus.training.data.crop_plan import serving_plan
from adafocus.training.data.crops import Broken, decode_each
from adafocus.training.data.frame_store import Pixels, load_pixels
from adafocus.training.data.groups import units_of
from adafocus.training.errors import CalibrationError, DataError
from adafocus.training.evaluate.metrics import Logits, Truth
from adafocus.training.evaluate.report import BATCH, ClipLogits, clip_logits, truth_of
from adafocus.training.optimise.objective import Model
from adafocus.training.recipe import Recipe, parse_recipe
from adafocus.video.sampler import Snap

GIGA = 1e9


@dataclass(frozen=True)
class Trained:
    """A trained model with the metadata of its checkpoint.

    Attributes:
        model: the model, in evaluation mode.
        recipe: the recipe that it was trained with.
        labels: class names.
        learned_from, held_aside: identities (sha256) of the clips that it was trained on, and of the holdout.
        learned_groups: groups (`Clip.group`) of the clips that it was trained on.
    """

    model: Model
    recipe: Recipe
    labels: tuple[str, ...]
    learned_from: frozenset[str]
    held_aside: frozenset[str]
    learned_groups: frozenset[str] = frozenset()

    def sampled_with(self, snap: Snap | None) -> Trained:
        """Return the same model with frames sampled in another way than its recipe says; None: as it says."""
        if snap is None:
            return self
        return replace(self, recipe=replace(self.recipe, data=replace(self.recipe.data, snap=snap)))

    def has_learned_from(self, clip: Clip) -> bool:
        """Return True if the model was trained on the clip, a byte-identical one, or one of the same group."""
        return clip.identity in self.learned_from or (bool(clip.group) and clip.group in self.learned_groups)

    @property
    def gflops_per_step(self) -> float:
        """The cost of one served step."""
        return step_flops(self.model).per_step / GIGA

    @property
    def glance_share(self) -> float:
        """The share of a step's cost that an exit after its glance has spent, its auxiliary head included."""
        flops = step_flops(self.model, glance_exit=True)
        return flops.glance / flops.per_step


def load_trained(path: Path) -> Trained:
    """Read a checkpoint that `training.run.train` wrote.

    Raises:
        DataError: the file is not such a checkpoint.
    """
    try:
        model, metadata = load_checkpoint(path)
        return Trained(
            model=model,
            recipe=parse_recipe(metadata["recipe"]),
            labels=tuple(metadata["labels"]),
            learned_from=frozenset(metadata["learned_from"]),
            held_aside=frozenset(metadata["held_aside"]),
            learned_groups=frozenset(metadata.get("learned_groups", ())),
        )
    except CheckpointError as error:
        raise DataError(str(error)) from error
    except KeyError as error:
        raise DataError(f"{path} does not describe its training: it lacks {error.args[0]!r}") from error


def load_released(
    path: Path, recipe: Recipe, labels: tuple[str, ...], learned_from: frozenset[str] = frozenset()
) -> Trained:
    """Read a checkpoint of the released code, which does not name its training clips.

    Args:
        path: path of the file.
        recipe: the published recipe, which gives sizes and sampling.
        labels: class names, in the order of the data set's lists.
        learned_from: identities of the clips that it is otherwise known to have been trained on.

    Raises:
        DataError: the file is not such a checkpoint, or its sizes differ.
    """
    try:
        model = load_authors(path, recipe.model_config(len(labels)))
    except CheckpointError as error:
        raise DataError(str(error)) from error
    return Trained(model, recipe, labels, learned_from, held_aside=frozenset())


@dataclass(frozen=True)
class ClipPredictions:
    """Step logits [N, T, C] and labels [N], or [N, C], of clips, and the clips that cannot be decoded.

    ``glance_logits`` [N, T, C] are those of the glance's auxiliary head.
    """

    logits: Logits
    glance_logits: Logits
    labels: Truth
    clips: ClipSet
    broken: tuple[Broken, ...]


def predict_clips(
    trained: Trained, data: ClipSet, cache: Path | None = None, report: Callable[[Broken], None] | None = None
) -> ClipPredictions:
    """Run a model on clips exactly as a server would.

    Frames are kept no longer than it takes to run the model on them, or in files if there is a ``cache``.

    Raises:
        DataError: the clips have other classes than the model, none can be decoded, or the cache is full.
    """
    if data.labels != trained.labels:
        raise DataError(f"the clips have the classes {', '.join(data.labels)}; the model {', '.join(trained.labels)}")
    plan = serving_plan(trained.recipe)
    if cache is not None:
        needed = bytes_to_keep(data.clips, plan, cache)
        what = f"{len(data.clips)} clips"
        require_disk(needed, cache, what, "give --cache a folder with more space, or leave it out")
    good: list[Clip] = []
    broken: list[Broken] = []
    rows: list[ClipLogits] = []
    waiting: list[Pixels] = []
    for clip, made in decode_each(data, plan, cache, work="judging"):
        if isinstance(made, Broken):
            broken.append(made)
            if report is not None:
                report(made)
            continue
        good.append(clip)
        waiting.append(load_pixels(made) if isinstance(made, Path) else made)
        if len(waiting) == BATCH:
            rows.append(clip_logits(trained.model, waiting))
            waiting = []
    if not good:
        raise DataError(f"none of {len(data.clips)} clips can be decoded; the first: {broken[0].reason}")
    if waiting:
        rows.append(clip_logits(trained.model, waiting))
    readable = data.only(good)
    steps, glances = (np.concatenate(parts) for parts in zip(*rows, strict=True))
    return ClipPredictions(steps, glances, truth_of(readable), readable, tuple(broken))


def predict_holdout(
    models: Sequence[Trained],
    data: ClipSet,
    cache: Path | None = None,
    report: Callable[[Broken], None] | None = None,
) -> ClipPredictions:
    """Run each model on the clips of its holdout, which a calibration is solved on.

    With the models of several folds, every clip is seen by the one model that was not trained on it (a cross-fit).

    Raises:
        CalibrationError: the models differ in configuration or labels, a model has no holdout clip, a clip is in two
            holdouts, or a model was trained on a holdout clip or one of its group.
    """
    first = models[0]
    if any(other.model.config != first.model.config or other.labels != first.labels for other in models):
        raise CalibrationError("the checkpoints differ in their model or their labels; give the folds of one recipe")
    predictions, seen = [], set[str]()
    unit = dict(zip((clip.identity for clip in data.clips), units_of(data.clips), strict=True))
    for trained in models:
        mine = [clip for clip in data.clips if clip.identity in trained.held_aside]
        identities = {clip.identity for clip in mine}
        if not mine:
            raise CalibrationError("a checkpoint has no holdout among these clips: it was trained on all, or on others")
        if identities & trained.learned_from or identities & seen:
            raise CalibrationError("a calibration clip is a training clip, or is in the holdout of two checkpoints")
        learned = {unit[clip.identity] for clip in data.clips if clip.identity in trained.learned_from}
        shared = [clip for clip in mine if unit[clip.identity] in learned or trained.has_learned_from(clip)]
        if shared:
            raise CalibrationError(
                f"{len(shared)} of {len(mine)} calibration clips share a group with training clips, first "
                f"{shared[0].path}; train again with the groups of the manifest"
            )
        seen |= identities
        predictions.append(predict_clips(trained, data.only(mine), cache, report))
    return ClipPredictions(
        logits=np.concatenate([part.logits for part in predictions]),
        glance_logits=np.concatenate([part.glance_logits for part in predictions]),
        labels=np.concatenate([part.labels for part in predictions]),
        clips=data.only(clip for part in predictions for clip in part.clips.clips),
        broken=tuple(broken for part in predictions for broken in part.broken),
    )


def predict_unseen(
    trained: Trained, data: ClipSet, cache: Path | None = None, report: Callable[[Broken], None] | None = None
) -> ClipPredictions:
    """Run a model on clips that it must not have been trained on.

    Raises:
        CalibrationError: it was trained on a clip, a byte-identical one, or one of the same group; the message says
            on how many.
        DataError: as `predict_clips`.
    """
    learned = [clip for clip in data.clips if clip.identity in trained.learned_from]
    if learned:
        raise CalibrationError(
            f"{len(learned)} of {len(data.clips)} calibration clips are training clips, first {learned[0].path}; "
            "give a split that training did not use"
        )
    related = [clip for clip in data.clips if trained.has_learned_from(clip)]
    if related:
        raise CalibrationError(
            f"{len(related)} of {len(data.clips)} calibration clips share a group with training clips, first "
            f"{related[0].path}; give a split of other groups"
        )
    return predict_clips(trained, data, cache, report)


def predict_training_clips(
    trained: Trained, data: ClipSet, cache: Path | None = None, report: Callable[[Broken], None] | None = None
) -> ClipPredictions:
    """The clips of ``data`` that a model was trained on: what the published protocol solves thresholds on.

    They are read as served, in full and without augmentation; the released code augments them and drops the remainder
    of the last batch.

    Raises:
        CalibrationError: it was trained on none of them.
        DataError: as `predict_clips`.
    """
    mine = [clip for clip in data.clips if clip.identity in trained.learned_from]
    if not mine:
        raise CalibrationError(
            f"the model was trained on none of these {len(data.clips)} clips; give the data that it was trained on"
        )
    return predict_clips(trained, data.only(mine), cache, report)
