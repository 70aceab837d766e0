"""Each remedy changes what it should and nothing else; the whole equals the authors' step."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from adafocus.model.adafocus import AdaFocus
from adafocus.training.optimise.losses import (
    CrossEntropy,
    OneStageLoss,
    Remedies,
    balanced_class_weights,
    one_stage_loss,
)
from adafocus.training.recipe import Recipe
from tests.parity import authors, tolerances

B, T, C = 3, 2, 2
LABELS = torch.tensor([0, 1, 1])


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


@pytest.mark.parity
def test_the_loss_equals_the_authors_step_in_float64(tmp_path: Path) -> None:
    model = authors.load("train_mbv2_p128_c10_s4", authors.TRAIN_CONFIG, tmp_path, profile="train")
    assert isinstance(model, AdaFocus)
    arrays = authors.expected("train_step_expected")
    centres = torch.from_numpy(arrays["actions_2"]).view(2, 4, 2).double()
    frames = authors.videos(2, 4, first=100, amp=0).double()
    loss = one_stage_loss(model.double().train(), frames, torch.tensor([3, 7]), centres)
    relative = tolerances.TRAIN_FLOAT64_RELATIVE
    assert loss.total.item() == pytest.approx(float(arrays["loss"]), rel=relative)
    cat_1, glance, focus, cat_2, *_ = (float(value) for value in arrays["terms_f64"])
    found = [loss.steps.item(), loss.glance.item(), loss.focus.item(), loss.random_steps.item()]
    np.testing.assert_allclose(found, [cat_1, glance, focus, cat_2], rtol=relative)
    loss.total.backward()  # type: ignore[no-untyped-call]
    norms = json.loads((authors.FOLDER / "train_step_expected.json").read_text())["grad_norm_by_module_f64"]
    policy = torch.cat([p.grad.flatten() for p in model.policy.parameters() if p.grad is not None]).norm()
    assert policy.item() == pytest.approx(norms["policy_stn"], rel=relative)
