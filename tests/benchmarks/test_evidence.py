"""The study changes what it says it changes and nothing else, at the compute it says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.evidence import glyphs
from benchmarks.evidence.arms import ARMS, STAGES, multiply_adds
from benchmarks.evidence.cross_validation import wilson
from benchmarks.evidence.study import arm_recipe
from model import AdaFocus
from tests.conftest import ROOT
from training.losses import CrossEntropy, Remedies
from training.recipe import Recipe, load_recipe
from video.probe import open_video

CLASSES = 4


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return load_recipe(str(ROOT / "benchmarks" / "evidence" / "glyphs.toml"))


@pytest.fixture
def frames(recipe: Recipe) -> torch.Tensor:
    torch.manual_seed(0)
    size = recipe.model_config(CLASSES).frame_size
    return torch.randn(4, int(recipe.model["steps"]), 3, size, size)


@pytest.mark.parametrize("name", list(ARMS))
@pytest.mark.parametrize("config", ["glyphs", "tank_state"])
def test_every_arm_spends_the_compute_of_the_method(name: str, config: str, recipe: Recipe) -> None:
    base = recipe if config == "glyphs" else load_recipe(config)

    def per_video(arm: str) -> int:
        own = arm_recipe(ARMS[arm], base, CLASSES)
        return multiply_adds(ARMS[arm].build(own.model_config(CLASSES))) * int(own.model["steps"])

    assert per_video(name) == pytest.approx(per_video("learned"), rel=0.25)


def test_arms_look_where_they_say(recipe: Recipe, frames: torch.Tensor) -> None:
    centre = ARMS["centre"].build(recipe.model_config(CLASSES)).eval()
    assert torch.equal(centre(frames).patch_centres, torch.full((4, frames.shape[1], 2), 0.5))
    chance = ARMS["random"].build(recipe.model_config(CLASSES)).eval()
    assert not torch.equal(chance(frames).patch_centres, chance(frames).patch_centres)
    shrunk = ARMS["shrunk"].build(recipe.model_config(CLASSES)).eval()
    logits = shrunk(frames).step_logits
    assert torch.equal(shrunk(frames, torch.zeros(4, frames.shape[1], 2)).step_logits, logits)


def test_one_network_has_no_use_for_the_other(recipe: Recipe) -> None:
    own = arm_recipe(ARMS["none"], recipe, CLASSES)
    model = ARMS["none"].build(own.model_config(CLASSES)).eval()
    size = own.model_config(CLASSES).frame_size
    clip = torch.randn(2, int(own.model["steps"]), 3, size, size)
    before = model(clip).step_logits
    for parameter in model.focus.parameters():
        parameter.data.mul_(3)
    assert torch.equal(model(clip).step_logits, before)


@pytest.mark.parametrize("phase", STAGES, ids=lambda phase: phase.name)
def test_a_stage_trains_its_part_and_no_other(phase, recipe: Recipe, frames: torch.Tensor) -> None:  # type: ignore[no-untyped-def]
    model = AdaFocus(recipe.model_config(CLASSES))
    objective = phase.objective(model, Remedies(), CrossEntropy())
    centres = torch.rand(4, frames.shape[1], 2)
    objective(frames, torch.arange(4) % CLASSES, centres).total.backward()
    learning = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert learning == set(objective.parts)


def test_glyphs_are_equally_dark_in_every_block(tmp_path: Path) -> None:
    alphabet = glyphs.alphabet()
    assert len({glyph.tobytes() for glyph in alphabet}) == glyphs.CLASSES
    cells = glyphs.CELLS // 2
    blocks = alphabet.reshape(-1, cells, 2, cells, 2).sum(axis=(2, 4))
    assert (blocks == 2).all()
    glyphs.write_clip(tmp_path / "a.mp4", 1, np.random.default_rng(0))
    with (tmp_path / "a.mp4").open("rb") as file, open_video(file) as video:
        assert (video.info.frames, video.info.width) == (glyphs.FRAMES, glyphs.SIDE)


def test_intervals() -> None:
    low, high = wilson(9, 10)
    assert (low, high) == pytest.approx((0.5958, 0.9821), abs=1e-4)
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(10, 10)[1] == pytest.approx(1.0)
