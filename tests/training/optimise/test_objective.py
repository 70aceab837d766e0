"""Half precision keeps the policy whole; initial weights come from local files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from adafocus.model.adafocus import AdaFocus
from adafocus.model.backbones import build_backbone
from adafocus.model.names import backbone_names
from adafocus.training.data.manifests import list_clips
from adafocus.training.errors import DataError, ResumeError
from adafocus.training.optimise.initial_weights import InitialWeights
from adafocus.training.optimise.losses import CrossEntropy, Remedies
from adafocus.training.optimise.objective import Objective, use_half_precision
from adafocus.training.recipe import Precision, Recipe
from adafocus.training.run.signals import Interrupted
from adafocus.training.run.train import train
from tests.training.run.test_train import StopAfter, weights

Make = Callable[..., Recipe]


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_stays_inside_the_networks(precision: Precision, tiny_recipe: Make) -> None:
    torch.manual_seed(0)
    model = AdaFocus(tiny_recipe(model={**tiny_recipe().model, "dropout": 0.0}).model_config(3))
    frames, labels, centres = torch.randn(4, 2, 3, 32, 32), torch.tensor([0, 1, 2, 0]), torch.rand(4, 2, 2)
    objective = Objective(model, Remedies(), CrossEntropy())
    whole = objective(frames, labels, centres).total.item()
    use_half_precision(model, precision, "cpu")
    seen: dict[str, torch.dtype] = {}
    model.policy.register_forward_hook(lambda _, given, made: seen.update(policy=made.dtype))
    first = next(module for module in model.glance.modules() if isinstance(module, torch.nn.Conv2d))
    first.register_forward_hook(lambda _, given, made: seen.update(glance=made.dtype))
    half = objective(frames, labels, centres).total
    assert seen == {"policy": torch.float32, "glance": torch.bfloat16 if precision == "bf16" else torch.float16}
    assert half.dtype == torch.float32
    assert half.item() == pytest.approx(whole, rel=0.05)
    assert half.item() != whole
    half.backward()
    assert all(p.grad is None or p.grad.dtype == torch.float32 for p in model.parameters())
    model.eval()
    objective(frames, labels, centres)
    assert seen["glance"] == torch.float32


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_training_in_half_precision_learns_and_resumes(
    clip_folder: Path, tmp_path: Path, tiny_recipe: Make, precision: str
) -> None:
    data = list_clips(clip_folder)
    recipe = tiny_recipe(optimiser={"epochs": 2, "batch_size": 4, "lr": 0.02, "precision": precision})
    whole = train(data, recipe, tmp_path / "whole")
    with pytest.raises(Interrupted):
        train(data, recipe, tmp_path / "parts", say=StopAfter(1))
    resumed = train(data, recipe, tmp_path / "parts")
    ours, theirs = weights(resumed.checkpoint), weights(whole.checkpoint)
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_initial_weights_are_loaded_and_are_part_of_the_run(
    clip_folder: Path, tmp_path: Path, tiny_recipe: Make
) -> None:
    recipe = tiny_recipe()
    config = recipe.model_config(2)
    network = build_backbone(config.focus)
    own = network.state_dict()
    torch.save({name: own[key] for key, name in backbone_names(network, "torchvision").items()}, tmp_path / "net.pth")
    initial = InitialWeights(focus=tmp_path / "net.pth")
    model = AdaFocus(config)
    initial.load(model)
    assert all(torch.equal(value, own[key]) for key, value in model.focus.state_dict().items())
    data = list_clips(clip_folder)
    train(data, recipe, tmp_path / "run", initial=initial)
    with pytest.raises(ResumeError, match="another"):
        train(data, recipe, tmp_path / "run")
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "wrong.pth")
    with pytest.raises(DataError, match="the glance network cannot start from"):
        InitialWeights(glance=tmp_path / "wrong.pth").load(model)


def test_a_device_that_is_not_there_is_named(clip_folder: Path, tmp_path: Path, tiny_recipe: Make) -> None:
    with pytest.raises(DataError, match="no device 'nonsense'"):
        train(list_clips(clip_folder), tiny_recipe(), tmp_path / "run", device="nonsense")
    with pytest.raises(DataError, match="not tested"):
        train(list_clips(clip_folder), tiny_recipe(), tmp_path / "run", device="meta")
