"""Training on a GPU. Without one these tests are skipped, or fail if one is required."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from adafocus.training.data.manifests import list_clips
from adafocus.training.evaluate.inference import load_trained, predict_clips
from adafocus.training.recipe import Recipe
from adafocus.training.run.signals import Interrupted
from adafocus.training.run.train import train
from tests.training.run.test_train import StopAfter

pytestmark = pytest.mark.gpu

Make = Callable[..., Recipe]


@pytest.fixture(autouse=True)
def device() -> str:
    """The GPU's name."""
    if not torch.cuda.is_available():
        if os.environ.get("ADAFOCUS_REQUIRE_GPU") == "1":
            pytest.fail("a GPU is required here: torch finds no CUDA device")
        pytest.skip("needs a GPU: torch finds no CUDA device")
    return "cuda"


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_a_run_on_a_gpu_learns_what_a_processor_can_use(
    clip_folder: Path, tmp_path: Path, tiny_recipe: Make, device: str, precision: str
) -> None:
    data = list_clips(clip_folder)
    optimiser = {"epochs": 6, "batch_size": 4, "lr": 0.02, "average": 0.5, "precision": precision}
    outcome = train(data, tiny_recipe(optimiser=optimiser), tmp_path / "run", device=device)
    assert outcome.history[-1]["loss"] < outcome.history[0]["loss"]
    predictions = predict_clips(load_trained(outcome.checkpoint), data)
    assert np.isfinite(predictions.logits).all()


def test_a_run_that_was_stopped_goes_on(clip_folder: Path, tmp_path: Path, tiny_recipe: Make, device: str) -> None:
    data, told = list_clips(clip_folder), list[str]()
    recipe = tiny_recipe(optimiser={"epochs": 3, "batch_size": 4, "lr": 0.02, "average": 0.5, "precision": "fp16"})
    with pytest.raises(Interrupted):
        train(data, recipe, tmp_path / "run", device=device, say=StopAfter(1))
    outcome = train(data, recipe, tmp_path / "run", device=device, say=told.append)
    assert "continuing after epoch 1 of 3" in told
    assert [row["epoch"] for row in outcome.history] == [1, 2, 3]
