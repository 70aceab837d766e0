"""The clip model learns by its own loss, and is judged by the same verbs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from adafocus.model.tsm import AdaFocusTSM
from adafocus.training.data.crop_plan import serving_plan, training_plan
from adafocus.training.data.crops import decode_all
from adafocus.training.data.manifests import list_clips
from adafocus.training.errors import RecipeError
from adafocus.training.evaluate.inference import load_trained, predict_clips
from adafocus.training.evaluate.report import evaluate
from adafocus.training.optimise.losses import CrossEntropy, Remedies, one_stage_loss
from adafocus.training.optimise.objective import Objective
from adafocus.training.optimise.optimiser import make_optimiser
from adafocus.training.recipe import Recipe
from adafocus.training.run.train import train

Make = Callable[..., Recipe]


@pytest.fixture
def model(clip_recipe: Make) -> AdaFocusTSM:
    torch.manual_seed(0)
    return AdaFocusTSM(clip_recipe(model={**clip_recipe().model, "dropout": 0.0}).model_config(3)).double()


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    return torch.randn(4, 5, 3, 48, 48).double(), torch.tensor([0, 1, 2, 0]), torch.rand(4, 1, 2).double()


def test_the_loss_is_half_the_sum_over_policy_and_random_patches(
    model: AdaFocusTSM, batch: tuple[torch.Tensor, torch.Tensor, torch.Tensor]
) -> None:
    frames, labels, centres = batch
    model.eval()  # so that the statistics of both passes are the same
    loss = Objective(model, Remedies(), CrossEntropy())(frames, labels, centres)
    total = torch.zeros(()).double()
    for centre in (None, centres[:, 0]):
        out = model(frames[:, :2], frames[:, 2:], centre)
        for logits in (out.logits, out.glance_logits, out.focus_logits):
            total += F.cross_entropy(logits, labels) / 2
    torch.testing.assert_close(loss.total, total)


def test_where_the_gradient_goes(model: AdaFocusTSM, batch: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> None:
    frames, labels, centres = batch

    def gradient(remedies: Remedies) -> torch.Tensor | None:
        model.zero_grad(set_to_none=True)
        one_stage_loss(model, frames, labels, centres, remedies).total.backward()
        assert next(model.policy.parameters()).grad is not None
        grad = next(model.glance.parameters()).grad
        return None if grad is None else grad.clone()

    detached, attached = gradient(Remedies()), gradient(Remedies(stability=False))
    assert detached is not None
    assert attached is not None
    assert not torch.allclose(detached, attached, rtol=1e-9, atol=0)


def test_every_parameter_is_optimised_at_its_parts_rate(model: AdaFocusTSM, clip_recipe: Make) -> None:
    recipe = clip_recipe(multipliers={"policy": 0.01, "glance": 0.5, "focus": 1.0})
    groups = make_optimiser(model, recipe.optimiser, recipe.multipliers).param_groups
    assert {group["name"]: round(group["lr"] / 0.02, 6) for group in groups} == {
        "policy": 0.01,
        "glance": 0.5,
        "focus": 1.0,
    }
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))


def test_supervision_cannot_be_removed_from_a_clip_model(clip_recipe: Make) -> None:
    with pytest.raises(RecipeError, match="auxiliary heads alone"):
        clip_recipe(remedies={"supervision": False})


def test_glance_and_focus_are_sampled_apart(clip_recipe: Make) -> None:
    recipe = clip_recipe()
    assert serving_plan(recipe).wanted(60) == (15, 45, 10, 30, 50)
    assert serving_plan(recipe).wanted(2) == (0, 0, 0, 0, 0)
    plan = replace(training_plan(recipe), candidates=2)
    assert plan.wanted(60) == (7, 22, 37, 52, 5, 15, 25, 35, 45, 55)
    assert plan.wanted(2) == (0,) * 10


def test_a_clip_model_trains_resumes_and_is_judged(clip_folder: Path, tmp_path: Path, clip_recipe: Make) -> None:
    data = list_clips(clip_folder)
    recipe = clip_recipe()
    outcome = train(data, recipe, tmp_path / "run")
    assert len(outcome.history) == 2
    trained = load_trained(outcome.checkpoint)
    predictions = predict_clips(trained, data)
    assert predictions.logits.shape == (10, 1, 2)
    report = evaluate(predictions.logits, predictions.labels, data.labels, trained.gflops_per_step)
    assert report.step_accuracy == (report.accuracy,)
    crops = decode_all(data, serving_plan(recipe))
    assert crops.pixels[0].shape == (5, 48, 48, 3)
