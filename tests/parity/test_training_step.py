"""One step of one-stage training equals the authors': losses, gradients, updates and batch-norm statistics."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from adafocus.model import AdaFocus
from adafocus.model.names import frame_names
from adafocus.training.optimise.optimiser import learning_rate_factor, make_optimiser, set_learning_rates
from adafocus.training.recipe_files import load_recipe
from tests import tolerances
from tests.parity import authors
from tests.parity.authors import Arrays

pytestmark = pytest.mark.parity

Named = dict[str, torch.Tensor]
Summary = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Step:
    """What one step computed, under the authors' names; of large tensors only what is compared."""

    terms: list[float]
    loss: float
    logits: Named
    actions: torch.Tensor
    gradient_norms: dict[str, float]
    gradient_starts: Named  # the first 4096 values of each
    buffers: Named


def authors_view(model: AdaFocus, ours: Named) -> Named:
    """Tensors by our key -> by the authors' key."""
    view = {}
    for key, names in frame_names(model).items():
        if key in ours:
            view |= dict(zip(names, ours[key], strict=True)) if len(names) > 1 else {names[0]: ours[key]}
    return view


def take_step(model: AdaFocus, frames: torch.Tensor, random_centres: torch.Tensor) -> Step:
    model.train()
    target = torch.tensor([3, 7])[:, None].expand(2, 4).flatten()
    glance = model.glance_clip(frames)
    focus = {
        1: model.focus_clip(frames, glance.features, glance.patch_centres),
        2: model.focus_clip(frames, glance.features, random_centres),
    }
    logits = {}
    for number, seen in focus.items():
        logits |= {
            f"cat_{number}": seen.step_logits,
            f"global_{number}": glance.logits,
            f"local_{number}": seen.logits,
        }
    terms = [F.cross_entropy(value.flatten(0, 1), target) for value in logits.values()]
    loss = torch.stack(terms).sum() / 2
    loss.backward()
    gradients = authors_view(model, {key: p.grad for key, p in model.named_parameters() if p.grad is not None})
    return Step(
        terms=[term.item() for term in terms],
        loss=loss.item(),
        logits={key: value.detach() for key, value in logits.items()},
        actions=glance.patch_centres.detach().flatten(0, 1),
        gradient_norms=norms(gradients),
        gradient_starts={key: value.flatten()[:4096].clone() for key, value in gradients.items()},
        buffers=authors_view(model, {key: value.clone() for key, value in model.named_buffers()}),
    )


def update_norms(model: AdaFocus) -> dict[str, float]:
    """Let the published recipe's optimiser use the gradients, and see how far each parameter went."""
    recipe = load_recipe("actnet_mbv2_p128")
    optimiser = make_optimiser(model, recipe.optimiser, recipe.multipliers)
    factor = learning_rate_factor(0, 1000, recipe.optimiser)
    set_learning_rates(optimiser, recipe.optimiser, recipe.multipliers, factor)
    gradients = {key: value.grad for key, value in model.named_parameters()}
    model.zero_grad()
    moved = {}
    for key, value in model.named_parameters():  # one at a time: the state of all of them at once takes gigabytes
        before = value.detach().clone()
        value.grad = gradients.pop(key)
        optimiser.step()
        value.grad = None
        optimiser.state.clear()
        moved |= norms(authors_view(model, {key: before.sub_(value.detach())}))
    return moved


def norms(tensors: Named) -> dict[str, float]:
    return {key: value.double().norm().item() for key, value in tensors.items()}


def by_module(norm: dict[str, float]) -> dict[str, float]:
    squares: dict[str, float] = {}
    for key, value in norm.items():
        squares[key.split(".")[0]] = squares.get(key.split(".")[0], 0.0) + value**2
    return {module: square**0.5 for module, square in squares.items()}


@dataclass(frozen=True)
class Steps:
    float32: Step
    float64: Step
    update_norms: dict[str, float]


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> Steps:
    name = "train_mbv2_p128_c10_s4"
    model = authors.load(name, authors.TRAIN_CONFIG, tmp_path_factory.mktemp("train"), profile="train")
    assert isinstance(model, AdaFocus)
    buffers = {key: value.clone() for key, value in model.named_buffers()}
    frames = authors.videos(2, 4, first=100, amp=0)
    centres = torch.from_numpy(authors.expected("train_step_expected")["actions_2"]).view(2, 4, 2)
    float32 = take_step(model, frames, centres)
    model.zero_grad()
    model.load_state_dict(buffers, strict=False)
    float64 = take_step(model.double(), frames.double(), centres.double())
    return Steps(float32, float64, update_norms(model))


@pytest.fixture(scope="module")
def arrays() -> Arrays:
    return authors.expected("train_step_expected")


@pytest.fixture(scope="module")
def summary() -> Summary:
    content: Summary = json.loads((authors.FOLDER / "train_step_expected.json").read_text())
    return content


def test_losses_and_logits_in_float64(steps: Steps, arrays: Arrays) -> None:
    step = steps.float64
    assert step.loss == pytest.approx(float(arrays["loss"]), rel=tolerances.TRAIN_FLOAT64_RELATIVE)
    assert step.terms == pytest.approx(list(arrays["terms_f64"]), rel=tolerances.TRAIN_FLOAT64_RELATIVE)
    np.testing.assert_allclose(step.actions, arrays["actions_1_f64"], atol=tolerances.FLOAT64, rtol=0)
    for name, value in step.logits.items():
        np.testing.assert_allclose(
            value.flatten(0, 1), arrays[f"logits_{name}_f64"], atol=tolerances.FLOAT64_LOGITS, rtol=0
        )


def test_gradients_in_float64(steps: Steps, arrays: Arrays, summary: Summary) -> None:
    step, rel = steps.float64, tolerances.TRAIN_FLOAT64_RELATIVE
    assert by_module(step.gradient_norms) == pytest.approx(summary["grad_norm_by_module_f64"], rel=rel)
    want = dict(zip(arrays["grad_keys"], arrays["grad_norms_f64"], strict=True))
    assert step.gradient_norms == pytest.approx(want, rel=rel, abs=tolerances.ZERO_NORM)
    for name in (key.removeprefix("grad/") for key in arrays if key.startswith("grad/")):
        stored = arrays[f"grad/{name}"].flatten()
        ours = step.gradient_starts[name][: stored.size]
        np.testing.assert_allclose(ours, stored, rtol=0, atol=rel * float(np.abs(stored).max()))


def test_updates_in_float64(steps: Steps, arrays: Arrays, summary: Summary) -> None:
    rel = tolerances.TRAIN_FLOAT64_RELATIVE
    want = dict(zip(arrays["grad_keys"], arrays["update_norms_f64"], strict=True))
    assert steps.update_norms == pytest.approx(want, rel=rel)
    assert by_module(steps.update_norms) == pytest.approx(summary["update_norm_by_module_f64"], rel=rel)


def test_batch_norm_statistics(steps: Steps, arrays: Arrays) -> None:
    """Focus and classifier count two batches, one of them of random patches; glance and policy count one."""
    for key in (key for key in arrays if key.startswith("bn_after/")):
        name, stored = key.removeprefix("bn_after/"), arrays[key]
        ours = steps.float64.buffers[name].flatten()[: stored.size]
        np.testing.assert_allclose(
            ours, stored, rtol=tolerances.FLOAT64_STORED_AS_FLOAT32, atol=tolerances.FLOAT64_LOGITS
        )


def test_float32(steps: Steps, arrays: Arrays, summary: Summary) -> None:
    step = steps.float32
    assert step.loss == pytest.approx(float(arrays["loss"]), rel=tolerances.TRAIN_LOSS)
    np.testing.assert_allclose(step.actions, arrays["actions_1_f64"], atol=tolerances.TRAIN_ACTIONS, rtol=0)
    for module, norm in by_module(step.gradient_norms).items():
        rel = tolerances.TRAIN_POLICY_NORM_RELATIVE if module == "policy_stn" else tolerances.TRAIN_NORM_RELATIVE
        assert norm == pytest.approx(summary["grad_norm_by_module_f64"][module], rel=rel)
