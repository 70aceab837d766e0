"""Learning rates go where the paper says: a cosine over the whole training, each part at its own multiple."""

from __future__ import annotations

import pytest
import torch

from adafocus.training.optimise.optimiser import learning_rate_factor, set_learning_rates
from adafocus.training.recipe import Multipliers, OptimiserRecipe


def rates(recipe: OptimiserRecipe, steps_per_epoch: int) -> list[float]:
    return [learning_rate_factor(step, steps_per_epoch, recipe) for step in range(recipe.epochs * steps_per_epoch)]


def test_the_schedule_is_torchs_cosine() -> None:
    recipe = OptimiserRecipe(epochs=5, lr=0.1)
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=35)
    for factor in rates(recipe, 7):
        assert factor == pytest.approx(theirs.get_last_lr()[0], rel=1e-9)
        optimiser.step()
        theirs.step()


def test_warming_up_is_linear_and_ends_on_the_cosine() -> None:
    plain = rates(OptimiserRecipe(epochs=5), 10)
    warm = rates(OptimiserRecipe(epochs=5, warmup_epochs=1.5), 10)
    assert [a / b for a, b in zip(warm[:15], plain[:15], strict=True)] == pytest.approx([n / 15 for n in range(1, 16)])
    assert warm[15:] == plain[15:]


def test_every_part_has_its_multiple() -> None:
    names = ("policy", "glance", "focus", "classifier")
    groups = [{"name": name, "params": [torch.nn.Parameter(torch.zeros(1))]} for name in names]
    optimiser = torch.optim.SGD(groups, lr=9.0)
    set_learning_rates(optimiser, OptimiserRecipe(lr=0.002), Multipliers(), factor=0.5)
    assert [group["lr"] for group in optimiser.param_groups] == pytest.approx([1e-4, 5e-4, 1e-3, 5e-3])
