"""Training draws a moment of each segment by itself, over the whole segment; serving takes its middle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adafocus.training.data.crop_plan import CropPlan, serving_plan, training_plan
from adafocus.training.recipe import Recipe
from adafocus.training.recipe_files import known_recipes, load_recipe
from adafocus.video.sampler import visiting_order

Make = Callable[..., Recipe]


def frame_plan(steps: int, first_frame: int = 0) -> CropPlan:
    return CropPlan(steps, visiting_order(steps, "coarse_to_fine"), first_frame, 32, 32, candidates=0)


def in_time(plan: CropPlan, drawn: tuple[int, ...]) -> list[int]:
    """What was drawn of each segment, in the order of the segments."""
    return [frame for _, frame in sorted(zip(plan.positions, drawn, strict=True))]


@given(st.integers(1, 40), st.integers(1, 400), st.integers(0, 20), st.integers(0, 99))
def test_every_moment_is_of_its_own_segment(steps: int, frames: int, first: int, seed: int) -> None:
    plan = frame_plan(steps, first)
    start = min(first, frames - 1)
    usable = frames - start
    drawn = in_time(plan, plan.draw(frames, np.random.default_rng(seed)))
    if usable <= steps:
        assert drawn == in_time(plan, plan.wanted(frames))
        return
    for segment, frame in enumerate(drawn):
        assert start + segment * usable // steps <= frame < start + (segment + 1) * usable // steps


@given(st.integers(1, 40), st.integers(1, 400), st.integers(0, 20))
def test_what_serving_takes_may_be_drawn(steps: int, frames: int, first: int) -> None:
    plan = frame_plan(steps, first)
    start = min(first, frames - 1)
    usable = frames - start
    if usable > steps:
        for segment, frame in enumerate(in_time(plan, plan.wanted(frames))):
            assert start + segment * usable // steps <= frame <= start + (segment + 1) * usable // steps


def test_every_frame_of_a_video_is_drawn_sooner_or_later_and_segments_are_independent() -> None:
    plan, random = frame_plan(4, first_frame=3), np.random.default_rng(0)
    drawn = np.array([plan.draw(43, random) for _ in range(2000)])
    assert set(drawn.ravel().tolist()) == set(range(3, 43))
    offsets = drawn - drawn.min(axis=0)
    assert np.abs(np.corrcoef(offsets.T) - np.eye(4)).max() < 0.1
    assert len({tuple(row) for row in drawn.tolist()}) > 1500


def test_a_clip_models_glance_and_focus_are_drawn_apart() -> None:
    plan = CropPlan(2, (0, 1), 0, 32, 32, candidates=0, focus_steps=3)
    random = np.random.default_rng(0)
    drawn = np.array([plan.draw(60, random) for _ in range(500)])
    assert np.array_equal(drawn.min(axis=0), [0, 30, 0, 20, 40])
    assert np.array_equal(drawn.max(axis=0), [29, 59, 19, 39, 59])
    assert abs(np.corrcoef(drawn[:, 0], drawn[:, 2])[0, 1]) < 0.2


@given(st.integers(1, 20), st.integers(1, 200), st.integers(2, 9))
def test_kept_moments_are_of_their_own_segment(steps: int, frames: int, candidates: int) -> None:
    plan = replace(frame_plan(steps), candidates=candidates)
    kept = plan.wanted(frames)
    assert len(kept) == steps * candidates
    assert list(kept) == sorted(kept)
    if frames > steps:
        for place, frame in enumerate(kept):
            segment = place // candidates
            assert segment * frames // steps <= frame <= (segment + 1) * frames // steps


@pytest.mark.parametrize("name", [name for name in known_recipes() if "_p" in name and "small" not in name])
def test_published_recipes_draw_any_moment_and_only_shrink_their_crops(name: str) -> None:
    recipe = load_recipe(name)
    plan, served = training_plan(recipe), serving_plan(recipe)
    assert plan.candidates == 0
    assert min(recipe.data.scales) * plan.crop >= served.crop == 224
    assert (served.resize, served.candidates, served.jpeg_quality) == (256, 1, 0)
