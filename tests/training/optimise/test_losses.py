"""Each remedy changes what it should and nothing else; the whole is the sum that equals the authors'."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from adafocus.model.adafocus import AdaFocus
from adafocus.training.optimise.losses import (
    CrossEntropy,
    OneStageLoss,
    Remedies,
    balanced_class_weights,
    box_loss,
    near_points,
    one_stage_loss,
)
from adafocus.training.recipe import Recipe
from tests import tolerances

B, T, C = 3, 2, 2
LABELS = torch.tensor([0, 1, 1])
CENTRES = torch.rand(B, T, 2, generator=torch.Generator().manual_seed(2))


@pytest.fixture
def model(tiny_recipe: Callable[..., Recipe]) -> AdaFocus:
    torch.manual_seed(0)
    sizes = {**tiny_recipe().model, "frame_size": 48, "dropout": 0.0}
    return AdaFocus(tiny_recipe(model=sizes, data={"resize": 48}).model_config(C)).train()


@pytest.fixture
def frames() -> Tensor:
    return torch.randn(B, T, 3, 48, 48, generator=torch.Generator().manual_seed(1))


def loss_of(model: AdaFocus, frames: Tensor, seed: int = 2, **remedies: bool) -> OneStageLoss:
    centres = torch.rand(B, T, 2, generator=torch.Generator().manual_seed(seed))
    return one_stage_loss(model, frames, LABELS, centres, Remedies(**remedies))


def gradient(model: AdaFocus, part: str) -> float:
    module = model.get_submodule(part)
    return sum(float(p.grad.norm()) for p in module.parameters() if p.grad is not None)


def test_the_total_is_the_mean_of_both_passes(model: AdaFocus, frames: Tensor) -> None:
    loss = loss_of(model, frames)
    alone = loss_of(model, frames, diversity=False)
    torch.testing.assert_close(alone.total, alone.steps + alone.focus + alone.glance)
    torch.testing.assert_close(loss.steps, alone.steps)
    assert loss.random_steps > 0
    assert loss.total != alone.total


def test_diversity_is_what_makes_random_patches_matter(model: AdaFocus, frames: Tensor) -> None:
    assert loss_of(model, frames, seed=2).total != loss_of(model, frames, seed=3).total
    one, other = (loss_of(model, frames, seed=seed, diversity=False).total for seed in (2, 3))
    torch.testing.assert_close(one, other)


def test_supervision_is_what_teaches_the_auxiliary_heads(model: AdaFocus, frames: Tensor) -> None:
    loss_of(model, frames).total.backward()  # type: ignore[no-untyped-call]
    assert gradient(model, "glance_head") > 0
    assert gradient(model, "focus_head") > 0
    model.zero_grad()
    loss = loss_of(model, frames, supervision=False)
    assert loss.glance == loss.focus == 0
    loss.total.backward()  # type: ignore[no-untyped-call]
    assert gradient(model, "glance_head") == gradient(model, "focus_head") == 0
    assert gradient(model, "classifier") > 0


def test_stability_keeps_the_policys_gradient_out_of_the_glance(model: AdaFocus, frames: Tensor) -> None:
    def glance_gradient(stability: bool) -> float:
        model.zero_grad()
        glance = model.glance_clip(frames, detach_policy=stability)
        focus = model.focus_clip(frames, glance.features.detach(), glance.patch_centres)
        CrossEntropy()(focus.step_logits, LABELS).backward()  # type: ignore[no-untyped-call]
        assert gradient(model, "policy") > 0
        return gradient(model, "glance")

    assert glance_gradient(stability=True) == 0
    assert glance_gradient(stability=False) > 0


def test_the_policy_learns_through_its_patches_alone(model: AdaFocus, frames: Tensor) -> None:
    loss_of(model, frames).total.backward()  # type: ignore[no-untyped-call]
    assert gradient(model, "policy") > 0


def test_cross_entropy_is_the_mean_over_clips_and_steps() -> None:
    logits = torch.randn(B, T, C, generator=torch.Generator().manual_seed(1))
    by_hand = -torch.stack([logits[i, t].log_softmax(0)[LABELS[i]] for i in range(B) for t in range(T)]).mean()
    torch.testing.assert_close(CrossEntropy()(logits, LABELS), by_hand)
    assert CrossEntropy(label_smoothing=0.2)(logits, LABELS) != by_hand
    weighted = CrossEntropy(class_weights=torch.tensor([1.0, 0.0]))(logits, LABELS)
    torch.testing.assert_close(weighted, -logits[0].log_softmax(1)[:, 0].mean())


def test_class_weights() -> None:
    weights = balanced_class_weights(torch.tensor([1, 4, 0]), strength=0.5)
    torch.testing.assert_close(weights, torch.tensor([2.0, 1.0, 0.0]))


def test_the_loss_is_the_sum_of_cross_entropies_that_equals_the_authors(model: AdaFocus, frames: Tensor) -> None:
    """`tests/parity/test_training_step.py` compares this sum and its gradients with the authors' code, in full size."""
    model, frames = model.double(), frames.double()
    loss = one_stage_loss(model, frames, LABELS, CENTRES.double())
    loss.total.backward()  # type: ignore[no-untyped-call]
    gradients = {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}
    model.zero_grad()
    glance = model.glance_clip(frames)
    seen, random = (model.focus_clip(frames, glance.features, at) for at in (glance.patch_centres, CENTRES.double()))
    logits = (seen.step_logits, glance.logits, seen.logits, random.step_logits, glance.logits, random.logits)
    terms = [F.cross_entropy(value.flatten(0, 1), LABELS.repeat_interleave(T)) for value in logits]
    total = torch.stack(terms).sum() / 2
    total.backward()  # type: ignore[no-untyped-call]
    assert loss.total.item() == pytest.approx(total.item(), rel=tolerances.FLOAT64)
    found = [loss.steps.item(), loss.glance.item(), loss.focus.item(), loss.random_steps.item()]
    assert found == pytest.approx([term.item() for term in terms[:4]], rel=tolerances.FLOAT64)
    for name, value in model.named_parameters():
        if value.grad is not None:
            torch.testing.assert_close(
                gradients.pop(name), value.grad, rtol=tolerances.FLOAT64, atol=tolerances.FLOAT64
            )
    assert not gradients


def test_the_box_loss_is_least_where_the_scores_share_the_point_out() -> None:
    scores = torch.full((1, 4, 4), -20.0)
    scores[0, 1, 2] = 0.0
    middle = torch.tensor([[1.5 / 4, 2.5 / 4]])
    assert box_loss(scores, middle) < 1e-3
    between = torch.tensor([[2.0 / 4, 2.5 / 4]])  # half way to the next row
    scores[0, 2, 2] = 0.0
    torch.testing.assert_close(box_loss(scores, between), torch.tensor(math.log(2.0)), atol=1e-3, rtol=0)


def test_the_box_loss_ignores_frames_without_a_box() -> None:
    scores = torch.randn(3, 4, 4, requires_grad=True)
    points = torch.tensor([[0.3, 0.4], [torch.nan, torch.nan], [1.0, 0.0]])
    box_loss(scores, points).backward()
    assert scores.grad is not None and not scores.grad[1].any() and scores.grad[2].any()
    assert box_loss(scores, torch.full((3, 2), torch.nan)) == 0


def test_patches_near_points_hold_them_and_others_stay() -> None:
    centres = torch.rand(1, 3, 2)
    points = torch.tensor([[[0.5, 0.25], [torch.nan, torch.nan], [0.0, 1.0]]])
    near = near_points(centres, points, patch_share=0.25, spread=0.0)
    torch.testing.assert_close(near[0, 0], torch.tensor([0.5, (0.25 - 0.125) / 0.75]))
    assert torch.equal(near[0, 1], centres[0, 1])
    assert near[0, 2].tolist() == [0.0, 1.0]
