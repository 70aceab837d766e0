"""Evaluation after each epoch, to keep the best one: on which clips, and by which metric."""

from __future__ import annotations

from pathlib import Path

from adafocus.bundle.exit_rule import probabilities
from adafocus.training.data.clips import ClipSet
from adafocus.training.data.crops import Crops
from adafocus.training.data.manifests import list_clips
from adafocus.training.errors import DataError
from adafocus.training.evaluate.average_precision import mean_average_precision
from adafocus.training.evaluate.metrics import accuracy, macro_f1, negative_log_likelihood, one_label
from adafocus.training.evaluate.report import multi_hot, predict, truth_of
from adafocus.training.optimise.objective import Model
from adafocus.training.recipe import Loss, Metric, Recipe

HOLDOUT, VALIDATION = "holdout_", "validation_"
"""Prefixes of the log's columns with the metrics of holdout clips, and of the validation split."""


def validation_clips(data: Path, recipe: Recipe) -> ClipSet | None:
    """Return the clips of a recipe's validation split; None if it names none.

    Raises:
        DataError: there is no such split, or no clip in it; the message says how to do without.
    """
    if not recipe.validation_split:
        return None
    try:
        return list_clips(data, recipe.validation_split, recipe.lists)
    except DataError as error:
        how = f"the recipe validates on split {recipe.validation_split!r}; --validation-split '' does without"
        raise DataError(f"{error} ({how})") from error


def metric_of(recipe: Recipe, data: ClipSet) -> Metric:
    """Return the metric that the best epoch is chosen by: the recipe's, else the one that suits the clips."""
    return recipe.monitor or ("map" if data.multi_label else "macro_f1")


def figures(model: Model, crops: Crops, metric: Metric, loss: Loss = "softmax") -> dict[str, float]:
    """Return a model's metrics on clips that it was not trained on, by name.

    Mean average precision, over the classes that occur, is among them where clips may have several, or if it is
    ``metric``.
    """
    logits, truth = predict(model, crops), truth_of(crops.data)
    classes = logits.shape[2]
    predicted = logits[:, -1].argmax(axis=1)
    found = {
        "accuracy": accuracy(predicted, truth),
        "macro_f1": macro_f1(predicted, one_label(predicted, truth), classes),
        "nll": negative_log_likelihood(logits, truth),
    }
    if metric == "map" or truth.ndim == 2:
        targets = multi_hot([clip.all_labels for clip in crops.data.clips], classes)
        scores = logits[:, -1] if loss == "sigmoid" else probabilities(logits[:, -1])
        found["map"] = mean_average_precision(scores, targets, "present")
    return found
