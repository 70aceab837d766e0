"""The loop that the stages share: AdamW, a short warm-up, a cosine, and draws that balance classes and sources."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from adafocus.training.errors import DivergedError

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Fit:
    """The length and the rates of one stage.

    Attributes:
        steps: of the optimiser. batch_size: views in each.
        lr: of the backbone. head_factor: of the head's rate over it.
        weight_decay: of AdamW. warmup_steps: in which the rate grows to its top.
    """

    steps: int
    lr: float
    head_factor: float = 5.0
    batch_size: int = 32
    weight_decay: float = 0.05
    warmup_steps: int = 25


def balanced_shares(labels: Sequence[int], units: Sequence[str]) -> npt.NDArray[np.float64]:
    """Return how often each clip is drawn: by the square roots of the sizes of its class and of its source."""
    of_source, of_class = Counter(zip(units, labels, strict=True)), Counter(labels)
    shares = np.array([of_source[unit, label] ** -0.5 for unit, label in zip(units, labels, strict=True)])
    chosen = np.asarray(labels)
    for label, count in of_class.items():
        shares[chosen == label] *= count**0.5 / shares[chosen == label].sum()
    balanced: npt.NDArray[np.float64] = shares / shares.sum()
    return balanced


def fit(
    backbone: Sequence[nn.Parameter],
    head: Sequence[nn.Parameter],
    loss_of: Callable[[Numbers], Tensor],
    shares: npt.NDArray[np.float64],
    settings: Fit,
    random: np.random.Generator,
) -> float:
    """Train parameters in place and return the mean loss of the last tenth of the steps.

    Args:
        backbone: parameters that learn at the rate itself.
        head: parameters that learn faster.
        loss_of: the loss of a batch, given the numbers of the views in it.
        shares: of each view, how often it is drawn.
        settings: length and rates.
        random: draws the batches.

    Raises:
        DivergedError: the loss is not finite.
    """
    rates = (settings.lr, settings.lr * settings.head_factor)
    groups = [{"params": list(part), "lr": rate} for part, rate in zip((backbone, head), rates, strict=True)]
    optimiser = torch.optim.AdamW(groups, weight_decay=settings.weight_decay)
    losses = []
    for step in range(settings.steps):
        factor = min(1.0, (step + 1) / settings.warmup_steps) * cosine(step / settings.steps)
        for group, rate in zip(optimiser.param_groups, rates, strict=True):
            group["lr"] = rate * factor
        loss = loss_of(random.choice(len(shares), settings.batch_size, p=shares))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call] # torch's stubs
        torch.nn.utils.clip_grad_norm_([*backbone, *head], 5.0)
        optimiser.step()
        losses.append(float(loss.detach()))
        if not math.isfinite(losses[-1]):
            raise DivergedError(f"the loss is {losses[-1]} in step {step + 1}; try a smaller rate than {settings.lr}")
    return float(np.mean(losses[-max(1, settings.steps // 10) :]))


def cosine(done: float) -> float:
    """Return the factor of the rate after a share of the steps: from 1 down to 0.02."""
    return 0.49 * (1 + math.cos(math.pi * done)) + 0.02
