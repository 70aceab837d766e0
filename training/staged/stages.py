"""The stages: the glance and its heatmap learn to find from boxes, a network learns to recognise what a view shows.

What was learned is put together into one model whose classifier carries the logits of the focus's own head.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adafocus.model.adafocus import AdaFocus
from adafocus.model.backbones import spatial_mean
from adafocus.model.heatmap import HeatmapPolicy
from adafocus.training.optimise.losses import box_loss
from adafocus.training.staged.fit import Fit, Numbers, fit
from adafocus.training.staged.fixed_start import FixedStart, Maps

LIFT = 40.0
"""Added to logits of either sign in the classifier's features, which may not be negative."""


def taken(maps: Maps, numbers: Numbers) -> Tensor:
    """Return some of the maps as floats."""
    return torch.from_numpy(maps[numbers]).float().contiguous(memory_format=torch.channels_last)


@dataclass(frozen=True)
class Empty:
    """Views that do not show the thing.

    Attributes:
        maps: of the fixed layers. shares: of each view, how often it is drawn.
        portion: of each batch that they are.
    """

    maps: Maps
    shares: npt.NDArray[np.float64]
    portion: float


def learn_to_find(
    start: FixedStart,
    policy: HeatmapPolicy,
    maps: Maps,
    places: Tensor,
    shares: npt.NDArray[np.float64],
    settings: Fit,
    random: np.random.Generator,
) -> float:
    """Train the glance and its policy on views with known places [N, 2]; return the last loss."""

    def loss_of(numbers: Numbers) -> Tensor:
        look = policy(start(taken(maps, numbers)))
        return box_loss(look.scores, places[torch.from_numpy(numbers)])

    start.train()
    policy.train()
    loss = fit(start.learning(), list(policy.parameters()), loss_of, shares, settings, random)
    start.eval()
    policy.eval()
    return loss


def learn_to_recognise(
    start: FixedStart,
    head: nn.Linear,
    maps: Maps,
    labels: Tensor,
    shares: npt.NDArray[np.float64],
    settings: Fit,
    random: np.random.Generator,
    dropout: float = 0.3,
    label_smoothing: float = 0.05,
    empty: Empty | None = None,
) -> float:
    """Train a backbone and its head on views of known classes, int64 [N]; return the last loss.

    Of ``empty`` views it learns to answer all classes alike: then the background tells nothing, and a frame in which
    the policy missed the thing does not move the mean of the logits.
    """
    classes = F.one_hot(labels, head.out_features).float()

    def loss_of(numbers: Numbers) -> Tensor:
        targets, seen = classes[torch.from_numpy(numbers)], taken(maps, numbers)
        if empty is not None:
            count = round(empty.portion * len(numbers))
            drawn = random.choice(len(empty.shares), count, p=empty.shares)
            seen[:count], targets[:count] = taken(empty.maps, drawn), 1 / head.out_features
        features = F.dropout(spatial_mean(start(seen)), dropout)
        return F.cross_entropy(head(features), targets, label_smoothing=label_smoothing)

    start.train()
    loss = fit(start.learning(), list(head.parameters()), loss_of, shares, settings, random)
    start.eval()
    return loss


def carry_logits(model: AdaFocus) -> None:
    """Set the classifier so that it joins the focus's own logits of the frames so far, without learning.

    With the pooling ``mean`` its answer is their mean, and its width must be the number of classes. With ``max`` it is
    the middle between the largest and the smallest logit of each class: a running maximum cannot average, but it can
    keep the largest of a logit and of its negative. The width must then be twice the number of classes.

    Raises:
        ValueError: it has another width.
    """
    classes, classifier = model.config.num_classes, model.classifier
    signs = (1.0,) if model.config.pooling == "mean" else (1.0, -1.0)
    if model.config.mlp_width != len(signs) * classes:
        times = "the classes" if len(signs) == 1 else "twice the classes"
        raise ValueError(
            f"mlp_width is {model.config.mlp_width}; permitted with pooling {model.config.pooling!r}: {times}, "
            f"{len(signs) * classes}"
        )
    head = model.focus_head
    with torch.no_grad():
        classifier.linear.weight.zero_()
        classifier.linear.weight[:, model.glance.channels :] = torch.cat([sign * head.weight for sign in signs])
        classifier.linear.bias.copy_(torch.cat([sign * head.bias for sign in signs]) + LIFT)
        norm = classifier.norm
        assert norm.running_mean is not None and norm.running_var is not None  # noqa: S101 # batch norms track
        norm.running_mean.zero_()
        norm.running_var.fill_(1.0 - norm.eps)
        norm.weight.fill_(1.0)
        norm.bias.zero_()
        classifier.heads.bias.fill_(-LIFT if len(signs) == 1 else 0.0)
        classifier.heads.weight.zero_()
        for label in range(classes):
            for place, sign in enumerate(signs):
                classifier.heads.weight[:, label, place * classes + label] = sign / len(signs)
