"""Training in stages from end to end, on clips whose boxes are known."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from adafocus.training.data.manifests import list_clips
from adafocus.training.errors import DataError, RecipeError
from adafocus.training.evaluate.inference import load_trained
from adafocus.training.recipe import Recipe
from adafocus.training.staged.cuts import Cut, Seen, elsewhere, half, look_at, served_views
from adafocus.training.staged.fixed_start import FixedStart
from adafocus.training.staged.train import cuts_of, shares_of, train_in_stages

TINY = {"name": "mobilenet_v2", "width": 0.25, "depth": [1, 1, 1]}


@pytest.fixture(scope="session")
def boxed_folder(tmp_path_factory: pytest.TempPathFactory, clip_folder: Path) -> Path:
    """The clips of `clip_folder` with a manifest and the boxes of their squares."""
    folder = tmp_path_factory.mktemp("boxed")
    items, boxes = [], {}
    for number, file in enumerate(sorted(clip_folder.rglob("*.mp4"))):
        name = f"clip{number}"
        (folder / f"{name}.mp4").write_bytes(file.read_bytes())
        items.append({"file": f"{name}.mp4", "label": file.parent.name, "group": name})
        boxes[name] = np.array([[index, 10, 10, 10] for index in range(12)], np.int16)
    (folder / "manifest.json").write_text(json.dumps({"items": items}))
    np.savez(folder / "boxes.npz", **boxes)  # type: ignore[arg-type] # numpy's stubs
    return folder


@pytest.fixture
def staged_recipe(tiny_recipe: Callable[..., Recipe]) -> Callable[..., Recipe]:
    def make(**stages: object) -> Recipe:
        model = {
            "steps": 2, "frame_size": 64, "patch_size": 32, "policy": "heatmap", "policy_channels": 4, "mlp_width": 4,
            "glance": TINY, "focus": TINY,
        }  # fmt: skip
        wanted = {"find_steps": 4, "recognise_steps": 3, "fixed_blocks": 1, **stages}
        return tiny_recipe(model=model, data={"resize": 64, "fit": "letterbox", "candidates": 3}, stages=wanted)

    return make


def test_stages_give_a_checkpoint_like_any_other(
    boxed_folder: Path, staged_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    said: list[str] = []
    data = list_clips(boxed_folder)
    outcome = train_in_stages(data, staged_recipe(), tmp_path / "run", say=said.append)
    trained = load_trained(outcome.checkpoint)
    assert trained.recipe.stages.find_steps == 4
    assert sum(not trained.has_learned_from(clip) for clip in data.clips) == 2
    assert "holdout_accuracy" in outcome.history[0]
    assert any("find the thing" in line for line in said)


@pytest.mark.parametrize("stages", [{}, {"kept_frames": True, "views": 2}, {"empty": 0.25, "grey": True}])
def test_the_same_seed_gives_the_same_weights(
    boxed_folder: Path, staged_recipe: Callable[..., Recipe], stages: dict[str, object], tmp_path: Path
) -> None:
    data = list_clips(boxed_folder)
    states = [
        load_trained(train_in_stages(data, staged_recipe(**stages), tmp_path / name).checkpoint).model.state_dict()
        for name in ("first", "second")
    ]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_squares_lie_as_far_from_the_thing_as_the_recipe_says(staged_recipe: Callable[..., Recipe]) -> None:
    recipe = staged_recipe(off_centre=0.3)
    assert cuts_of(recipe.model_config(2), recipe.stages)["recognise"].ranges.off_centre == 0.3


def test_stages_need_boxes(clip_folder: Path, staged_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="stages learn from boxes, and the data have none"):
        train_in_stages(list_clips(clip_folder), staged_recipe(), tmp_path)


def test_a_network_without_that_many_blocks_is_refused(
    boxed_folder: Path, staged_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match=r"stages.fixed_blocks: 9 blocks are to stay fixed; permitted: 0 to 2"):
        train_in_stages(list_clips(boxed_folder), staged_recipe(fixed_blocks=9), tmp_path)


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ({"recognise_steps": 0}, "permitted: both 0, or both 1 and more"),
        ({"find_lr": 0}, "stages.find_lr is 0; permitted: 1e-09 to 100"),
        ({"fixed_blocks": -1}, "stages.fixed_blocks is -1; permitted: 0 to 64"),
        ({"kept_frames": 1}, "stages.kept_frames is 1; permitted: true or false"),
        ({"grey": 1}, "stages.grey is 1; permitted: true or false"),
        ({"views": 0}, "stages.views is 0; permitted: 1 to 1000"),
        ({"off_centre": 2}, "stages.off_centre is 2; permitted: 0 to 1"),
        ({"empty": 1}, "stages.empty is 1; permitted: 0 to 0.9"),
    ],
)
def test_stages_that_cannot_be_are_refused(
    staged_recipe: Callable[..., Recipe], stages: dict[str, object], message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        staged_recipe(**stages)


def test_stages_need_a_heatmap(tiny_recipe: Callable[..., Recipe]) -> None:
    with pytest.raises(RecipeError, match=r"stages are used; permitted for frame models with model\.policy 'heatmap'"):
        tiny_recipe(stages={"find_steps": 1, "recognise_steps": 1})


def test_a_clip_is_drawn_as_often_however_many_views_it_has() -> None:
    shares = shares_of(Seen(clips=[0, 0, 0, 2]), [0, 0, 1], ["a", "b", "c"])
    assert shares.tolist() == pytest.approx([1 / 6, 1 / 6, 1 / 6, 1 / 2])


class Echo(FixedStart):
    """Keeps the views themselves instead of maps."""

    def __init__(self) -> None:
        torch.nn.Module.__init__(self)

    def maps(self, images: torch.Tensor) -> torch.Tensor:
        return images


def test_only_frames_that_show_the_thing_are_learned_from() -> None:
    frames = np.zeros((6, 64, 64, 3), np.uint8)
    points = np.full((6, 2), 0.5, np.float32)
    points[1] = np.nan  # the middle of the first segment, which is the one that is learned from
    nowhere = np.full((6, 2), np.nan, np.float32)
    cut = Cut(32, 0.5, at_the_thing=True, views=3)
    kept = [(frames, points, 1.0), (frames, np.full((6, 2), 0.5, np.float32), 1.0), (frames, nowhere, 1.0)]
    seen = look_at(kept, 3, {"square": (cut, Echo())}, serving=True)["square"]
    assert seen.clips == [1, 1, 1]
    assert [maps.shape for maps in seen.served] == [(2, 3, 32, 32)] * 3


def test_places_elsewhere_are_in_the_picture_and_far_from_the_thing() -> None:
    places = torch.rand(200, 2, generator=torch.Generator().manual_seed(0))
    found = elsewhere(places, 0.2, 0.75, np.random.default_rng(0))
    assert ((found - places).abs().amax(dim=1) > 0.2).all()
    assert ((found - 0.5).abs() <= torch.tensor([0.375, 0.5])).all()


def test_a_square_away_from_the_thing_does_not_show_it() -> None:
    frames = np.zeros((2, 64, 64, 3), np.uint8)
    frames[:, 10:16, 10:16] = 255
    points = np.full((2, 2), 13 / 64, np.float32)
    cut = Cut(16, 0.25, away=True, views=8)
    seen = look_at([(frames, points, 1.0)], 1, {"empty": (cut, Echo())}, serving=False)["empty"]
    flat = np.concatenate(seen.learned).astype(float).std(axis=(2, 3))
    assert len(flat) == 8
    assert flat.max() < 0.1  # noise at most


def test_all_kept_frames_that_show_the_thing_can_be_learned_from() -> None:
    frames = np.arange(30, dtype=np.uint8)[:, None, None, None].repeat(64, 1).repeat(64, 2).repeat(3, 3)
    points = np.full((30, 2), 0.5, np.float32)
    points[7] = np.nan
    cut = Cut(32, 0.5, at_the_thing=True, views=2, kept_frames=True)
    seen = look_at([(frames, points, 1.0)], 3, {"square": (cut, Echo())}, serving=False)["square"]
    assert len(seen.clips) == sum(map(len, seen.learned)) == sum(map(len, seen.places)) == 2 * 29
    assert max(map(len, seen.learned)) <= 2 * 8


def test_the_recipe_says_what_the_focus_learns_from(staged_recipe: Callable[..., Recipe]) -> None:
    recipe = staged_recipe(kept_frames=True, views=2)
    cuts = cuts_of(recipe.model_config(2), recipe.stages)
    assert (cuts["recognise"].kept_frames, cuts["recognise"].views) == (True, 2)
    assert not cuts["find"].kept_frames


def test_a_served_square_lies_around_the_thing_or_in_the_middle() -> None:
    images = torch.zeros(2, 3, 64, 64)
    images[:, :, 8:16, 40:48] = 1.0
    places = torch.tensor([[12 / 64, 44 / 64], [torch.nan, torch.nan]])
    around = served_views(images, places, Cut(32, 0.25, at_the_thing=True))
    middle = served_views(images, places, Cut(32, 0.25))
    assert around[0].mean() > 0.2
    assert around[1].max() == 0
    assert middle.max() == 0
    assert half(around).dtype == np.float16
