"""A trained checkpoint together with what it remembers of its training, and the clips it may be judged on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from model.checkpoint import CheckpointError, load_authors, load_checkpoint
from model.flops import step_flops
from training.data.clips import ClipSet
from training.data.crops import Broken, decode_all, serving_plan
from training.errors import CalibrationError, DataError
from training.evaluate.metrics import Logits, Truth
from training.evaluate.report import predict, truth_of
from training.optimise.objective import Model
from training.recipe import Recipe, parse_recipe

GIGA = 1e9


@dataclass(frozen=True)
class Trained:
    """A model and what its checkpoint says of it.

    Attributes:
        model: in evaluation mode.
        recipe: it was trained with. labels: class names.
        learned_from, held_aside: identities (sha256) of the clips that it learned from and that were kept out.
    """

    model: Model
    recipe: Recipe
    labels: tuple[str, ...]
    learned_from: frozenset[str]
    held_aside: frozenset[str]

    @property
    def gflops_per_step(self) -> float:
        """Cost of one served step."""
        return step_flops(self.model).per_step / GIGA


def load_trained(path: Path) -> Trained:
    """Read a checkpoint that `training.run.train` wrote.

    Raises:
        DataError: not such a checkpoint.
    """
    try:
        model, metadata = load_checkpoint(path)
        return Trained(
            model=model,
            recipe=parse_recipe(metadata["recipe"]),
            labels=tuple(metadata["labels"]),
            learned_from=frozenset(metadata["learned_from"]),
            held_aside=frozenset(metadata["held_aside"]),
        )
    except CheckpointError as error:
        raise DataError(str(error)) from error
    except KeyError as error:
        raise DataError(f"{path} does not remember its training: it lacks {error.args[0]!r}") from error


def load_released(
    path: Path, recipe: Recipe, labels: tuple[str, ...], learned_from: frozenset[str] = frozenset()
) -> Trained:
    """Read a checkpoint of the released code, which does not say what it learned from.

    Args:
        path: of the file.
        recipe: the published one; gives sizes and sampling.
        labels: class names, in the order of the data set's lists.
        learned_from: identities of the clips that it is otherwise known to have learned from.

    Raises:
        DataError: not such a checkpoint, or one of other sizes.
    """
    try:
        model = load_authors(path, recipe.model_config(len(labels)))
    except CheckpointError as error:
        raise DataError(str(error)) from error
    return Trained(model, recipe, labels, learned_from, held_aside=frozenset())


@dataclass(frozen=True)
class Judged:
    """Step logits [N, T, C] and labels [N], or [N, C], of clips, and the clips that could not be decoded."""

    logits: Logits
    labels: Truth
    clips: ClipSet
    broken: tuple[Broken, ...]


def judge(
    trained: Trained, data: ClipSet, cache: Path | None = None, report: Callable[[Broken], None] | None = None
) -> Judged:
    """Run a model on clips exactly as a server would.

    Raises:
        DataError: the clips have other classes than the model, or none can be decoded.
    """
    if data.labels != trained.labels:
        raise DataError(f"the clips have the classes {', '.join(data.labels)}; the model {', '.join(trained.labels)}")
    crops = decode_all(data, serving_plan(trained.recipe), cache, report)
    return Judged(predict(trained.model, crops), truth_of(crops), crops.data, crops.broken)


def judge_held_aside(
    models: Sequence[Trained],
    data: ClipSet,
    cache: Path | None = None,
    report: Callable[[Broken], None] | None = None,
) -> Judged:
    """Every clip of ``data`` that a model kept aside, judged by that model: the material of a calibration.

    With the models of several folds every clip is judged by the one model that has not learned from it (a cross-fit).

    Raises:
        CalibrationError: the models differ in configuration or labels, no clip was held aside, a clip was by several
            models, or a model learned from a clip that it is to judge.
    """
    first = models[0]
    if any(other.model.config != first.model.config or other.labels != first.labels for other in models):
        raise CalibrationError("the checkpoints differ in their model or their labels; give the folds of one recipe")
    judged, seen = [], set[str]()
    for trained in models:
        mine = [clip for clip in data.clips if clip.identity in trained.held_aside]
        identities = {clip.identity for clip in mine}
        if not mine:
            raise CalibrationError("a checkpoint kept none of these clips aside: it learned from all, or from others")
        if identities & trained.learned_from or identities & seen:
            raise CalibrationError("a clip to calibrate on was learned from, or is held aside by two checkpoints")
        seen |= identities
        judged.append(judge(trained, data.only(mine), cache, report))
    return Judged(
        logits=np.concatenate([part.logits for part in judged]),
        labels=np.concatenate([part.labels for part in judged]),
        clips=data.only(clip for part in judged for clip in part.clips.clips),
        broken=tuple(broken for part in judged for broken in part.broken),
    )


def judge_unseen(
    trained: Trained, data: ClipSet, cache: Path | None = None, report: Callable[[Broken], None] | None = None
) -> Judged:
    """All of these clips, of which the model must not have learned from one.

    Raises:
        CalibrationError: it has, or from a byte-identical one; the message says from how many.
        DataError: as `judge`.
    """
    learned = [clip for clip in data.clips if clip.identity in trained.learned_from]
    if learned:
        raise CalibrationError(
            f"{len(learned)} of {len(data.clips)} clips to calibrate on were learned from, first {learned[0].path}; "
            "give a split that training did not see"
        )
    return judge(trained, data, cache, report)
