"""Boxes become points of the frame that the model sees, and stay on the thing through augmentation."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from adafocus.training.data.augment import Augment
from adafocus.training.data.boxes import clip_points, points_of, read_boxes
from adafocus.training.data.crop_plan import training_plan
from adafocus.training.data.manifests import list_clips
from adafocus.training.errors import DataError
from adafocus.training.recipe import DataRecipe, Recipe
from adafocus.training.run.train import train
from adafocus.video.transform import Geometry, patch_box
from tests.training.conftest import write_clip

Make = Callable[..., Recipe]

HEATMAP = {
    "steps": 2,
    "frame_size": 64,
    "patch_size": 32,
    "policy": "heatmap",
    "policy_channels": 4,
    "mlp_width": 8,
    "glance": {"name": "mobilenet_v2", "width": 0.1, "depth": [1, 1, 1, 1, 1]},
    "focus": {"name": "resnet18", "width": 0.1, "depth": [1, 1]},
}
LETTERBOX = {"resize": 64, "fit": "letterbox", "candidates": 2, "scales": [1.0], "flip": 0.5}


@pytest.fixture
def boxed(tmp_path: Path) -> Path:
    """Four clips of a bright square that moves by a pixel a frame, with its boxes."""
    items, boxes = [], {}
    for number in range(4):
        name = f"clip {number}.mp4"
        write_clip(tmp_path / name, red=20 + 200 * (number % 2), frames=16, seed=number)
        items.append({"file": name, "label": "ab"[number % 2]})
        boxes[f"clip {number}"] = np.array([[index, 10, 10, 10] for index in range(16)], dtype=np.int16)
    boxes["clip 0"][8:] = -1
    np.savez(tmp_path / "boxes.npz", **boxes)  # type: ignore[arg-type]
    (tmp_path / "manifest.json").write_text(json.dumps({"items": items}))
    return tmp_path


def test_points_lie_on_the_thing_in_the_square(boxed: Path, tiny_recipe: Make) -> None:
    data = list_clips(boxed)
    assert data.boxes == boxed / "boxes.npz"
    plan = training_plan(tiny_recipe(model=HEATMAP, data=LETTERBOX))
    points = clip_points(data.clips, read_boxes(boxed / "boxes.npz"), plan)
    assert points[0].shape == (4, 2)
    assert np.isnan(points[0][2:]).all() and not np.isnan(points[0][:2]).any()
    wanted = [((15 + 8) / 64, (index + 5) / 64) for index in plan.wanted(16)]  # 64×48 lies 8 pixels below the top
    np.testing.assert_allclose(points[1], wanted, atol=1e-6)


@given(
    st.integers(16, 600),
    st.integers(16, 600),
    st.sampled_from(["letterbox", "squeeze"]),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_a_patch_on_a_point_holds_the_middle_of_the_box(width: int, height: int, fit: str, x: float, y: float) -> None:
    geometry = Geometry(64, 64, fit)  # type: ignore[arg-type]
    box = np.array([[int(x * (width - 4)), int(y * (height - 4)), 4, 4]], dtype=np.int16)
    ((down, across),) = points_of(box, [0], (width, height), geometry)
    action = [float(np.clip((share * 64 - 16) / 32, 0, 1)) for share in (down, across)]
    patch = patch_box(width, height, geometry, 32, (action[0], action[1]))
    left, top = int(box[0][0]) + 2, int(box[0][1]) + 2
    assert patch.x - 1 <= left <= patch.x + patch.width + 1
    assert patch.y - 1 <= top <= patch.y + patch.height + 1


def test_frames_beyond_the_boxes_and_things_outside_the_crop_have_no_point() -> None:
    boxes = np.array([[0, 20, 10, 10]], dtype=np.int16)
    assert np.isnan(points_of(boxes, [0, 1], (320, 240), Geometry(240, 240))).all()


def test_points_stay_on_the_thing_through_augmentation() -> None:
    recipe = DataRecipe(resize=64, scales=(1.0, 0.8, 0.6), flip=0.5)
    augment = Augment(recipe, 64)
    pixels = np.zeros((1, 64, 64, 3), dtype=np.uint8)
    pixels[0, 30:34, 40:44] = 255
    cut_off = 0
    for seed in range(60):
        frames, points = augment.with_points(
            pixels, np.array([[32 / 64, 42 / 64]], dtype=np.float32), np.random.default_rng(seed)
        )
        if points.isnan().any():
            cut_off += 1
            continue
        bright = (frames[0, 0] > 100).nonzero().float().mean(dim=0) + 0.5
        torch.testing.assert_close(points[0] * 64, bright, atol=1.6, rtol=0)
    assert 0 < cut_off < 50


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": np.zeros((3, 4), np.uint8)}, "must be signed integers"),
        ({"a": np.zeros((3, 5), np.int16)}, r"int16 \[3, 5\]"),
    ],
)
def test_other_arrays_are_refused(content: dict[str, np.ndarray], message: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "boxes.npz", **content)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=message):
        read_boxes(tmp_path / "boxes.npz")


def test_a_file_that_is_no_file_of_boxes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "boxes.npz").write_text("no")
    with pytest.raises(DataError, match="is no file of boxes"):
        read_boxes(tmp_path / "boxes.npz")


def test_a_manifest_may_name_another_file(boxed: Path) -> None:
    content = json.loads((boxed / "manifest.json").read_text())
    (boxed / "boxes.npz").rename(boxed / "places.npz")
    assert list_clips(boxed).boxes is None
    (boxed / "manifest.json").write_text(json.dumps({**content, "boxes": "places.npz"}))
    assert list_clips(boxed).boxes == boxed / "places.npz"
    (boxed / "places.npz").unlink()
    with pytest.raises(DataError, match=r"places\.npz does not exist; the manifest names it"):
        list_clips(boxed)


def test_boxes_teach_the_policy(boxed: Path, tmp_path: Path, tiny_recipe: Make) -> None:
    """The loss on boxes falls, in a run that is the same when it is repeated."""
    recipe = tiny_recipe(
        model=HEATMAP,
        data={**LETTERBOX, "fewest_draws": 16},
        optimiser={"epochs": 6, "batch_size": 4, "lr": 0.01, "method": "adamw"},
        boxes={"weight": 1.0, "explore": True},
        remedies={"stability": False},
        holdout=0.0,
    )
    histories = [train(list_clips(boxed), recipe, tmp_path / name).history for name in ("one", "other")]
    boxes = [row["boxes"] for row in histories[0]]
    assert boxes == [row["boxes"] for row in histories[1]]
    assert boxes[-1] < 0.8 * boxes[0]


def test_a_recipe_that_uses_boxes_needs_them(clip_folder: Path, tmp_path: Path, tiny_recipe: Make) -> None:
    recipe = tiny_recipe(model=HEATMAP, data=LETTERBOX, boxes={"explore": True})
    with pytest.raises(DataError, match="the data have none"):
        train(list_clips(clip_folder), recipe, tmp_path / "run")
