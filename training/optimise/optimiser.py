"""Optimiser, learning rate schedule and weight averaging."""

from __future__ import annotations

import copy
import math

import torch
from torch import nn

from adafocus.training.optimise.objective import Model
from adafocus.training.recipe import Multipliers, OptimiserRecipe


def parameter_groups(model: Model, lr: float, multipliers: Multipliers) -> list[dict[str, object]]:
    """One group per part with its own learning rate; each network's heads go with it."""
    return [
        {
            "name": name,
            "lr": lr * getattr(multipliers, name),
            "params": [p for module in modules for p in module.parameters()],
        }
        for name, modules in model.learning_parts().items()
    ]


def make_optimiser(model: Model, recipe: OptimiserRecipe, multipliers: Multipliers) -> torch.optim.Optimizer:
    """The recipe's optimiser over all parts."""
    groups = parameter_groups(model, recipe.lr, multipliers)
    if recipe.method == "adamw":
        return torch.optim.AdamW(groups, lr=recipe.lr, weight_decay=recipe.weight_decay)
    return torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay)


def learning_rate_factor(step: int, steps_per_epoch: int, recipe: OptimiserRecipe) -> float:
    """Factor of the learning rate at a step: linear warm-up times half a cosine over the whole training."""
    warmup = recipe.warmup_epochs * steps_per_epoch
    rise = min(1.0, (step + 1) / warmup) if warmup else 1.0
    return rise * 0.5 * (1 + math.cos(math.pi * step / (recipe.epochs * steps_per_epoch)))


def set_learning_rates(
    optimiser: torch.optim.Optimizer, recipe: OptimiserRecipe, multipliers: Multipliers, factor: float
) -> None:
    """Give every group its base rate times its multiplier times ``factor``."""
    for group in optimiser.param_groups:
        group["lr"] = recipe.lr * getattr(multipliers, group["name"]) * factor


class WeightAverage:
    """Exponential average of a model's weights and statistics; a decay of 0 is the model itself."""

    def __init__(self, model: Model, decay: float) -> None:
        self._model = model
        self._decay = decay
        self.module: Model = copy.deepcopy(model).requires_grad_(False) if decay else model
        self._updates = 0

    def update(self) -> None:
        """Update the average with the model's weights; early updates count more, so that the start is forgotten."""
        if not self._decay:
            return
        self._updates += 1
        keep = min(self._decay, self._updates / (self._updates + 10))
        with torch.no_grad():
            for mean, value in zip(_tensors(self.module), _tensors(self._model), strict=True):
                if mean.is_floating_point():
                    mean.lerp_(value, 1 - keep)
                else:
                    mean.copy_(value)

    def state(self) -> dict[str, object]:
        """The state that `restore` takes."""
        return {"weights": self.module.state_dict() if self._decay else {}, "updates": self._updates}

    def restore(self, state: dict[str, object]) -> None:
        """Continue from a saved state."""
        self._updates = int(state["updates"])  # type: ignore[call-overload]  # a state's values are of any type
        if self._decay:
            self.module.load_state_dict(state["weights"])  # type: ignore[arg-type]  # a state's values are of any type


def _tensors(module: nn.Module) -> list[torch.Tensor]:
    return list(module.state_dict().values())
