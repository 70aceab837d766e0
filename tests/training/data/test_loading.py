"""Batches: which frames a clip shows, that workers do not matter, and that a clip may disappear."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from adafocus.training.data import loading
from adafocus.training.data.augment import Augment, jitter_per_segment
from adafocus.training.data.clips import Clip, ClipSet
from adafocus.training.data.crop_plan import CropPlan, training_plan
from adafocus.training.data.crops import Crops, decode_all, decode_clip
from adafocus.training.data.loading import AnyMoment, KeptMoments, Loader
from adafocus.training.data.manifests import list_clips
from adafocus.training.errors import DataError
from adafocus.training.recipe import Recipe
from adafocus.training.run.train import train
from tests.training.conftest import write_clip

Make = Callable[..., Recipe]


def numbered(plan: CropPlan) -> Crops:
    """One clip whose kept frames are one pixel each, which tells their number."""
    pixels = np.arange(plan.segments * plan.candidates, dtype=np.uint8)[:, None, None, None].repeat(3, axis=3)
    return Crops(ClipSet(("a", "b"), (Clip(Path("x"), 0, "x"),), {}), [pixels], ())


def test_a_clip_shows_many_sets_of_frames_though_few_moments_are_kept() -> None:
    plan = CropPlan(4, (1, 0, 3, 2), 0, 1, 1, candidates=3)
    moments, random = KeptMoments(numbered(plan), plan, jitter_per_segment), np.random.default_rng(0)
    shown = [tuple(moments(0, random)[1][:, 0, 0, 0].tolist()) for _ in range(1000)]
    assert len(set(shown)) == 3**4  # one offset for the whole clip made it 3
    for frames in shown:
        assert [frame // 3 for frame in frames] == [1, 0, 3, 2]


def test_a_single_candidate_is_shown_as_served() -> None:
    plan = CropPlan(4, (1, 0, 3, 2), 0, 1, 1, candidates=1)
    moments = KeptMoments(numbered(plan), plan, jitter_per_segment)
    assert moments(0, np.random.default_rng(0))[1][:, 0, 0, 0].tolist() == [0, 1, 2, 3]


def loaded(crops: Crops, recipe: Recipe, seed: int = 0) -> list[tuple[torch.Tensor, torch.Tensor]]:
    plan = training_plan(recipe)
    moments = AnyMoment(crops, plan, print) if plan.candidates == 0 else KeptMoments(crops, plan, jitter_per_segment)
    load = Loader(crops, moments, Augment(recipe.data, 32), torch.device("cpu"))
    every = [np.array([0, 3, 5]), np.array([7, 1, 9]), np.array([2, 2, 4])]
    batches = load(every, np.random.default_rng(seed), lambda name: nullcontext())
    return [(batch.frames, batch.labels) for batch in batches]


@pytest.mark.parametrize("candidates", [0, 1, 3])
def test_batches_do_not_depend_on_the_number_of_workers(
    candidates: int, clip_folder: Path, tiny_recipe: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tiny_recipe(data={"resize": 32, "source_size": 36, "candidates": candidates, "colour": 0.3})
    crops = decode_all(list_clips(clip_folder), training_plan(recipe), keep=candidates > 0)
    found = []
    for workers in (1, 4):
        monkeypatch.setattr(loading, "processors", lambda workers=workers: workers)
        found.append(loaded(crops, recipe))
    for (one, labels), (other, others) in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
        assert one.shape == (3, 2, 3, 32, 32)
        assert labels.tolist() == others.tolist()
    assert not torch.equal(found[0][0][0], loaded(crops, recipe, seed=1)[0][0])


def test_frames_decoded_anew_are_those_that_were_drawn(tmp_path: Path, tiny_recipe: Make) -> None:
    """The square moves by a pixel a frame, so that each frame is another picture."""
    recipe = tiny_recipe(data={"resize": 32, "candidates": 0})
    plan, path = training_plan(recipe), write_clip(tmp_path / "clip.mp4", red=90, frames=24)
    clip = Clip(path, 0, "x")
    drawn = plan.draw(24, np.random.default_rng(4))
    every = decode_clip(clip, replace(plan, steps=24, order=tuple(range(24))))
    np.testing.assert_array_equal(decode_clip(clip, plan, np.random.default_rng(4)), every[list(drawn)])


def test_a_clip_that_disappears_is_replaced_by_the_next_and_named_once(
    clip_folder: Path, tmp_path: Path, tiny_recipe: Make
) -> None:
    folder, told = tmp_path / "data", list[str]()
    shutil.copytree(clip_folder, folder)
    recipe = tiny_recipe(data={"resize": 32, "candidates": 0})
    crops = decode_all(list_clips(folder), training_plan(recipe), keep=False)
    moments = AnyMoment(crops, training_plan(recipe), told.append)
    crops.data.clips[4].path.unlink()
    for _ in range(2):
        assert moments(4, np.random.default_rng(0))[0] == 5
    assert len(told) == 1
    assert "clip 4.mp4 cannot be decoded any more, the next clip is taken" in told[0]
    shutil.rmtree(folder)
    with pytest.raises(DataError, match="8 clips in a row cannot be decoded any more"):
        moments(0, np.random.default_rng(0))


def test_training_that_keeps_nothing_resumes_to_the_same_weights(
    clip_folder: Path, tmp_path: Path, tiny_recipe: Make
) -> None:
    data, told = list_clips(clip_folder), list[str]()
    recipe = tiny_recipe(data={"resize": 32, "candidates": 0}, optimiser={"epochs": 1, "batch_size": 4})
    losses = [train(data, recipe, tmp_path / name, say=told.append).history[-1]["loss"] for name in ("a", "b")]
    assert losses[0] == losses[1]
    assert any("training frames are decoded anew in every epoch" in line for line in told)
    cached = train(data, recipe, tmp_path / "c", cache=tmp_path / "cache").history[-1]
    assert cached["loss"] == losses[0]
    assert len(list((tmp_path / "cache").rglob("*.npy"))) == 2  # those held aside, which are the same every time
