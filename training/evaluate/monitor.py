"""What is judged after each epoch, so that the best one is kept: which clips, and by which metric."""

from __future__ import annotations

from pathlib import Path

from bundle.exit_rule import probabilities
from training.data.clips import ClipSet
from training.data.crops import Crops
from training.data.manifests import list_clips
from training.errors import DataError
from training.evaluate.average_precision import mean_average_precision
from training.evaluate.metrics import accuracy, macro_f1, negative_log_likelihood, one_label
from training.evaluate.report import multi_hot, predict, truth_of
from training.optimise.objective import Model
from training.recipe import Metric, Recipe

ASIDE, WATCHED = "aside_", "watched_"
"""What columns of the log begin with: what was judged were clips held aside, or those of a split to watch."""


def watched_clips(data: Path, recipe: Recipe) -> ClipSet | None:
    """The clips of the split that a recipe watches; None if it names none.

    Raises:
        DataError: there is no such split, or no clip in it; the message says how to do without.
    """
    if not recipe.watch_split:
        return None
    try:
        return list_clips(data, recipe.watch_split, recipe.lists)
    except DataError as error:
        how = f"the recipe watches split {recipe.watch_split!r}; --watch-split '' does without"
        raise DataError(f"{error} ({how})") from error


def metric_of(recipe: Recipe, data: ClipSet) -> Metric:
    """What the best epoch is chosen by: the recipe's choice, else what suits the clips."""
    return recipe.best_by or ("map" if data.multi_label else "macro_f1")


def figures(model: Model, crops: Crops, metric: Metric) -> dict[str, float]:
    """What a model is worth on clips that it has not learned from, by the name of each metric.

    Mean average precision, over the classes that occur, is among them where clips may have several, or if it is
    ``metric``.
    """
    logits, truth = predict(model, crops), truth_of(crops)
    classes = logits.shape[2]
    predicted = logits[:, -1].argmax(axis=1)
    found = {
        "accuracy": accuracy(predicted, truth),
        "macro_f1": macro_f1(predicted, one_label(predicted, truth), classes),
        "nll": negative_log_likelihood(logits, truth),
    }
    if metric == "map" or truth.ndim == 2:
        targets = multi_hot([clip.all_labels for clip in crops.data.clips], classes)
        found["map"] = mean_average_precision(probabilities(logits[:, -1]), targets, "present")
    return found
