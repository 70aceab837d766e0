"""Each arm of the study changes only the named part, at the stated compute."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from adafocus.model import AdaFocus
from adafocus.training.data.augment import normalise
from adafocus.training.optimise.losses import CrossEntropy, Remedies
from adafocus.training.recipe import Recipe
from adafocus.training.recipe_files import load_recipe
from adafocus.video.probe import open_video
from benchmarks import machine
from benchmarks.evidence import hatching
from benchmarks.evidence.arms import ARMS, STAGES, multiply_adds
from benchmarks.evidence.cross_validation import wilson
from benchmarks.evidence.leave_one_out import group_interval, majority
from benchmarks.evidence.oracle import plate_middles
from benchmarks.evidence.pretrain import TASKS
from benchmarks.evidence.report import interval
from benchmarks.evidence.study import arm_recipe
from benchmarks.evidence.sweep import changed
from tests.conftest import ROOT

CLASSES = 4


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return load_recipe(str(ROOT / "benchmarks" / "evidence" / "hatching.toml"))


@pytest.fixture
def frames(recipe: Recipe) -> torch.Tensor:
    torch.manual_seed(0)
    size = recipe.model_config(CLASSES).frame_size
    return torch.randn(4, int(recipe.model["steps"]), 3, size, size)


@pytest.mark.parametrize("name", list(ARMS))
@pytest.mark.parametrize("config", ["hatching", "tank_state"])
def test_every_arm_spends_the_compute_of_the_method(name: str, config: str, recipe: Recipe) -> None:
    base = recipe if config == "hatching" else load_recipe(config)

    def per_video(arm: str) -> tuple[int, int]:
        own = arm_recipe(ARMS[arm], base, CLASSES)
        steps = int(own.model["steps"])
        return multiply_adds(ARMS[arm].build(own.model_config(CLASSES))) * steps, steps

    (spent, steps), (method, _) = per_video(name), per_video("learned")
    # one full frame is the minimum, at any cost
    assert spent == pytest.approx(method, rel=0.25) or (name == "full" and steps == 1)


def test_a_glance_alone_that_averages_pixels_costs_at_least_as_much_as_the_method() -> None:
    base = load_recipe(str(ROOT / "benchmarks" / "evidence" / "hatching_smooth.toml"))
    own, method = arm_recipe(ARMS["none"], base, CLASSES), arm_recipe(ARMS["learned"], base, CLASSES)
    alone = multiply_adds(ARMS["none"].build(own.model_config(CLASSES)))
    assert alone >= multiply_adds(ARMS["learned"].build(method.model_config(CLASSES)))
    assert own.model["frame_size"] % own.model["glance"]["input_size"] == 0


def test_the_recipes_of_the_made_set_differ_in_how_the_glance_shrinks_and_in_nothing_else(recipe: Recipe) -> None:
    smooth = load_recipe(str(ROOT / "benchmarks" / "evidence" / "hatching_smooth.toml")).to_dict()
    content = recipe.to_dict()
    content["model"]["glance"]["shrink"] = "area"
    assert {**smooth, "name": content["name"]} == content


@pytest.mark.parametrize("seed", range(4))
def test_the_oracle_looks_at_the_orange_plate(seed: int) -> None:
    things = hatching.plates(seed, np.random.default_rng(seed))
    shown = list(hatching.drawn(things, np.random.default_rng(seed), range(hatching.FRAMES)))
    frames = normalise(torch.from_numpy(np.stack(shown)).permute(0, 3, 1, 2))
    corners = torch.tensor([things[-1].corner(index) for index in range(hatching.FRAMES)])
    true = (corners + hatching.PLATE / 2) / hatching.SIDE
    assert (plate_middles(frames) - true).abs().max() * hatching.SIDE < 2
    nothing = normalise(torch.full((1, 3, 8, 8), 90.0))
    assert torch.equal(plate_middles(nothing), torch.full((1, 2), 0.5))


@pytest.mark.parametrize("task", list(TASKS))
def test_pretraining_sees_every_target_equally_often(task: str) -> None:
    examples = TASKS[task](np.random.default_rng(0))
    counts = torch.bincount(examples.targets)
    assert len(examples.pixels) == counts.sum()
    assert counts.max() - counts.min() <= 1


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


def test_the_made_set_hides_its_classes_from_a_shrunk_frame(recipe: Recipe) -> None:
    """A glance sees the same tint of a plate for every direction, and another tint if there are no lines."""
    size = recipe.model_config(CLASSES).glance_size
    shrunk = hatching.PLATE * size // hatching.SIDE

    def seen(direction: float) -> torch.Tensor:
        random = np.random.default_rng(0)
        lines = np.mean([hatching.hatching(direction, random) for _ in range(400)], axis=0)
        return F.interpolate(torch.from_numpy(lines)[None, None], size=(shrunk, shrunk), mode="area")

    tints = torch.stack([seen(np.pi * label / hatching.CLASSES) for label in range(hatching.CLASSES)])
    assert tints.std(dim=0).max() < 0.02 * tints.mean()
    assert tints.mean() > 0.3 * hatching.DEEPEST


def test_a_made_clip_is_read_like_any_other(tmp_path: Path) -> None:
    hatching.write_clip(tmp_path / "a.mp4", 1, np.random.default_rng(0))
    with (tmp_path / "a.mp4").open("rb") as file, open_video(file) as video:
        assert (video.info.frames, video.info.width) == (hatching.FRAMES, hatching.SIDE)


def test_results_take_over_trainings_that_were_not_made_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine, "RESULTS", tmp_path)
    keys = ("data", "arm", "seed")
    first = [{"data": "a", "arm": arm, "seed": "0", "accuracy": "0.5"} for arm in ("learned", "staged")]
    assert machine.with_earlier("evidence", first, keys) == first
    machine.write_results("evidence", "studies", first)
    again = {"data": "a", "arm": "staged", "seed": 0, "accuracy": 0.6}
    assert machine.with_earlier("evidence", [again], keys) == [first[0], again]


def test_a_swept_recipe_differs_in_what_its_row_says() -> None:
    shipped = load_recipe("tank_state")
    wider = changed(shipped, {"frame_size": 128, "glance": {"width": 0.5}})
    assert wider.model_config(CLASSES).frame_size == 128
    assert wider.data.resize == shipped.data.resize * 128 // shipped.model_config(CLASSES).frame_size
    assert changed(shipped, {}) == shipped


def test_intervals() -> None:
    low, high = wilson(9, 10)
    assert (low, high) == pytest.approx((0.5958, 0.9821), abs=1e-4)
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(10, 10)[1] == pytest.approx(1.0)


def test_an_interval_over_groups_is_as_wide_as_the_groups_differ() -> None:
    low, high = group_interval([10, 0], [10, 10])
    assert (low, high) == (0.0, 1.0)
    assert group_interval([5, 5, 5], [10, 10, 10]) == (0.5, 0.5)
    assert majority(np.array([0, 0, 1, 2])) == 0.5


def test_more_seeds_do_not_replace_more_clips() -> None:
    def judged(accuracies: list[float], clips: int) -> str:
        return interval([{"accuracy": str(accuracy), "clips": str(clips)} for accuracy in accuracies])

    assert judged([0.5], 100) == judged([0.5, 0.5, 0.5], 100) == "0.40 to 0.60"
    assert judged([0.5, 0.5], 10_000) == "0.49 to 0.51"
    assert judged([0.4, 0.6], 10_000) == "0.30 to 0.70"
